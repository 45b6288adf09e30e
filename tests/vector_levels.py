"""The vector registers that tests of machine code are run with."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from chainrule.compiler.llvm.target import LEVELS, available, describe


@cache
def levels() -> tuple[str | None, ...]:
    """The levels this processor has, narrowest first, or the processor itself (None) where there are no levels."""
    found: list[str | None] = []
    for level in LEVELS if available() else ():
        try:
            describe(level)
        except ValueError:
            break
        found.append(level)
    return tuple(found) or (None,)


def each_level() -> list[Any]:
    """Parameters for pytest: the narrowest and the widest level; those between are slow tests."""
    between = levels()[1:-1]
    return [pytest.param(x, marks=pytest.mark.slow) if x in between else x for x in levels()]
