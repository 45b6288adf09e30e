"""One training step, and everything about optimizers: what ``configure_optimizers`` may return, accumulation,
clipping.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import optim
from chainrule import tensors as ct
from chainrule.core.errors import explain
from chainrule.data.loader import Rows
from chainrule.train.compiling import CompiledStep, How, Logged, reason_against, train_function
from chainrule.train.errors import MisconfigurationException, non_finite_loss
from chainrule.train.module import LightningModule

#: seconds that steps may follow each other before callbacks, Ctrl-C and the progress bar are looked after
STRETCH = 0.05

_RETURNS = (
    "an optimizer; [optimizers]; ([optimizers], [schedulers]); or "
    '{"optimizer": optimizer, "lr_scheduler": scheduler or '
    '{"scheduler": ..., "interval": "epoch" or "step", "monitor": ...}}'
)


@dataclass
class SchedulerConfig:
    """A learning-rate scheduler and when it steps: every ``frequency`` epochs or steps; ``monitor`` names its
    metric.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False

    def __post_init__(self) -> None:
        if self.interval not in ("epoch", "step"):
            raise MisconfigurationException(f"lr_scheduler: interval must be 'epoch' or 'step', got {self.interval!r}")
        if self.frequency < 1:
            raise MisconfigurationException(f"lr_scheduler: frequency must be at least 1, got {self.frequency}")
        if isinstance(self.scheduler, optim.lr_scheduler.ReduceLROnPlateau):
            self.reduce_on_plateau = True
            if self.monitor is None:
                raise MisconfigurationException(
                    "ReduceLROnPlateau needs to know which metric to watch: return "
                    '{"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}'
                )


def parse_optimizers(returned: Any) -> tuple[list[Any], list[SchedulerConfig]]:
    """The optimizers and schedulers in what ``configure_optimizers`` returned, in any of its forms."""
    if isinstance(returned, dict):
        return _from_dicts([returned])
    if isinstance(returned, list | tuple) and returned:
        if all(isinstance(item, dict) for item in returned):
            return _from_dicts(returned)
        if len(returned) == 2 and all(isinstance(item, list | tuple) for item in returned):
            optimizers, schedulers = returned
            return [_optimizer(o) for o in optimizers], [_scheduler(s, None) for s in schedulers]
        return [_optimizer(o) for o in returned], []
    return [_optimizer(returned)], []


def _from_dicts(dicts: Sequence[dict[str, Any]]) -> tuple[list[Any], list[SchedulerConfig]]:
    optimizers, schedulers = [], []
    for entry in dicts:
        unknown = set(entry) - {"optimizer", "lr_scheduler", "monitor", "frequency"}
        if "optimizer" not in entry or unknown:
            raise MisconfigurationException(_wrong(f"a dict with the keys {sorted(entry)}"))
        optimizers.append(_optimizer(entry["optimizer"]))
        if entry.get("lr_scheduler") is not None:
            schedulers.append(_scheduler(entry["lr_scheduler"], entry.get("monitor")))
    return optimizers, schedulers


def _optimizer(value: Any) -> Any:
    if not isinstance(value, optim.Optimizer):
        raise MisconfigurationException(_wrong(f"{type(value).__name__}"))
    return value


def _scheduler(value: Any, monitor: str | None) -> SchedulerConfig:
    config = dict(value) if isinstance(value, dict) else {"scheduler": value}
    config.setdefault("monitor", monitor)
    known = ("scheduler", "interval", "frequency", "monitor", "strict", "name")
    if "scheduler" not in config or set(config) - set(known):
        raise MisconfigurationException(
            f"lr_scheduler: a dict must have 'scheduler' and may have {known[1:]}, got {sorted(config)}"
        )
    if not hasattr(config["scheduler"], "step"):
        raise MisconfigurationException(
            f"lr_scheduler: a scheduler has step(), {type(config['scheduler']).__name__} has not"
        )
    return SchedulerConfig(**config)


def _wrong(got: str) -> str:
    return explain("configure_optimizers() returned something the Trainer does not take", expected=_RETURNS, got=got)


