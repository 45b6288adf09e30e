"""Memory budgets: sizes as people write them, and the error for a budget that cannot be met."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chainrule.core.errors import describe_place, explain
from chainrule.ir.graph import Instruction, describe_size

_UNITS = {
    "b": 1,
    **{p + "b": 1000**n for n, p in enumerate("kmgt", 1)},
    **{p + "ib": 1024**n for n, p in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)\s*", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Bytes, from a whole number of them or from text: "64MB" is 64 * 10**6, "1.5GiB" is 1.5 * 2**30.

    Raises:
        TypeError: for anything else than an int or a str.
        ValueError: for text that is no size, and for sizes below one byte.
    """
    what = f"memory_budget={size!r} is no size of memory"
    fix = 'write a number with a unit, as in memory_budget="64MB" or "1.5GiB", or a whole number of bytes'
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(explain(what, expected="an int or a str", got=type(size).__name__, fix=fix))
    if isinstance(size, int):
        found = size
    else:
        match = _SIZE.fullmatch(size)
        if match is None or match[2].lower() not in _UNITS:
            units = "B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)"
            raise ValueError(explain(what, expected=f"a number and one of {units}", got=repr(size), fix=fix))
        found = int(float(match[1]) * _UNITS[match[2].lower()])
    if found < 1:
        raise ValueError(explain(what, expected="at least one byte", got=f"{found} bytes", fix=fix))
    return found


class MemoryBudgetError(ValueError):
    """A program needs more memory than its budget, however much is recomputed.

    Attributes:
        wanted: the budget in bytes.
        reached: the smallest peak that was found, in bytes.
        before: the peak without recomputation.
    """

    def __init__(self, wanted: int, reached: int, before: int, largest: Sequence[tuple[Instruction, int]]) -> None:
        self.wanted, self.reached, self.before = wanted, reached, before
        lines = [
            explain(
                "the program does not fit its memory budget, not even with recomputation",
                expected=f"at most {describe_size(wanted)} ({wanted:,} bytes) at the peak",
                got=f"{describe_size(reached)} ({reached:,} bytes) at least, {describe_size(before)} without "
                "recomputation",
                fix="raise memory_budget to what was reached, or make the batch smaller",
            ),
            "the largest values that are alive at that peak:",
        ]
        for i, nbytes in largest:
            at = f"  ({describe_place(i.place)})" if i.place else ""
            lines.append(f"  {describe_size(nbytes):>9}  {i}{at}")
        super().__init__("\n".join(lines))
