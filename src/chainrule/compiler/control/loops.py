"""The loop as an op: ``scan`` with a block as its body, its derivatives and its batching rule.

NOTE [scan as an op]. Inputs are the initial carry, the arrays that are sliced along their first dimension, and what
every step reads as it is. Results are the final carry, then the stacked outputs. With c the carry, x a slice, k what
every step reads, and (c', y) = body(c, x, k), the cotangents obey

    g_c, g_x, dk = body's VJP at (c, x, k) of (g_c', g_y),     g_k = sum of dk,

which is a scan in the other direction whose carry is (g_c, g_k) (Griewank & Walther, 2008, "Evaluating derivatives",
section 3.2). It reads the carry of every step, which the loop therefore returns as further stacked outputs where it may
be differentiated (``saved`` says which); a pass drops them where nothing reads them. Tangents need them as well:

    t_c', t_y = body's JVP at (c, x, k) along (t_c, t_x, t_k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.compiler.control.blocks import (
    as_list,
    avals_of,
    check_draws,
    fresh,
    saves,
    trace,
    watched,
)
from chainrule.compiler.reference import evaluate
from chainrule.core.errors import ShapeError
from chainrule.func import jvp, vjp
from chainrule.func.batch import Batch
from chainrule.ir.graph import Block, Graph, Value, describe_type
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, General
from chainrule.ir.state import get_state, no_grad
from chainrule.tensors.apply import apply
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.functions.shape import stack
from chainrule.tensors.inplace import write
from chainrule.tensors.tensor import Tensor, wrap

Lists = tuple[list[Tensor], list[Tensor]]
#: ``step(carry, x, constants) -> (carry, y)``, on lists of tensors
Step = Callable[[list[Tensor], list[Tensor], list[Tensor]], Lists]
WHAT = "the body of scan"


class Scan(General):
    """A loop with a fixed number of steps (see NOTE [scan as an op])."""

    name = "scan"
    kind = "control"
    arity = None
    params = ("body", "carries", "slices", "length", "reverse", "saved")
    keeps_output = True
    doc = "c, y_i = body(c, x_i, k) for i = 0 ... length - 1"

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def infer(self, *avals: Aval, **params: Any) -> Any:
        """The types of the final carry, and those of the body's other outputs, stacked."""
        n, length, graph = params["carries"], params["length"], params["body"].graph
        stop = n + params["slices"]
        given = [Aval(a.shape[1:], a.dtype) if n <= i < stop else a for i, a in enumerate(avals)]
        lengths = {a.shape[:1] for a in avals[n:stop]}
        if given != [v.aval for v in graph.inputs] or lengths > {(length,)}:
            raise ShapeError(
                f"scan over {length} steps: the body takes {_types(v.aval for v in graph.inputs)}, got {_types(avals)}"
            )
        outs = [v.aval for v in graph.outputs]
        if outs[:n] != given[:n]:
            raise ShapeError(f"scan: the carry is {_types(given[:n])} and becomes {_types(outs[:n])}")
        found = (*outs[:n], *(Aval((length, *a.shape), a.dtype) for a in outs[n:]))
        return found[0] if self.outputs == 1 else found

    def kernel(self, *arrays: Any, **params: Any) -> Any:
        """The loop with NumPy."""
        return self._run([np.asarray(a) for a in arrays], params, NUMPY, lambda x, i: x[i, ...])

    def through(self, *xs: Any, **params: Any) -> Any:
        """The loop as ordinary steps, unless a capture is going on, which keeps it a loop."""
        if watched():
            return apply(self, xs, params)
        return self._run(list(xs), params, TENSORS, lambda x, i: TENSORS.getitem(x, (i,)))

    def _run(self, xs: list[Any], params: Any, m: Any, at: Callable[[Any, int], Any]) -> Any:
        n, graph = params["carries"], params["body"].graph
        stop = n + params["slices"]
        carry, consts = xs[:n], xs[stop:]
        ys: list[Any] = []
        for i in steps(params["length"], params["reverse"]):
            found = evaluate(graph, [*carry, *(at(x, i) for x in xs[n:stop]), *consts], m)
            carry = found[:n]
            ys.append(found[n:])
        if params["reverse"]:
            ys.reverse()
        columns = []
        for k, v in enumerate(graph.outputs[n:]):
            rows = [y[k] for y in ys]
            if m is TENSORS:
                columns.append(stack(rows) if rows else m.zeros((0, *v.shape), v.dtype))
            else:
                columns.append(np.stack(rows) if rows else np.zeros((0, *v.shape), v.dtype))
        return carry[0] if len(carry) == self.outputs == 1 else columns[0] if self.outputs == 1 else (*carry, *columns)

    # ---- derivatives
    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """A scan of the body's VJP in the other direction."""
        if m is NUMPY:
            return self._vjp_arrays(g, needs, xs, params)
        n, graph = params["carries"], params["body"].graph
        stop = n + params["slices"]
        gs = as_list(g)
        floats = [i for i in range(n) if graph.inputs[i].dtype.kind == "f"]
        reached = [j for j, c in enumerate(gs[n:], n) if c is not None]
        sliced, consts = (
            [i for i in range(a, b) if needs[i] and graph.inputs[i].dtype.kind == "f"]
            for a, b in ((n, stop), (stop, len(xs)))
        )
        at = [*floats, *sliced, *consts]
        carries = self._carries(y, xs, params)

        def step(carry: list[Tensor], x: list[Tensor], k: list[Tensor]) -> Lists:
            inputs = [*x[:stop], *k]

            def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
                given = list(inputs)
                for i, t in zip(at, chosen, strict=True):
                    given[i] = t
                outs = evaluate(graph, given, TENSORS)
                return tuple(outs[j] for j in (*floats, *reached))

            _, pull = vjp(forward, *(inputs[i] for i in at))
            found = list(pull((*carry[: len(floats)], *x[stop:])))
            a, b = len(floats), len(floats) + len(sliced)
            sums = [s + d for s, d in zip(carry[a:], found[b:], strict=True)]
            return [*found[:a], *sums], found[a:b]

        zeros = TENSORS.zeros_like
        start = [zeros(xs[i]) if gs[i] is None else gs[i] for i in floats] + [zeros(xs[i]) for i in consts]
        if not at or not (floats or reached):
            return (None,) * len(xs)
        slices = [*carries, *xs[n:stop], *(gs[j] for j in reached)]
        last, rows = loop(step, start, slices, list(xs[stop:]), params["length"], not params["reverse"])
        out: list[Any] = [None] * len(xs)
        for i, t in zip([*floats, *consts, *sliced], [*last, *rows], strict=True):
            out[i] = t if needs[i] else None
        return tuple(out)

    def _vjp_arrays(self, g: Any, needs: Sequence[bool], xs: Sequence[Any], params: Any) -> tuple[Any, ...]:
        """On arrays: the steps again on the tape, and backwards through it."""
        gs = as_list(g)
        at = [i for i, need in enumerate(needs) if need]
        reached = [j for j, c in enumerate(gs) if c is not None]
        given = [wrap(np.asarray(x)) for x in xs]

        def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
            inputs = list(given)
            for i, t in zip(at, chosen, strict=True):
                inputs[i] = t
            outs = as_list(self.through(*inputs, **params))
            return tuple(outs[j] for j in reached)

        _, pull = vjp(forward, *(given[i] for i in at))
        out: list[Any] = [None] * len(xs)
        for i, t in zip(at, pull(tuple(wrap(np.asarray(gs[j])) for j in reached)), strict=True):
            out[i] = t._d
        return tuple(out)

    def _carries(self, y: Any, xs: Sequence[Tensor], params: Any) -> list[Tensor]:
        """The carry at the start of every step, stacked: saved, or by running the loop again."""
        n, saved = params["carries"], params["saved"]
        if not n:
            return []
        if saved:
            ys = as_list(y)
            return [ys[j] for j in saved]
        graph = params["body"].graph
        again = graph._replace(outputs=(*graph.outputs, *graph.inputs[:n]))
        first = len(graph.outputs)
        new = {**params, "body": Block(again), "saved": tuple(range(first, first + n))}
        found = as_list(apply(scan_op(first + n), tuple(xs), new))
        return found[first:]

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """A scan of the body's JVP, in the same direction."""
        n, graph = params["carries"], params["body"].graph
        stop = n + params["slices"]
        floats = [i for i in range(n) if graph.inputs[i].dtype.kind == "f"]
        sliced, consts = ([i for i in range(a, b) if ts[i] is not None] for a, b in ((n, stop), (stop, len(xs))))
        at = [*floats, *sliced, *consts]
        results = [j for j, v in enumerate(graph.outputs) if j >= n and v.dtype.kind == "f"]

        def step(carry: list[Tensor], x: list[Tensor], k: list[Tensor]) -> Lists:
            inputs = [*x[:stop], *k[: len(xs) - stop]]

            def forward(*chosen: Tensor) -> tuple[Tensor, ...]:
                given = list(inputs)
                for i, t in zip(at, chosen, strict=True):
                    given[i] = t
                outs = evaluate(graph, given, TENSORS)
                return tuple(outs[j] for j in (*floats, *results))

            along = (*carry, *x[stop:], *k[len(xs) - stop :])
            found = list(jvp(forward, tuple(inputs[i] for i in at), along)[1])
            return found[: len(floats)], found[len(floats) :]

        start = [TENSORS.zeros_like(xs[i]) if ts[i] is None else ts[i] for i in floats]
        slices = [*self._carries(y, xs, params), *xs[n:stop], *(ts[i] for i in sliced)]
        fixed = [*xs[stop:], *(ts[i] for i in consts)]
        last, rows = loop(step, start, slices, fixed, params["length"], params["reverse"])
        out: list[Any] = [None] * self.outputs
        for j, t in zip([*floats, *results], [*last, *rows], strict=True):
            out[j] = t
        return out[0] if self.outputs == 1 else tuple(out)

    # ---- batches
    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """A scan of the body on whole batches. A carry is batched from the start if a step makes it so."""
        n, graph = params["carries"], params["body"].graph
        stop = n + params["slices"]
        flags = list(batched)
        given = [_swap(x) if b and n <= i < stop else x for i, (x, b) in enumerate(zip(xs, batched, strict=True))]

        def step(carry: list[Tensor], x: list[Tensor], k: list[Tensor]) -> Lists:
            level = Batch(size)
            with level:
                inputs = [level.wrap(t) if b else t for t, b in zip((*carry, *x, *k), flags, strict=True)]
                outs = evaluate(graph, inputs, TENSORS)
            for i, t in enumerate(outs[:n]):
                flags[i] = flags[i] or (level.owns(t._d) and t._d.extra)
            new = [level.out(t) if flags[i] else t._d.value if level.owns(t._d) else t for i, t in enumerate(outs[:n])]
            return new, [level.out(t) for t in outs[n:]]

        def flat(*ts: Tensor) -> list[Tensor]:
            carry, ys = step(list(ts[:n]), list(ts[n:stop]), list(ts[stop:]))
            return [*carry, *ys]

        while True:
            before = list(flags)
            given[:n] = [
                TENSORS.expand_front(x, size) if flags[i] and not batched[i] else x for i, x in enumerate(xs[:n])
            ]
            avals = avals_of(given)
            avals[n:stop] = [Aval(a.shape[1:], a.dtype) for a in avals[n:stop]]
            trace(WHAT, flat, avals, [False] * len(avals))
            if flags == before:
                break
        last, rows = loop(step, given[:n], given[n:stop], given[stop:], params["length"], params["reverse"])
        carry = [t if flags[i] else TENSORS.expand_front(t, size) for i, t in enumerate(last)]
        out = (*carry, *map(_swap, rows))
        return out[0] if self.outputs == 1 else out


