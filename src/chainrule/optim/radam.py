"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import common_coefficients, decayed, moments
from chainrule.optim.optimizer import check_fractions, check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["RAdam"]


class RAdam(RuleOptimizer):
    r"""RAdam: Adam whose adaptive rate is held back while its variance is not yet known.

    With ``rho_inf = 2 / (1 - beta2) - 1`` and ``rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)``::

        g = g + weight_decay * p        or, decoupled,   p = (1 - lr * weight_decay) * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        if rho > 5:
            r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            p = p - lr * m / (1 - beta1**t) * r * sqrt(1 - beta2**t) / (sqrt(v) + eps)
        else:
            p = p - lr * m / (1 - beta1**t)

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the running means of ``g`` and ``g * g``, each in [0, 1).
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, or of the decay when decoupled.
        decoupled_weight_decay: decay as in AdamW.
        maximize: go up instead of down.
        foreach, capturable, differentiable: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or a beta outside of [0, 1).

    Source: Liu and others, "On the Variance of the Adaptive Learning Rate and Beyond", 2020.
    """

    hyper = ("lr", "beta1", "beta2", "eps", "weight_decay")
    switches = ("maximize", "weight_decay", "decoupled_weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
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
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "decoupled_weight_decay": decoupled_weight_decay,
                "differentiable": differentiable,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("RAdam", group, "lr", "eps", "weight_decay")
        check_fractions("RAdam", "betas", group["betas"])

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        t = s["step"]
        power = m.pow(h["beta2"], t)
        rho_inf = 2 / (1 - h["beta2"]) - 1
        rho = rho_inf - 2 * t * power / (1 - power)
        known = rho > 5
        r, inf = m.where(known, rho, 6.0), m.where(known, rho_inf, 6.0)
        scale = (r - 4) * (r - 2) * inf / ((inf - 4) * (inf - 2) * r)
        rate = h["lr"] / (1 - m.pow(h["beta1"], t))
        c = common_coefficients(h, options)
        c["adaptive"] = m.where(known, 1.0, 0.0)
        c["adaptive_rate"] = rate * m.sqrt(scale * (1 - power))
        c["plain_rate"] = rate
        c["eps"] = h["eps"]
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        exp_avg, exp_avg_sq = moments(g, s, c)
        adaptive = c["adaptive_rate"] / (m.sqrt(exp_avg_sq) + c["eps"])
        rate = m.where(c["adaptive"] > 0, adaptive, c["plain_rate"])
        return p - rate * exp_avg, {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
