"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import decayed
from chainrule.optim.optimizer import check_fractions, check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["Adadelta"]


class Adadelta(RuleOptimizer):
    r"""Adadelta: steps in the units of the parameter, from running means of squared gradients and squared steps.

    ::

        g = g + weight_decay * p
        v = rho * v + (1 - rho) * g * g
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d * d
        p = p - lr * d

    Args:
        params: parameters or parameter groups.
        lr: factor on every step.
        rho: decay of both running means, in [0, 1).
        eps: added under both roots.
        weight_decay: coefficient of the L2 penalty.
        maximize: go up instead of down.
        foreach, capturable, differentiable: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or ``rho`` outside of [0, 1).

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.
    """

    hyper = ("lr", "rho", "eps", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "capturable": capturable,
                "foreach": foreach,
                "differentiable": differentiable,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("Adadelta", group, "lr", "eps", "weight_decay")
        check_fractions("Adadelta", "rho", [group["rho"]])

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        c = {"lr": h["lr"], "rho": h["rho"], "one_rho": 1 - h["rho"], "eps": h["eps"]}
        if "weight_decay" in options:
            c["decay"] = h["weight_decay"]
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        square_avg = c["rho"] * s["square_avg"] + c["one_rho"] * (g * g)
        delta = m.sqrt(s["acc_delta"] + c["eps"]) / m.sqrt(square_avg + c["eps"]) * g
        acc_delta = c["rho"] * s["acc_delta"] + c["one_rho"] * (delta * delta)
        return p - c["lr"] * delta, {"square_avg": square_avg, "acc_delta": acc_delta}
