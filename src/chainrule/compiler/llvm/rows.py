"""A row of a matrix of any size, vector by vector: what the kernels that work along rows share."""

from __future__ import annotations

import functools
from collections.abc import Callable

from chainrule.compiler.llvm.builder import Builder
from chainrule.compiler.llvm.values import BYTES, Value

#: partial maxima and sums of a row, so that they overlap
_CHAINS = 4


class Row:
    """A row of ``columns`` elements: vectors, of which the last may be cut short."""

    def __init__(self, b: Builder, kind: str, columns: Value) -> None:
        self.b, self.kind, self.width = b, kind, b.target.width(BYTES[kind])
        self.whole = b.sub(columns, b.irem(columns, self.width))
        self.rounds = b.sub(columns, b.irem(columns, _CHAINS * self.width))
        self.mask = b.tail_mask(b.sub(columns, self.whole), self.width)

    def fold(
        self, start: float, combine: Callable[[Value, Value], Value], element: Callable[[Value, Value | None], Value]
    ) -> Value:
        """``combine`` over ``element(index, mask)``, as a scalar; where the mask is not set the start is taken."""
        b, first = self.b, self.b.const(start, self.kind, self.width)
        with b.loop_carrying(0, self.rounds, _CHAINS * self.width, [first] * _CHAINS) as k:
            at = [k.index + c * self.width if c else k.index for c in range(_CHAINS)]
            k.next(*(combine(v, element(i, None)) for v, i in zip(k.values, at, strict=True)))
        total = functools.reduce(combine, k.results)
        with b.loop_carrying(self.rounds, self.whole, self.width, [total]) as k:
            k.next(combine(k.values[0], element(k.index, None)))
        total = combine(k.results[0], b.select(self.mask, element(self.whole, self.mask), first))
        return b.reduce(total, combine)

    def each(self, body: Callable[[Value, Value | None], None]) -> None:
        """``body(index, mask)`` for every vector."""
        with self.b.loop(0, self.whole, self.width) as i:
            body(i, None)
        body(self.whole, self.mask)
