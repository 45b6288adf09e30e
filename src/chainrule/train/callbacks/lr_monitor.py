"""LearningRateMonitor: hand the learning rates to the loggers."""

from __future__ import annotations

from typing import Any

from chainrule.train.callbacks.base import Callback
from chainrule.train.errors import MisconfigurationException


class LearningRateMonitor(Callback):
    """Logs ``lr-<optimizer>`` (``lr-<optimizer>/pg1``, ... for several parameter groups) per "epoch" or per "step".

    Default: per epoch.
    """

    def __init__(self, logging_interval: str | None = None) -> None:
        if logging_interval not in (None, "epoch", "step"):
            raise MisconfigurationException(
                f"LearningRateMonitor: logging_interval must be 'epoch' or 'step', got {logging_interval!r}"
            )
        self.logging_interval = logging_interval or "epoch"
        self.lrs: dict[str, list[float]] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget an earlier run."""
        self.lrs = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the rates of the step."""
        if self.logging_interval == "step":
            self._note(pl_module, trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the rates of the epoch."""
        if self.logging_interval == "epoch":
            self._note(pl_module, trainer)

    def _note(self, pl_module: Any, trainer: Any) -> None:
        for optimizer, prefix in zip(trainer.optimizers, _prefixes(trainer.optimizers), strict=True):
            groups = optimizer.param_groups
            for i, group in enumerate(groups, 1):
                name = prefix if len(groups) == 1 else f"{prefix}/pg{i}"
                self.lrs.setdefault(name, []).append(float(group["lr"]))
                pl_module.log(name, float(group["lr"]), batch_size=1)


def _prefixes(optimizers: list[Any]) -> list[str]:
    kinds = [type(o).__name__ for o in optimizers]
    return [f"lr-{k}" if kinds.count(k) == 1 else f"lr-{k}-{kinds[:i].count(k)}" for i, k in enumerate(kinds)]
