"""What PyTorch calls a node: ``MulBackward0``, ``MmBackward0``, ``ViewBackward0``, where ours has a counterpart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.tape.node import Node

#: ops that PyTorch calls otherwise
_OTHER = {
    "amax": "Amax", "amin": "Amin", "alias": "Alias", "broadcast_to": "Expand", "cast": "ToCopy", "copy": "Clone",
    "layer_norm": "NativeLayerNorm", "linear": "Addmm", "log1p": "Log1P", "softmax_nll": "NllLoss", "square": "Pow",
    "take": "Index",
}  # fmt: skip


def _rank(n: Node) -> int | None:
    return len(n.avals[0].shape) if n.avals else None


def _matmul(n: Node) -> str:
    return "Bmm" if (_rank(n) or 2) > 2 else "Mm"


def _getitem(n: Node) -> str:
    steps = [i for i in n.params["index"] if i is not Ellipsis and i != slice(None)]
    last: Any = steps[-1] if steps else slice(None)
    return "Unsqueeze" if last is None else "Slice" if isinstance(last, slice) else "Select"


def _reshape(n: Node) -> str:
    """A reshape that only adds or drops axes of size 1 is what ``unsqueeze`` and ``squeeze`` make."""
    if not n.avals:
        return "View"
    old, new = n.avals[0].shape, n.params["shape"]
    if len(old) == len(new) or [d for d in old if d != 1] != [d for d in new if d != 1]:
        return "View"
    return "Unsqueeze" if len(new) > len(old) else "Squeeze"


#: ops whose name depends on how they were applied
_BY_USE: dict[str, Callable[[Node], str]] = {"getitem": _getitem, "matmul": _matmul, "reshape": _reshape}


def _variant(n: Node) -> int:
    """PyTorch numbers the forms of one op: a reduction over some axes, a power with tensors on one side or both."""
    if n.op.name in ("sum", "mean"):
        axes, rank = n.params.get("axes"), _rank(n)
        return int(axes is not None and rank is not None and len(axes) < rank)
    if n.op.name == "pow" and n.edges:
        return 2 if n.edges[0] is None else 0 if n.edges[1] is None else 1
    return 0


def name_of(n: Node) -> str:
    """The name of a node."""
    op = n.op.name
    if op == "put":
        return "CopySlices"
    title = _OTHER.get(op) or (
        _BY_USE[op](n) if op in _BY_USE else "".join(p[:1].upper() + p[1:] for p in op.split("_"))
    )
    return f"{title}Backward{_variant(n)}"
