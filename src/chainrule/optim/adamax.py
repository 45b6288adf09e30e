"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import decayed
from chainrule.optim.optimizer import check_fractions, check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["Adamax"]


class Adamax(RuleOptimizer):
    r"""Adamax: Adam with the infinity norm in place of the second moment.

    ::

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        p = p - lr / (1 - beta1**t) * m / u

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the running mean and of the norm, each in [0, 1).
        eps: added to the size of the gradient.
        weight_decay: coefficient of the L2 penalty.
        maximize: go up instead of down.
        foreach, capturable, differentiable: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or a beta outside of [0, 1).

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, section 7.1.
    """

    hyper = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("Adamax", group, "lr", "eps", "weight_decay")
        check_fractions("Adamax", "betas", group["betas"])

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        c = {"one_beta1": 1 - h["beta1"], "beta2": h["beta2"], "eps": h["eps"]}
        c["rate"] = h["lr"] / (1 - m.pow(h["beta1"], s["step"]))
        if "weight_decay" in options:
            c["decay"] = h["weight_decay"]
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        exp_avg = s["exp_avg"] + c["one_beta1"] * (g - s["exp_avg"])
        exp_inf = m.maximum(c["beta2"] * s["exp_inf"], m.abs(g) + c["eps"])
        return p - c["rate"] * (exp_avg / exp_inf), {"exp_avg": exp_avg, "exp_inf": exp_inf}
