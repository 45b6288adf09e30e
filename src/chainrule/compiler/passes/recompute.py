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
they run in. So the plan is told to keep every order, and a program in which it cannot is not used.

Sources: Griewank and Walther, "Algorithm 799: revolve", 2000; Chen, Xu, Zhang, Guestrin, "Training Deep Nets with
Sublinear Memory Cost", 2016 (segments under a limit, found by a walk over the forward pass).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chainrule.compiler.budget import MemoryBudgetError
from chainrule.compiler.kernels import Loop, Plan, Product
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.walk import walk_of
from chainrule.compiler.passes.liveness import Cut, profile
from chainrule.compiler.passes.simplify import drop_dead
from chainrule.compiler.plan import VIEWS, Late, Orders
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Graph, Instruction, Value, blocks

REASON = "values that wait long for their use are computed a second time instead of being kept"
#: how often the result is searched again for what can be dropped at its new peak, and what a round must gain
ROUNDS, GAIN = 12, 0.01
#: how often the limit of the walk is lowered by what the plan shows beyond it
TRIES = 4
#: what share of the excess that a round could remove it may leave if that saves work
SLACK = 0.1
#: shares of the budget that are aimed at, where one cut is not enough; the later ones while so many plans were made
AIMS, PLANS = (1.0, 0.8, 1.25), 60
#: if that is not enough: which shares of the candidates are tried with which shares of the budget as the limit
SHARES, LIMITS = (1.0, 0.5, 0.25), (1.0, 0.8, 0.6, 0.4, 0.2)

Planner = Callable[[Graph, Late, Orders], Plan]


