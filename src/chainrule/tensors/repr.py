"""How a tensor is shown: as people know it, ``tensor([1.0000, 2.5000], grad_fn=<MulBackward0>)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.ir.interpreter import Tracer
from chainrule.tape.node import Node
from chainrule.tensors.tensor import Tensor

_options = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}


def set_printoptions(
    precision: int | None = None, threshold: int | None = None, edgeitems: int | None = None, linewidth: int | None = None
) -> None:
    """Digits after the point, elements above which a tensor is shortened, how many are shown at its ends, line width."""
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({k: v for k, v in given.items() if v is not None})


def _formatter(a: np.ndarray[Any, Any]) -> Callable[[Any], str]:
    """One format for all numbers, so that columns line up: integers with a point, fixed, or scientific."""
    if a.dtype.kind == "b":
        return lambda v: "True" if v else "False"
    if a.dtype.kind != "f":
        width = max((len(str(v)) for v in a.flat), default=0)
        return lambda v: f"{v:>{width}}"
    finite = np.abs(a[np.isfinite(a)].astype(np.float64))
    nonzero = finite[finite > 0]
    digits = _options["precision"]
    if nonzero.size == 0 or bool((finite == np.floor(finite)).all()):
        scientific = bool(nonzero.size and nonzero.max() >= 1e8)
        spec = f".{digits}e" if scientific else ".0f"
    else:
        wide = nonzero.max() / nonzero.min() > 1000 or nonzero.max() >= 1e8 or nonzero.min() < 1e-4
        spec = f".{digits}e" if wide else f".{digits}f"
    point = "." if spec == ".0f" else ""

    def text(v: Any) -> str:
        return f"{v:{spec}}{point}" if np.isfinite(v) else str(float(v))

    width = max((len(text(v)) for v in a.flat), default=0)
    return lambda v: text(v).rjust(width)


def _shown(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements that will be printed, from which the format is chosen."""
    if a.size <= _options["threshold"]:
        return a
    n = _options["edgeitems"]
    for axis, size in enumerate(a.shape):
        if size > 2 * n:
            a = np.take(a, [*range(n), *range(size - n, size)], axis)
    return a


def tensor_repr(t: Tensor, name: str = "tensor") -> str:
    """The text of a tensor."""
    notes = []
    if isinstance(t._d, Tracer):
        return f"{name}({t._d!r})"
    a = t.numpy_payload()
    if a.dtype not in (dtypes.get_default_dtype().numpy, dtypes.int64.numpy, dtypes.bool_.numpy) or (
        a.size == 0 and a.dtype != dtypes.get_default_dtype().numpy
    ):
        notes.append(f"dtype={t.dtype}")
    if type(t._node) is Node:
        notes.append(f"grad_fn={t._node!r}")
    elif t._node is not None:
        notes.append("requires_grad=True")
    if a.size == 0 and a.shape != (0,):
        notes.insert(0, f"size={tuple(a.shape)}")
    if a.size == 0:
        body = "[]"
    else:
        show: Any = _formatter(_shown(a))
        body = np.array2string(
            a,
            separator=", ",
            prefix=f"{name}(",
            formatter={"all": show},
            threshold=_options["threshold"],
            edgeitems=_options["edgeitems"],
            max_line_width=_options["linewidth"],
        )
    return f"{name}({', '.join([body, *notes])})"
