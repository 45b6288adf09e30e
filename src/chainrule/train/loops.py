"""The loops: epochs of training steps with validation between them, and runs over evaluation data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule import nn
from chainrule import tensors as ct
from chainrule.data.loader import DataLoader, Rows
from chainrule.ir.state import no_grad
from chainrule.train.compiling import BatchIndex, CompiledStep, eval_function, reason_against
from chainrule.train.errors import MisconfigurationException
from chainrule.train.interrupt import InterruptGuard
from chainrule.train.optimization import positional, takes_batch_idx
from chainrule.train.results import Results

# What a stage is called in the names of hooks and steps, and in the Trainer's limit_..._batches.
_WORDS = {"validate": ("validation", "val"), "test": ("test", "test"), "predict": ("predict", "predict")}


def number_of_batches(loader: Any, limit: int | float, name: str) -> int | None:
    """How many batches a loader gives under a limit (a number, or a share of them); None where nobody knows."""
    try:
        length = len(loader)
    except (TypeError, NotImplementedError):
        if isinstance(limit, int):
            return limit
        if limit == 1.0:
            return None
        raise MisconfigurationException(
            f"{name}={limit}: a share needs a loader with a length; give a number of batches"
        ) from None
    return min(length, limit) if isinstance(limit, int) else int(length * limit)


def batches(loader: Any, count: int | None) -> Iterator[tuple[int, Any, bool]]:
    """``(index, batch, is_last)``. Only a loader of unknown length is read one batch ahead, to know which one is
    last.
    """
    if count == 0:
        return
    iterator = iter(loader)
    if count is not None:
        # A stream may end before its limit; its last batch is then not announced.
        for index, batch in zip(range(count), iterator):  # noqa: B905 - range first, so that no batch is drawn in vain
            yield index, batch, index + 1 == count
        return
    index, nothing = 0, object()
    batch = next(iterator, nothing)
    while batch is not nothing:
        following = next(iterator, nothing)
        yield index, batch, following is nothing
        index, batch = index + 1, following


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell samplers that shuffle by epoch which one it is."""
    for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)