class Recomputed(NamedTuple):
    """What the pass made.

    Attributes:
        graph: the new program.
        late, orders: results that must wait for others, and the orders of reductions, for ``compiler.plan``.
        budget, before, after: bytes: what was asked for, and the peaks of the arena.
        dropped: the values that are computed a second time instead of being kept.
        instructions: how many instructions run a second time.
        work, whole: estimated microseconds of these, and of the program without them.
    """

    graph: Graph
    late: Late
    orders: Orders
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
        MemoryBudgetError: if none is found; it names the smallest peak that was reached and what fills it.
    """
    start = _State(graph, {}, planner(graph, {}, {}), {})
    search = _Search(budget, planner, target, start)
    found = search.run()
    if found is None:
        smallest = search.smallest
        largest = Cut(smallest.graph, smallest.plan).largest()
        raise MemoryBudgetError(budget, smallest.plan.arena, start.plan.arena, largest)
    again, work = _extra(found)
    return Recomputed(
        found.graph,
        found.late,
        search.orders(found) if found.dropped else {},
        budget,
        start.plan.arena,
        found.plan.arena,
        found.dropped,
        again,
        work,
        _work(graph),
    )


def _extra(state: _State) -> tuple[int, float]:
    """How many instructions repeat another one, and their estimated work; a copy alone has only moved."""
    again, work, seen = 0, 0.0, set()
    for i in state.graph.instructions:
        first = state.origin.get(i.results[0], i.results[0])
        if first in seen and i.op.name not in VIEWS:
            again, work = again + 1, work + cost(i)
        seen.add(first)
    return again, work


# ---- the search
class _Search:
    def __init__(self, budget: int, planner: Planner, target: Target, start: _State) -> None:
        self.budget, self.planner, self.target = budget, planner, target
        self.fixed = fixed(start.plan, target)
        self.start = self.smallest = start
        self.aim, self.plans = budget, 0

    def orders(self, state: _State) -> Orders:
        """The order of every reduction, copies included, as the first program has it."""
        firsts = {r: state.origin.get(r, r) for i in state.graph.instructions for r in i.results}
        facts = ((v, self.fixed.get(first, ("unknown",))) for v, first in firsts.items())
        return {v: known[1] for v, known in facts if known[0] == "order"}

    def _excess(self, state: _State) -> int:
        """How far a program is from its budget: bytes beyond it, summed over the kernels, and those of the arena."""
        over = sum(max(0, n - self.aim) for n in profile(state.plan))
        return over + max(0, state.plan.arena - self.aim)

    def run(self) -> _State | None:
        """The cheapest program under the budget that is found; None if there is none."""
        found = []
        for share in AIMS:
            self.aim = round(share * self.budget)
            state, rounds = self.start, 0
            while state.plan.arena > self.budget and rounds < ROUNDS and (share == AIMS[0] or self.plans < PLANS):
                new = self._round(state)
                if self._excess(new) > (1 - GAIN) * self._excess(state):
                    break
                state, rounds = new, rounds + 1
            if state.plan.arena <= self.budget:
                found.append(state)
            if rounds <= 1 and found:  # one cut was enough: no other aim makes it cheaper
                break
        return min(found, key=lambda s: _work(s.graph), default=None)

    def _round(self, state: _State) -> _State:
        """The cheapest program under the budget that one cut at the peak leads to, or else the smallest found."""
        cut = Cut(state.graph, state.plan)
        ranked = cut.ranked(cost)
        high = len(ranked)
        best = self._attempt(state, cut, set(ranked))
        if best.plan.arena > self.budget:
            best = self._wider(state, cut, ranked)
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

    def _wider(self, state: _State, cut: Cut, ranked: list[Value]) -> _State:
        """Many walks: of those that leave about the smallest excess, the one with the least work."""
        tried = [state]
        for share in SHARES:
            droppable = set(ranked[: round(share * len(ranked))])
            walks = (self._walked(state, cut, droppable, round(limit * self.aim)) for limit in LIMITS)
            tried += [found for found in walks if found is not None]
        excess = [self._excess(s) for s in tried]
        allowed = min(excess) + SLACK * (excess[0] - min(excess))
        return min((s for s, e in zip(tried, excess, strict=True) if e <= allowed), key=lambda s: _work(s.graph))

    def _attempt(self, state: _State, cut: Cut, droppable: set[Value]) -> _State:
        """Walks with limits that come down by what their plans have beyond the budget."""
        best, limit = state, self.aim
        for _ in range(TRIES):
            found = self._walked(state, cut, droppable, limit)
            if found is not None and self._excess(found) < self._excess(best):
                best = found
            if found is None or found.plan.arena <= self.budget:
                break
            limit -= found.plan.arena - self.budget
            if limit <= 0:
                break
        return best

    def _walked(self, state: _State, cut: Cut, droppable: set[Value], limit: int) -> _State | None:
        """What one walk leads to, with its plan; None if a sum would be computed in another order."""
        self.plans += 1
        state = rewrite(state, cut, *cut.walk(droppable, limit))
        state = state._replace(plan=self.planner(state.graph, state.late, self.orders(state)))
        for v, facts in fixed(state.plan, self.target).items():
            if self.fixed.get(state.origin.get(v, v), facts) != facts:
                return None
        if state.plan.arena < self.smallest.plan.arena:
            self.smallest = state
        return state


def _work(graph: Graph) -> float:
    return sum(map(cost, graph.instructions))


def cost(instruction: Instruction) -> float:
    """A rough estimate of the microseconds an instruction takes: products by their operations, others by elements.

    A loop takes that of its block at every step, a branch that of both its blocks.
    """
    total, todo = 0.0, [(instruction, 1)]
    while todo:
        i, times = todo.pop()
        if i.op.name in VIEWS:
            continue
        if i.op.name == "matmul":
            total += times * 2 * size_of(i.results[0].shape) * i.inputs[0].shape[-1] / 80e3
        elif inner := blocks(i):
            times *= i.params.get("length", 1)
            todo += [(j, times) for _, block in inner for j in block.graph.instructions]
        else:
            total += times * 0.1e-3 * max(size_of(v.shape) for v in (*i.inputs, *i.results))
    return total


def fixed(plan: Plan, target: Target) -> dict[Value, tuple[Any, ...]]:
    """On what, beyond the terms, each reduction's (an order) and each product's (sizes, strides) bits depend."""
    found: dict[Value, tuple[Any, ...]] = {}
    for k in plan.kernels:
        if isinstance(k, Loop) and k.reductions:
            order = ("order", walk_of(k, target).order)
            found.update((r.result, order) for r in k.reductions if r.value.dtype.kind == "f")
        elif isinstance(k, Product):
            found[k.instruction.results[0]] = ("product", k.batch, k.m, k.n, k.k, *(x.strides for x in (k.a, k.b, k.c)))
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
