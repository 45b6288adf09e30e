"""``autograd.grad`` and ``autograd.backward``: reverse passes from one or several outputs."""

from __future__ import annotations

from typing import Any

from chainrule.core.errors import GradError, explain
from chainrule.tensors.apply import up_to_date
from chainrule.tensors.backward import accumulate_into, run
from chainrule.tensors.fastpath import TENSORS


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _seeds(value: Any, count: int) -> list[Any]:
    if value is None:
        return [None] * count
    found = _several(value)
    if len(found) != count:
        raise GradError(explain("one grad_output per output", expected=str(count), got=str(len(found))))
    return found


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, returned rather than accumulated.

    Args:
        outputs: tensors with history.
        inputs: tensors that require a gradient.
        grad_outputs: cotangents of the outputs; may be left out for scalars.
        retain_graph: keep the graph (by default with ``create_graph`` only).
        create_graph: record the pass, so that the gradients can be differentiated again.
        allow_unused: give None for inputs that the outputs do not depend on, instead of raising.
        materialize_grads: give zeros for them.

    Raises:
        RuntimeError: for an input without a gradient, or an unused one if not allowed.
    """
    ys, xs = _several(outputs), _several(inputs)
    for name, given in (("outputs", ys), ("inputs", xs)):
        if not given:
            raise GradError(f"autograd.grad got no {name}: pass a tensor, or a sequence with at least one")
    for x in xs:
        up_to_date(x)
        if x._node is None:
            raise GradError(
                explain(
                    "an input of autograd.grad does not require a gradient",
                    got=f"a tensor of shape {tuple(x.shape)}",
                    fix="make it with requires_grad=True before the computation",
                )
            )
    want: dict[Any, Any] = {x._node: None for x in xs}
    retain = create_graph if retain_graph is None else retain_graph
    run(ys, _seeds(grad_outputs, len(ys)), want, retain, create_graph, False)
    found = [want[x._node] for x in xs]
    if materialize_grads:
        return tuple(TENSORS.zeros_like(x) if g is None else g for g, x in zip(found, xs, strict=True))
    if not allow_unused and any(g is None for g in found):
        position = next(i for i, g in enumerate(found) if g is None)
        raise GradError(
            explain(
                f"input {position} was not used in computing the outputs",
                fix="pass allow_unused=True to get None for it, or materialize_grads=True to get zeros",
            )
        )
    return tuple(found)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to ``.grad`` of the leaves."""
    ys = _several(tensors)
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is not None:
        accumulate_into(_several(inputs), ys, _seeds(grad_tensors, len(ys)), retain, create_graph)
        return
    run(ys, _seeds(grad_tensors, len(ys)), None, retain, create_graph, True)
