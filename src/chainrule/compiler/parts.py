"""How the rows of a large batch are cut, for sums that are added up part by part."""

from __future__ import annotations

from math import log2
from typing import NamedTuple

#: rows of a part at least, so that adding up the parts is little work; most parts
LEAST_ROWS, MOST_PARTS = 1024, 16
#: rows of a chunk: as near to this as may be, within a factor of two
ROWS = 256


class Division(NamedTuple):
    """Rows cut into equal ``parts``, each of which consists of whole chunks of ``size`` rows; ``chunks`` in all."""

    rows: int
    parts: int
    size: int

    @property
    def chunks(self) -> int:
        """How many there are."""
        return self.rows // self.size


def division_of(rows: int) -> Division | None:
    """How a number of rows is cut, which depends on nothing else; None if they are few or have no such divisors."""
    parts = MOST_PARTS
    while parts > 1:
        length, rest = divmod(rows, parts)
        if not rest and length >= LEAST_ROWS:
            sizes = [s for s in range(ROWS // 2, 2 * ROWS + 1) if length % s == 0]
            if sizes:
                return Division(rows, parts, min(sizes, key=lambda s: abs(log2(s / ROWS))))
        parts //= 2
    return None
