"""Metrics of classifiers: accuracy and the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import tensors as ct
from chainrule.core.dtypes import float32, int64
from chainrule.core.errors import did_you_mean, explain
from chainrule.metrics.metric import Metric

Array = np.ndarray[Any, Any]

_TASKS = ("binary", "multiclass")
_AVERAGES = ("micro", "macro", "weighted", "none", None)


class _Classification(Metric):
    """What classification metrics share: the task, and how predictions and targets become class indices."""

    def __init__(
        self, task: str, num_classes: int | None, threshold: float, ignore_index: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        name = type(self).__name__
        if task not in _TASKS:
            raise ValueError(f"{name}: task must be one of {_TASKS}, got {task!r}{did_you_mean(str(task), _TASKS)}")
        if task == "multiclass" and (not isinstance(num_classes, int) or num_classes < 2):
            raise ValueError(
                f"{name}(task='multiclass') needs num_classes, a whole number of at least 2, got {num_classes}"
            )
        if not 0 <= threshold <= 1:
            raise ValueError(f"{name}: threshold must lie in [0, 1], got {threshold}")
        self.task = task
        self.num_classes = 2 if task == "binary" else num_classes
        self.threshold = threshold
        self.ignore_index = ignore_index

    def _flat(self, preds: Any, target: Any, top_k: int = 1) -> tuple[Array, Array]:
        """Predictions (n,) as class indices, or (n, top_k) with ``top_k`` > 1, and targets (n,) as class indices."""
        p, t = _array(preds), _array(target)
        if t.dtype.kind not in "iub":
            raise ValueError(self._problem("the targets must be class indices", "integers", f"{t.dtype}"))
        if self.task == "binary":
            self._same_shape(p, t)
            if p.dtype.kind == "f":
                # Logits are recognised by values outside of [0, 1], as in torchmetrics.
                p = (_sigmoid(p) if p.size and (p.min() < 0 or p.max() > 1) else p) > self.threshold
        elif p.dtype.kind == "f" or top_k > 1:
            p = self._ranked(p, t, top_k)
        else:
            self._same_shape(p, t)
        p = p.reshape(t.size, top_k) if top_k > 1 else p.reshape(-1).astype(np.int64)
        t = t.reshape(-1).astype(np.int64)
        if self.ignore_index is not None:
            kept = t != self.ignore_index
            p, t = p[kept], t[kept]
        for what, values in (("target", t), ("prediction", p)):
            if values.size and (values.min() < 0 or values.max() >= self.num_classes):
                wrong = int(values.min() if values.min() < 0 else values.max())
                expected = f"0 to {self.num_classes - 1}"
                raise ValueError(self._problem(f"a {what} is no class index", expected, f"{wrong}"))
        return p, t

    def _ranked(self, p: Array, t: Array, top_k: int) -> Array:
        expected = f"scores of shape (N, {self.num_classes}, ...) for targets of shape (N, ...)"
        if p.dtype.kind != "f" or p.ndim != t.ndim + 1 or p.shape[1] != self.num_classes:
            raise ValueError(self._problem("predictions and targets do not fit", expected, f"{p.shape} and {t.shape}"))
        if (p.shape[0], *p.shape[2:]) != t.shape:
            raise ValueError(self._problem("predictions and targets do not fit", expected, f"{p.shape} and {t.shape}"))
        rows = np.moveaxis(p, 1, -1)
        if top_k == 1:
            return rows.argmax(-1)
        return np.argsort(-rows, axis=-1, kind="stable")[..., :top_k]

    def _same_shape(self, p: Array, t: Array) -> None:
        if p.shape != t.shape:
            raise ValueError(self._problem("predictions and targets differ in shape", f"{t.shape}", f"{p.shape}"))

    def _problem(self, what: str, expected: str, got: str) -> str:
        return explain(f"{type(self).__name__}(task={self.task!r}): {what}", expected=expected, got=got)

    def extra_repr(self) -> str:
        return f"task={self.task!r}, num_classes={self.num_classes}"


class Accuracy(_Classification):
    """The share of samples that are classified right.

    Predictions are class indices of the targets' shape, or scores (logits or probabilities): of shape (N, C, ...) for
    "multiclass", where the largest counts, and of the targets' shape for "binary", where more than ``threshold`` means
    class 1 (values outside of [0, 1] are taken for logits).

    Args:
        task: "multiclass" or "binary".
        num_classes: number of classes C; needed for "multiclass".
        threshold: for "binary", on probabilities.
        top_k: for "multiclass", right if the target is among the k largest scores.
        average: "micro" (all samples alike), "macro" (mean over the classes that occur), "weighted" (by the number of
            targets of each class), "none" or None (one value per class).
        ignore_index: targets of this value do not count.

    Raises:
        ValueError: shapes, types or values that do not fit the task.
    """

    def __init__(
        self,
        task: str,
        num_classes: int | None = None,
        threshold: float = 0.5,
        top_k: int = 1,
        average: str | None = "micro",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, num_classes, threshold, ignore_index, **kwargs)
        if average not in _AVERAGES:
            raise ValueError(f"Accuracy: average must be one of {_AVERAGES}, got {average!r}")
        if not 1 <= top_k <= self.num_classes or (top_k > 1 and task == "binary"):
            raise ValueError(f"Accuracy: top_k must lie between 1 and num_classes (binary: 1), got {top_k}")
        self.average = average
        self.top_k = top_k
        for name in ("hits", "targets", "predictions"):  # per class
            self.add_state(name, ct.zeros(self.num_classes, dtype=int64), dist_reduce_fx="sum")

    def update(self, preds: Any, target: Any) -> None:
        """Add a batch."""
        p, t = self._flat(preds, target, self.top_k)
        if self.top_k > 1:
            p = np.where((p == t[:, None]).any(1), t, p[:, 0])
        self.hits = self.hits + _count(t[p == t], self.num_classes)
        self.targets = self.targets + _count(t, self.num_classes)
        self.predictions = self.predictions + _count(p, self.num_classes)

    def compute(self) -> ct.Tensor:
        """The accuracy: a 0-d float32 tensor, or one of shape (C,) with ``average`` None; NaN without samples."""
        hits, targets, predictions = (_array(s).astype(np.float64) for s in (self.hits, self.targets, self.predictions))
        # Binary accuracy has no classes to average over: both answers count alike.
        if self.average == "micro" or self.task == "binary":
            return ct.tensor(_ratio(hits.sum(), targets.sum()), dtype=float32)
        per_class = np.divide(hits, targets, out=np.zeros_like(hits), where=targets > 0)
        if self.average == "macro":
            occurs = (targets + predictions) > 0
            return ct.tensor(_ratio((per_class * occurs).sum(), occurs.sum()), dtype=float32)
        if self.average == "weighted":
            return ct.tensor(_ratio((per_class * targets).sum(), targets.sum()), dtype=float32)
        return ct.tensor(per_class, dtype=float32)


class ConfusionMatrix(_Classification):
    """Counts C[i, j] of the samples of class i that were predicted as class j.

    Takes predictions as :class:`Accuracy` does.

    Args:
        task: "multiclass" or "binary".
        num_classes: number of classes; needed for "multiclass".
        normalize: "true" (rows sum to 1), "pred" (columns), "all" (everything), None or "none" (counts, int64).
    """

    def __init__(
        self,
        task: str,
        num_classes: int | None = None,
        threshold: float = 0.5,
        normalize: str | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, num_classes, threshold, ignore_index, **kwargs)
        if normalize not in ("true", "pred", "all", "none", None):
            raise ValueError(
                f"ConfusionMatrix: normalize must be 'true', 'pred', 'all', 'none' or None, got {normalize!r}"
            )
        self.normalize = normalize
        shape = (self.num_classes, self.num_classes)
        self.add_state("confmat", ct.zeros(shape, dtype=int64), dist_reduce_fx="sum")

    def update(self, preds: Any, target: Any) -> None:
        """Add a batch."""
        p, t = self._flat(preds, target)
        n = self.num_classes
        self.confmat = self.confmat + _count(t * n + p, n * n).reshape(n, n)

    def compute(self) -> ct.Tensor:
        """The matrix of shape (C, C): targets down, predictions across. Normalized rows without samples are 0."""
        if self.normalize in (None, "none"):
            return self.confmat
        counts = _array(self.confmat).astype(np.float64)
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        total = counts.sum(axis=axis, keepdims=True)
        return ct.tensor(np.divide(counts, total, out=np.zeros_like(counts), where=total > 0), dtype=float32)


def _array(values: Any) -> Array:
    return values.detach().numpy() if isinstance(values, ct.Tensor) else np.asarray(values)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _count(indices: Array, n: int) -> ct.Tensor:
    return ct.from_numpy(np.bincount(indices, minlength=n).astype(np.int64, copy=False))


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")
