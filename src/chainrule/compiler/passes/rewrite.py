"""Walking a graph while writing another: what all passes that replace instructions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.compiler.passes.symbolic import Symbol, Writer
from chainrule.ir.graph import Graph, Instruction, Value

#: ``rule(writer, instruction, inputs)`` gives the values that replace the results, or None to keep the instruction.
Rule = Callable[[Writer, Instruction, tuple[Value, ...]], Any]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """The graph in which every instruction for which ``rule`` has an answer is replaced by it."""
    writer = Writer(graph)
    new: dict[Value, Value] = {}
    for instruction in graph.instructions:
        inputs = tuple(new.get(v, v) for v in instruction.inputs)
        writer.place = instruction.place
        found = rule(writer, instruction, inputs)
        if found is None:
            writer.instructions.append(instruction._replace(inputs=inputs))
            continue
        results = found if isinstance(found, tuple) else (found,)
        for old, value in zip(instruction.results, results, strict=True):
            new[old] = value.value if isinstance(value, Symbol) else value
    outputs = tuple(new.get(v, v) for v in graph.outputs)
    return Graph(graph.inputs, tuple(writer.constants), tuple(writer.instructions), outputs)
