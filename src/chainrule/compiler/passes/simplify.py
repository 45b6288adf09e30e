"""Simplification by exact identities, folding of constants, common subexpressions, dead code.

Only identities that hold for every value, NaN, infinities and signed zeros included: x * 1, x / 1, x ** 1 and x ** 2,
views of views, conversions to the same type. ``x + 0`` is not one of them (-0 + 0 is 0), nor is ``x * 0``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.compiler.passes.rewrite import rewrite
from chainrule.compiler.passes.symbolic import Symbol, Writer
from chainrule.core.shapes import reduced_shape
from chainrule.ir.graph import Block, Constant, Graph, Instruction, Value, show_param

#: results of constant instructions up to this many elements are computed when the program is compiled
FOLD_LIMIT = 4096


def _number(constants: dict[Value, np.ndarray[Any, Any]], v: Value, made: dict[Value, Instruction]) -> Any:
    """The number that every element of ``v`` is known to be, or None."""
    while v in made and made[v].op.name in ("broadcast_to", "reshape"):
        v = made[v].inputs[0]
    a = constants.get(v)
    return a.reshape(-1)[0] if a is not None and a.size == 1 else None


def simplify(graph: Graph) -> Graph:
    """Apply identities, one instruction at a time, in order."""
    constants = {c.value: c.array for c in graph.constants}
    made: dict[Value, Instruction] = {}

    def rule(writer: Writer, instruction: Instruction, inputs: tuple[Value, ...]) -> Any:
        name, params = instruction.op.name, instruction.params
        x = inputs[0]
        same = instruction.results[0]
        found: Any = None
        if (
            name in ("alias", "detach", "copy")
            or (name in ("reshape", "broadcast_to") and same.shape == x.shape)
            or (name == "cast" and same.dtype == x.dtype)
            or (name == "permute" and params["perm"] == tuple(range(len(x.shape))))
            or (name == "flip" and not params["axes"])
        ):
            found = x
        elif name == "permute" and x in made and made[x].op.name == "permute":
            first = made[x].params["perm"]
            both = tuple(first[p] for p in params["perm"])
            source = made[x].inputs[0]
            found = source if both == tuple(range(len(both))) else writer.permute(Symbol(writer, source), both)
        elif name == "reshape" and x in made and made[x].op.name == "reshape":
            found = writer.reshape(Symbol(writer, made[x].inputs[0]), same.shape)
        elif name in ("sum", "amax", "amin") and all(x.shape[a] == 1 for a in params["axes"]):
            found = writer.reshape(Symbol(writer, x), reduced_shape(x.shape, params["axes"], params["keepdims"]))
        elif name in ("mul", "div", "pow"):
            right = _number(constants, inputs[1], made)
            left = _number(constants, x, made) if name == "mul" else None
            if right is not None and right == 1:
                found = x
            elif left is not None and left == 1:
                found = inputs[1]
            elif name == "pow" and right is not None and right == 2:
                found = writer.mul(Symbol(writer, x), Symbol(writer, x))
        if found is None:
            made[same] = instruction._replace(inputs=inputs)
        elif isinstance(found, Symbol):
            made.update((i.results[0], i) for i in writer.instructions[-1:] if found.value in i.results)
        return found

    return rewrite(graph, rule)


def fold(graph: Graph) -> Graph:
    """Instructions whose inputs are all constants, computed now by their reference kernels if the result is small.

    A broadcast number stays a broadcast, and so does what is made of such alone: storing it would cost memory.
    """
    known = {c.value: c.array for c in graph.constants}
    spread: set[Value] = set()
    kept: list[Instruction] = []
    constants = list(graph.constants)
    for i in graph.instructions:
        result = i.results[0]
        small = sum(r.nbytes for r in i.results) <= 8 * FOLD_LIMIT
        if (
            i.op.random
            or i.op.kind == "control"
            or not small
            or len(i.results) != 1
            or not all(v in known for v in i.inputs)
        ):
            kept.append(i)
            continue
        if i.op.name == "broadcast_to":
            known[result] = i.op.kernel(known[i.inputs[0]], **i.params)
            spread.add(result)
        if spread.issuperset(i.inputs) or result in spread:
            kept.append(i)
            continue
        with np.errstate(all="ignore"):
            out = i.op.kernel(*(known[v] for v in i.inputs), **i.params)
        array = np.array(out[0] if i.op.residual else out)
        known[result] = array
        constants.append(Constant(result, array, i.place))
    return Graph(graph.inputs, tuple(constants), tuple(kept), graph.outputs)


def param_key(param: Any) -> Any:
    """A static parameter as part of a key; a block is only equal to itself."""
    return param if isinstance(param, Block) else show_param(param)


def deduplicate(graph: Graph) -> Graph:
    """Common subexpressions: an op applied twice to the same values with the same parameters is applied once."""
    seen: dict[Any, tuple[Value, ...]] = {}
    numbers: dict[Any, Value] = {}
    new: dict[Value, Value] = {}
    constants = []
    for c in graph.constants:
        key = (c.array.dtype, c.array.shape, c.array.tobytes()) if c.array.size <= 64 else id(c.array)
        if key in numbers:
            new[c.value] = numbers[key]
        else:
            numbers[key] = c.value
            constants.append(c)
    kept = []
    for i in graph.instructions:
        inputs = tuple(new.get(v, v) for v in i.inputs)
        expression = (i.op.name, inputs, tuple((k, param_key(v)) for k, v in sorted(i.params.items())))
        found = seen.get(expression)
        if found is None:
            seen[expression] = i.results
            kept.append(i._replace(inputs=inputs))
        else:
            new.update(zip(i.results, found, strict=True))
    outputs = tuple(new.get(v, v) for v in graph.outputs)
    return Graph(graph.inputs, tuple(constants), tuple(kept), outputs)


def drop_dead(graph: Graph) -> Graph:
    """Without the instructions and constants that no output depends on. Inputs stay: callers count on them."""
    live: set[Value] = set(graph.outputs)
    kept: list[Instruction] = []
    for i in reversed(graph.instructions):
        if _any(live, i.results):
            kept.append(i)
            live.update(i.inputs)
    constants = tuple(c for c in graph.constants if c.value in live)
    return Graph(graph.inputs, constants, tuple(reversed(kept)), graph.outputs)


def _any(live: set[Value], values: Iterable[Value]) -> bool:
    return any(v in live for v in values)
