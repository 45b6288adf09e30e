"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from chainrule.optim.optimizer import check_options
from chainrule.optim.rule_optimizer import Group, Options, RuleOptimizer
from chainrule.tensors.tensor import Tensor, wrap

__all__ = ["SGD"]


class SGD(RuleOptimizer):
    r"""Stochastic gradient descent, with momentum if wanted.

    With gradient ``g``, parameter ``p``, buffer ``b`` (none at first), step ``t = 1, 2, ...``::

        g = g + weight_decay * p                                (weight_decay != 0)
        b = g                            at t = 1               (momentum != 0)
        b = momentum * b + (1 - dampening) * g      at t > 1
        d = g + momentum * b  if nesterov  else  b
        p = p - lr * d

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: share of the old direction that is kept.
        dampening: share of the gradient that is left out of the buffer.
        weight_decay: coefficient of the L2 penalty ``weight_decay / 2 * |p|**2``.
        nesterov: look ahead along the buffer; needs momentum and no dampening.
        maximize: go up instead of down.
        foreach, differentiable, fused: accepted for compatibility; there is one implementation.

    Raises:
        ValueError: a negative number, or ``nesterov`` without momentum or with dampening.

    Source: Robbins and Monro, "A Stochastic Approximation Method", 1951; Polyak, "Some methods of speeding up the
    convergence of iteration methods", 1964; Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and
    momentum in deep learning", 2013 (Nesterov's form).
    """

    hyper = ("lr", "momentum", "dampening", "weight_decay")
    switches = ("maximize", "weight_decay", "momentum", "dampening", "nesterov")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        check_options("SGD", group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov=True needs momentum above 0 and dampening 0, "
                f"got momentum={group['momentum']!r} and dampening={group['dampening']!r}"
            )

    @staticmethod
    def scalars(options: Options) -> tuple[str, ...]:
        return ("step",) if {"momentum", "dampening"} <= options else ()  # only dampening asks which step is the first

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for p in group["params"] if group["dampening"] else ():
                state = self.state.get(p, {})
                if "momentum_buffer" in state:  # saved without a counter: what matters is that the first step is over
                    state.setdefault("step", wrap(np.array(1.0)))

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        return ("momentum_buffer",) if "momentum" in options else ()

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        c = {"lr": h["lr"]}
        if "weight_decay" in options:
            c["decay"] = h["weight_decay"]
        if "momentum" in options:
            c["momentum"] = h["momentum"]
            if "dampening" in options:
                c["share"] = m.where(s["step"] > 1, 1 - h["dampening"], 1.0)
        return c

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        if "maximize" in options:
            g = -g
        if "weight_decay" in options:
            g = g + c["decay"] * p
        if "momentum" not in options:
            return p - c["lr"] * g, {}
        b = c["momentum"] * s["momentum_buffer"] + (c["share"] * g if "dampening" in options else g)
        d = g + c["momentum"] * b if "nesterov" in options else b
        return p - c["lr"] * d, {"momentum_buffer": b}
