"""How a tensor is shown: as people know it, ``tensor([1.0000, 2.5000], grad_fn=<MulBackward0>)``.

The rules are PyTorch's: numbers of one width so that columns line up, whole numbers with a bare point, four digits
after the point otherwise, scientific notation where the magnitudes are far apart, and only the ends of what is long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import get_state
from chainrule.tensors.tensor import Tensor

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80, "sci_mode": None},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80, "sci_mode": None},
}
_options = dict(_PROFILES["default"])


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Digits after the point, elements above which a tensor is shortened, how many are shown at its ends, line width.

    Args:
        profile: start from "default", "short" or "full".
        sci_mode: scientific notation always (True) or never (False); chosen by magnitude unless given.

    Raises:
        ValueError: for an unknown profile.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(explain("unknown print profile", expected=", ".join(_PROFILES), got=repr(profile)))
        _options.update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({k: v for k, v in given.items() if v is not None})
    _options["sci_mode"] = sci_mode


def _scientific(values: np.ndarray[Any, Any], whole: bool) -> bool:
    """Whether nonzero finite numbers call for scientific notation."""
    if _options["sci_mode"] is not None:
        return bool(_options["sci_mode"])
    sizes = np.abs(values)
    low, high = sizes.min(), sizes.max()
    return bool(high / low > 1000.0 or high > 1e8 or (not whole and low < 1e-4))


def _formatter(shown: np.ndarray[Any, Any]) -> tuple[Callable[[Any], str], int]:
    """How to write one element, chosen from all that will be shown, and the width of a column."""
    if shown.dtype.kind != "f":
        width = max((len(str(v)) for v in shown.flat), default=1)
        return (lambda v: str(v).rjust(width)), width
    values = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
    whole = bool((values == np.ceil(values)).all())
    digits = _options["precision"]
    spec = f".{digits}e" if values.size and _scientific(values, whole) else ".0f" if whole else f".{digits}f"
    point = "." if spec == ".0f" else ""
    width = max((len(f"{v:{spec}}{point}") for v in values), default=1)

    def text(v: float) -> str:
        return (f"{v:{spec}}{point}" if math.isfinite(v) else str(v)).rjust(width)

    return text, width


def _ends(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements that are shown of a shortened tensor."""
    n = _options["edgeitems"]
    for axis, size in enumerate(a.shape):
        if size > 2 * n:
            a = np.take(a, [*range(n), *range(size - n, size)], axis)
    return a


def _body(a: np.ndarray[Any, Any], indent: int, short: bool, text: Callable[[Any], str], width: int) -> str:
    """The elements in nested brackets; lines after the first start at column ``indent``."""
    if not a.ndim:
        return text(a.item())
    n = _options["edgeitems"]
    cut = short and len(a) > 2 * n
    if a.ndim == 1:
        numbers = a.tolist()
        words = [*map(text, numbers[:n]), " ...", *map(text, numbers[-n:])] if cut else [*map(text, numbers)]
        per_line = max(1, (_options["linewidth"] - indent) // (width + 2))
        lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    parts = [*a[:n], *a[-n:]] if cut else a
    rows = [_body(np.asarray(part), indent + 1, short, text, width) for part in parts]
    if cut:
        rows.insert(n, "...")
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def _notes(t: Tensor, a: np.ndarray[Any, Any]) -> list[str]:
    """What stands behind the elements: size of an empty tensor, dtype, place in the graph."""
    usual = dtypes.get_default_dtype().numpy
    notes = []
    if a.size == 0 and a.ndim != 1:
        notes.append(f"size={tuple(a.shape)}")
    if a.dtype != usual and (a.size == 0 or a.dtype not in (dtypes.int64.numpy, dtypes.bool_.numpy)):
        notes.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        notes.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return notes


def tensor_repr(t: Tensor, name: str = "tensor") -> str:
    """The text of a tensor."""
    if isinstance(t._d, Tracer):
        return f"{name}({t._d!r})"
    interpreter = get_state().interpreter
    if interpreter is not None and interpreter.keeps(t):
        return f"{name}(<a tensor from outside {interpreter.what}, shape {tuple(t._d.shape)}, {t._d.dtype}>)"
    a = t.numpy_payload()
    indent = len(name) + 1
    short = a.size > _options["threshold"]
    body = "[]"
    if a.size:
        text, width = _formatter(_ends(a) if short else a)
        body = _body(a, indent, short, text, width)
    out = f"{name}({body}"
    column = len(out) - out.rfind("\n") + 1
    for note in _notes(t, a):
        if column + len(note) + 2 > _options["linewidth"]:
            out += ",\n" + " " * indent + note
            column = indent + len(note)
        else:
            out += ", " + note
            column += len(note) + 2
    return out + ")"
