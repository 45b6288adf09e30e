"""Tensors as a math namespace: every primitive of the registry as a function of tensors.

Handed to a rule as ``m``, it makes the rule's own computation differentiable, batchable and capturable. Elementwise
functions convert operands to the common dtype (``core.dtypes``) and, under an interpreter, broadcast explicitly; in
eager mode NumPy broadcasts and the engine sums back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.core import dtypes
from chainrule.core.errors import DTypeError, explain
from chainrule.core.shapes import Shape, broadcast_shapes
from chainrule.ir.namespace import Namespace
from chainrule.ir.op import REGISTRY, Elementwise, Op
from chainrule.ir.state import get_state
from chainrule.tensors.apply import apply, constant
from chainrule.tensors.tensor import Tensor

Number = (bool, int, float, np.number, np.bool_)


class TensorNamespace(Namespace):
    """Primitives on tensors."""

    def full(self, shape: Shape, value: Any, dtype: Any) -> Tensor:
        """A constant tensor; under an interpreter one number, broadcast."""
        if get_state().interpreter is None:
            return constant(np.full(shape, value, dtypes.as_numpy(dtype)))
        out: Tensor = self.broadcast_to(constant(value, dtype), shape)
        return out

    def iota(self, size: int) -> Tensor:
        """0, 1, ..., size - 1."""
        return constant(np.arange(size))


TENSORS: Any = TensorNamespace()
assert ops.__all__  # importing them filled the registry


def as_operand(value: Any, op: str) -> Tensor | bool | int | float:
    """A tensor or a Python number; arrays become tensors; anything else is a ``TypeError`` that names the op."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (np.number, np.bool_)):
        number: bool | int | float = value.item()
        return number
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.ndarray):
        return constant(value)
    raise TypeError(
        explain(
            f"{op} got an operand of type {type(value).__name__}",
            expected="a Tensor, a NumPy array or a number",
            fix="wrap it with chainrule.tensor(...)",
        )
    )


def common_dtype(operands: list[Any]) -> np.dtype[Any]:
    """PyTorch's result type of tensors and Python numbers."""
    return dtypes.result_type(
        (x._d.dtype, 2 if x._d.shape else 1) if isinstance(x, Tensor) else (dtypes.python_dtype(x), 0) for x in operands
    )


def cast(x: Any, dtype: Any) -> Tensor:
    """A tensor (or number) of that dtype."""
    dtype = dtypes.as_numpy(dtype)
    if not isinstance(x, Tensor):
        return constant(x, dtype)
    if x._d.dtype == dtype:
        return x
    out: Tensor = apply(REGISTRY["cast"], (x,), {"dtype": dtype})
    return out


def broadcast(xs: list[Tensor]) -> list[Tensor]:
    """All tensors expanded to their common shape by an explicit op."""
    shape = broadcast_shapes(*(x._d.shape for x in xs))
    return [x if x._d.shape == shape else TENSORS.broadcast_to(x, shape) for x in xs]


_FLOAT_ONLY_BITS = (
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "bitwise_left_shift",
    "bitwise_right_shift",
)


def elementwise_function(op: Elementwise) -> Callable[..., Tensor]:
    """The general path of an elementwise op: any operands, any interpreter."""
    name, first = op.name, 1 if op.name == "where" else 0

    def function(*args: Any) -> Tensor:
        xs = [as_operand(a, name) for a in args]
        kind = common_dtype(xs[first:])
        if op.promotes == "float" and kind.kind != "f":
            kind = dtypes.get_default_dtype().numpy
        if kind.kind == "f" and name in _FLOAT_ONLY_BITS:
            raise DTypeError(explain(f"{name} needs integers or booleans", got=str(dtypes.from_numpy(kind))))
        tensors = [cast(x, kind) for x in xs[first:]]
        if first:
            tensors.insert(0, cast(xs[0], np.dtype(bool)))
        if len(tensors) > 1:
            shapes = {t._d.shape for t in tensors}
            if len(shapes) > 1:
                if get_state().interpreter is not None:
                    tensors = broadcast(tensors)
                else:
                    broadcast_shapes(*shapes)  # raises an error that teaches
        out: Tensor = apply(op, tuple(tensors), {})
        return out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.doc
    return function


def structural_function(op: Op) -> Callable[..., Any]:
    """An op with static parameters: arrays first, then the parameters by position or name."""
    arity, names = op.arity, op.params

    def function(*args: Any, **params: Any) -> Any:
        n = len(args) if arity is None else arity
        if len(args) > n:
            params.update(zip(names, args[n:], strict=False))
        return apply(op, args[:n], params)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = op.doc
    return function


for _op in REGISTRY.values():
    setattr(TENSORS, _op.name, elementwise_function(_op) if isinstance(_op, Elementwise) else structural_function(_op))


def add_shortcuts() -> None:
    """Let ``broadcast_to``, ``reshape`` and ``cast`` return their input where nothing changes; reshape fills in -1."""
    broadcast_op, reshape_op = TENSORS.broadcast_to, TENSORS.reshape

    def broadcast_to(x: Tensor, shape: Shape) -> Tensor:
        out: Tensor = x if x._d.shape == shape else broadcast_op(x, shape=shape)
        return out

    def reshape(x: Tensor, shape: Shape) -> Tensor:
        old = x._d.shape
        if -1 in shape:
            rest = math.prod(d for d in shape if d != -1)
            shape = tuple(math.prod(old) // max(rest, 1) if d == -1 else d for d in shape)
        out: Tensor = x if old == shape else reshape_op(x, shape=shape)
        return out

    TENSORS.broadcast_to, TENSORS.reshape, TENSORS.cast = broadcast_to, reshape, cast