class FitLoop:
    """Epochs until ``max_epochs``, ``max_steps``, ``should_stop`` or Ctrl-C."""

    def __init__(self, trainer: Any, module: nn.Module, train_loader: Any, val_loaders: list[Any]) -> None:
        self.trainer, self.module = trainer, module
        self.train_loader, self.val_loaders = train_loader, val_loaders
        self.guard = InterruptGuard()
        self._stepped = False  # whether the optimizer made a step for the last batch
        runs = math.inf if trainer.max_epochs == -1 else trainer.max_epochs / trainer.check_val_every_n_epoch
        self.validation = EvalLoop(trainer, module, "validate", val_loaders, runs) if val_loaders else None

    def run(self) -> None:
        """Train. After Ctrl-C the batch that was running is finished and ``trainer.interrupted`` is set."""
        t, hooks = self.trainer, self.trainer._hooks
        # What overflows shows in the loss; NumPy's warnings about it would come many times, and without the place.
        with self.guard, np.errstate(all="ignore"):
            try:
                hooks.call("on_fit_start")
                self._sanity_check()
                self.module.train()
                hooks.call("on_train_start")
                while not self._done():
                    self._epoch()
            except KeyboardInterrupt:
                if self.guard.pressed > 1:
                    raise
                t.interrupted = True
            t.training = t.validating = t.sanity_checking = False
            if t.interrupted:
                # What was logged since the last epoch ended is not lost.
                t._publish(t._results.epoch())
                hooks.call("on_exception", KeyboardInterrupt())
            hooks.call("on_train_end")
            hooks.call("on_fit_end")

    def _done(self) -> bool:
        t = self.trainer
        return (
            t.interrupted
            or (t.should_stop and t.current_epoch >= t.min_epochs)
            or (t.max_epochs != -1 and t.current_epoch >= t.max_epochs)
            or self._steps_done()
        )

    def _steps_done(self) -> bool:
        return self.trainer.max_steps != -1 and self.trainer.global_step >= self.trainer.max_steps

    def _sanity_check(self) -> None:
        t = self.trainer
        if self.validation is None or t.num_sanity_val_steps == 0:
            return
        # Errors in validation show before an epoch was spent; the random numbers it draws are given back.
        state = ct.get_rng_state()
        t.sanity_checking = True
        t._hooks.call("on_sanity_check_start")
        limit = None if t.num_sanity_val_steps == -1 else t.num_sanity_val_steps
        self.validation.run(self.guard, limit=limit)
        t._hooks.call("on_sanity_check_end")
        t.sanity_checking = False
        ct.set_rng_state(state)
        t._forget_metrics()

    def _epoch(self) -> None:
        t, hooks = self.trainer, self.trainer._hooks
        t.training = True
        t._results = results = Results()
        set_epoch(self.train_loader, t.current_epoch)
        hooks.call("on_train_epoch_start")
        self._batches(results)
        if self.guard.pressed or t.interrupted:
            t.interrupted = True
            return
        if self.validation is not None and (t.current_epoch + 1) % t.check_val_every_n_epoch == 0:
            t.training = False
            self.validation.run(self.guard)
            t.training = True
            if self.guard.pressed:
                t.interrupted = True
                return
        hooks.call("on_train_epoch_end", monitoring=False)
        t._publish(results.epoch())
        results.reset_metrics()
        hooks.call("on_train_epoch_end", monitoring=True)
        t._optimization.step_schedulers("epoch")
        t._save_loggers()
        t.training = False
        t.current_epoch += 1

    def _batches(self, results: Results) -> None:
        t = self.trainer
        rows = (
            self.train_loader.rows() if t._optimization.repeats and isinstance(self.train_loader, DataLoader) else None
        )
        numbers = self._each() if rows is None else self._by_rows(rows)
        empty = True
        for _ in numbers:
            empty = False
            t._publish_step(results.step(), stepped=self._stepped)
            if self.guard.pressed or self._steps_done() or (t.should_stop and t.current_epoch >= t.min_epochs):
                break
        t._batch = None
        if empty:
            raise MisconfigurationException(
                "the training loader gave no batch: the data set is empty, or drop_last=True dropped its only batch"
            )

    def _each(self) -> Iterator[int]:
        """Steps on the loader's batches; the number of each when it is done."""
        for batch_idx, batch, last in batches(self.train_loader, self.trainer.num_training_batches):
            if not self._step(batch, batch_idx, last):
                return
            yield batch_idx

    def _by_rows(self, rows: Rows) -> Iterator[int]:
        """Steps on batches that are known by their rows, several in one call where that is possible."""
        order = list(itertools.islice(rows.batches, self.trainer.num_training_batches))
        at = 0
        while at < len(order):
            before = at
            for batch_idx in self.trainer._optimization.many(rows, order, at):
                self._stepped, at = True, batch_idx + 1
                self.trainer.is_last_batch = at == len(order)
                yield batch_idx
            if at == before:
                if not self._step(rows.fetch(order[at]), at, at + 1 == len(order)):
                    return
                at += 1
                yield before

    def _step(self, batch: Any, batch_idx: int, last: bool) -> bool:
        """One step; False if a hook ends the epoch instead."""
        t, hooks, optimization = self.trainer, self.trainer._hooks, self.trainer._optimization
        t._batch, t._batch_idx, t._batch_size, t.is_last_batch = batch, batch_idx, None, last
        if -1 in hooks.call("on_train_batch_start", batch, batch_idx):
            return False
        before = t.global_step
        outputs = optimization.step(batch, batch_idx, last)
        self._stepped = t.global_step != before
        if self._stepped:
            optimization.step_schedulers("step")
        hooks.call("on_train_batch_end", outputs, batch, batch_idx)
        return True


