"""The one-cycle schedule."""

from __future__ import annotations

from typing import Any

from chainrule.optim.lr_scheduler.base import LRScheduler, check_optimizer, cosine
from chainrule.optim.optimizer import Optimizer

__all__ = ["OneCycleLR"]


class OneCycleLR(LRScheduler):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to ``max_lr / div_factor / final_div_factor``.

    Stepped after every batch. Momentum (or the first of ``betas``) goes the other way, from ``max_momentum`` to
    ``base_momentum`` and back.

    Args:
        optimizer: whose rates change.
        max_lr: highest rate, one number or one per group.
        total_steps: length of the cycle; or give ``epochs`` and ``steps_per_epoch``.
        pct_start: share of the cycle spent going up.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: whether momentum changes too; the optimizer must then have it.
        base_momentum, max_momentum: its bounds, one number or one per group.
        div_factor, final_div_factor: see above.
        three_phase: come down as one went up first, then in a third phase down to the end.
        last_epoch: number of the last step that is done when training resumes.

    Raises:
        ValueError: an option out of range, no length given, no momentum to cycle, or more steps than ``total_steps``.

    Source: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
    2019.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("OneCycleLR", optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: the cycle must have 1 step or more, got {total_steps!r}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must lie between 0 and 1, got {pct_start!r}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps, self.anneal_strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        up = float(pct_start * total_steps) - 1
        if three_phase:
            phases = [(up, "initial_lr", "max_lr"), (2 * up, "max_lr", "initial_lr")]
            phases.append((total_steps - 1.0, "initial_lr", "min_lr"))
        else:
            phases = [(up, "initial_lr", "max_lr"), (total_steps - 1.0, "max_lr", "min_lr")]
        self.phases = phases  # (last step, name of the rate at its start, name of the rate at its end)
        groups = optimizer.param_groups
        highest = self._per_group("max_lr", max_lr, len(groups))
        low = self._per_group("base_momentum", base_momentum, len(groups))
        high = self._per_group("max_momentum", max_momentum, len(groups))
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError("OneCycleLR: cycle_momentum=True needs an optimizer with momentum or betas; pass False")
        if last_epoch == -1:
            for i, group in enumerate(groups):
                group["initial_lr"] = highest[i] / div_factor
                group["max_lr"] = highest[i]
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["base_momentum"], group["max_momentum"] = low[i], high[i]
                    self._set_momentum(group, high[i])
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _per_group(name: str, value: Any, count: int) -> list[float]:
        values = list(value) if isinstance(value, list | tuple) else [value] * count
        if len(values) != count:
            raise ValueError(f"OneCycleLR: {name} must be one number, or one for each of {count} groups, got {values}")
        return [float(v) for v in values]

    @staticmethod
    def _set_momentum(group: dict[str, Any], value: float) -> None:
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value

    def _anneal(self, start: float, end: float, share: float) -> float:
        return cosine(start, end, share) if self.anneal_strategy == "cos" else start + (end - start) * share

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {step} of a cycle of {self.total_steps} steps; the cycle is over: make it longer, "
                "or stop calling scheduler.step()"
            )
        now = sum(step > last for last, _, _ in self.phases[:-1])
        begin = self.phases[now - 1][0] if now else 0.0
        last, start, end = self.phases[now]
        share = (step - begin) / (last - begin) if last > begin else 1.0
        for group in self.optimizer.param_groups if self.cycle_momentum else ():
            at = {"initial_lr": "max_momentum", "min_lr": "max_momentum", "max_lr": "base_momentum"}
            self._set_momentum(group, self._anneal(group[at[start]], group[at[end]], share))
        return [self._anneal(group[start], group[end], share) for group in self.optimizer.param_groups]
