"""Machine code in place of NumPy for large eager calls, from a compiler that the layers here do not know.

NOTE [native kernels]. ``op.kernel`` defines an op, and is what compiled programs are checked against. ``op.eager`` may
compute the same otherwise, when a Tensor is asked for outside of any program. What it does depends on the operands
alone, never on what was called before, so the same call always gives the same bits: from ``LARGE`` elements on it is
machine code, if that can be had. (The first such call loads the compiler, 0.15 s; each saves 50 microseconds or more.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: elements from which a call is large
LARGE = 1 << 15

_source: Callable[[str], Callable[..., Any] | None] | None = None


def offer(source: Callable[[str], Callable[..., Any] | None]) -> None:
    """Take kernels from ``source(name)``, None where there is none."""
    global _source
    _source = source


def along_rows(name: str, x: Any, axis: int) -> Callable[..., Any] | None:
    """A kernel for an op along an axis, if x is large and dense, of float32 or float64, and the axis is its last."""
    if x.size < LARGE or axis != x.ndim - 1 or x.dtype.char not in "fd" or not x.flags.c_contiguous or _source is None:
        return None
    return _source(name) if x.dtype.isnative and x.flags.aligned else None
