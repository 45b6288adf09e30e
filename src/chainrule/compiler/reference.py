"""The reference evaluator: runs a graph by applying each op of a math namespace in order.

With NumPy it is the oracle that every other backend is held to. With tensors it is an ordinary computation, so that a
captured program can itself be differentiated, mapped, or captured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import describe_place
from chainrule.ir.graph import Graph, GraphError, Instruction, Value, describe_type
from chainrule.ir.namespace import NUMPY
from chainrule.ir.state import get_state, no_grad
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor


def evaluate(program: Any, values: Sequence[Any], m: Any = NUMPY) -> list[Any]:
    """The outputs of a graph for these inputs.

    Args:
        program: a :class:`~chainrule.ir.graph.Graph`, or anything that has one as ``.graph``.
        values: one array per input, in order; tensors if ``m`` is the tensor namespace.
        m: the namespace that computes.

    Returns:
        One array or tensor per output. Outputs may share memory with inputs, constants and each other.

    Raises:
        ValueError: for another number of inputs than the graph has.
        GraphError: if an input or a result is not of the recorded type.

    An error that an op raises is passed on with a note that names the instruction and the user's line.
    """
    graph: Graph = getattr(program, "graph", program)
    if len(values) != len(graph.inputs):
        raise ValueError(f"the program has {len(graph.inputs)} inputs, got {len(values)} values")
    known: dict[Value, Any] = dict(zip(graph.inputs, values, strict=True))
    for v, x in known.items():
        _check(v, x, f"the input {v!r}")
    tensors = m is TENSORS
    known.update((c.value, constant(c.array) if tensors else c.array) for c in graph.constants)
    last = _last_reads(graph)
    with np.errstate(all="ignore"):
        for position, instruction in enumerate(graph.instructions):
            xs = [known[v] for v in instruction.inputs]
            out = _run(instruction, xs, m, tensors)
            results = instruction.results
            for v, x in zip(results, out if len(results) > 1 else (out,), strict=True):
                _check(v, x, instruction)
                known[v] = x
            for v in last[position]:
                del known[v]
    return [known[v] for v in graph.outputs]


def _run(instruction: Instruction, xs: list[Any], m: Any, tensors: bool) -> Any:
    op = instruction.op
    function = getattr(m, op.name) if op.kind != "control" else op.through if tensors else op.kernel
    try:
        if tensors and not instruction.recorded and get_state().grad:
            with no_grad():
                return function(*xs, **instruction.params)
        return function(*xs, **instruction.params)
    except Exception as error:
        place = f", captured at {describe_place(instruction.place)}" if instruction.place else ""
        error.add_note(f"in the captured program: {instruction}{place}")
        raise


def _check(value: Value, x: Any, what: Any) -> None:
    payload = x._d if isinstance(x, Tensor) else x
    if payload.shape != value.shape or payload.dtype != value.dtype:
        raise GraphError(
            f"{what}: recorded as {describe_type(value.dtype, value.shape)}, "
            f"got {describe_type(payload.dtype, payload.shape)}"
        )


def _last_reads(graph: Graph) -> list[list[Value]]:
    """Per instruction the values that nothing after it reads, so that memory is given back as the program runs."""
    seen = set(graph.outputs)
    dying: list[list[Value]] = []
    for instruction in reversed(graph.instructions):
        dying.append([v for v in dict.fromkeys((*instruction.inputs, *instruction.results)) if v not in seen])
        seen.update(instruction.inputs, instruction.results)
    return dying[::-1]