def _types(avals: Any) -> str:
    return ", ".join(describe_type(a.dtype, a.shape) for a in avals) or "nothing"


def _swap(x: Tensor) -> Tensor:
    """The first two dimensions exchanged."""
    rank = len(x._d.shape)
    out: Tensor = TENSORS.permute(x, (1, 0, *range(2, rank)))
    return out


def steps(length: int, reverse: bool) -> range:
    """The numbers of the steps in the order they are taken."""
    return range(length - 1, -1, -1) if reverse else range(length)


@lru_cache(maxsize=1024)
def scan_op(outputs: int) -> Scan:
    """The op with that many results."""
    return Scan(outputs)


def loop(
    step: Step,
    init: list[Tensor],
    xs: list[Tensor],
    consts: list[Tensor],
    length: int,
    reverse: bool,
    tracked: bool = False,
) -> Lists:
    """Write a loop down: capture ``step`` as a block and apply the op.

    Args:
        step: one step; what it reads besides its arguments becomes a further input.
        init: the carry before the first step.
        xs: sliced along their first dimension, which is ``length``.
        consts: what every step reads as it is.
        length: how many steps.
        reverse: from the last slice to the first.
        tracked: whether values inside have history as in eager mode, which decides what may be written.

    Returns:
        The final carry and the stacked outputs.
    """
    n, m = len(init), len(xs)

    def flat(*args: Tensor) -> list[Tensor]:
        carry, ys = step(list(args[:n]), list(args[n : n + m]), list(args[n + m :]))
        return [*carry, *ys]

    given = [*init, *xs, *consts]
    avals = avals_of(given)
    avals[n : n + m] = [Aval(a.shape[1:], a.dtype) for a in avals[n : n + m]]
    flags = [tracked and get_state().grad and t._node is not None for t in given]
    while True:
        traced = trace(WHAT, flat, avals, flags)
        new = [f or (tracked and t) for f, t in zip(flags[:n], traced.tracked, strict=False)]
        if new == flags[:n]:
            break
        flags[:n] = new
    check_draws(WHAT, traced.graph)
    history = traced.tracked
    graph, states, given = _with_states(traced.graph, traced.outside, traced.writes, given, n)
    total = n + len(states)
    saved: tuple[int, ...] = ()
    if saves() and total:
        first = len(graph.outputs)
        graph = graph._replace(outputs=(*graph.outputs, *graph.inputs[:total]))
        saved = tuple(range(first, first + total))
    if not given:  # nothing varies from call to call: the steps themselves
        return _unrolled(step, [v.aval for v in graph.outputs], length)
    params = {
        "body": Block(graph), "carries": total, "slices": m, "length": length, "reverse": reverse, "saved": saved,
    }  # fmt: skip
    if not graph.outputs:
        return [], []
    found = as_list(apply(scan_op(len(graph.outputs)), tuple(given), params))
    with no_grad():
        for t, value in zip(states, found[n:total], strict=True):
            write(t, TENSORS.detach(value))
    stop = total + len(history) - n
    if tracked:
        found = [*found[:total], *(_as_traced(t, h) for t, h in zip(found[total:stop], history[n:], strict=True))]
        found[:n] = [_as_traced(t, h or not length) for t, h in zip(found[:n], history, strict=False)]
    return found[:n], found[total:stop]


