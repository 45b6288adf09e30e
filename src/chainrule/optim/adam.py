"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.optimizer import check_fractions, check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor

__all__ = ["Adam", "AdamW"]


def moments(g: Any, s: Mapping[str, Any], c: Mapping[str, Any]) -> tuple[Any, Any]:
    """The running means of ``g`` and of ``g * g``, advanced by one step; shared by Adam and its descendants."""
    exp_avg = s["exp_avg"] + c["one_beta1"] * (g - s["exp_avg"])
    exp_avg_sq = c["beta2"] * s["exp_avg_sq"] + c["one_beta2"] * (g * g)
    return exp_avg, exp_avg_sq


def decayed(p: Any, g: Any, c: Mapping[str, Any], options: Options) -> tuple[Any, Any]:
    """Parameter and gradient after ``maximize`` and ``weight_decay``: decoupled shrinks p, otherwise L2 adds to g."""
    if "maximize" in options:
        g = -g
    if "weight_decay" not in options:
        return p, g
    if "decoupled_weight_decay" in options:
        return c["keep"] * p, g
    return p, g + c["decay"] * p


def common_coefficients(h: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What :func:`moments` and :func:`decayed` need."""
    c = {"one_beta1": 1 - h["beta1"], "beta2": h["beta2"], "one_beta2": 1 - h["beta2"]}
    if "weight_decay" in options:
        if "decoupled_weight_decay" in options:
            c["keep"] = 1 - h["lr"] * h["weight_decay"]
        else:
            c["decay"] = h["weight_decay"]
    return c


class Adam(RuleOptimizer):
    r"""Adam: steps scaled by running means of the gradient and of its square.

    With gradient ``g``, parameter ``p``, step ``t = 1, 2, ...``::

        g = g + weight_decay * p        or, decoupled,   p = (1 - lr * weight_decay) * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = max(w, v)  if amsgrad  else  v
        p = p - lr * (m / (1 - beta1**t)) / (sqrt(w / (1 - beta2**t)) + eps)

    It is computed as ``p - a * m / (sqrt(w) + e)`` with ``a = lr * sqrt(1 - beta2**t) / (1 - beta1**t)`` and
    ``e = eps * sqrt(1 - beta2**t)``, which is the same and cheaper.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the running means of ``g`` and ``g * g``, each in [0, 1).
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, or of the decay when decoupled.
        amsgrad: divide by the largest ``v`` seen so far.
        maximize: go up instead of down.
        decoupled_weight_decay: as :class:`AdamW`.
        foreach, capturable, differentiable, fused: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or a beta outside of [0, 1).

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Reddi, Kale, Kumar, "On the Convergence
    of Adam and Beyond", 2018 (amsgrad).
    """

    hyper = ("lr", "beta1", "beta2", "eps", "weight_decay")
    switches = ("maximize", "weight_decay", "amsgrad", "decoupled_weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        who = type(self).__name__
        check_options(who, group, "lr", "eps", "weight_decay")
        check_fractions(who, "betas", group["betas"])

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if "amsgrad" in options else ("exp_avg", "exp_avg_sq")

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        root = m.sqrt(1 - m.pow(h["beta2"], s["step"]))
        c = common_coefficients(h, options)
        c["rate"] = h["lr"] * root / (1 - m.pow(h["beta1"], s["step"]))
        c["eps"] = h["eps"] * root
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        p, g = decayed(p, g, c, options)
        exp_avg, exp_avg_sq = moments(g, s, c)
        new = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        largest = exp_avg_sq
        if "amsgrad" in options:
            largest = new["max_exp_avg_sq"] = m.maximum(s["max_exp_avg_sq"], exp_avg_sq)
        return p - c["rate"] * (exp_avg / (m.sqrt(largest) + c["eps"])), new


class AdamW(Adam):
    """:class:`Adam` with decoupled weight decay: ``p = (1 - lr * weight_decay) * p`` instead of a term in the gradient.

    The decay then does not go through the running means, so it is the same whether gradients are large or small.
    Arguments and state are those of Adam; ``weight_decay`` is 0.01 unless given.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
