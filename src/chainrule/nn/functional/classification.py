"""Losses for classes: cross-entropy and its relatives."""

from __future__ import annotations

import math

from chainrule import tensors as ct
from chainrule.core.errors import DTypeError, ShapeError, explain
from chainrule.ir.state import get_state
from chainrule.nn.functional._checks import (
    check_reduction,
    concrete,
    legacy_reduction,
    match_shapes,
    need_tensors,
    reduced,
)
from chainrule.tensors.namespace import TENSORS

Tensor = ct.Tensor

# log(p) is cut off below at this value in binary_cross_entropy, as in PyTorch.
LOG_FLOOR = -100.0


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy between logits and classes, -log softmax(x)_y, computed by log-sum-exp.

    Shapes: ``input`` (C,), (N, C) or (N, C, d1, ...); ``target`` either class indices of shape (), (N,) or (N, d1,
    ...), or label distributions, floating point of the shape of ``input``: then the loss is -sum_c q_c log
    softmax(x)_c.

    ``weight`` (C,) scales the loss of each class; the mean is then sum(w_y l) / sum(w_y). Targets equal to
    ``ignore_index`` contribute nothing and do not count in the mean. ``label_smoothing`` s replaces the target
    distribution q by (1 - s) q + s / C (Szegedy et al. 2016). The derivative is softmax(x) - q.

    Raises ShapeError for shapes that do not fit, DTypeError for float targets that are no distributions, IndexError
    for a class outside 0..C-1.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        raise need_tensors("cross_entropy", input, target)
    if target._d.dtype.kind == "f" and target._d.shape == input._d.shape:
        return _distribution_cross_entropy(input, target, weight, reduction, label_smoothing)
    rows, classes = _rows("cross_entropy", input, target)
    if label_smoothing == 0.0:
        if weight is None and reduction == "mean" and ignore_index < 0 and get_state().interpreter is None:
            try:  # nearly always no target is ignored: then the op is all there is to do, and it checks the classes
                return TENSORS.softmax_nll(rows, classes, mean=True)  # type: ignore[no-any-return]
            except IndexError:  # some target is ignored or wrong: told apart below
                pass
        losses, weights = _index_losses(None, rows, classes, weight, ignore_index)
        return _weighted_reduce(losses, weights, target, reduction)
    log_p = ct.log_softmax(rows, 1)
    losses, weights = _index_losses(log_p, rows, classes, weight, ignore_index)
    smooth = -(log_p if weight is None else log_p * weight).sum(1)
    if weights is not None:
        smooth = ct.where(classes == ignore_index, 0.0, smooth)
    count = rows.shape[1]
    losses = losses * (1.0 - label_smoothing) + smooth * (label_smoothing / count)
    return _weighted_reduce(losses, weights, target, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood -w_y x_y of class indices ``target`` under log-probabilities ``input``.

    Shapes, ``weight``, ``ignore_index`` and errors as in :func:`cross_entropy`, which equals
    ``nll_loss(log_softmax(x, 1), y)``.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        raise need_tensors("nll_loss", input, target)
    rows, classes = _rows("nll_loss", input, target)
    losses, weights = _index_losses(rows, rows, classes, weight, ignore_index)
    return _weighted_reduce(losses, weights, target, reduction)


def _rows(loss: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Input as (rows, C) and target as (rows,), after checking that they fit."""
    a, b = input._d.shape, target._d.shape
    if target._d.dtype.kind in "fb":
        raise DTypeError(
            explain(
                f"{loss}: the target is {'floating point' if target._d.dtype.kind == 'f' else 'boolean'}",
                expected="class indices, an integer tensor"
                + (f", or label distributions of the input's shape {a}" if loss == "cross_entropy" else ""),
                got=f"{target.dtype} of shape {b}",
                fix="target.long(), if its values are class indices",
            )
        )
    if len(a) == 2 and b == a[:1]:
        return input, target
    if len(a) == 0 or b != (a[:1] if len(a) > 1 else ()) + a[2:]:
        raise ShapeError(_misfit(loss, a, b))
    if len(a) == 1:
        return input.unsqueeze(0), target.reshape((1,))
    return input.movedim(1, -1).reshape((-1, a[1])), target.reshape((-1,))


def _misfit(loss: str, a: tuple[int, ...], b: tuple[int, ...]) -> str:
    want = (a[:1] if len(a) > 1 else ()) + a[2:]
    fix = ""
    if not a:
        fix = "give logits of shape (C,), (N, C) or (N, C, d1, ...)"
    elif b == (*want, 1):
        fix = "target.squeeze(-1)"
    elif b == a:
        fix = "target.argmax(1) if these are one-hot vectors, or target.float() to use them as distributions"
    elif len(a) > 1 and b[:1] != a[:1]:
        fix = f"Expected input batch_size ({a[0]}) to match target batch_size ({b[0] if b else 'none'})"
    expected = f"class indices of shape {want} for input of shape {a} (classes along axis {min(len(a) - 1, 1)})"
    return explain(f"{loss}: the shape of the target does not fit the input", expected=expected, got=str(b), fix=fix)


def _index_losses(
    log_p: Tensor | None, rows: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor | None]:
    """Loss per row, and the weight per row (None: all 1). Without ``log_p`` the rows are logits."""
    count = rows._d.shape[1]
    if weight is not None and tuple(weight.shape) != (count,):
        raise ShapeError(f"weight must have one entry per class: expected shape ({count},), got {tuple(weight.shape)}")
    ignored = _ignored(classes, count, ignore_index)
    safe = classes if ignored is None else ct.where(ignored, 0, classes)
    losses = (
        TENSORS.softmax_nll(rows, safe, mean=False)
        if log_p is None
        else -ct.gather(log_p, 1, safe.unsqueeze(1)).squeeze(1)
    )
    weights = None if weight is None else ct.index_select(weight, 0, safe)
    if weights is not None:
        losses = losses * weights
    if ignored is not None:
        losses = ct.where(ignored, 0.0, losses)
        weights = ct.where(ignored, 0.0, ct.ones_like(losses) if weights is None else weights)
    return losses, weights


def _ignored(classes: Tensor, count: int, ignore_index: int) -> Tensor | None:
    """Which targets are ignored; None if it is known that none is. IndexError for a class that does not exist."""
    values = concrete(classes)
    if values is None:
        return classes == ignore_index
    if values.size == 0 or (ignore_index < 0 <= values.min() and values.max() < count):
        return None
    mask = values == ignore_index
    wrong = values[~mask & ((values < 0) | (values >= count))]
    if wrong.size:
        raise IndexError(
            explain(
                f"class index {int(wrong.flat[0])} of the target is out of bounds",
                expected=f"0 to {count - 1}, as the input has {count} classes (or ignore_index, {ignore_index})",
                got=f"{int(values.min())} to {int(values.max())}",
                fix="subtract 1 if the labels start at 1, or give the network more outputs",
            )
        )
    return classes == ignore_index if mask.any() else None


def _weighted_reduce(losses: Tensor, weights: Tensor | None, target: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean() if weights is None else losses.sum() / weights.sum()
    if reduction == "sum":
        return losses.sum()
    check_reduction(reduction)
    return losses.reshape(tuple(target.shape))


def _distribution_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    if input.ndim == 0:
        raise ShapeError(_misfit("cross_entropy", (), ()))
    axis = 0 if input.ndim == 1 else 1
    count = input.shape[axis]
    if label_smoothing > 0.0:
        target = target * (1.0 - label_smoothing) + label_smoothing / count
    terms = ct.log_softmax(input, axis) * target
    if weight is not None:
        if tuple(weight.shape) != (count,):
            raise ShapeError(f"weight must have one entry per class: expected ({count},), got {tuple(weight.shape)}")
        terms = terms * weight.reshape((count,) + (1,) * (input.ndim - 1 - axis))
    return reduced(-terms.sum(axis), reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-w (y log p + (1 - y) log(1 - p)) for probabilities p = ``input`` and y = ``target`` of the same shape.

    Each logarithm is cut off below at -100, so the loss stays finite at p = 0 and p = 1; where it is cut off its
    derivative is 0 (PyTorch uses a slope of about 1e12 there). On logits, ``binary_cross_entropy_with_logits`` is the
    accurate choice. Raises RuntimeError for an input outside [0, 1], ShapeError for unequal shapes.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("binary_cross_entropy", input, target, strict=True)
    values = concrete(input)
    if values is not None and not ((values >= 0) & (values <= 1)).all():
        raise RuntimeError(
            explain(
                "all elements of input should be between 0 and 1",
                expected="probabilities",
                got=f"numbers from {values.min()} to {values.max()}",
                fix="apply sigmoid first, or use binary_cross_entropy_with_logits on the logits",
            )
        )
    losses = -(target * _clamped_log(input) + (1 - target) * _clamped_log(1 - input))
    return reduced(losses if weight is None else losses * weight, reduction)


def _clamped_log(p: Tensor) -> Tensor:
    tiny = p <= math.exp(LOG_FLOOR)
    return ct.where(tiny, LOG_FLOOR, ct.log(ct.where(tiny, 1.0, p)))


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-w (c y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))) for logits x, with c = ``pos_weight``.

    Computed as (1 - y) x + (1 + (c - 1) y) log(1 + exp(-x)), finite for every finite x. ShapeError for unequal shapes.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("binary_cross_entropy_with_logits", input, target, strict=True)
    log_term = ct.softplus(-input)
    if pos_weight is not None:
        log_term = log_term * ((pos_weight - 1) * target + 1)
    losses = (1 - target) * input + log_term
    return reduced(losses if weight is None else losses * weight, reduction)
