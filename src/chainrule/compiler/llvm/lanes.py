"""Operations of the builder across the lanes of a vector: splat, insert, extract, shuffle, reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chainrule.compiler.llvm.values import Value, ir_type

if TYPE_CHECKING:
    from chainrule.compiler.llvm.arithmetic import Arithmetic as _Base
else:
    _Base = object


class Lanes(_Base):
    """The lane methods of :class:`~chainrule.compiler.llvm.builder.Builder`."""

    def splat(self, x: Value, width: int) -> Value:
        """A scalar in every lane (width 1: the scalar)."""
        if x.width == width:
            return x
        if x.width != 1:
            raise TypeError(f"a scalar expected, got {x.typed}")
        t = ir_type(x.kind, width)
        one = self.op(f"insertelement {t} poison, {x.typed}, i64 0", x.kind, width)
        return self.op(f"shufflevector {t} {one.text}, {t} poison, <{width} x i32> zeroinitializer", x.kind, width)

    def extract(self, x: Value, lane: int | Value) -> Value:
        """One lane as a scalar."""
        if x.width == 1:
            return x
        at = lane.typed if isinstance(lane, Value) else f"i64 {lane}"
        return self.op(f"extractelement {x.typed}, {at}", x.kind)

    def insert(self, x: Value, scalar: Value, lane: int | Value) -> Value:
        """x with one lane replaced."""
        if x.width == 1:
            return scalar
        at = lane.typed if isinstance(lane, Value) else f"i64 {lane}"
        return self.op(f"insertelement {x.typed}, {scalar.typed}, {at}", x.kind, x.width)

    def shuffle(self, x: Value, y: Value | None, lanes: Sequence[int]) -> Value:
        """The lanes numbered over x then y; -1 leaves a lane undefined, so that it must not be used."""
        text = ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in lanes)
        if len(lanes) == 1:
            return self.extract(x, lanes[0])
        other = y.typed if y is not None else f"{x.type} poison"
        return self.op(f"shufflevector {x.typed}, {other}, <{len(lanes)} x i32> <{text}>", x.kind, len(lanes))

    def vector(self, scalars: Sequence[Value]) -> Value:
        """Scalars side by side."""
        if len(scalars) == 1:
            return scalars[0]
        kind, width = scalars[0].kind, len(scalars)
        v = Value(scalars[0].b, "poison", kind, width)
        for i, s in enumerate(scalars):
            v = self.insert(v, s, i)
        return v

    def iota(self, kind: str, width: int, start: int = 0) -> Value:
        """start, start + 1, ... (integers)."""
        if width == 1:
            return self.const(start, kind)
        t = ir_type(kind)
        text = ", ".join(f"{t} {start + i}" for i in range(width))
        return Value(self, f"<{text}>", kind, width)  # type: ignore[arg-type]

    def tail_mask(self, count: int | Value, width: int) -> Value:
        """The mask of the first ``count`` lanes; count an int or a scalar i64."""
        if isinstance(count, int):
            if width == 1:
                return self.const(count > 0, "bool")
            text = ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(width))
            return Value(self, f"<{text}>", "bool", width)  # type: ignore[arg-type]
        return self.lt(self.iota(count.kind, width), self.splat(count, width))

    def halves(self, x: Value) -> tuple[Value, Value]:
        """The lower and the upper half of the lanes."""
        h = x.width // 2
        return self.shuffle(x, None, range(h)), self.shuffle(x, None, range(h, x.width))

    def join(self, x: Value, y: Value) -> Value:
        """The lanes of x, then those of y (of the same width)."""
        if x.width == 1:
            return self.vector([x, y])
        return self.shuffle(x, y, range(2 * x.width))

    def reduce(self, x: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into a scalar, always in this order: upper half with lower half, until one is left."""
        while x.width > 1:
            low, high = self.halves(x)
            x = combine(low, high)
        return x

    def reduce_sum(self, x: Value) -> Value:
        """The sum of all lanes, in the order of :meth:`reduce`."""
        return self.reduce(x, self.add)

    def reduce_prod(self, x: Value) -> Value:
        """The product of all lanes, in the order of :meth:`reduce`."""
        return self.reduce(x, self.mul)

    def reduce_max(self, x: Value) -> Value:
        """The largest lane; NaN if any is."""
        return self.reduce(x, self.maximum)

    def reduce_min(self, x: Value) -> Value:
        """The smallest lane; NaN if any is."""
        return self.reduce(x, self.minimum)

    def any(self, mask: Value) -> Value:
        """Whether a bit of the mask is set, as a scalar."""
        if mask.width == 1:
            return mask
        return self.intrinsic("llvm.vector.reduce.or", mask, returns=("bool", 1))

    def all(self, mask: Value) -> Value:
        """Whether every bit of the mask is set, as a scalar."""
        if mask.width == 1:
            return mask
        return self.intrinsic("llvm.vector.reduce.and", mask, returns=("bool", 1))

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """The transpose of a W x W block held as W vectors of W lanes (W a power of two), by log2(W) rounds."""
        r, n = list(rows), len(rows)
        d = 1
        while d < n:
            new = r[:]
            for i in range(n):
                if i & d:
                    continue
                j = i | d
                low = [c if not c & d else n + (c ^ d) for c in range(n)]
                high = [(c | d) if not c & d else n + c for c in range(n)]
                new[i], new[j] = self.shuffle(r[i], r[j], low), self.shuffle(r[i], r[j], high)
            r, d = new, 2 * d
        return r