class EvalLoop:
    """One run over evaluation loaders: validation, test or prediction."""

    def __init__(self, trainer: Any, module: nn.Module, stage: str, loaders: list[Any], runs: float = 1) -> None:
        self.trainer, self.module, self.stage, self.loaders = trainer, module, stage, loaders
        self._runs = runs  # how often it will run, as far as that is known
        word, short = _WORDS[stage]
        self.hook = f"on_{word}_"
        self.step_name = f"{word}_step"
        step = getattr(module, self.step_name)
        self._takes_batch_idx = takes_batch_idx(step)
        self._takes_loader_idx = len(loaders) > 1 and positional(step) >= 3
        if len(loaders) > 1 and not self._takes_loader_idx:
            raise MisconfigurationException(
                f"there are {len(loaders)} loaders, so {type(module).__name__}.{self.step_name} needs "
                "a third argument: "
                f"def {self.step_name}(self, batch, batch_idx, dataloader_idx=0)"
            )
        limit = f"limit_{short}_batches"
        self.counts = [number_of_batches(loader, getattr(trainer, limit), limit) for loader in loaders]
        self._compiled = [self._compiled_step(step, i) for i in range(len(loaders))]
        self._seen = [False] * len(loaders)  # the first step of each loader runs eagerly

    def _compiled_step(self, step: Any, loader_idx: int) -> CompiledStep:
        t = self.trainer
        known = [n for n in self.counts if n is not None]
        reason, tell = reason_against(
            t.compile, sum(known) * self._runs if len(known) == len(self.counts) else math.inf
        )
        extra = (BatchIndex, loader_idx) if self._takes_loader_idx else (BatchIndex,) if self._takes_batch_idx else ()
        function = eval_function(t, self.module, self.step_name, step, extra)
        user = t._hooks.of_users(f"{self.hook}batch_start", f"{self.hook}batch_end")
        found = CompiledStep(t, self.module, self.step_name, function, reason, tell, user)
        t._compiled_steps[self.step_name + (f" {loader_idx}" if self._takes_loader_idx else "")] = found
        return found

    def run(
        self, guard: InterruptGuard | None = None, limit: int | None = None
    ) -> tuple[list[list[Any]], dict[str, float]]:
        """The outputs of all steps, one list per loader, and the logged metrics. The module is in evaluation mode and
        records no gradients meanwhile; modes are restored.
        """
        t, hooks = self.trainer, self.trainer._hooks
        outer, t._results = t._results, Results()
        modes = [(m, m.training) for m in self.module.modules()]
        if self.stage == "validate":
            t.validating = True
        self.module.eval()
        try:
            with no_grad(), np.errstate(all="ignore"):
                hooks.call(f"{self.hook}start")
                hooks.call(f"{self.hook}epoch_start")
                outputs = [self._loader(i, guard, limit) for i in range(len(self.loaders))]
                hooks.call(f"{self.hook}epoch_end")
                published = t._results.epoch()
                t._results.reset_metrics()
                if not (guard is not None and guard.pressed):
                    t._publish(published)
                hooks.call(f"{self.hook}end")
        finally:
            for module, mode in modes:
                module.training = mode
            t._results, t._loader_idx = outer, None
            if self.stage == "validate":
                t.validating = False
        return outputs, published.logged

    def _loader(self, loader_idx: int, guard: InterruptGuard | None, limit: int | None) -> list[Any]:
        t, hooks = self.trainer, self.trainer._hooks
        count = self.counts[loader_idx]
        if limit is not None:
            count = limit if count is None else min(count, limit)
        t._loader_idx = loader_idx if len(self.loaders) > 1 else None
        outputs = []
        for batch_idx, batch, _last in batches(self.loaders[loader_idx], count):
            if guard is not None and guard.pressed:
                break
            t._batch, t._batch_idx, t._batch_size = batch, batch_idx, None
            hooks.call(f"{self.hook}batch_start", batch, batch_idx, loader_idx)
            output = self._step(batch, batch_idx, loader_idx)
            if self.stage == "predict":
                outputs.append(output)
            hooks.call(f"{self.hook}batch_end", output, batch, batch_idx, loader_idx)
            t._publish_step(t._results.step())
        t._batch = None
        return outputs

    def _step(self, batch: Any, batch_idx: int, loader_idx: int) -> Any:
        hooks, compiled = self.trainer._hooks, self._compiled[loader_idx]
        if compiled.reason is None and self._seen[loader_idx]:
            done = compiled(batch)
            if done is not None:
                output, values, logged = done
                logged.replay(self.trainer._results, [v._d.item() for v in values])
                return output
        self._seen[loader_idx] = True
        step = getattr(self.module, self.step_name)
        before, hooks.running = hooks.running, self.step_name
        try:
            if self._takes_loader_idx:
                return step(batch, batch_idx, loader_idx)
            return step(batch, batch_idx) if self._takes_batch_idx else step(batch)
        finally:
            hooks.running = before
