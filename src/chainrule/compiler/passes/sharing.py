"""What two loops over the same slices both compute, computed by the first alone.

NOTE [what a loop keeps for another]. The backward loop of ``scan`` computes each step again from its carry. Where the
same slices and the same saved carries go into two loops, instructions of their bodies that are alike give the same
numbers in step i of both, whatever the directions. A value that takes a matrix product, or another op that is not done
point by point, is then kept by the first loop as one more stacked output, and read by the second. It often is one
already: an output, or the carry of the next step. Cheap values are computed again. Nothing is kept beyond
``MOST_BYTES`` for a pair of loops.
"""

from __future__ import annotations

from typing import Any

from chainrule.compiler.control.loops import scan_op
from chainrule.compiler.passes.decompose import decompose
from chainrule.compiler.passes.simplify import deduplicate, drop_dead, fold, param_key, simplify
from chainrule.ir.graph import Block, Constant, Graph, Instruction, Value
from chainrule.ir.op import Elementwise

#: stacked values kept by one loop for another (256 MiB)
MOST_BYTES = 1 << 28
#: ops that are moved or copied, not computed
_CHEAP = frozenset(("cast", "cat", "copy", "flip", "one_hot", "put", "unslice"))


def share(graph: Graph) -> Graph:
    """The graph with what later loops would compute again taken from earlier ones."""
    instructions = list(graph.instructions)
    loops = [k for k, i in enumerate(instructions) if i.op.name == "scan"]
    if len(loops) < 2:
        return graph
    for k in loops:
        instructions[k] = _tidy(instructions[k])
    for n, later in enumerate(loops):
        for earlier in loops[:n]:
            pair = _Pair(instructions[earlier], instructions[later])
            if pair.keeps():
                instructions[earlier], instructions[later] = pair.rewritten(_next_number(instructions))
    return graph._replace(instructions=tuple(instructions))


def _tidy(i: Instruction) -> Instruction:
    """With a body in which what is alike looks alike."""
    body = i.params["body"].graph
    for step in (decompose, fold, simplify, deduplicate, drop_dead):
        body = step(body)
    return i._replace(params={**i.params, "body": Block(body)})


def _next_number(instructions: list[Instruction]) -> int:
    return 1 + max(v.number for i in instructions for v in (*i.inputs, *i.results))


def _constant_key(c: Constant) -> Any:
    return (c.array.dtype, c.array.shape, c.array.tobytes()) if c.array.size <= 64 else id(c.array)


class _Pair:
    """Two loops, and which values of the second one's body are values of the first one's."""

    def __init__(self, first: Instruction, second: Instruction) -> None:
        self.first, self.second = first, second
        self.a: Graph = first.params["body"].graph
        self.b: Graph = second.params["body"].graph
        #: per value of the second body the value of the first that it equals in the step of the same slice
        self.same: dict[Value, Value] = {}
        self.kept: list[Value] = []
        if first.params["length"] == second.params["length"]:
            self._inputs()
        if any(self._slice(v) for v in self.same):
            self._instructions()

    def _slice(self, v: Value) -> bool:
        n = self.second.params["carries"]
        return v in self.b.inputs[n : n + self.second.params["slices"]]

    def _inputs(self) -> None:
        n, stop = self.first.params["carries"], self.first.params["carries"] + self.first.params["slices"]
        stacked = dict(zip(self.first.results[n:], self.a.outputs[n:], strict=True))
        stacked.update(zip(self.first.inputs[n:stop], self.a.inputs[n:stop], strict=True))
        fixed = dict(zip(self.first.inputs[stop:], self.a.inputs[stop:], strict=True))
        m = self.second.params["carries"]
        end = m + self.second.params["slices"]
        for k, (given, v) in enumerate(zip(self.second.inputs, self.b.inputs, strict=True)):
            found = None if k < m else (stacked if k < end else fixed).get(given)
            if found is not None:
                self.same[v] = found

    def _instructions(self) -> None:
        held = {_constant_key(c): c.value for c in self.a.constants}
        for c in self.b.constants:
            found = held.get(_constant_key(c))
            if found is not None:
                self.same[c.value] = found
        known = {_expression(i, i.inputs): i for i in self.a.instructions}
        for i in self.b.instructions:
            if all(v in self.same for v in i.inputs) and not i.op.random and i.op.kind != "control":
                found_in = known.get(_expression(i, tuple(self.same[v] for v in i.inputs)))
                if found_in is not None:
                    self.same.update(zip(i.results, found_in.results, strict=True))

    def keeps(self) -> bool:
        """Whether there is something to keep; it is then in ``kept``."""
        made = {r: i for i in self.b.instructions for r in i.results}
        costly: set[Value] = set()
        for i in self.b.instructions:
            if i.results[0] in self.same and (_costs(i) or not costly.isdisjoint(i.inputs)):
                costly.update(i.results)
        if not costly:
            return False
        todo = [v for i in self.b.instructions if i.results[0] not in self.same for v in i.inputs] + list(
            self.b.outputs
        )
        seen: set[Value] = set()
        while todo:
            v = todo.pop()
            if v in seen or v not in self.same or v not in made:
                continue
            seen.add(v)
            if v in costly and not made[v].op.is_view and made[v].op.name != "flip":
                self.kept.append(v)
            else:
                todo += made[v].inputs
        outputs = set(self.a.outputs)
        new = sum(v.nbytes for v in self.kept if self.same[v] not in outputs)
        self.kept.sort(key=lambda v: v.number)
        return bool(self.kept) and new * self.first.params["length"] <= MOST_BYTES

    def rewritten(self, number: int) -> tuple[Instruction, Instruction]:
        """Both loops, the first with more outputs and the second with more slices."""
        n, length = self.first.params["carries"], self.first.params["length"]
        outputs, results = list(self.a.outputs), list(self.first.results)
        slices: list[Value] = []
        for v in self.kept:
            found = self.same[v]
            if found not in outputs[n:]:
                outputs.append(found)
                results.append(Value(number, (length, *v.shape), v.dtype))
                number += 1
            slices.append(results[n + outputs[n:].index(found)])
        first = self.first._replace(
            op=scan_op(len(outputs)), results=tuple(results),
            params={**self.first.params, "body": Block(self.a._replace(outputs=tuple(outputs)))},
        )  # fmt: skip
        m = self.second.params["carries"] + self.second.params["slices"]
        new = {v: Value(v.number, v.shape, v.dtype) for v in self.kept}
        instructions = tuple(i._replace(inputs=tuple(new.get(v, v) for v in i.inputs)) for i in self.b.instructions)
        body = Graph(
            (*self.b.inputs[:m], *new.values(), *self.b.inputs[m:]), self.b.constants, instructions,
            tuple(new.get(v, v) for v in self.b.outputs),
        )  # fmt: skip
        params = {
            **self.second.params,
            "body": Block(drop_dead(body)),
            "slices": self.second.params["slices"] + len(new),
        }
        inputs = (*self.second.inputs[:m], *slices, *self.second.inputs[m:])
        return first, self.second._replace(inputs=inputs, params=params)


def _costs(i: Instruction) -> bool:
    return not (isinstance(i.op, Elementwise) or i.op.is_view or i.op.name in _CHEAP)


def _expression(i: Instruction, inputs: tuple[Value, ...]) -> Any:
    return i.op.name, inputs, tuple((k, param_key(v)) for k, v in sorted(i.params.items()))
