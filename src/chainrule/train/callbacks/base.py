"""The base of callbacks: a hook for every moment of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from chainrule.train.errors import MisconfigurationException


class Callback:
    """Override the hooks that matter; each gets the trainer and the module first.

    ``monitors`` marks callbacks that read the metrics of the epoch in ``on_train_epoch_end``; they are called last,
    when validation is over and the metrics of training and validation are final.
    """

    monitors: ClassVar[bool] = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """At the start of a run; ``stage`` is "fit", "validate", "test" or "predict"."""

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """At the end of a run, also when it failed."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """When ``fit`` begins."""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """When ``fit`` ends."""

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the validation batches that are run before training."""

    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """After them."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the first epoch."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """After the last epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the batches of an epoch."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After the batches and the validation of an epoch."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before a training step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a training step; ``outputs`` is what it returned."""

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Before gradients are cleared."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Before ``loss.backward()``."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """After ``loss.backward()``, before clipping."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Before clipping and ``optimizer.step()``."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Before validation."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """After validation, when its metrics are final."""

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the validation batches."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After the validation batches."""

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a validation step."""

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """After a validation step."""

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Before testing."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """After testing, when its metrics are final."""

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the test batches."""

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After the test batches."""

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a test step."""

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """After a test step."""

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Before predicting."""

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """After predicting."""

    def on_predict_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the batches to predict."""

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After the batches to predict."""

    def on_predict_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a predict step."""

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """After a predict step."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """When the run fails; with a KeyboardInterrupt when Ctrl-C ended a ``fit``."""


class LambdaCallback(Callback):
    """A callback from functions: ``LambdaCallback(on_train_epoch_end=lambda trainer, module: ...)``."""

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if not hasattr(Callback, name) or name.startswith("_") or name == "monitors":
                raise MisconfigurationException(f"LambdaCallback: there is no hook {name!r}")
            setattr(self, name, function)


class Monitor:
    """The comparison of a metric with the best value so far."""

    def __init__(self, name: str | None, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"mode must be 'min' or 'max', got {mode!r}")
        self.name, self.mode, self.min_delta = name, mode, abs(min_delta)
        self.best: float = math.inf if mode == "min" else -math.inf

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another by more than ``min_delta``; NaN never is."""
        return value < than - self.min_delta if self.mode == "min" else value > than + self.min_delta

    def read(self, trainer: Any, who: str, strict: bool = True) -> float | None:
        """The monitored value, or None if it was not logged in this epoch. Raises where it never was."""
        if self.name in trainer._values:
            return trainer._values[self.name] if trainer.metric_is_new(self.name) else None
        # Validation may not have run yet; then there is time for the metric to come.
        waiting = trainer.val_dataloaders is not None and trainer.current_epoch + 1 < trainer.check_val_every_n_epoch
        if not strict or waiting:
            return None
        raise MisconfigurationException(
            f"{who}(monitor={self.name!r}): no such metric was logged; logged: "
            f"{', '.join(sorted(trainer._values)) or 'nothing'}"
        )
