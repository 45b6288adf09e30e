"""Anomaly mode: the backward pass looks at every gradient it computes and stops at the first that is not finite."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import numpy as np

from chainrule.core.errors import GradError, describe_place
from chainrule.ir.interpreter import Tracer
from chainrule.tape.node import PICK, ROOTS, Node

#: whether backward passes of this thread look
WATCHING: ContextVar[bool] = ContextVar("chainrule_anomaly", default=False)


def _array(value: Any) -> np.ndarray[Any, Any] | None:
    """The numbers behind a cotangent, through any levels of interpretation; None if there are none yet."""
    while True:
        if isinstance(value, Tracer):
            value = value.value
        elif hasattr(value, "_d"):
            value = value._d
        else:
            break
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic, float, int)) else None


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple) else (value,)


def _bad(value: Any) -> tuple[np.ndarray[Any, Any], int] | None:
    """The array of a cotangent and the position of its first entry that is not finite, or None."""
    for part in _parts(value):
        array = None if part is None else _array(part)
        if array is not None and array.dtype.kind == "f":
            wrong = ~np.isfinite(array)
            if wrong.any():
                return array, int(np.argmax(wrong))
    return None


def inspect(n: Node, g: Any, found: Iterable[Any]) -> None:
    """Raise if a cotangent that ``n`` just computed from ``g`` is not finite.

    Raises:
        GradError: naming the op, the input, the first such entry, and the user's forward line.
    """
    if n.op is PICK or n.op is ROOTS:
        return
    for i, value in enumerate(found):
        bad = None if value is None else _bad(value)
        if bad is None:
            continue
        array, flat = bad
        at = tuple(int(k) for k in np.unravel_index(flat, array.shape)) if array.shape else ()
        count = int((~np.isfinite(array)).sum())
        arriving = "was finite" if _bad(g) is None else "was not finite either: it came from the seed or a hook"
        shapes = [tuple(d.shape) for d in n.xs if hasattr(d, "shape")]
        raise GradError(
            f"anomaly: the backward rule of {n.op.name!r} computed a gradient that is not finite\n"
            f"  gradient of: input {i}, shape {array.shape}; {count} of {array.size} entries\n"
            f"  first at:    index {at}, value {array[at]}\n"
            f"  arriving:    the gradient that reached {n.op.name!r} {arriving}\n"
            f"  saved:       values of shapes {shapes}\n"
            f"  forward at:  {describe_place(n.place)}\n"
            "  fix:         keep that op's input away from where its derivative is infinite or undefined"
        )
