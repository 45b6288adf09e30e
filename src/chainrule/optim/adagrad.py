"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import decayed
from chainrule.optim.optimizer import check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["Adagrad"]


class Adagrad(RuleOptimizer):
    r"""Adagrad: steps divided by the root of the sum of all squared gradients so far.

    ::

        g = g + weight_decay * p
        sum = sum + g * g
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        lr_decay: how fast the rate falls with the step ``t``.
        weight_decay: coefficient of the L2 penalty.
        initial_accumulator_value: what ``sum`` starts from.
        eps: added to the denominator.
        maximize: go up instead of down.
        foreach, differentiable, fused: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number.

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011.
    """

    hyper = ("lr", "lr_decay", "weight_decay", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("Adagrad", group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def initial(self, name: str, group: Group) -> float:
        return float(group["initial_accumulator_value"]) if name == "sum" else 0.0

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("sum",)

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        c = {"rate": h["lr"] / (1 + (s["step"] - 1) * h["lr_decay"]), "eps": h["eps"]}
        if "weight_decay" in options:
            c["decay"] = h["weight_decay"]
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        total = s["sum"] + g * g
        return p - c["rate"] * (g / (m.sqrt(total) + c["eps"])), {"sum": total}
