"""Rows of the operands of a product: where they are, also by index, and asking for them before they are needed.

Row i of an operand with an index is row ``index[i]`` of what its pointer names: a gather that is never written out.
Tiles get such rows by their addresses, those of B in packed panels if there are many of them.

Operands that do not fit the second-level cache are fetched while the tiles before compute: each tile asks for a share
of what the next strip of A or the next block of B takes, a line a step of k. (In one go, the requests would fill the
processor's buffers and hold the tile up.)
"""

from __future__ import annotations

from chainrule.compiler.llvm.builder import Builder
from chainrule.compiler.llvm.gemm_plan import Index
from chainrule.compiler.llvm.gemm_tiles import Ahead
from chainrule.compiler.llvm.values import BYTES, Value

#: bytes of a line of the caches
LINE = 64


class Rows:
    """The rows of an operand, ``count`` of them, each contiguous and ``stride`` elements after the one before."""

    def __init__(
        self, b: Builder, kind: str, base: Value, stride: int, count: int, index: Index | None, place: Value | None
    ) -> None:
        self.b, self.kind, self.base, self.stride, self.count = b, kind, base, stride, count
        self.index, self.place = index, place

    def at(self, row: Value) -> Value:
        """The address of the first element of a row."""
        b = self.b
        if self.index is not None:
            assert self.place is not None
            row = index_at(b, self.index, self.place, row)
        return b.offset(self.base, row * (self.stride * BYTES[self.kind]))

    def list(self, first: Value, end: Value, start: Value, count: int, places: Value) -> None:
        """Write ``count`` addresses: of byte ``start`` of rows first <= row < end, then of the last of them again."""
        b = self.b
        last = b.select(end < self.count, end, self.count) - 1
        with b.loop(0, count) as i:
            row = b.select(first + i < last, first + i, last)
            b.store(b.offset(self.at(row), start), b.at(places, i, "ptr"))


def ahead_of(depth: int, rows: int, nbytes: int, each: int) -> Ahead | None:
    """How a tile of ``depth`` steps asks for ``nbytes`` of each of some rows; None if the rows are more than steps.

    A step asks for ``each`` lines at a time: more than one where many steps may be left out.
    """
    if rows > depth:
        return None
    lines = min((-(-nbytes // LINE) - 1).bit_length(), (depth // rows).bit_length() - 1)  # of a row, a power of two
    return Ahead(-(-(rows << lines) // each), each, lines, nbytes - 1)


def index_at(b: Builder, index: Index, place: Value, row: Value) -> Value:
    """Which row of the table is meant by the index at ``row``; negative ones count from the end."""
    i = b.cast(b.load(b.at(place, row * index.stride, index.kind), index.kind), "i64")
    return b.select(i < 0, i + index.size, i)
