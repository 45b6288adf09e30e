"""What the losses share: reductions, and the check that input and target belong together element by element."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.ir.state import get_state

REDUCTIONS = ("none", "mean", "sum")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The ``reduction`` that the arguments of old programs, ``size_average`` and ``reduce``, stand for."""
    if size_average is None and reduce is None:
        return reduction
    new = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{new}' instead.",
        UserWarning,
        stacklevel=4,
    )
    return new


def reduced(losses: Any, reduction: str) -> Any:
    """``losses`` itself ("none"), their mean or their sum."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    check_reduction(reduction)
    return losses


def check_reduction(reduction: str) -> None:
    """ValueError unless ``reduction`` is one of "none", "mean", "sum"."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction!r} is not a valid value for reduction; it is one of 'none', 'mean', 'sum'")


def concrete(tensor: Any) -> np.ndarray[Any, Any] | None:
    """The numbers of ``tensor`` for a check of values; None under a transform, which has none yet."""
    return tensor.numpy_payload() if get_state().interpreter is None else None


def need_tensors(loss: str, input: Any, target: Any) -> TypeError:
    """The error for a loss that was given something else than two tensors."""
    return TypeError(
        explain(
            f"{loss} compares two tensors",
            expected="input and target of type Tensor",
            got=f"{type(input).__name__} and {type(target).__name__}",
            fix="make tensors first, with chainrule.tensor(...) or chainrule.from_numpy(...)",
        )
    )


def match_shapes(loss: str, input: Any, target: Any, strict: bool = False) -> None:
    """ShapeError if the loss would compare elements of ``input`` and ``target`` that do not belong together.

    The shapes have to be equal, or (unless ``strict``) one tensor fits the other by broadcasting as it is, which
    warns as in PyTorch. The pair (n, 1) and (n,) is always an error.
    """
    try:
        a, b = input._d.shape, target._d.shape
    except AttributeError:
        raise need_tensors(loss, input, target) from None
    if a == b:
        return
    what = f"{loss}: input has shape {a} and target has shape {b}"
    try:
        joint = np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(explain(f"{what}: they do not belong together", expected="equal shapes")) from None
    longer, shorter, names = (a, b, ("input", "target")) if len(a) > len(b) else (b, a, ("target", "input"))
    if shorter and longer == (*shorter, 1):
        raise ShapeError(
            explain(
                f"{what}: they would broadcast to {joint}, each prediction against every target, not its own."
                "\n  That is almost surely a mistake: the loss would be finite and would even fall, and the model would"
                "\n  learn little more than the mean of the targets.",
                expected="equal shapes",
                got=f"{a} and {b}",
                fix=f"{names[0]}.squeeze(-1) makes both {shorter}, or {names[1]}.unsqueeze(-1) makes both {longer}",
            )
        )
    if strict or joint not in (a, b):
        raise ShapeError(
            explain(
                f"{what}: they would broadcast to {joint}, comparing elements that do not belong together",
                expected="equal shapes",
                got=f"{a} and {b}",
                fix="squeeze(), unsqueeze() or reshape() one of them; if it is meant, use .expand(...) first",
            )
        )
    warnings.warn(
        f"{what}. This will likely lead to incorrect results due to broadcasting. "
        "Please ensure they have the same size.",
        UserWarning,
        stacklevel=4,
    )
