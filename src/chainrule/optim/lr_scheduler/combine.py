"""Schedules made of schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from chainrule.optim.lr_scheduler.base import LRScheduler, check_optimizer, set_lr
from chainrule.optim.lr_scheduler.plateau import ReduceLROnPlateau
from chainrule.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """Checks the parts, and saves and loads them."""

    def _check(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
        who = type(self).__name__
        if len(schedulers) == 0:
            raise ValueError(f"{who}: expected at least one scheduler, got none")
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"{who}: item {i} is a {type(scheduler).__name__}, not a scheduler")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(f"{who}: item {i} is a ReduceLROnPlateau, which needs a metric: step it on its own")
        optimizer = optimizer or schedulers[0].optimizer
        check_optimizer(who, optimizer)
        for i, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{who}: all schedulers must act on the same optimizer; item {i} has another one")
        self._schedulers = list(schedulers)
        return optimizer

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, with the states of the parts."""
        state = super().state_dict()
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        saved = dict(state_dict)
        for scheduler, state in zip(self._schedulers, saved.pop("_schedulers"), strict=True):
            scheduler.load_state_dict(state)
        super().load_state_dict(saved)


class SequentialLR(_Combined):
    """One schedule after the other: number ``i`` from ``milestones[i - 1]`` on, each counting its epochs from 0.

    Args:
        optimizer: whose rates change.
        schedulers: the parts, in order.
        milestones: one fewer than parts, the epochs at which the next one takes over.
        last_epoch: number of the last epoch that is done.

    Raises:
        ValueError: no parts, a wrong number of milestones, or parts that act on different optimizers.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self.optimizer = self._check(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:  # take back what the parts did when they were made
            set_lr(group, group["initial_lr"])
        for scheduler in self._schedulers:
            scheduler.last_epoch -= 1
        self._schedulers[0]._step_count = 0
        self._schedulers[0].step()
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch."""
        if epoch is not None:
            raise ValueError("SequentialLR.step takes no epoch")
        self.last_epoch += 1
        active = bisect_right(self._milestones, self.last_epoch)
        begins = active > 0 and self._milestones[active - 1] == self.last_epoch
        self._schedulers[active].step(0 if begins else None)
        self._last_lr = self._schedulers[active].get_last_lr()


class ChainedScheduler(_Combined):
    """All schedules at once: every ``step`` steps each of them, in order, on the rates that the one before has left.

    Args:
        schedulers: the parts, in order.
        optimizer: theirs; need not be given.

    Raises:
        ValueError: no parts, or parts that act on different optimizers.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = self._check(schedulers, optimizer)
        self._last_lr = self._current()

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch."""
        if epoch is not None:
            raise ValueError("ChainedScheduler.step takes no epoch")
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()
