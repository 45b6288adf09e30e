"""The hooks: named moments of a run at which callbacks and the module are called.

Callbacks are called first, in their order, then the module; ``on_train_epoch_end`` and ``on_validation_epoch_end`` come
before the metrics of the epoch are final, ``on_validation_end`` and the monitoring callbacks after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class ModuleHooks:
    """The hooks of a LightningModule; all do nothing until overridden."""

    def setup(self, stage: str) -> None:
        """At the start of a run; ``stage`` is "fit", "validate", "test" or "predict"."""

    def teardown(self, stage: str) -> None:
        """At the end of a run, also when it failed."""

    def on_fit_start(self) -> None:
        """When ``fit`` begins, after the optimizers were made."""

    def on_fit_end(self) -> None:
        """When ``fit`` ends."""

    def on_train_start(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch."""

    def on_train_epoch_start(self) -> None:
        """Before the batches of an epoch."""

    def on_train_epoch_end(self) -> None:
        """After the batches (and the validation) of an epoch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Before a training step; returning -1 skips the rest of the epoch."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a training step; ``outputs`` is what it returned."""

    def on_before_zero_grad(self, optimizer: Any) -> None:
        """Before gradients are cleared."""

    def on_before_backward(self, loss: Any) -> None:
        """Before ``loss.backward()``."""

    def on_after_backward(self) -> None:
        """After ``loss.backward()``, before clipping."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Before clipping and ``optimizer.step()``."""

    def on_validation_start(self) -> None:
        """Before validation."""

    def on_validation_end(self) -> None:
        """After validation, when its metrics are final."""

    def on_validation_epoch_start(self) -> None:
        """Before the validation batches."""

    def on_validation_epoch_end(self) -> None:
        """After the validation batches."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Before a validation step."""

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """After a validation step."""

    def on_test_start(self) -> None:
        """Before testing."""

    def on_test_end(self) -> None:
        """After testing, when its metrics are final."""

    def on_test_epoch_start(self) -> None:
        """Before the test batches."""

    def on_test_epoch_end(self) -> None:
        """After the test batches."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Before a test step."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """After a test step."""

    def on_predict_start(self) -> None:
        """Before predicting."""

    def on_predict_end(self) -> None:
        """After predicting."""

    def on_predict_epoch_start(self) -> None:
        """Before the batches to predict."""

    def on_predict_epoch_end(self) -> None:
        """After the batches to predict."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Before a predict step."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """After a predict step."""


class HookTable:
    """For each hook, the functions that really do something, found once per run: an unused hook costs nothing."""

    def __init__(self, trainer: Any, module: Any, callbacks: list[Any], callback_base: type) -> None:
        self._trainer, self._module, self._callbacks, self._base = trainer, module, callbacks, callback_base
        self._table: dict[tuple[str, bool | None], list[Callable[..., Any]]] = {}
        self.running = ""  # the hook (or step) that is running, which decides how self.log behaves

    def call(self, name: str, *args: Any, monitoring: bool | None = None) -> list[Any]:
        """Call the hook everywhere and return the results. ``monitoring`` picks callbacks that (do not) monitor: True
        calls only those that do, False all others and the module.
        """
        functions = self._table.get((name, monitoring))
        if functions is None:
            functions = self._table[name, monitoring] = self._find(name, monitoring)
        if not functions:
            return []
        before, self.running = self.running, name
        try:
            return [function(*args) for function in functions]
        finally:
            self.running = before

    def has(self, name: str) -> bool:
        """Whether the hook does anything."""
        return bool(self._find(name, None))

    def of_users(self, *names: str) -> bool:
        """Whether one of the hooks does something that is not the package's own."""
        functions = [f for name in names for f in self._find(name, None)]
        kinds = [type(getattr(getattr(f, "func", f), "__self__", None)) for f in functions]
        return any(not kind.__module__.startswith("chainrule.") for kind in kinds)

    def _find(self, name: str, monitoring: bool | None) -> list[Callable[..., Any]]:
        found: list[Callable[..., Any]] = []
        for callback in self._callbacks:
            function = getattr(callback, name)
            does_something = getattr(function, "__func__", function) is not getattr(self._base, name, None)
            if does_something and monitoring in (None, callback.monitors):
                found.append(functools.partial(function, self._trainer, self._module))
        own = getattr(self._module, name, None)
        if own is not None and monitoring is not True and own.__func__ is not getattr(ModuleHooks, name, None):
            found.append(own)
        return found
