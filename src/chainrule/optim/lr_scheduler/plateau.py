"""Lowering the rate when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chainrule.optim.lr_scheduler.base import LRScheduler, check_optimizer, set_lr
from chainrule.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """``lr = max(lr * factor, min_lr)`` when a metric has not improved for more than ``patience`` epochs.

    Call ``step(metric)`` after every validation. A metric improves on ``best`` if, in mode ``"min"``, it is below
    ``best * (1 - threshold)`` (``threshold_mode="rel"``) or ``best - threshold`` (``"abs"``); in mode ``"max"`` above
    the same with a plus.

    Args:
        optimizer: whose rates change.
        mode: ``"min"`` for a loss, ``"max"`` for an accuracy.
        factor: below 1.
        patience: number of epochs without improvement that are let pass.
        threshold, threshold_mode: see above.
        cooldown: number of epochs after a reduction in which nothing is counted.
        min_lr: lower bound, one number or one per group.
        eps: smaller changes of the rate are not made.

    Raises:
        ValueError: an unknown mode, ``factor`` not below 1, or a wrong number of bounds.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        check_optimizer("ReduceLROnPlateau", optimizer)
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        groups = optimizer.param_groups
        bounds = list(min_lr) if isinstance(min_lr, list | tuple) else [min_lr] * len(groups)
        if len(bounds) != len(groups):
            raise ValueError(
                f"ReduceLROnPlateau: min_lr must be one number, or one for each of {len(groups)} groups, got {bounds}"
            )
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.min_lrs, self.eps = threshold, threshold_mode, bounds, eps
        self.last_epoch = 0
        self._last_lr = self._current()
        self._reset()

    def _reset(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def get_lr(self) -> list[float]:
        """The rates as they are: they depend on the metrics seen, not on the epoch."""
        return self._current()

    def is_better(self, metric: float, best: float) -> bool:
        """Whether ``metric`` improves on ``best`` by more than the threshold."""
        sign = -1 if self.mode == "min" else 1
        relative = self.threshold_mode == "rel"
        bar = best * (1 + sign * self.threshold) if relative else best + sign * self.threshold
        return metric < bar if self.mode == "min" else metric > bar

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not counted just now."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Takes the metric of one more epoch (a number or a tensor of one element)."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, bound in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                old = float(group["lr"])
                new = max(old * self.factor, bound)
                if old - new > self.eps:
                    set_lr(group, new)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._current()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self.__dict__.update(state_dict)
