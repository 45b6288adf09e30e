"""Decomposition: ops that exist for speed in eager mode, written with the primitives that kernels are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler.passes.rewrite import rewrite
from chainrule.compiler.passes.symbolic import Symbol, Writer
from chainrule.core.shapes import broadcast_shapes, reduced_shape, size_of
from chainrule.ir.graph import Graph, Instruction, Value


def _spread(m: Any, y: Any, shape: Any, axis: int) -> Any:
    """A value reduced along an axis, repeated along it again."""
    return m.broadcast_to(m.reshape(y, reduced_shape(shape, (axis,), True)), shape)


def _matmul(m: Any, x: Any, y: Any) -> Any:
    """Integer products as sums of products; float16 in float32. Other dtypes stay."""
    if x.dtype == np.float16:
        return m.cast(m.matmul(m.cast(x, np.float32), m.cast(y, np.float32)), x.dtype)
    if x.dtype.kind == "f":
        return None
    (rows, inner), columns = x.shape[-2:], y.shape[-1]
    full = (*broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, inner, columns)
    left = m.broadcast_to(m.reshape(x, (*x.shape, 1)), full)
    right = m.broadcast_to(m.reshape(y, (*y.shape[:-2], 1, inner, columns)), full)
    if x.dtype == bool:
        return _any(m, m.logical_and(left, right), (len(full) - 2,), False)
    return m.sum(left * right, (len(full) - 2,), False)


def _product(m: Any, x: Any, y: Any) -> Any:
    found = _matmul(m, x, y)
    return m.matmul(x, y) if found is None else found


def _linear(m: Any, x: Any, w: Any, b: Any) -> Any:
    rows = m.reshape(x, (size_of(x.shape[:-1]), x.shape[-1]))
    y = _product(m, rows, m.permute(w, (1, 0)))
    return m.reshape(y + m.broadcast_to(b, y.shape), (*x.shape[:-1], w.shape[0]))


def _shifted(m: Any, x: Any, axis: int) -> Any:
    return x - _spread(m, m.amax(x, (axis,), False), x.shape, axis)


def _softmax(m: Any, x: Any, axis: int) -> Any:
    if size_of(x.shape) == 0:  # there is no largest of no elements
        return x
    e = m.exp(_shifted(m, x, axis))
    return e / _spread(m, m.sum(e, (axis,), False), x.shape, axis)


def _log_softmax(m: Any, x: Any, axis: int) -> Any:
    if size_of(x.shape) == 0:
        return x
    z = _shifted(m, x, axis)
    return z - _spread(m, m.log(m.sum(m.exp(z), (axis,), False)), x.shape, axis)


def _softmax_nll(m: Any, x: Any, target: Any, mean: bool) -> Any:
    z = _shifted(m, x, 1)
    hot = m.cast(m.one_hot(target, x.shape[1]), bool)
    picked = m.sum(m.where(hot, z, m.zeros_like(z)), (1,), False)
    losses = m.log(m.sum(m.exp(z), (1,), False)) - picked
    return _mean(m, losses, (0,), False) if mean else losses


def _layer_norm(m: Any, x: Any, w: Any, b: Any, eps: float) -> Any:
    if x.dtype == np.float16:
        return m.cast(_layer_norm(m, *(m.cast(v, np.float32) for v in (x, w, b)), eps), x.dtype)
    rank = len(x.shape)
    axes = tuple(range(rank - len(w.shape), rank))
    c = x - _mean(m, x, axes, True)
    return c * m.rsqrt(_mean(m, c * c, axes, True) + eps) * w + b


def _mean(m: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return m.sum(x, axes, keepdims) / (float(size_of([x.shape[a] for a in axes])) or math.nan)


# ---- tests over axes, and triangles by comparison of positions
def _any(m: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return _test(m, "amax", x, axes, keepdims)


def _test(m: Any, extreme: str, x: Any, axes: Any, keepdims: bool) -> Any:
    """The extreme of bytes that are 1 where x is not 0."""
    if not size_of([x.shape[a] for a in axes]):
        return m.full(reduced_shape(x.shape, axes, keepdims), extreme == "amin", bool)
    return m.cast(getattr(m, extreme)(m.cast(m.cast(x, bool), np.uint8), axes, keepdims), bool)


def _positions(m: Any, shape: Any, axis: int, start: int = 0) -> Any:
    """start, start + 1, ... along an axis, the same along all others."""
    line = np.arange(start, start + shape[axis], dtype=np.int64)
    if line.size == 0 or (line[0] >= -(2**31) and line[-1] < 2**31):  # more of them fit a vector
        line = line.astype(np.int32)
    return m.broadcast_to(m.reshape(m.constant(line), (-1,) + (1,) * (len(shape) - axis - 1)), shape)


def _triangle(test: str) -> Callable[..., Any]:
    def rule(m: Any, x: Any, k: int) -> Any:
        """x where its column is at most (at least) its row + k."""
        rows, columns = x.shape[-2:]
        k = max(-rows - 1, min(k, columns + 1))
        column = _positions(m, x.shape, len(x.shape) - 1)
        row = m.cast(_positions(m, x.shape, len(x.shape) - 2, k), column.dtype)
        return m.where(getattr(m, test)(column, row), x, m.zeros_like(x))

    return rule


RULES: dict[str, Callable[..., Any]] = {
    "all": lambda m, x, axes, keepdims: _test(m, "amin", x, axes, keepdims),
    "any": _any,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "log_softmax": _log_softmax,
    "matmul": _matmul,
    "mean": _mean,
    "softmax": _softmax,
    "softmax_nll": _softmax_nll,
    "square": lambda m, x: x * x,
    "tril": _triangle("le"),
    "triu": _triangle("ge"),
}


def decompose(graph: Graph) -> Graph:
    """Every instruction that has a rule in ``RULES``, replaced by what the rule writes (None: it stays)."""

    def rule(writer: Writer, instruction: Instruction, inputs: tuple[Value, ...]) -> Any:
        found = RULES.get(instruction.op.name)
        if found is None:
            return None
        return found(writer, *(Symbol(writer, v) for v in inputs), **instruction.params)

    return rewrite(graph, rule)
