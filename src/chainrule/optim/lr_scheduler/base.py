"""The base of learning-rate schedules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from chainrule.optim.optimizer import Optimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["LRScheduler", "set_lr"]


def set_lr(group: dict[str, Any], value: float) -> None:
    """Sets a group's learning rate; one that is held in a tensor is changed in place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(value)
    else:
        group["lr"] = value


def check_optimizer(who: str, optimizer: Any) -> None:
    """Raises TypeError for anything that is no optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{who}: expected an optimizer, got {type(optimizer).__name__}")


class LRScheduler:
    """Changes the learning rate of an optimizer's groups each time ``step`` is called, usually once per epoch.

    Call ``optimizer.step()`` before ``scheduler.step()``. A subclass defines ``get_lr``: the new rates, computed from
    the rates that the groups have now, so that several schedules can act on one optimizer; and, where one exists,
    ``closed_form(base_lr)``: the rate at ``last_epoch`` computed from the initial rate alone.

    Args:
        optimizer: whose rates change.
        last_epoch: number of the last epoch that is done when training resumes; -1 to begin.

    Attributes:
        base_lrs: rate of each group before any schedule (also kept as ``group["initial_lr"]``).
        last_epoch: number of steps taken so far.

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch`` is given but a group has no ``"initial_lr"``.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: to resume at last_epoch={last_epoch}, parameter group {i} must have an "
                    "'initial_lr'; load the optimizer's state first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch: Any = last_epoch
        self._step_count = 0
        self._last_lr: list[float] = []
        self.step()

    def get_lr(self) -> list[float]:
        """The rates at ``last_epoch``, one per group."""
        raise NotImplementedError(f"{type(self).__name__} must define get_lr(self)")

    def closed_form(self, base_lr: float) -> float:
        """The rate at ``last_epoch`` of a group that began with ``base_lr``."""
        raise NotImplementedError(f"{type(self).__name__} has no closed form: call step() without an epoch")

    def get_last_lr(self) -> list[float]:
        """The rates set last, one per group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch, or to ``epoch``, and sets the rates."""
        self._step_count += 1
        if self._step_count == 2 and not self.optimizer._stepped:
            warnings.warn(
                "scheduler.step() was called before optimizer.step(), so the first rate of the schedule is never used; "
                "call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        if epoch is None:
            self.last_epoch += 1
            rates = self.get_lr()
        else:
            self.last_epoch = epoch
            has_closed_form = type(self).closed_form is not LRScheduler.closed_form
            rates = [self.closed_form(base) for base in self.base_lrs] if has_closed_form else self.get_lr()
        self._set(rates)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave. The rates themselves are part of the optimizer's state."""
        self.__dict__.update(state_dict)

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_lr(group, rate)
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def _current(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._current()]


def cosine(start: float, end: float, share: float) -> float:
    """From ``start`` (share 0) to ``end`` (share 1) along half a cosine wave."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
