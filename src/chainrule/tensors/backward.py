"""Starting a backward pass from tensors, and what arrives at leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import GradError, explain
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import get_state, make_state, reset_state, set_state
from chainrule.tape.clock import stamp
from chainrule.tape.engine import Level, backward_raw, backward_traced
from chainrule.tape.node import CLOSED, Leaf, roots
from chainrule.tensors.apply import constant, up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.inplace import write
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor, wrap

_LEVEL = Level(TENSORS, wrap)


def _accumulate_raw(leaf: Leaf, g: Any, fresh: bool) -> None:
    """Add a raw cotangent to ``.grad``, which is always an array of its own (see NOTE [borrow, then own])."""
    held = leaf.grad
    if held is None:
        leaf.grad = wrap(g if fresh and type(g) is np.ndarray else np.array(g))
    elif held._node is None and type(held._d) is np.ndarray and held._d.dtype == g.dtype and held._d.flags.writeable:
        np.add(held._d, g, out=held._d)
        stamp(held._d, _NOWHERE)
    else:
        leaf.grad = held + wrap(np.array(g))


def _backward_line() -> None:
    """The line named for an accumulation into ``.grad``."""


_NOWHERE = (_backward_line.__code__, 0)


def _accumulate_traced(leaf: Leaf, g: Any, fresh: bool) -> None:
    if leaf.level is CLOSED:
        return
    interpreter, grad = get_state()
    g = g if grad else _cut(g)
    held = leaf.grad if interpreter is None else interpreter.read_grad(leaf)
    if held is not None:
        if interpreter is not None and interpreter.watches and not grad and held._node is None:
            write(held, held + g)  # in place, as the raw pass does
            return
        new = held + g
    elif isinstance(g._d, Tracer):
        new = wrap(g._d, g._node)  # traced values never change: a shell of its own is enough
    else:
        new = TENSORS.copy(g) if grad else wrap(np.array(g._d))
    if interpreter is None:
        leaf.grad = new
    else:
        interpreter.write_grad(leaf, new)


def _cut(g: Tensor) -> Tensor:
    """The value of ``g`` now, without its history."""
    interpreter = get_state().interpreter
    return wrap(g._d if interpreter is None else interpreter.payload(g))


def _seed(y: Tensor, g: Any) -> Tensor:
    """The cotangent that a pass starts with: 1 for a scalar, else what was given."""
    if g is None:
        if y._d.shape not in ((), (1,)) and int(np.prod(y._d.shape)) != 1:
            raise GradError(
                explain(
                    "only the gradient of a scalar can be asked for without saying of what",
                    got=f"an output of shape {tuple(y._d.shape)}",
                    fix="reduce it first, for example with .sum() or .mean(), or pass gradient= of that shape",
                )
            )
        if get_state().interpreter is None:
            return wrap(np.ones(y._d.shape, y._d.dtype) if y._d.shape else np.array(1, y._d.dtype))
        out: Tensor = TENSORS.full(tuple(y._d.shape), 1, y._d.dtype)
        return out
    if not isinstance(g, Tensor):
        g = constant(g, y._d.dtype)
    if tuple(g._d.shape) != tuple(y._d.shape):
        raise GradError(
            explain(
                "the gradient given has another shape than the output",
                expected=str(tuple(y._d.shape)),
                got=str(tuple(g._d.shape)),
            )
        )
    return cast(g, y._d.dtype)


def run(
    outputs: Sequence[Tensor],
    seeds: Sequence[Any],
    want: dict[Any, Any] | None,
    retain: bool,
    create: bool,
    accumulate: bool,
) -> None:
    """One backward pass from all ``outputs``.

    Args:
        want: nodes or leaves whose cotangents are collected (None: none are).
        accumulate: whether leaves add to ``.grad``.
    """
    interpreter = get_state().interpreter
    cotangents = []
    for y, seed in zip(outputs, seeds, strict=True):
        up_to_date(y)
        if y._node is None:
            raise GradError(
                explain(
                    "this tensor does not require a gradient and has no history",
                    fix="make an input with requires_grad=True, and check that nothing ran under no_grad or detach()",
                )
            )
        cotangents.append(_seed(y, seed))
    if create or interpreter is not None or Tracer in [type(g._d) for g in cotangents]:
        given = tuple(g if create else _cut(g) for g in cotangents)
        start, seed = _start(outputs, given)
        token = set_state(make_state(interpreter, create))
        try:
            backward_traced(start, seed, retain or create, _accumulate_traced if accumulate else None, want, _LEVEL)
        finally:
            reset_state(token)
        return
    start, seed = _start(outputs, tuple([np.asarray(g._d).view() for g in cotangents]))
    with np.errstate(all="ignore"):
        backward_raw(start, seed, retain, _accumulate_raw if accumulate else None, want)
    for key, value in (want or {}).items():
        if value is not None and want is not None:
            want[key] = wrap(np.array(value))


def _start(outputs: Sequence[Tensor], seeds: tuple[Any, ...]) -> tuple[Any, Any]:
    """Where a pass starts, and its cotangent: at the output itself, or at a node above all of them."""
    if len(outputs) == 1:
        return outputs[0]._node, seeds[0]
    return roots(tuple(y._node for y in outputs), seeds), None


def backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradient of this tensor to ``.grad`` of the leaves it was computed from.

    Args:
        gradient: the cotangent to start with; may be left out for a scalar.
        retain_graph: keep the graph for another pass (by default only with ``create_graph``).
        create_graph: record the pass itself, for derivatives of derivatives.
        inputs: leaves to restrict the accumulation to.

    Raises:
        RuntimeError: for a tensor without history, a freed graph, a value changed in place since, or a non-scalar
            output without ``gradient``.
    """
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run((self,), (gradient,), None, retain, create_graph, True)
        return
    targets = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    accumulate_into(targets, (self,), (gradient,), retain, create_graph)


def accumulate_into(
    targets: list[Tensor], outputs: Sequence[Tensor], seeds: Sequence[Any], retain: bool, create: bool
) -> None:
    """Add the gradients of ``outputs`` to ``.grad`` of ``targets``, leaves or not, and of nothing else."""
    for i, t in enumerate(targets):
        if t._node is None:
            raise GradError(
                explain(
                    f"backward(inputs=...): input {i} does not require a gradient",
                    got=f"a tensor of shape {tuple(t._d.shape)}",
                    fix="make it with requires_grad=True before the computation",
                )
            )
    unique = {t._node: t for t in targets}
    want: dict[Any, Any] = dict.fromkeys(unique)
    for node, t in unique.items():
        if type(node) is not Leaf:
            t.retain_grad()
    run(outputs, seeds, want, retain, create, False)
    for node, t in unique.items():
        g = want[node] if type(node) is Leaf else None  # the others have kept theirs
        if g is not None:
            t.grad = TENSORS.copy(g) if t.grad is None else t.grad + g
