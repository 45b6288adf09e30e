"""Decomposition: ops that exist for speed in eager mode, written with the primitives that kernels are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.compiler.passes.rewrite import rewrite
from chainrule.compiler.passes.symbolic import Symbol, Writer
from chainrule.core.shapes import reduced_shape, size_of
from chainrule.ir.graph import Graph, Instruction, Value


def _spread(m: Any, y: Any, shape: Any, axis: int) -> Any:
    """A value reduced along an axis, repeated along it again."""
    return m.broadcast_to(m.reshape(y, reduced_shape(shape, (axis,), True)), shape)


def _linear(m: Any, x: Any, w: Any, b: Any) -> Any:
    rows = m.reshape(x, (-1, x.shape[-1]))
    y = m.matmul(rows, m.permute(w, (1, 0)))
    return m.reshape(y + m.broadcast_to(b, y.shape), (*x.shape[:-1], w.shape[0]))


def _shifted(m: Any, x: Any, axis: int) -> Any:
    return x - _spread(m, m.amax(x, (axis,), False), x.shape, axis)


def _softmax(m: Any, x: Any, axis: int) -> Any:
    e = m.exp(_shifted(m, x, axis))
    return e / _spread(m, m.sum(e, (axis,), False), x.shape, axis)


def _log_softmax(m: Any, x: Any, axis: int) -> Any:
    z = _shifted(m, x, axis)
    return z - _spread(m, m.log(m.sum(m.exp(z), (axis,), False)), x.shape, axis)


def _softmax_nll(m: Any, x: Any, target: Any, mean: bool) -> Any:
    z = _shifted(m, x, 1)
    hot = m.cast(m.one_hot(target, x.shape[1]), bool)
    picked = m.sum(m.where(hot, z, m.zeros_like(z)), (1,), False)
    losses = m.log(m.sum(m.exp(z), (1,), False)) - picked
    return _mean(m, losses, (0,), False) if mean else losses


def _mean(m: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return m.sum(x, axes, keepdims) / (float(size_of([x.shape[a] for a in axes])) or math.nan)


RULES: dict[str, Callable[..., Any]] = {
    "linear": _linear,
    "log_softmax": _log_softmax,
    "mean": _mean,
    "softmax": _softmax,
    "softmax_nll": _softmax_nll,
    "square": lambda m, x: x * x,
}


def decompose(graph: Graph) -> Graph:
    """Every instruction that has a rule in ``RULES``, replaced by what the rule writes."""

    def rule(writer: Writer, instruction: Instruction, inputs: tuple[Value, ...]) -> Any:
        found = RULES.get(instruction.op.name)
        if found is None:
            return None
        return found(writer, *(Symbol(writer, v) for v in inputs), **instruction.params)

    return rewrite(graph, rule)
