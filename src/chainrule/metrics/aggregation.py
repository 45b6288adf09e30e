"""Means of values that come in batch by batch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from chainrule import tensors as ct
from chainrule.core.dtypes import float32, float64
from chainrule.metrics.metric import Metric

_STRATEGIES = ("error", "warn", "ignore", "disable")


class MeanMetric(Metric):
    """The weighted mean sum(w_i v_i) / sum(w_i) of all values seen; NaN if there are none.

    Sums are kept in float64, the value is a 0-d float32 tensor.

    Args:
        nan_strategy: what to do with a NaN: "warn" (leave it out and warn), "ignore" (leave it out), "error" (raise
            RuntimeError), "disable" (let it through), or a number that takes its place.
    """

    def __init__(self, nan_strategy: str | float = "warn", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(nan_strategy, str) and nan_strategy not in _STRATEGIES:
            raise ValueError(f"MeanMetric: nan_strategy must be a number or one of {_STRATEGIES}, got {nan_strategy!r}")
        self.nan_strategy = nan_strategy
        self.add_state("mean_value", ct.zeros((), dtype=float64), dist_reduce_fx="sum")
        self.add_state("weight", ct.zeros((), dtype=float64), dist_reduce_fx="sum")

    def update(self, value: Any, weight: Any = 1.0) -> None:
        """Add a number or a tensor of numbers; ``weight`` is broadcast to its shape."""
        values = _float64(value)
        weights = np.broadcast_to(_float64(weight), values.shape)
        bad = np.isnan(values) | np.isnan(weights)
        if bad.any() and self.nan_strategy != "disable":
            values, weights = self._without_nan(values, weights, bad)
        self.mean_value = self.mean_value + float((values * weights).sum())
        self.weight = self.weight + float(weights.sum())

    def _without_nan(self, values: Any, weights: Any, bad: Any) -> tuple[Any, Any]:
        if not isinstance(self.nan_strategy, str):
            return np.where(bad, self.nan_strategy, values), np.where(bad, self.nan_strategy, weights)
        if self.nan_strategy == "error":
            raise RuntimeError(
                f"MeanMetric: {int(bad.sum())} of {bad.size} values or weights are NaN (nan_strategy='error')"
            )
        if self.nan_strategy == "warn":
            warnings.warn(
                f"MeanMetric: {int(bad.sum())} of {bad.size} values are NaN and are left out of the mean",
                UserWarning,
                stacklevel=4,
            )
        return values[~bad], weights[~bad]

    def compute(self) -> ct.Tensor:
        """The mean, a 0-d float32 tensor."""
        return (self.mean_value / self.weight).to(float32)


def _float64(value: Any) -> Any:
    return np.asarray(value.detach().numpy() if isinstance(value, ct.Tensor) else value, dtype=np.float64)
