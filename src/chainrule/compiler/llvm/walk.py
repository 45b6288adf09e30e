"""How a loop goes through memory, and with that the order in which its reductions combine.

One dimension is vectorized: where no reduction runs, the last; else the last kept or the last reduced one, whichever
has more contiguous accesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chainrule.compiler.kernels import Access, Loop, Order
from chainrule.compiler.llvm.target import Target

#: a dimension of a nest: its size, the stride of every access along it, and whether it is kept (not reduced)
_Dim = tuple[int, tuple[int, ...], bool]


class Walk(NamedTuple):
    """How a loop goes through memory: its dimensions, which one is vectorized, and by how many lanes.

    Together they fix the order in which reductions combine.
    """

    accesses: list[Access]
    dims: list[_Dim]
    vector: int
    width: int

    @property
    def order(self) -> Order:
        """What the bits of a reduction depend on: with equal orders, the same terms are combined in the same order."""
        if not self.dims or self.dims[self.vector][2]:
            return ()
        return self.width, *(n for n, _, kept in self.dims if not kept)


def walk_of(loop: Loop, target: Target) -> Walk:
    """The walk of a loop on a target."""
    kept = len(loop.space) - loop.reduced
    accesses = [*loop.loads.values(), *(s.access for s in loop.stores)]
    accesses += [r.access._replace(strides=(*r.access.strides, *(0,) * loop.reduced)) for r in loop.reductions]
    walks = [a.strides for a in accesses] + list(loop.counters.values())
    dims = [(n, tuple(w[d] for w in walks), d < kept) for d, n in enumerate(loop.space)]
    dims = _collapse([d for d in dims if d[0] != 1])
    vector = _choose(dims, len(accesses), loop.order)
    widest = max([a.buffer.dtype.itemsize for a in accesses] + [r.dtype.itemsize for i in loop.body for r in i.results])
    size = dims[vector][0] if dims else 1
    width = min(target.width(widest), 1 << (size.bit_length() - 1) if size else 1)
    return Walk(accesses, dims, vector, loop.order[0] if loop.order else width)


def _choose(dims: Sequence[_Dim], accesses: int, order: Order | None) -> int:
    """The dimension to vectorize: the one, among the last of each sort, with the most contiguous accesses.

    An order that is wanted settles the sort: kept for one after the other, else reduced.
    """
    candidates = [d for d in range(len(dims)) if d + 1 == len(dims) or dims[d][2] != dims[d + 1][2]]
    if order is not None:
        candidates = [d for d in candidates if dims[d][2] == (not order)] or candidates

    def score(d: int) -> tuple[int, int]:
        return -sum(1 for s in dims[d][1][:accesses] if s not in (0, 1)), d

    return max(candidates, key=score, default=0)


def _collapse(dims: Sequence[_Dim]) -> list[_Dim]:
    """Neighbouring dimensions of one sort that every access walks as one are made one."""
    out: list[_Dim] = []
    for size, strides, kept in dims:
        if out and out[-1][2] == kept and all(o == s * size for o, s in zip(out[-1][1], strides, strict=True)):
            out[-1] = (out[-1][0] * size, strides, kept)
        else:
            out.append((size, strides, kept))
    return out