class ManualOptimizer:
    """An optimizer as a manual training step gets it: like the original, and the Trainer counts and announces its
    steps.
    """

    def __init__(self, optimizer: Any, optimization: Optimization) -> None:
        self.optimizer = optimizer
        self._optimization = optimization

    def step(self, closure: Any = None) -> Any:
        """Step, and count it in ``trainer.global_step``."""
        self._optimization.trainer._hooks.call("on_before_optimizer_step", self.optimizer)
        result = self.optimizer.step() if closure is None else self.optimizer.step(closure)
        self._optimization.trainer.global_step += 1
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


class Optimization:
    """The training steps of one ``fit``: forward, backward, clipping, optimizer, schedulers."""

    def __init__(self, trainer: Any, module: Any) -> None:
        self.trainer, self.module = trainer, module
        self.optimizers, self.schedulers = parse_optimizers(module.configure_optimizers())
        self.automatic = bool(module.automatic_optimization)
        self.last_loss: float | None = None
        self._manual = [ManualOptimizer(optimizer, self) for optimizer in self.optimizers]
        self._accumulating = False  # gradients of earlier batches wait for the optimizer to step
        self._takes_batch_idx = takes_batch_idx(module.training_step)
        self._check()
        step = getattr(self.optimizers[0].step, "__wrapped__", self.optimizers[0].step)
        closure = inspect.signature(step).parameters.get("closure")
        needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        needs_closure = needs_closure or isinstance(self.optimizers[0], optim.LBFGS)
        self._through_closure = needs_closure or overrides(module, "optimizer_step")
        self._own_zero_grad = overrides(module, "optimizer_zero_grad")
        self._own_backward = overrides(module, "backward")
        self._compiled = self._compiled_step()
        self._stretch = 8  # steps in one call; as many as take STRETCH seconds
        self._eager_first = True  # what is made at the first step is made eagerly

    def _compiled_step(self) -> CompiledStep:
        t, module, optimizer = self.trainer, self.module, self.optimizers[0]
        reason, tell = reason_against(t.compile, t.estimated_stepping_batches)
        if reason is None:
            reason, tell = self._obstacle(), True
        found = CompiledStep(
            t,
            module,
            "training_step",
            train_function(t, module, optimizer, module.training_step, self._takes_batch_idx),
            reason,
            tell,
            t._hooks.of_users("on_train_batch_start", "on_train_batch_end"),
        )
        t._compiled_steps["training_step"] = found
        return found

    def _obstacle(self) -> str | None:
        """Why a training step cannot be compiled, as far as that is known without trying."""
        if not self.automatic:
            return "automatic_optimization is False, so training_step optimizes by itself"
        kind = type(self.module).__name__
        for name in ("optimizer_step", "optimizer_zero_grad", "backward", "configure_gradient_clipping"):
            if overrides(self.module, name):
                return f"{kind}.{name} is overridden"
        if self._through_closure:
            return f"{type(self.optimizers[0]).__name__}.step needs a closure"
        for name in ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"):
            if self.trainer._hooks.has(name):
                return f"{name} of the module or a callback is called between the parts of a step"
        return None

    def _check(self) -> None:
        t = self.trainer
        if self.automatic and len(self.optimizers) > 1:
            raise MisconfigurationException(
                f"configure_optimizers() returned {len(self.optimizers)} optimizers, and the Trainer "
                "cannot know which one a "
                "step is for: set self.automatic_optimization = False in __init__ and step them in training_step"
            )
        if not self.automatic and (t.gradient_clip_val is not None or t.accumulate_grad_batches != 1):
            raise MisconfigurationException(
                "with automatic_optimization = False, training_step clips and accumulates by itself: "
                "leave gradient_clip_val "
                "and accumulate_grad_batches out of the Trainer, and call self.clip_gradients(optimizer, ...)"
            )

    def manual_optimizers(self) -> list[ManualOptimizer]:
        """The optimizers for ``self.optimizers()``."""
        return self._manual

    def step(self, batch: Any, batch_idx: int, last: bool) -> Any:
        """Run ``training_step`` on a batch and, where it is time, the optimizer; ``last``: nothing follows in this
        epoch.
        """
        trainer, module = self.trainer, self.module
        if not self.automatic:
            return self._training_step(batch, batch_idx)
        accumulate = trainer.accumulate_grad_batches
        steps = last or (batch_idx + 1) % accumulate == 0
        if self._compiled.reason is None and not self._eager_first:
            done = self._step_compiled(batch, batch_idx, steps)
            if done is not None:
                return done[0]
        self._eager_first = False
        optimizer = self.optimizers[0]
        outputs: list[Any] = []

        def closure() -> ct.Tensor | None:
            loss, returned = self._loss(batch, batch_idx)
            outputs[:] = [returned]
            if loss is not None:
                if not self._accumulating:
                    self._zero_grad(optimizer, batch_idx)
                self._backward(loss if accumulate == 1 else loss / accumulate)
                self._accumulating = not steps
            if steps and (loss is not None or self._has_gradients(optimizer)):
                trainer._hooks.call("on_before_optimizer_step", optimizer)
                self._clip(optimizer)
            return loss

        if not steps:
            closure()
        elif self._through_closure:
            module.optimizer_step(trainer.current_epoch, batch_idx, optimizer, closure)
            trainer.global_step += 1
        else:
            pending = self._accumulating
            if closure() is not None or pending:
                optimizer.step()
                trainer.global_step += 1
            self._accumulating = False
        return outputs[0] if outputs else None

    def _step_compiled(self, batch: Any, batch_idx: int, steps: bool) -> tuple[Any] | None:
        """:meth:`step` as native code: what ``training_step`` returned, or None where it has to run eagerly."""
        done = self._compiled(batch, self._how(steps))
        if done is None:
            return None
        loss, returned, values, logged = done
        self._accumulating = not steps
        self._take(float(loss._d.item()), logged, [v._d.item() for v in values], batch, batch_idx)
        self.trainer.global_step += steps
        return (returned,)

    def _how(self, steps: bool) -> How:
        t = self.trainer
        return How(
            not self._accumulating,
            steps,
            t.accumulate_grad_batches,
            t.terminate_on_nan,
            t.gradient_clip_val,
            t.gradient_clip_algorithm,
        )

    def _take(self, loss: float, logged: Logged, values: Sequence[float], batch: Any, batch_idx: int) -> None:
        """Log what a compiled step logged, and look at its loss; ``batch``: the batch, or what makes it."""
        t = self.trainer
        logged.replay(t._results, values)
        if t.terminate_on_nan and not math.isfinite(loss):
            raise non_finite_loss(loss, t, batch() if callable(batch) else batch, batch_idx, self.last_loss)
        self.last_loss = loss

    # ---- several steps in one call
    @property
    def repeats(self) -> bool:
        """Whether steps may follow each other without anybody looking in between."""
        return (
            self._compiled.reason is None
            and self.trainer.accumulate_grad_batches == 1
            and not self._compiled.watch_each
            and not any(config.interval == "step" for config in self.schedulers)
        )

    def many(self, rows: Rows, order: Sequence[Any], at: int) -> Iterator[int]:
        """Steps on the batches from number ``at`` on, as many as take a moment: their numbers, one after another.

        When a number is yielded, the trainer's counters and what was logged are those of that step; the weights are
        those of the last one. Nothing is yielded where the next step has to run by itself.

        Raises:
            NonFiniteLossError: at a step whose loss is not finite; it has changed nothing, and none came after it.
        """
        if self._eager_first or not self.repeats:
            return
        t, size = self.trainer, len(order[at])
        most = self._stretch if t.max_steps == -1 else min(self._stretch, t.max_steps - t.global_step)
        stop = at + 1
        while stop < min(len(order), at + most) and len(order[stop]) == size:
            stop += 1
        t._batch, t._batch_idx, t._batch_size = order[at], at, size  # the rows stand for the batch
        start = time.perf_counter()
        found = self._compiled.many(rows.tensors, ct.from_numpy(np.stack(order[at:stop])), self._how(True))
        if found is None:
            return
        done, (losses, values, logged) = found
        seconds = max(1e-9, (time.perf_counter() - start) / done)
        self._stretch = min(2 * self._stretch, max(1, int(STRETCH / seconds)))
        columns = [v._d.tolist() for v in values]
        for n, loss in enumerate(losses._d.tolist()):
            t._batch, t._batch_idx = order[at + n], at + n
            t._hooks.call("on_train_batch_start", None, at + n)
            fetch = functools.partial(rows.fetch, order[at + n])
            self._take(loss, logged, [column[n] for column in columns], fetch, at + n)
            t.global_step += 1
            t._hooks.call("on_train_batch_end", None, None, at + n)
            yield at + n

    def _training_step(self, batch: Any, batch_idx: int) -> Any:
        hooks = self.trainer._hooks
        before, hooks.running = hooks.running, "training_step"
        try:
            return (
                self.module.training_step(batch, batch_idx)
                if self._takes_batch_idx
                else self.module.training_step(batch)
            )
        finally:
            hooks.running = before

    def _loss(self, batch: Any, batch_idx: int) -> tuple[ct.Tensor | None, Any]:
        returned = self._training_step(batch, batch_idx)
        loss = returned
        if isinstance(returned, dict):
            if "loss" not in returned:
                raise MisconfigurationException(
                    f"training_step returned a dict without the key 'loss': {sorted(returned)}"
                )
            loss = returned["loss"]
        if loss is None:
            return None, returned
        if not isinstance(loss, ct.Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, ct.Tensor) else type(loss).__name__
            raise MisconfigurationException(
                explain(
                    "training_step must return the loss",
                    expected="a tensor of one element, a dict with 'loss', or None to skip the batch",
                    got=got,
                    fix="reduce the loss, as by .mean()",
                )
            )
        if not loss.requires_grad:
            raise MisconfigurationException(
                explain(
                    "training_step returned a loss that depends on no parameter",
                    expected="a loss computed from self(x) with gradients on",
                    got="a tensor with requires_grad=False",
                    fix="look for .detach(), .item(), .numpy(), no_grad() or frozen parameters on the way to the loss",
                )
            )
        self.check_finite(loss, batch, batch_idx)
        return loss, returned

    def check_finite(self, loss: ct.Tensor, batch: Any = None, batch_idx: int | None = None) -> None:
        """Raise NonFiniteLossError for a loss of NaN or infinity, unless the Trainer was told not to."""
        value = float(loss.item())
        if self.trainer.terminate_on_nan and not math.isfinite(value):
            t = self.trainer
            # A manual training step calls without them; then they are those of the step that runs.
            batch, batch_idx = (t._batch, t._batch_idx) if batch_idx is None else (batch, batch_idx)
            raise non_finite_loss(value, t, batch, batch_idx, self.last_loss)
        self.last_loss = value

    def _zero_grad(self, optimizer: Any, batch_idx: int) -> None:
        self.trainer._hooks.call("on_before_zero_grad", optimizer)
        if self._own_zero_grad:
            self.module.optimizer_zero_grad(self.trainer.current_epoch, batch_idx, optimizer)
        else:
            optimizer.zero_grad()

    def _backward(self, loss: ct.Tensor) -> None:
        call = self.trainer._hooks.call
        call("on_before_backward", loss)
        if self._own_backward:
            self.module.backward(loss)
        else:
            loss.backward()
        call("on_after_backward")

    def _clip(self, optimizer: Any) -> None:
        t = self.trainer
        if t.gradient_clip_val is not None or overrides(self.module, "configure_gradient_clipping"):
            self.module.configure_gradient_clipping(optimizer, t.gradient_clip_val, t.gradient_clip_algorithm)

    @staticmethod
    def _has_gradients(optimizer: Any) -> bool:
        return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])

    def step_schedulers(self, interval: str) -> None:
        """Step the schedulers whose turn it is after a step or an epoch ("step" or "epoch")."""
        t = self.trainer
        done = t.global_step if interval == "step" else t.current_epoch + 1
        for config in self.schedulers:
            if not self.automatic or config.interval != interval or done % config.frequency:
                continue
            metric = None
            if config.reduce_on_plateau:
                metric = t._values.get(config.monitor)
                if metric is None and not config.strict:
                    continue
                if metric is None:
                    raise MisconfigurationException(
                        f"the scheduler monitors {config.monitor!r}, which was not logged; logged: "
                        f"{', '.join(sorted(t._values)) or 'nothing'}"
                    )
            self.module.lr_scheduler_step(config.scheduler, metric)


def overrides(module: Any, name: str) -> bool:
    """Whether the module has its own method in the place of LightningModule's."""
    return getattr(getattr(module, name), "__func__", None) is not getattr(LightningModule, name)


def takes_batch_idx(step: Any) -> bool:
    """Whether a step takes ``batch_idx`` beside the batch: by that name, or as a second positional argument."""
    return positional(step) >= 2 or "batch_idx" in inspect.signature(step).parameters


def positional(step: Any) -> int:
    """How many positional arguments a step takes (many, for ``*args``)."""
    count = 0
    for p in inspect.signature(step).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            return 99
        count += p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    return count
