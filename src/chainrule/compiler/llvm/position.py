"""Machine code of argmax and argmin: the position of the first extreme element along an axis, of the first NaN if any.

Each lane keeps its best element and where that was; a later element replaces it only if it is better, so the first of
equal ones stays. Lanes are results side by side, or parts of one row, which are put together at its end: the better
one, and of equal ones that with the lower position. As everywhere in machine code, denormal numbers count as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import Dim, base, collapse, dims_of, lanes, walk
from chainrule.compiler.llvm.values import BYTES, FLOATS, Value, kind_of
from chainrule.ir.graph import Instruction

#: best elements per lane in a long row, so that comparisons overlap
ACCUMULATORS = 4


class _Best(NamedTuple):
    """An element and its position, lane by lane."""

    x: Value
    at: Value


def lowers_arg(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_arg` covers an instruction: an axis with elements, their positions in 31 bits."""
    x = i.inputs[0]
    return bool(x.shape) and 0 < x.shape[i.params["axis"]] < 1 << 31 and (has_f16 or x.dtype != "f2")


class _Arg:
    def __init__(self, b: Builder, name: str, kind: str, along: Dim) -> None:
        self.b, self.largest, self.along = b, name == "argmax", along
        self.stored = "u8" if kind == "bool" else kind
        self.kind = "f32" if kind == "f16" else self.stored
        self.count = "i64" if BYTES[self.kind] == 8 else "i32"
        self.bytes = max(4, BYTES[self.kind])

    def load(self, p: Value, i: int | Value, width: int) -> Value:
        """Elements ``i``, ... along the axis, of which ``width`` are side by side."""
        place = self.b.at(p, i * self.along.strides[0], self.stored)
        return self.b.cast(self.b.load(place, self.stored, width), self.kind)

    def better(self, new: Value, old: Value) -> Value:
        """Whether ``new`` is further out; a NaN is further out than all but a NaN."""
        b = self.b
        if self.kind not in FLOATS:
            return new > old if self.largest else new < old
        return ~(new <= old if self.largest else new >= old) & b.eq(old, old)

    def follow(self, best: _Best, new: _Best) -> _Best:
        """Best so far, and elements that come later."""
        take = self.better(new.x, best.x)
        return _Best(self.b.select(take, new.x, best.x), self.b.select(take, new.at, best.at))

    def combine(self, one: _Best, other: _Best) -> _Best:
        """The best of two in any order."""
        take = self.better(other.x, one.x) | (~self.better(one.x, other.x) & (other.at < one.at))
        return _Best(self.b.select(take, other.x, one.x), self.b.select(take, other.at, one.at))

    def columns(self, p: Value, q: Value, width: int) -> None:
        """``width`` results side by side, written densely."""
        b = self.b
        first = _Best(self.load(p, 0, width), b.zero(self.count, width))
        with b.loop_carrying(1, self.along.size, 1, first) as k:
            at = b.splat(b.cast(k.index, self.count), width)
            k.next(*self.follow(_Best(*k.values), _Best(self.load(p, k.index, width), at)))
        b.store(b.cast(k.results[1], "i64"), q)

    def row(self, p: Value, q: Value) -> None:
        """One result."""
        b, n = self.b, self.along.size
        width = lanes(b, self.bytes, n) if self.along.strides[0] == 1 else 1
        copies = ACCUMULATORS if n >= ACCUMULATORS * width else 1
        iota = b.iota(self.count, width)
        best = [_Best(self.load(p, c * width, width), iota + c * width) for c in range(copies)]
        done = step = copies * width
        best = self.run(p, best, done, n - n % step, width)
        done = n - n % step
        best = [*self.run(p, best[:1], done, n - n % width, width), *best[1:]]
        while len(best) > 1:
            half = len(best) // 2
            best = [self.combine(x, y) for x, y in zip(best[:half], best[half:], strict=True)]
        while best[0].x.width > 1:
            (x, y), (i, j) = b.halves(best[0].x), b.halves(best[0].at)
            best = [self.combine(_Best(x, i), _Best(y, j))]
        best = self.run(p, best, n - n % width, n, 1)
        b.store(b.cast(best[0].at, "i64"), q)

    def run(self, p: Value, best: list[_Best], start: int, stop: int, width: int) -> list[_Best]:
        """Elements from ``start`` to ``stop``, a vector for each of ``best`` a round."""
        if start >= stop:
            return best
        b = self.b
        with b.loop_carrying(start, stop, width * len(best), [v for pair in best for v in pair]) as k:
            first = b.splat(b.cast(k.index, self.count), width) + b.iota(self.count, width)
            new: list[Value] = []
            for c in range(len(best)):
                x = self.load(p, k.index + c * width if c else k.index, width)
                at = first + c * width if c else first
                new += self.follow(_Best(*k.values[2 * c : 2 * c + 2]), _Best(x, at))
            k.next(*new)
        return [_Best(*k.results[2 * c : 2 * c + 2]) for c in range(len(best))]


def emit_arg(module: Module, name: str, r: Routine) -> None:
    """A function ``void name(ptr table)`` for argmax or argmin."""
    i, x, y = r.instruction, r.inputs[0], r.outputs[0]
    shape, axis = i.inputs[0].shape, i.params["axis"]
    kept = [d for d in range(len(shape)) if d != axis]
    strides = (tuple(v[d] for d in kept) for v in (x.strides, (*y.strides[:axis], 0, *y.strides[axis:])))
    dims = collapse(dims_of(tuple(shape[d] for d in kept), *strides))
    with module.function(name, internal=True, inline=False, table="ptr") as b:
        if 0 in shape:
            return
        arg = _Arg(b, i.op.name, kind_of(x.buffer.dtype), Dim(shape[axis], (x.strides[axis],)))
        places, kinds = [base(b, b.args[0], v) for v in (x, y)], [arg.stored, "i64"]
        if arg.along.strides[0] != 1 and dims and dims[-1].strides == (1, 1):

            def columns(pointers: Sequence[Value]) -> None:
                def body(k: Value, width: int) -> None:
                    p, q = (b.at(v, k, kind) for v, kind in zip(pointers, kinds, strict=True))
                    arg.columns(p, q, width)

                b.for_vectors(dims[-1].size, lanes(b, arg.bytes, dims[-1].size), body)

            walk(b, dims[:-1], places, kinds, columns)
        else:
            walk(b, dims, places, kinds, lambda pointers: arg.row(*pointers))
