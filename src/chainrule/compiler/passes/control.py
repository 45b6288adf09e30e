"""Loops and branches without what nobody reads: outputs, carries and inputs of their blocks."""

from __future__ import annotations

from typing import Any

from chainrule.compiler.control.branches import cond_op
from chainrule.compiler.control.loops import scan_op
from chainrule.ir.graph import Block, Graph, Instruction, Value


def prune(graph: Graph) -> Graph:
    """Without dead instructions, and with loops and branches cut down to what is read of them.

    The carries that a loop saves for its derivative go where there is none. A carry goes if nothing reads it but its
    own next value.
    """
    live: set[Value] = set(graph.outputs)
    kept: list[Instruction] = []
    for i in reversed(graph.instructions):
        if live.isdisjoint(i.results):
            continue
        if i.op.name == "scan":
            i = _scan(i, live)
        elif i.op.name == "cond":
            i = _cond(i, live)
        kept.append(i)
        live.update(i.inputs)
    constants = tuple(c for c in graph.constants if c.value in live)
    return Graph(graph.inputs, constants, tuple(reversed(kept)), graph.outputs)


def _read(graph: Graph) -> set[Value]:
    """What a graph without dead instructions reads."""
    return {v for i in graph.instructions for v in i.inputs}.union(graph.outputs)


def _pick(values: Any, at: list[int]) -> tuple[Any, ...]:
    return tuple(values[k] for k in at)


def _scan(i: Instruction, live: set[Value]) -> Instruction:
    p = i.params
    graph: Graph = p["body"].graph
    n, stop = p["carries"], p["carries"] + p["slices"]
    outputs = {j for j, r in enumerate(i.results) if r in live}
    while True:
        at = sorted(outputs)
        body = prune(graph._replace(outputs=_pick(graph.outputs, at)))
        read = _read(body)
        more = {k for k in range(n) if graph.inputs[k] in read} - outputs
        if not more:
            break
        outputs |= more
    carries = [j for j in at if j < n]
    slices = [k for k in range(n, stop) if graph.inputs[k] in read]
    inputs = [*carries, *slices, *(k for k in range(stop, len(graph.inputs)) if graph.inputs[k] in read)]
    if not inputs or (len(inputs) == len(graph.inputs) and len(at) == len(graph.outputs)):
        return i
    body = body._replace(inputs=_pick(graph.inputs, inputs))
    saved = tuple(at.index(p["saved"][k]) for k in carries) if p["saved"] and outputs.issuperset(p["saved"]) else ()
    params = {**p, "body": Block(body), "carries": len(carries), "slices": len(slices), "saved": saved}
    return i._replace(op=scan_op(len(at)), inputs=_pick(i.inputs, inputs), params=params, results=_pick(i.results, at))


def _cond(i: Instruction, live: set[Value]) -> Instruction:
    graphs: list[Graph] = [i.params[k].graph for k in ("true", "false")]
    at = [j for j, r in enumerate(i.results) if r in live]
    bodies = [prune(g._replace(outputs=_pick(g.outputs, at))) for g in graphs]
    reads = [_read(b) for b in bodies]
    inputs = [k for k in range(len(i.inputs) - 1) if any(g.inputs[k] in r for g, r in zip(graphs, reads, strict=True))]
    if len(inputs) == len(i.inputs) - 1 and len(at) == len(i.results):
        return i
    yes, no = (Block(b._replace(inputs=_pick(g.inputs, inputs))) for b, g in zip(bodies, graphs, strict=True))
    return i._replace(
        op=cond_op(len(at)), inputs=(i.inputs[0], *_pick(i.inputs[1:], inputs)), params={"true": yes, "false": no},
        results=_pick(i.results, at),
    )  # fmt: skip
