"""Typed operations of the builder: arithmetic, comparisons, selection, conversions. All work lane by lane.

No instruction carries a fast-math flag: the value is that of IEEE arithmetic in the order written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chainrule.compiler.llvm.values import BITS, BITS_OF, FLOATS, FRACTION, UNSIGNED, Value, constant, ir_type

if TYPE_CHECKING:
    from chainrule.compiler.llvm.target import Target

#: what is done at once with indices that are known: code for tiles that never run is then not made
_KNOWN: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "sdiv": lambda x, y: abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1),
    "srem": lambda x, y: abs(x) % abs(y) * (-1 if x < 0 else 1),
}  # fmt: skip
_FLOAT_TEST = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Arithmetic:
    """The arithmetic methods of :class:`~chainrule.compiler.llvm.builder.Builder`."""

    target: Target

    if TYPE_CHECKING:

        def op(self, rhs: str, kind: str, width: int = 1) -> Value: ...
        def intrinsic(self, name: str, *args: Value, returns: tuple[str, int] | None = None) -> Value: ...

    # ---- constants
    def const(self, x: Any, kind: str, width: int = 1) -> Value:
        """The number ``x``, rounded to ``kind``, in every lane."""
        return Value(self, constant(x, kind, width), kind, width)  # type: ignore[arg-type]

    def like(self, v: Value, x: Any) -> Value:
        """``x`` as a value of v's type; a value passes through, one of another type raises ``TypeError``."""
        if isinstance(x, Value):
            if x.kind != v.kind or x.width != v.width:
                raise TypeError(f"operands of one type expected, got {x.typed} beside {v.typed}: cast or splat one")
            return x
        return Value(self, constant(x, v.kind, v.width), v.kind, v.width)  # type: ignore[arg-type]

    def zero(self, kind: str, width: int = 1) -> Value:
        """Zero (positive, false, null) in every lane."""
        return self.const(0, kind, width)

    def _binary(self, x: Any, y: Any, integer: str, floating: str) -> Value:
        if isinstance(x, Value):
            y = self.like(x, y)
        else:
            x = self.like(y, x)
        name = floating if x.kind in FLOATS else integer
        if not name:
            raise TypeError(f"no such operation on kind {x.kind}")
        if name in _KNOWN and x.known is not None and y.known is not None and (y.known or name not in ("sdiv", "srem")):
            return self.const(_KNOWN[name](x.known, y.known), "i64")
        return self.op(f"{name} {ir_type(x.kind, x.width)} {x.text}, {y.text}", x.kind, x.width)

    # ---- arithmetic
    def add(self, x: Any, y: Any) -> Value:
        """x + y; integers wrap around."""
        return self._binary(x, y, "add", "fadd")

    def sub(self, x: Any, y: Any) -> Value:
        """x - y; integers wrap around."""
        return self._binary(x, y, "sub", "fsub")

    def mul(self, x: Any, y: Any) -> Value:
        """x y; integers wrap around."""
        return self._binary(x, y, "mul", "fmul")

    def div(self, x: Any, y: Any) -> Value:
        """x / y in floating point, correctly rounded."""
        return self._binary(x, y, "", "fdiv")

    def idiv(self, x: Any, y: Any) -> Value:
        """Quotient of integers, toward zero. The caller excludes y = 0 and the one overflow (least value / -1)."""
        v = x if isinstance(x, Value) else y
        return self._binary(x, y, "udiv" if v.kind in UNSIGNED else "sdiv", "")

    def irem(self, x: Any, y: Any) -> Value:
        """Remainder of integers with the sign of x; conditions as for :meth:`idiv`."""
        v = x if isinstance(x, Value) else y
        return self._binary(x, y, "urem" if v.kind in UNSIGNED else "srem", "")

    def neg(self, x: Value) -> Value:
        """-x: the sign bit flipped (floating point), two's complement (integers)."""
        if x.kind in FLOATS:
            return self.op(f"fneg {x.typed}", x.kind, x.width)
        return self.sub(0, x)

    def fma(self, x: Value, y: Any, z: Any) -> Value:
        """x y + z, rounded once where the target has the instruction (``target.has_fma``), else twice."""
        y, z = self.like(x, y), self.like(x, z)
        if not self.target.has_fma:
            return self.add(self.mul(x, y), z)
        return self.intrinsic("llvm.fma", x, y, z)

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        """The polynomial with these coefficients, the highest power first, by Horner's rule with :meth:`fma`."""
        p = self.like(x, coefficients[0])
        for c in coefficients[1:]:
            p = self.fma(p, x, c)
        return p

    def sqrt(self, x: Value) -> Value:
        """Square root, correctly rounded."""
        return self.intrinsic("llvm.sqrt", x)

    def abs(self, x: Value) -> Value:
        """|x|; the least integer stays what it is."""
        if x.kind in FLOATS:
            return self.intrinsic("llvm.fabs", x)
        return x if x.kind in UNSIGNED else self.select(self.lt(x, 0), self.neg(x), x)

    def copysign(self, x: Value, y: Value) -> Value:
        """|x| with the sign of y."""
        return self.intrinsic("llvm.copysign", x, y)

    def _step(self, name: str, x: Value) -> Value:
        if self.target.level == "sse2":  # no such instruction: LLVM would call the C library lane by lane
            return self._rounded(name, x)
        return self.intrinsic(f"llvm.{name}", x)

    def _rounded(self, name: str, x: Value) -> Value:
        """Rounding to whole numbers by adding and subtracting 2^(bits of the fraction), which leaves no fraction."""
        big = float(2 ** FRACTION[x.kind])
        a = self.abs(x)
        whole = self.sub(self.add(a, big), big)
        if name == "trunc":
            whole = self.select(self.gt(whole, a), self.sub(whole, 1.0), whole)
        whole = self.copysign(whole, x)
        if name == "floor":
            whole = self.select(self.gt(whole, x), self.sub(whole, 1.0), whole)
        elif name == "ceil":
            whole = self.copysign(self.select(self.lt(whole, x), self.add(whole, 1.0), whole), x)
        return self.select(self.lt(a, big), whole, x)

    def floor(self, x: Value) -> Value:
        """The largest whole number not above x."""
        return self._step("floor", x)

    def ceil(self, x: Value) -> Value:
        """The smallest whole number not below x."""
        return self._step("ceil", x)

    def trunc(self, x: Value) -> Value:
        """x without its fraction."""
        return self._step("trunc", x)

    def round_even(self, x: Value) -> Value:
        """The nearest whole number, ties to even."""
        return self._step("roundeven", x)

    def maximum(self, x: Any, y: Any) -> Value:
        """The larger; NaN if either is."""
        return self._extreme("gt", x, y)

    def minimum(self, x: Any, y: Any) -> Value:
        """The smaller; NaN if either is."""
        return self._extreme("lt", x, y)

    def _extreme(self, test: str, x: Any, y: Any) -> Value:
        if not isinstance(x, Value):
            x, y = y, x
        y = self.like(x, y)
        # one machine instruction that gives y where either is NaN; what is left is x = NaN
        r = self.select(self._compare(test, x, y), x, y)
        return self.select(self.is_nan(x), x, r) if x.kind in FLOATS else r

    # ---- bits
    def and_(self, x: Any, y: Any) -> Value:
        """Bitwise and (of masks too)."""
        return self._binary(x, y, "and", "")

    def or_(self, x: Any, y: Any) -> Value:
        """Bitwise or (of masks too)."""
        return self._binary(x, y, "or", "")

    def xor(self, x: Any, y: Any) -> Value:
        """Bitwise exclusive or (of masks too)."""
        return self._binary(x, y, "xor", "")

    def not_(self, x: Value) -> Value:
        """All bits flipped."""
        return self.xor(x, 1 if x.kind == "bool" else -1)

    def shl(self, x: Any, y: Any) -> Value:
        """x shifted left; the count must be below the number of bits."""
        return self._binary(x, y, "shl", "")

    def shr(self, x: Any, y: Any) -> Value:
        """x shifted right, filled with its sign (zeros if unsigned); the count must be below the number of bits."""
        v = x if isinstance(x, Value) else y
        return self._binary(x, y, "lshr" if v.kind in UNSIGNED else "ashr", "")

    def lshr(self, x: Any, y: Any) -> Value:
        """x shifted right, filled with zeros whatever its sign."""
        return self._binary(x, y, "lshr", "")

    # ---- comparisons and selection
    def _compare(self, test: str, x: Any, y: Any) -> Value:
        if isinstance(x, Value):
            y = self.like(x, y)
        else:
            x = self.like(y, x)
        if x.kind in FLOATS:
            return self.op(f"fcmp {_FLOAT_TEST[test]} {x.typed}, {y.text}", "bool", x.width)
        if x.known is not None and y.known is not None:
            return self.const(getattr(operator, test)(x.known, y.known), "bool")
        if test in ("eq", "ne"):
            return self.op(f"icmp {test} {x.typed}, {y.text}", "bool", x.width)
        sign = "u" if x.kind in UNSIGNED or x.kind == "ptr" else "s"
        return self.op(f"icmp {sign}{test} {x.typed}, {y.text}", "bool", x.width)

    def eq(self, x: Any, y: Any) -> Value:
        """x = y; NaN equals nothing."""
        return self._compare("eq", x, y)

    def ne(self, x: Any, y: Any) -> Value:
        """not x = y."""
        return self._compare("ne", x, y)

    def lt(self, x: Any, y: Any) -> Value:
        """x < y."""
        return self._compare("lt", x, y)

    def le(self, x: Any, y: Any) -> Value:
        """x <= y."""
        return self._compare("le", x, y)

    def gt(self, x: Any, y: Any) -> Value:
        """x > y."""
        return self._compare("gt", x, y)

    def ge(self, x: Any, y: Any) -> Value:
        """x >= y."""
        return self._compare("ge", x, y)

    def ult(self, x: Value, y: Any) -> Value:
        """x < y as unsigned integers: one comparison checks 0 <= index < size."""
        return self.op(f"icmp ult {x.typed}, {self.like(x, y).text}", "bool", x.width)

    def is_nan(self, x: Value) -> Value:
        """Whether x is not a number."""
        return self.op(f"fcmp uno {x.typed}, {x.text}", "bool", x.width)

    def select(self, mask: Value, x: Any, y: Any) -> Value:
        """x where the mask holds, else y, lane by lane; one of x and y may be a Python number."""
        if isinstance(x, Value):
            y = self.like(x, y)
        else:
            x = self.like(y, x)
        if mask.kind != "bool" or mask.width not in (1, x.width):
            raise TypeError(f"a mask of {x.width} bits (or one) expected, got {mask.typed}")
        if mask.text in ("true", "false"):
            chosen: Value = x if mask.text == "true" else y
            return chosen
        return self.op(f"select {mask.typed}, {x.typed}, {y.typed}", x.kind, x.width)

    # ---- conversions
    def bitcast(self, x: Value, kind: str) -> Value:
        """The same bits as another kind of the same size."""
        return self.op(f"bitcast {x.typed} to {ir_type(kind, x.width)}", kind, x.width)

    def bits(self, x: Value) -> Value:
        """The bits of a floating-point number as a signed integer."""
        return self.bitcast(x, BITS_OF[x.kind])

    def cast(self, x: Value, kind: str) -> Value:
        """Convert as NumPy's ``astype``: toward zero to integers, integers wrap around, anything nonzero is true.

        A number outside the integer's range gives some value of that kind, which one is the processor's affair.
        """
        old, w = x.kind, x.width
        if old == kind:
            return x
        to = ir_type(kind, w)
        if kind == "bool":
            return self.ne(x, 0)
        if old in FLOATS:
            if kind in FLOATS:
                return self.op(f"{'fpext' if BITS[kind] > BITS[old] else 'fptrunc'} {x.typed} to {to}", kind, w)
            step = "i64" if kind == "i64" else "i32"
            wide = self.op(f"fptosi {x.typed} to {ir_type(step, w)}", step, w)
            return self.cast(self.op(f"freeze {wide.typed}", step, w), kind)
        if kind in FLOATS:
            return self.op(f"{'uitofp' if old in UNSIGNED else 'sitofp'} {x.typed} to {to}", kind, w)
        if BITS[kind] == BITS[old]:
            return Value(x.b, x.text, kind, w)
        word = "trunc" if BITS[kind] < BITS[old] else "zext" if old in UNSIGNED else "sext"
        return self.op(f"{word} {x.typed} to {to}", kind, w)
