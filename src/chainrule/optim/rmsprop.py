"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.adam import decayed
from chainrule.optim.optimizer import check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["RMSprop"]


class RMSprop(RuleOptimizer):
    r"""RMSprop: steps divided by the root of a running mean of the squared gradient.

    ::

        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g                         (centered)
        d = g / (sqrt(v - a * a) + eps)                         (a = 0 unless centered)
        b = momentum * b + d                                    (b = d without momentum)
        p = p - lr * b

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        alpha: decay of the running mean.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty.
        momentum: share of the old step that is kept.
        centered: divide by an estimate of the standard deviation instead of the root mean square.
        maximize: go up instead of down.
        foreach, capturable, differentiable: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number.

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6, 2012; Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013 (centered).
    """

    hyper = ("lr", "alpha", "eps", "weight_decay", "momentum")
    switches = ("maximize", "weight_decay", "momentum", "centered")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "capturable": capturable,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("RMSprop", group, "lr", "alpha", "eps", "weight_decay", "momentum")

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        extra = {"momentum": "momentum_buffer", "centered": "grad_avg"}
        return ("square_avg", *(slot for switch, slot in extra.items() if switch in options))

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        c = {"lr": h["lr"], "alpha": h["alpha"], "one_alpha": 1 - h["alpha"], "eps": h["eps"]}
        if "weight_decay" in options:
            c["decay"] = h["weight_decay"]
        if "momentum" in options:
            c["momentum"] = h["momentum"]
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        square = c["alpha"] * s["square_avg"] + c["one_alpha"] * (g * g)
        new = {"square_avg": square}
        if "centered" in options:
            mean = new["grad_avg"] = s["grad_avg"] + c["one_alpha"] * (g - s["grad_avg"])
            square = m.maximum(square - mean * mean, 0.0)  # rounding may leave it just below zero
        d = g / (m.sqrt(square) + c["eps"])
        if "momentum" in options:
            d = new["momentum_buffer"] = c["momentum"] * s["momentum_buffer"] + d
        return p - c["lr"] * d, new
