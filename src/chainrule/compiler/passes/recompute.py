"""Recomputation under a memory budget: trade time for the memory of reverse mode.

NOTE [recomputation]. What the forward pass computes and the backward pass reads waits in memory at the peak between
them, so memory grows with depth x batch. A value that waits is *dropped* by computing it a second time, right before
the backward pass reads it, from values that are still there. What is dropped forms segments; between two segments lies
a *checkpoint*, the values that the forward pass carries over that point, which are kept. Recomputing a segment fills
memory again, but by then everything after the segment is free, so the first segments may be longer than the last ones:
n equal layers need the memory of sqrt(2 n), and at most one more forward pass. If that is not enough, the same is done
to the resulting program at its new peak.

The second computation is the same instruction on the same values, so it gives the same bits; what is random is drawn
from counters and gives the same numbers. Only sums could notice: the order of their additions depends on the loop that
they run in. A program whose sums would be ordered differently is not used.

Sources: Griewank and Walther, "Algorithm 799: revolve", 2000; Chen, Xu, Zhang, Guestrin, "Training Deep Nets with
Sublinear Memory Cost", 2016 (segments under a limit, found by a walk over the forward pass).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chainrule.compiler.budget import MemoryBudgetError
from chainrule.compiler.kernels import SCRATCH, Loop, Plan, Product
from chainrule.compiler.llvm.loops import walk_of
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.passes.liveness import Cut
from chainrule.compiler.passes.simplify import drop_dead
from chainrule.compiler.plan import VIEWS
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Graph, Instruction, Value

REASON = "values that wait long for their use are computed a second time instead of being kept"
#: how often the result is searched again for what can be dropped at its new peak, and what a round must gain
ROUNDS, GAIN = 12, 0.01
#: how often the limit of the walk is lowered by what the plan shows beyond it
TRIES = 4
#: if that is not enough: which shares of the candidates are tried with which shares of the budget as the limit
SHARES, LIMITS = (1.0, 0.75, 0.5, 0.25), (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.12)

Late = dict[Value, tuple[Value, ...]]
Planner = Callable[[Graph, Late], Plan]


class Recomputed(NamedTuple):
    """What the pass made.

    Attributes:
        graph: the new program.
        late: results that must wait for others, see ``compiler.plan``.
        budget, before, after: bytes: what was asked for, and the peaks of the arena.
        dropped: the values that are computed a second time instead of being kept.
        instructions: how many instructions run a second time.
        work, whole: estimated microseconds of these, and of the program without them.
    """

    graph: Graph
    late: Late
    budget: int
    before: int
    after: int
    dropped: tuple[Value, ...] = ()
    instructions: int = 0
    work: float = 0.0
    whole: float = 0.0


class _State(NamedTuple):
    graph: Graph
    late: Late
    plan: Plan
    #: the value of the first graph that a copy repeats
    origin: dict[Value, Value]
    dropped: tuple[Value, ...] = ()


def recompute(graph: Graph, budget: int, planner: Planner, target: Target) -> Recomputed:
    """A program with the same results whose plan needs at most ``budget`` bytes of arena.

    Raises:
        MemoryBudgetError: if there is none; it names the smallest peak that was reached and what fills it.
    """
    state = _State(graph, {}, planner(graph, {}), {})
    before = state.plan.arena
    search = _Search(budget, planner, target, orders(state.plan, target))
    for _ in range(ROUNDS):
        if state.plan.arena <= budget:
            break
        found = search.round(state)
        if found.plan.arena > (1 - GAIN) * state.plan.arena and found.plan.arena > budget:
            state = min(state, found, key=lambda s: s.plan.arena)
            break
        state = found
    if state.plan.arena > budget:
        cut = Cut(state.graph, state.plan)
        raise MemoryBudgetError(budget, state.plan.arena, before, cut.largest())
    extra = [i for i in state.graph.instructions if i.results[0] in state.origin and i.op.name not in VIEWS]
    again = [i for i in extra if _twice(i, state)]
    whole = sum(map(cost, graph.instructions))
    work = sum(map(cost, state.graph.instructions)) - whole
    return Recomputed(
        state.graph, state.late, budget, before, state.plan.arena, state.dropped, len(again), max(0.0, work), whole
    )


def _twice(i: Instruction, state: _State) -> bool:
    """Whether a copied instruction runs in addition to another one, and not just later than it would have."""
    first = state.origin[i.results[0]]
    made = {r for j in state.graph.instructions for r in j.results}
    return first in made or sum(state.origin.get(v) is first for v in made) > 1


# ---- the search
class _Search:
    def __init__(self, budget: int, planner: Planner, target: Target, order: dict[Value, Any]) -> None:
        self.budget, self.planner, self.target, self.order = budget, planner, target, order

    def round(self, state: _State) -> _State:
        """The cheapest program under the budget that one cut at the peak leads to, or else the smallest found."""
        cut = Cut(state.graph, state.plan)
        ranked = cut.ranked(cost)
        high = len(ranked)
        best = self._attempt(state, cut, set(ranked))
        for share in SHARES if best.plan.arena > self.budget else ():
            count = round(share * len(ranked))
            for limit in LIMITS:
                found = self._walked(state, cut, set(ranked[:count]), round(limit * self.budget))
                if found is not None and found.plan.arena < best.plan.arena:
                    best, high = found, count
        if best.plan.arena > self.budget:
            return best
        low = 0  # dropping the first `high` of them is enough, the first `low` is not
        work = _work(best.graph)
        while high - low > 1:
            middle = (low + high) // 2
            found = self._attempt(state, cut, set(ranked[:middle]))
            if found.plan.arena > self.budget:
                low = middle
                continue
            high = middle
            if _work(found.graph) <= work:
                best, work = found, _work(found.graph)
        return best

    def _attempt(self, state: _State, cut: Cut, droppable: set[Value]) -> _State:
        """Walks with limits that come down by what their plans have beyond the budget."""
        best, limit = state, self.budget
        for _ in range(TRIES):
            found = self._walked(state, cut, droppable, limit)
            if found is not None and found.plan.arena < best.plan.arena:
                best = found
            if found is None or found.plan.arena <= self.budget:
                break
            limit -= found.plan.arena - self.budget
            if limit <= 0:
                break
        return best

    def _walked(self, state: _State, cut: Cut, droppable: set[Value], limit: int) -> _State | None:
        """What one walk leads to, with its plan; None if a sum would be computed in another order."""
        state = rewrite(state, cut, *cut.walk(droppable, limit))
        state = state._replace(plan=self.planner(state.graph, state.late))
        for v, order in orders(state.plan, self.target).items():
            if self.order.get(state.origin.get(v, v), order) != order:
                print("ORDER", v, state.origin.get(v, v), self.order.get(state.origin.get(v, v)), order)
                return None
        return state


def _work(graph: Graph) -> float:
    return sum(map(cost, graph.instructions))


def cost(i: Instruction) -> float:
    """A rough estimate of the microseconds an instruction takes: products by their operations, others by elements."""
    if i.op.name in VIEWS:
        return 0.0
    if i.op.name == "matmul":
        return 2 * size_of(i.results[0].shape) * i.inputs[0].shape[-1] / 80e3
    return 0.1e-3 * max(size_of(v.shape) for v in (*i.inputs, *i.results))


def orders(plan: Plan, target: Target) -> dict[Value, Any]:
    """On what, beyond the terms, each reduction's and each product's result depends."""
    found: dict[Value, Any] = {}
    for k in plan.kernels:
        if isinstance(k, Loop) and k.reductions:
            order = walk_of(k, target).order()
            found.update((r.result, order) for r in k.reductions if r.value.dtype.kind == "f")
        elif isinstance(k, Product):
            found[k.instruction.results[0]] = (k.batch, k.m, k.n, k.k, *(x.strides for x in (k.a, k.b, k.c)))
    return found


# ---- the rewriting
def rewrite(state: _State, cut: Cut, dropped: set[Value], checkpoints: set[Value]) -> _State:
    """The program in which late readers of dropped values read copies, made of what is kept; not planned yet."""
    graph = state.graph
    numbers = [v.number for v in (*graph.inputs, *(c.value for c in graph.constants))]
    number = max([*numbers, *(r.number for i in graph.instructions for r in i.results)], default=-1)
    made = {r: i for i in graph.instructions for r in i.results}
    new: dict[Value, Value] = {}
    late, origin = dict(state.late), dict(state.origin)
    out: list[Instruction] = []

    def lost(v: Value) -> bool:
        root = cut.root.get(v, v)
        return cut.early(root) and root not in checkpoints and (root in dropped or not cut.waits(root))

    def copy(wanted: Value, trigger: tuple[Value, ...]) -> None:
        nonlocal number
        todo = [wanted]
        while todo:
            v = todo[-1]
            if v in new:
                todo.pop()
                continue
            i = made[v]
            missing = [x for x in i.inputs if x not in new and lost(x)]
            if missing:
                todo += missing
                continue
            todo.pop()
            results = []
            for r in i.results:
                number += 1
                new[r] = Value(number, r.shape, r.dtype)
                origin[new[r]] = origin.get(r, r)
                results.append(new[r])
            inputs = tuple(new[x] if lost(x) else x for x in i.inputs)
            out.append(i._replace(inputs=inputs, results=tuple(results)))
            if i.op.name not in VIEWS:
                late[results[0]] = trigger

    last: tuple[Value, ...] = ()
    for i in graph.instructions:
        if i.op.name in VIEWS or not cut.late(i):
            out.append(i)
            continue
        gone = [v for v in i.inputs if lost(v)]
        trigger = (*(v for v in i.inputs if not lost(v) and not cut.early(cut.root.get(v, v))), *last)
        for v in gone:
            copy(v, trigger)
        out.append(i._replace(inputs=tuple(new[v] if v in gone else v for v in i.inputs)))
        last = i.results[:1]
    result = drop_dead(Graph(graph.inputs, graph.constants, tuple(out), graph.outputs))
    left = {r for i in result.instructions for r in i.results}
    late = {v: tuple(x for x in trigger if x in left) for v, trigger in late.items() if v in left}
    return _State(result, late, state.plan, origin, (*state.dropped, *sorted(dropped, key=lambda v: v.number)))


def scratch_bytes(plan: Plan) -> int:
    """The bytes of all scratch buffers."""
    return sum(b.nbytes for b in plan.buffers if b.role == SCRATCH)
