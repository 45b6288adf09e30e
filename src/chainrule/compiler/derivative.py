"""Compiled functions inside ordinary backward passes: a program as one op whose derivative is a program too.

NOTE [a program as an op]. When the result of a compiled function has to be differentiable (a compiled model whose loss
is computed outside), the whole program is applied as one unregistered general op. Its VJP is captured from the program
itself, once per set of inputs that need a gradient, and compiled: it computes the forward values it needs again, so
nothing but the inputs is kept. Where the backward pass is itself to be differentiated, it runs through tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.capture import capture
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.program import Argument, Program
from chainrule.compiler.reference import evaluate
from chainrule.compiler.verify import verify_program
from chainrule.func import vjp
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, General
from chainrule.tensors.apply import apply
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor, wrap

Array = np.ndarray[Any, Any]


class ProgramOp(General):
    """A captured program as an op (see NOTE [a program as an op])."""

    kind = "program"
    arity = None
    samples = ()

    def __init__(self, program: Program, native: NativeProgram, verify: str) -> None:
        graph = program.graph
        self.name, self.doc = "program", f"the compiled function {program.name}"
        self.graph, self.native, self._verify = graph, native, verify
        self.outputs = len(graph.outputs)
        self.differentiable = tuple(v.dtype.kind == "f" for v in graph.inputs)
        written = {s for s, _ in program.writes}
        self._written = [s in written for s in program.sources]
        self._verified: set[int] = set()
        self._pulls: dict[Any, tuple[list[int], NativeProgram]] = {}

    def infer(self, *avals: Aval, **params: Any) -> Any:
        """The outputs' types."""
        found = tuple(v.aval for v in self.graph.outputs)
        return found[0] if self.outputs == 1 else found

    def kernel(self, *arrays: Array) -> Any:
        """The program as machine code."""
        found = self._run(self.native, [np.asarray(a) for a in arrays])
        return found[0] if self.outputs == 1 else tuple(found)

    def _run(self, native: NativeProgram, arrays: list[Array]) -> list[Array]:
        if self._verify == "always" or (self._verify == "first" and id(native) not in self._verified):
            self._verified.add(id(native))
            verify_program(native, arrays)
        return native(arrays)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """By a compiled program on arrays, else through tensors."""
        gs = (g,) if self.outputs == 1 else tuple(g)
        wanted = [i for i, need in enumerate(needs) if need]
        reached = [j for j, cotangent in enumerate(gs) if cotangent is not None]
        given = [gs[j] for j in reached]
        found = self._arrays(wanted, reached, xs, given) if m is NUMPY else self._pull(wanted, reached, xs, given)
        out: list[Any] = [None] * len(needs)
        for i, cotangent in zip(wanted, found, strict=True):
            out[i] = cotangent
        return tuple(out)

    def _pull(self, wanted: list[int], reached: list[int], xs: Sequence[Any], gs: Sequence[Any]) -> tuple[Any, ...]:
        """The VJP as an ordinary computation on tensors."""

        def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
            inputs = list(xs)
            for i, x in zip(wanted, chosen, strict=True):
                inputs[i] = x
            outputs = evaluate(self.graph, inputs, TENSORS)
            return tuple(outputs[j] for j in reached)

        _, pull = vjp(forward, *(xs[i] for i in wanted))
        found: tuple[Any, ...] = pull(tuple(gs))
        return found

    def _arrays(self, wanted: list[int], reached: list[int], xs: Sequence[Any], gs: Sequence[Any]) -> list[Array]:
        key = (tuple(wanted), tuple(reached))
        arrays = [np.asarray(a) for a in (*xs, *gs)]
        if key not in self._pulls:
            n = len(xs)

            def pull(*tensors: Tensor) -> tuple[Any, ...]:
                return self._pull(wanted, reached, tensors[:n], tensors[n:])

            program = capture(pull, *(wrap(a) for a in arrays))
            order = [s.index for s in program.sources if isinstance(s, Argument)]
            budget, given = self.native.memory_budget, [arrays[i] for i in order]
            self._pulls[key] = order, NativeProgram(program.graph, memory_budget=budget, data=given)
        order, native = self._pulls[key]
        return self._run(native, [arrays[i] for i in order])

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for these inputs, with history; what the program replaces afterwards is kept as a copy."""
        kept = [TENSORS.copy(t) if w else t for t, w in zip(inputs, self._written, strict=True)]
        found = apply(self, tuple(kept), {})
        return [found] if self.outputs == 1 else list(found)