def _unrolled(step: Step, avals: list[Aval], length: int) -> Lists:
    """The outputs of a loop without a carry or slices, all of whose steps are alike but for effects."""
    rows = [step([], [], [])[1] for _ in range(length)]
    if not rows:
        return [], [TENSORS.zeros((0, *a.shape), a.dtype) for a in avals]
    return [], [stack(column) for column in zip(*rows, strict=True)]


def _as_traced(t: Tensor, history: bool) -> Tensor:
    """Without history where eager mode would give none."""
    return t if history or t._node is None else TENSORS.detach(t)  # type: ignore[no-any-return]


def _with_states(
    graph: Graph, outside: list[Tensor], writes: list[Any], given: list[Tensor], n: int
) -> tuple[Graph, list[Tensor], list[Tensor]]:
    """What a block writes outside, as carries after the first ``n``; also all tensors that the loop reads."""
    arguments, read = graph.inputs[: len(given)], graph.inputs[len(given) :]
    held = {id(t): v for t, v in zip(outside, read, strict=True)}
    states = [w.tensor for w in writes]
    ids = {id(t) for t in states}
    values: list[Value] = [held.get(id(t)) or fresh(graph, a) for t, a in zip(states, avals_of(states), strict=True)]
    rest = [(t, v) for t, v in zip(outside, read, strict=True) if id(t) not in ids]
    inputs = (*arguments[:n], *values, *arguments[n:], *(v for _, v in rest))
    outputs = (*graph.outputs[:n], *(w.value for w in writes), *graph.outputs[n:])
    tensors = [*given[:n], *states, *given[n:], *(t for t, _ in rest)]
    return graph._replace(inputs=inputs, outputs=outputs), states, tensors
