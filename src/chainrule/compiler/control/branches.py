"""The branch as an op: ``cond`` with a block per branch, its derivatives and its batching rule.

NOTE [cond as an op]. Inputs are the predicate, then what either branch reads. The VJP is a branch between the VJPs, the
JVP one between the JVPs; the predicate has no derivative. Where vmap gives every member a predicate of its own, both
branches run for all members and each member takes its own result, so an index that is out of bounds in the branch not
taken raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.compiler.control.blocks import (
    Traced,
    as_list,
    avals_of,
    check_draws,
    fresh,
    trace,
    watched,
)
from chainrule.compiler.reference import evaluate
from chainrule.core.errors import ShapeError, TracerError
from chainrule.func import jvp, vjp
from chainrule.func.batch import Batch
from chainrule.ir.graph import Block, Graph, describe_type
from chainrule.ir.interpreter import Tracer, escaped
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, General
from chainrule.ir.state import no_grad
from chainrule.tensors.apply import apply, up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.inplace import write
from chainrule.tensors.tensor import Tensor, wrap

#: ``branch(operands) -> results``, on lists of tensors
Branch = Callable[[list[Tensor]], list[Tensor]]
WHAT = "a branch of cond"


class Cond(General):
    """One of two blocks, as a boolean says (see NOTE [cond as an op])."""

    name = "cond"
    kind = "control"
    arity = None
    params = ("true", "false")
    keeps_output = False
    doc = "true(x) where the predicate holds, else false(x)"

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def infer(self, *avals: Aval, **params: Any) -> Any:
        """The types that both branches give."""
        yes, no = params["true"].graph, params["false"].graph
        types = [[v.aval for v in g.inputs] for g in (yes, no)]
        outs = [[v.aval for v in g.outputs] for g in (yes, no)]
        if avals[0] != Aval((), np.dtype(bool)) or types[0] != list(avals[1:]) or types[1] != types[0]:
            shown = ", ".join(describe_type(a.dtype, a.shape) for a in avals)
            raise ShapeError(f"cond takes a boolean scalar and what its branches take, got {shown}")
        if outs[0] != outs[1]:
            raise ShapeError("cond: the branches give different types")
        return outs[0][0] if self.outputs == 1 else tuple(outs[0])

    def kernel(self, *arrays: Any, **params: Any) -> Any:
        """The chosen branch with NumPy."""
        return self._chosen(bool(arrays[0]), list(arrays[1:]), params, NUMPY)

    def _chosen(self, truth: bool, xs: list[Any], params: Any, m: Any) -> Any:
        outs = evaluate(params["true" if truth else "false"].graph, xs, m)
        return outs[0] if self.outputs == 1 else tuple(outs)

    def through(self, *xs: Any, **params: Any) -> Any:
        """The chosen branch on tensors, unless a capture is going on, which keeps both."""
        if watched():
            return apply(self, xs, params)
        truth = known(xs[0])
        if truth is not None:
            return self._chosen(truth, list(xs[1:]), params, TENSORS)
        both = [evaluate(params[k].graph, list(xs[1:]), TENSORS) for k in ("true", "false")]
        outs = [TENSORS.where(xs[0], a, b) for a, b in zip(*both, strict=True)]
        return outs[0] if self.outputs == 1 else tuple(outs)

    # ---- derivatives
    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """A branch between the VJPs."""
        raw = m is NUMPY
        gs = as_list(g)
        at = [i for i, need in enumerate(needs) if need and i]
        reached = [j for j, c in enumerate(gs) if c is not None]
        count = len(xs) - 1
        out: list[Any] = [None] * len(xs)
        if not at or not reached:
            return tuple(out)

        def pulled(graph: Graph) -> Branch:
            def branch(operands: list[Tensor]) -> list[Tensor]:
                inputs = operands[:count]

                def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
                    given = list(inputs)
                    for i, t in zip(at, chosen, strict=True):
                        given[i - 1] = t
                    outs = evaluate(graph, given, TENSORS)
                    return tuple(outs[j] for j in reached)

                _, pull = vjp(forward, *(inputs[i - 1] for i in at))
                return list(pull(tuple(operands[count:])))

            return branch

        given = [wrap(np.asarray(x)) if raw else x for x in (*xs, *(gs[j] for j in reached))]
        branches = pulled(params["true"].graph), pulled(params["false"].graph)
        found = branches[not bool(xs[0])](given[1:]) if raw else choose(given[0], *branches, given[1:])
        for i, t in zip(at, found, strict=True):
            out[i] = t._d if raw else t
        return tuple(out)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """A branch between the JVPs."""
        at = [i for i, t in enumerate(ts) if t is not None and i]
        count = len(xs) - 1
        results = [j for j, v in enumerate(params["true"].graph.outputs) if v.dtype.kind == "f"]

        def pushed(graph: Graph) -> Branch:
            def branch(operands: list[Tensor]) -> list[Tensor]:
                inputs = operands[:count]

                def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
                    given = list(inputs)
                    for i, t in zip(at, chosen, strict=True):
                        given[i - 1] = t
                    outs = evaluate(graph, given, TENSORS)
                    return tuple(outs[j] for j in results)

                return list(jvp(forward, tuple(inputs[i - 1] for i in at), tuple(operands[count:]))[1])

            return branch

        operands = [*xs[1:], *(ts[i] for i in at)]
        found = choose(xs[0], pushed(params["true"].graph), pushed(params["false"].graph), operands)
        out: list[Any] = [None] * self.outputs
        for j, t in zip(results, found, strict=True):
            out[j] = t
        return out[0] if self.outputs == 1 else tuple(out)

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """A branch on whole batches, or both branches where members differ in their predicate."""

        def wide(graph: Graph) -> Branch:
            def branch(operands: list[Tensor]) -> list[Tensor]:
                level = Batch(size)
                with level:
                    inputs = [level.wrap(t) if b else t for t, b in zip(operands, batched[1:], strict=True)]
                    outs = evaluate(graph, inputs, TENSORS)
                return [level.out(t) for t in outs]

            return branch

        yes, no = wide(params["true"].graph), wide(params["false"].graph)
        operands = list(xs[1:])
        if batched[0]:
            outs = []
            for a, b in zip(yes(operands), no(operands), strict=True):
                pred = TENSORS.reshape(xs[0], (size,) + (1,) * (len(a._d.shape) - 1))
                outs.append(TENSORS.where(pred, a, b))
        else:
            outs = choose(xs[0], yes, no, operands)
        return outs[0] if self.outputs == 1 else tuple(outs)


def known(pred: Tensor) -> bool | None:
    """The truth of a boolean scalar outside of a capture; None where vmap gives every member its own."""
    d = up_to_date(pred)._d
    while isinstance(d, Tracer):
        if not d.interpreter.alive:
            raise TracerError(escaped(d))
        if isinstance(d.interpreter, Batch) and d.extra:
            return None
        d = d.value._d
    return bool(d)


@lru_cache(maxsize=1024)
def cond_op(outputs: int) -> Cond:
    """The op with that many results."""
    return Cond(outputs)


def choose(
    pred: Tensor, yes: Branch, no: Branch, operands: list[Tensor], check: Callable[[], None] | None = None,
    tracked: bool = False,
) -> list[Tensor]:  # fmt: skip
    """Write a branch down: capture both functions as blocks and apply the op.

    Args:
        pred: a boolean scalar.
        yes, no: the branches; what they read besides the operands becomes a further input.
        operands: what both are given.
        check: called when both were captured, to compare what they returned.
        tracked: whether results have history where either branch gives one, else as the op does.
    """
    avals = avals_of(operands)
    flags = [tracked and t._node is not None for t in operands]
    traced = [trace(WHAT, lambda *ts, f=f: f(list(ts)), avals, flags) for f in (yes, no)]
    if check is not None:
        check()
    for t in traced:
        check_draws(WHAT, t.graph)
    outside: dict[int, Tensor] = {}
    written: dict[int, Tensor] = {}
    for t in traced:
        written.update((id(w.tensor), w.tensor) for w in t.writes)
        outside.update((id(x), x) for x in t.outside)
    outside.update(written)
    graphs = [_over(t, len(operands), list(outside.values()), list(written.values())) for t in traced]
    if not graphs[0].outputs:
        return []
    op = cond_op(len(graphs[0].outputs))
    params = {"true": Block(graphs[0]), "false": Block(graphs[1])}
    found = as_list(apply(op, (pred, *operands, *outside.values()), params))
    count = len(found) - len(written)
    with no_grad():
        for t, value in zip(written.values(), found[count:], strict=True):
            write(t, TENSORS.detach(value))
    if not tracked:
        return found[:count]
    history = [a or b for a, b in zip(traced[0].tracked, traced[1].tracked, strict=True)]
    return [t if h or t._node is None else TENSORS.detach(t) for t, h in zip(found, history, strict=False)]


def _over(t: Traced, operands: int, outside: list[Tensor], written: list[Tensor]) -> Graph:
    """A branch as a graph over what either branch reads, which also gives what either branch writes."""
    held = {id(x): v for x, v in zip(t.outside, t.graph.inputs[operands:], strict=True)}
    new = {id(w.tensor): w.value for w in t.writes}
    inputs = [held.get(id(x)) or fresh(t.graph, a) for x, a in zip(outside, avals_of(outside), strict=True)]
    now = {id(x): v for x, v in zip(outside, inputs, strict=True)}
    states = [new.get(id(x), now[id(x)]) for x in written]
    return t.graph._replace(inputs=(*t.graph.inputs[:operands], *inputs), outputs=(*t.graph.outputs, *states))
