"""EarlyStopping: stop when a metric no longer improves, with the best weights."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from chainrule.train.callbacks.base import Callback, Monitor


class EarlyStopping(Callback):
    """Stops ``fit`` when ``monitor`` did not improve by more than ``min_delta`` in ``patience`` epochs in a row.

    Epochs in which the metric was not logged do not count. At the end of ``fit``, however it ended (except by
    Ctrl-C), the module gets back the weights of its best epoch.

    Args:
        monitor: the name of a logged metric.
        min_delta: smaller improvements are none.
        patience: epochs without improvement to wait for.
        mode: "min" or "max".
        restore_best: put the weights of the best epoch back.
        check_finite: stop when the metric is NaN or infinite.
        stopping_threshold: stop once the metric is at least as good as this.
        divergence_threshold: stop once the metric is worse than this.
        strict: a metric that was never logged is an error.
        verbose: print what happens.
    """

    monitors: ClassVar[bool] = True

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        restore_best: bool = True,
    ) -> None:
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.min_delta, self.strict, self.verbose = min_delta, strict, verbose
        self.check_finite, self.restore_best = check_finite, restore_best
        self.stopping_threshold, self.divergence_threshold = stopping_threshold, divergence_threshold
        self._reset()

    def _reset(self) -> None:
        self._watch = Monitor(self.monitor, self.mode, self.min_delta)
        self.wait_count = 0
        self.stopped_epoch = 0
        self.best_epoch: int | None = None
        self.stopping_reason = ""
        self._best_state: dict[str, Any] | None = None

    @property
    def best_score(self) -> float:
        """The best value so far (infinite before the first)."""
        return self._watch.best

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget an earlier run."""
        self._reset()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compare, remember, and ask for a stop where it is time."""
        value = self._watch.read(trainer, "EarlyStopping", self.strict)
        if value is None:
            return
        reason = self._judge(value, trainer, pl_module)
        if reason:
            trainer.should_stop = True
            self.stopped_epoch, self.stopping_reason = trainer.current_epoch, reason
            if self.verbose:
                trainer.print(f"EarlyStopping: {reason}")

    def _judge(self, value: float, trainer: Any, pl_module: Any) -> str:
        if self.check_finite and not math.isfinite(value):
            return f"{self.monitor} is {value}"
        if self._watch.better(value, self._watch.best):
            self._watch.best, self.best_epoch, self.wait_count = value, trainer.current_epoch, 0
            if self.restore_best:
                self._best_state = {name: t.detach().clone() for name, t in pl_module.state_dict().items()}
        else:
            self.wait_count += 1
        bare = Monitor(None, self.mode)
        if self.stopping_threshold is not None and not bare.better(self.stopping_threshold, value):
            return f"{self.monitor} = {value:.6g} has reached {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and bare.better(self.divergence_threshold, value):
            return f"{self.monitor} = {value:.6g} is worse than {self.divergence_threshold:g}"
        if self.wait_count >= self.patience:
            return f"{self.monitor} has not improved on {self._watch.best:.6g} for {self.wait_count} epochs"
        return ""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the best weights back."""
        if self._best_state is not None and not trainer.interrupted:
            pl_module.load_state_dict(self._best_state)
            if self.verbose:
                trainer.print(
                    f"EarlyStopping: weights of epoch {trainer.epoch_text(self.best_epoch)} restored ({self.monitor} = "
                    f"{self.best_score:.6g})"
                )
        self._best_state = None
