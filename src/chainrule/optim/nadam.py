"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import common_coefficients, decayed, moments
from chainrule.optim.optimizer import check_fractions, check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["NAdam"]


class NAdam(RuleOptimizer):
    r"""NAdam: Adam with Nesterov's look ahead.

    With ``mu_t = beta1 * (1 - 0.96**(t * momentum_decay) / 2)`` and ``P_t = mu_1 * ... * mu_t``::

        g = g + weight_decay * p        or, decoupled,   p = (1 - lr * weight_decay) * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        n = mu_(t+1) * m / (1 - P_(t+1)) + (1 - mu_t) * g / (1 - P_t)
        p = p - lr * n / (sqrt(v / (1 - beta2**t)) + eps)

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the running means of ``g`` and ``g * g``, each in [0, 1).
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, or of the decay when decoupled.
        momentum_decay: how fast the momentum ``mu`` grows to beta1.
        decoupled_weight_decay: decay as in AdamW.
        maximize: go up instead of down.
        foreach, capturable, differentiable: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or a beta outside of [0, 1).

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    hyper = ("lr", "beta1", "beta2", "eps", "weight_decay", "momentum_decay")
    switches = ("maximize", "weight_decay", "decoupled_weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("NAdam", group, "lr", "eps", "weight_decay", "momentum_decay")
        check_fractions("NAdam", "betas", group["betas"])

    def initial(self, name: str, group: Group) -> float:
        return 1.0 if name == "mu_product" else 0.0

    @staticmethod
    def scalars(options: Options) -> tuple[str, ...]:
        return ("step", "mu_product")

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        t = s["step"]
        mu = h["beta1"] * (1 - 0.5 * m.pow(0.96, t * h["momentum_decay"]))
        mu_next = h["beta1"] * (1 - 0.5 * m.pow(0.96, (t + 1) * h["momentum_decay"]))
        product = s["mu_product"] * mu
        root = m.sqrt(1 - m.pow(h["beta2"], t))
        c = common_coefficients(h, options)
        c["gradient_rate"] = h["lr"] * root * (1 - mu) / (1 - product)
        c["momentum_rate"] = h["lr"] * root * mu_next / (1 - product * mu_next)
        c["eps"] = h["eps"] * root
        c["mu_product"] = product
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        exp_avg, exp_avg_sq = moments(g, s, c)
        direction = c["momentum_rate"] * exp_avg + c["gradient_rate"] * g
        new = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        return p - direction / (m.sqrt(exp_avg_sq) + c["eps"]), new
