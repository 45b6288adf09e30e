"""What is alive at the peak of a plan, and what of it could be computed again: the facts for ``recompute``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from chainrule.compiler.arena import lifetimes
from chainrule.compiler.kernels import SCRATCH, Buffer, Check, Kernel, Loop, Plan, Product
from chainrule.compiler.plan import VIEWS
from chainrule.ir.graph import Graph, Instruction, Value

_NEVER = -1
#: the share of the arena that a value must take to be worth dropping
WORTH = 1e-3


def _written(k: Kernel) -> list[tuple[Value, Buffer]]:
    """The values that a kernel writes, with their buffers."""
    if isinstance(k, Loop):
        pairs = [(s.value, s.access.buffer) for s in k.stores]
        return pairs + [(r.result, r.access.buffer) for r in k.reductions]
    if isinstance(k, Product):
        if k.epilogue is not None:
            return [(s.value, s.access.buffer) for s in k.epilogue.stores]
        return [(k.instruction.results[0], k.c.buffer)]
    if isinstance(k, Check) or not k.outputs:
        return []
    return [(v, layout.buffer) for v, layout in zip(k.instruction.results, k.outputs, strict=True)]


def _computed(k: Kernel) -> list[Value]:
    """The values that a kernel computes, whether or not it writes them."""
    if isinstance(k, Loop):
        return [r for i in k.body for r in i.results]
    if isinstance(k, Product):
        inner = k.epilogue.body if k.epilogue is not None else ()
        return [*k.instruction.results, *(r for i in inner for r in i.results)]
    return []


def profile(plan: Plan) -> list[int]:
    """The bytes of scratch buffers that are alive while each kernel runs."""
    first, last = lifetimes(plan.kernels, [layout.buffer for layout in plan.outputs], plan.chunked)
    change = [0] * (len(plan.kernels) + 2)
    for b, start in first.items():
        if b.role == SCRATCH:
            change[start] += b.nbytes
            change[last[b] + 1] -= b.nbytes
    return list(accumulate(change[: len(plan.kernels)]))


class Cut:
    """A program divided at the kernel where its plan needs most memory: what is before is early, the rest is late.

    Attributes:
        graph, plan: the program.
        peak: the number of that kernel.
        root: for views, the value whose memory they show.
        position: the number of the kernel that computes a value; -1 for inputs and constants.
        stored: the buffer in the arena of a value that reaches memory.
        readers: the numbers of the kernels that read a value, itself or through views.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph, self.plan = graph, plan
        self.position: dict[Value, int] = dict.fromkeys(graph.inputs, _NEVER)
        self.position.update((c.value, _NEVER) for c in graph.constants)
        self.stored: dict[Value, Buffer] = {}
        self.root: dict[Value, Value] = {}
        self.readers: dict[Value, list[int]] = {}
        placed: dict[Value, int] = {}
        for n, k in enumerate(plan.kernels):
            placed.update((r, n) for r in _computed(k))
            for v, b in _written(k):
                placed[v] = n
                if b.role == SCRATCH:
                    self.stored[v] = b
        for i in graph.instructions:
            if i.op.name in VIEWS:
                self.root[i.results[0]] = self.root.get(i.inputs[0], i.inputs[0])
                continue
            roots = [self.root.get(v, v) for v in i.inputs]
            at = max([self.position[v] for v in roots], default=0)
            for r in i.results:
                self.position[r] = placed.get(r, max(at, 0))
            for v in roots:
                self.readers.setdefault(v, []).append(self.position[i.results[0]])
        self.kept = {self.root.get(v, v) for v in graph.outputs}
        self.first, self.last = lifetimes(plan.kernels, [layout.buffer for layout in plan.outputs], plan.chunked)
        alive = profile(plan)
        self.peak = alive.index(max(alive))

    # ---- values
    def early(self, v: Value) -> bool:
        """Whether a value is computed at the peak or before (and neither an input nor a constant)."""
        return _NEVER < self.position[v] <= self.peak

    def late(self, i: Instruction) -> bool:
        """Whether an instruction runs after the peak."""
        return self.position[i.results[0]] > self.peak

    def waits(self, v: Value) -> bool:
        """Whether a value is read after the peak, or is a result of the program."""
        return v in self.kept or any(n > self.peak for n in self.readers.get(v, ()))

    @property
    def candidates(self) -> list[Value]:
        """The values that wait in memory at the peak and are worth dropping, in the order of their computation."""
        least = self.plan.arena * WORTH
        found = [v for v, b in self.stored.items() if v in self.position and b.nbytes >= least]
        found = [v for v in found if self.early(v) and self.waits(v)]
        return sorted((v for v in found if v not in self.kept), key=lambda v: (self.position[v], v.number))

    def ranked(self, cost: Callable[[Instruction], float]) -> list[Value]:
        """The candidates, those first that give most bytes for the work of computing them from other candidates."""
        made = {r: i for i in self.graph.instructions for r in i.results}

        def work(v: Value) -> float:
            total, todo, seen = 0.0, [v], {v}
            while todo:
                i = made[todo.pop()]
                total += cost(i)
                for x in i.inputs:
                    root = self.root.get(x, x)
                    if root not in seen and self.early(root) and not self.waits(root):
                        seen.add(root)
                        todo.append(root)
            return total

        gain = {v: self.stored[v].nbytes / (work(v) + 1e-3) for v in self.candidates}
        return sorted(gain, key=lambda v: -gain[v])

    def largest(self, count: int = 8) -> list[tuple[Instruction, int]]:
        """The largest values alive at the peak, with their bytes."""
        made = {r: i for i in self.graph.instructions for r in i.results}
        alive = [
            (made[v], b.nbytes)
            for v, b in self.stored.items()
            if v in made and self.first[b] <= self.peak <= self.last[b]
        ]
        return sorted(alive, key=lambda pair: -pair[1])[:count]

    # ---- segments
    def walk(self, droppable: set[Value], limit: int) -> tuple[set[Value], set[Value]]:
        """Which of these values to drop, and what to keep as checkpoints, so that at most ``limit`` bytes wait.

        Goes through the kernels up to the peak. What is dropped since the last checkpoint will be in memory together
        when its segment is recomputed, beside everything kept before it. When that exceeds the limit, a checkpoint is
        made where it costs least for what it saves.
        """
        candidates = self.candidates
        spans = {v: self._span(v) for v in self.stored if v in self.position and self.early(v)}
        checkpoints: set[Value] = set()
        pending: list[Value] = []
        kept, boundary = 0, _NEVER
        at = 0
        for n in range(self.peak + 1):
            while at < len(candidates) and self.position[candidates[at]] == n:
                v = candidates[at]
                at += 1
                if v in droppable:
                    pending.append(v)
                else:
                    kept += self.stored[v].nbytes
            filled = sum(self.stored[v].nbytes for v in pending if spans[v][1] > self.position[v])
            if kept + filled <= limit or n - 1 <= boundary:
                continue
            boundary = self._checkpoint(spans, pending, range(boundary + 1, n))
            frontier = {v for v, (start, end) in spans.items() if start <= boundary < end} - checkpoints
            kept += sum(self.stored[v].nbytes for v in frontier if v in droppable or not self.waits(v))
            checkpoints |= frontier
            pending = [v for v in pending if self.position[v] > boundary]
        return droppable - checkpoints, checkpoints

    def _span(self, v: Value) -> tuple[int, int]:
        """From the kernel that computes a value to the last one up to the peak that reads it."""
        start = self.position[v]
        return start, max([n for n in self.readers.get(v, ()) if n <= self.peak], default=start)

    def _checkpoint(self, spans: dict[Value, tuple[int, int]], pending: list[Value], places: range) -> int:
        """The kernel after which to cut: most bytes dropped before it for each byte that it keeps."""
        best, found = -1.0, places[-1]
        for p in places:
            carried = [v for v, (start, end) in spans.items() if start <= p < end]
            price = sum(self.stored[v].nbytes * (1 if self.waits(v) else 2) for v in carried)
            saved = sum(self.stored[v].nbytes for v in pending if self.position[v] <= p and v not in carried)
            if saved / (price + 1) >= best:
                best, found = saved / (price + 1), p
        return found
