"""How the products of a plan are divided among threads: each by rows of its result, or by columns.

The results are the same bits either way. By rows every thread reads all of B (and packs it, where that pays), by
columns all of A; and what another thread has written must come from the cache of that thread, which takes long, the
more so where the two sit on different parts of a processor. Small batches are therefore best divided by columns, so
that a thread meets the same rows of a weight in the forward pass, in its gradient and in its update; large batches by
rows.

A thread's part of a buffer is described by its period: along a dimension of ``count`` entries ``stride`` apart, thread
t of T has the t-th of T pieces of every ``stride x count`` elements. 0: it has, or needs, everything.

The costs are those of two threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chainrule.compiler.kernels import INPUT, OUTPUT, Access, Buffer, Kernel, Layout, Loop, Product
from chainrule.compiler.llvm.gemm_plan import COSTS, Plan, ProductSpec
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.values import BYTES
from chainrule.core.shapes import size_of

ROWS, COLUMNS = 0, 1
#: sweeps over the products, each of which is decided with all others as they are
_SWEEPS = 4


class _Use(NamedTuple):
    """A buffer that a kernel reads or writes: how many bytes of it; its period if divided by rows, and by columns."""

    buffer: Buffer
    nbytes: int
    periods: tuple[int, int]


class _Flow(NamedTuple):
    """What one kernel writes, or wrote in the step before, and another one reads."""

    writer: int
    written: _Use
    reader: int
    read: _Use


def _period(a: Access, dimension: int, count: int) -> int:
    return abs(a.strides[dimension]) * count


def _loop_uses(loop: Loop, accesses: Sequence[Access]) -> list[_Use]:
    out = []
    for a in accesses:
        period = _period(a, 0, loop.space[0]) if a.strides else 0
        nbytes = min(a.buffer.nbytes, size_of(loop.space) * a.buffer.dtype.itemsize)
        out.append(_Use(a.buffer, nbytes, (period, period)))
    return out


def _result_uses(p: Product, accesses: Sequence[Access]) -> list[_Use]:
    """Uses of accesses over the space of the result."""
    out, rank = [], len(p.batch)
    for a in accesses:
        rows = _period(a, 0, p.batch[0]) if rank else _period(a, -2, p.m)
        nbytes = min(a.buffer.nbytes, size_of((*p.batch, p.m, p.n)) * a.buffer.dtype.itemsize)
        out.append(_Use(a.buffer, nbytes, (rows, _period(a, -1, p.n))))
    return out


def _operand_uses(p: Product) -> list[_Use]:
    size = p.a.buffer.dtype.itemsize
    if p.batch:
        return _result_uses(p, [p.a, p.b])
    return [
        _Use(p.a.buffer, p.m * p.k * size, (_period(p.a, -2, p.m), 0)),
        _Use(p.b.buffer, p.k * p.n * size, (0, _period(p.b, -1, p.n))),
    ]


def _uses(kernel: Kernel) -> tuple[list[_Use], list[_Use], list[_Use]]:
    """What a kernel reads, what of that it reads point by point as it writes, and what it writes."""
    if isinstance(kernel, Loop):
        loads = _loop_uses(kernel, list(kernel.loads.values()))
        stores = [s.access for s in kernel.stores] + [r.access for r in kernel.reductions]
        return loads, loads, _loop_uses(kernel, stores)
    if isinstance(kernel, Product):
        loads = kernel.epilogue.loads.values() if kernel.epilogue else ()
        beside = _result_uses(kernel, [a for a in loads if a.buffer is not kernel.c.buffer])
        return [*_operand_uses(kernel), *beside], beside, _result_uses(kernel, kernel.writes)
    operands, results = getattr(kernel, "inputs", ()), getattr(kernel, "outputs", ())
    return _whole(operands), [], _whole(results)


def _whole(layouts: Sequence[Layout]) -> list[_Use]:
    return [_Use(x.buffer, x.buffer.nbytes, (0, 0)) for x in layouts]


class _Program:
    """The kernels of a plan with the flow of data between them, where a thread's own cache would keep it (``most``)."""

    def __init__(self, kernels: Sequence[Kernel], shared: Sequence[bool], most: int) -> None:
        self.shared = shared
        uses = [_uses(k) for k in kernels]
        last: dict[Buffer, tuple[int, _Use]] = {}
        for n, (_, beside, writes) in enumerate(uses):  # an update of a state reads the old one as it writes the new
            results = {(w.nbytes, w.periods): w for w in writes if w.buffer.role == OUTPUT}
            for r in beside:
                if r.buffer.role == INPUT and (r.nbytes, r.periods) in results:
                    last[r.buffer] = n, results[r.nbytes, r.periods]
        self.flows: list[list[_Flow]] = [[] for _ in kernels]
        for n, (reads, _, writes) in enumerate(uses):
            for r in reads:
                writer, written = last.get(r.buffer, (n, r))
                if writer != n and shared[n] and r.nbytes <= most:
                    flow = _Flow(writer, written, n, r)
                    self.flows[n].append(flow)
                    self.flows[writer].append(flow)
            last |= {w.buffer: (n, w) for w in writes}

    def traffic(self, n: int, ways: Sequence[int]) -> float:
        """Bytes that come from another thread's cache in what kernel n reads and writes."""
        return sum(self._moved(flow, ways) for flow in self.flows[n])

    def _moved(self, flow: _Flow, ways: Sequence[int]) -> float:
        needs, has = flow.read.periods[ways[flow.reader]], flow.written.periods[ways[flow.writer]]
        if not self.shared[flow.writer]:  # the first thread has all of it
            return flow.read.nbytes * (0.5 if needs else 1.0)
        if not needs or not has:
            return flow.read.nbytes * 0.5
        return 0.0 if needs == has else flow.read.nbytes * 0.25


def _share(plan: Plan, spec: ProductSpec, way: int) -> float:
    """How much of a product the busier of two threads computes."""
    if way == ROWS:
        tiles = -(-spec.batches * spec.M // plan.rows)
        return -(-tiles // 2) / tiles
    first = sum(r.columns * sum(r.start + i * r.columns < spec.N // 2 for i in range(r.count)) for r in plan.runs)
    return max(first, spec.N - first) / spec.N


def _alone(spec: ProductSpec, plan: Plan, target: Target, way: int) -> float:
    """Cycles for the part of a product of the busier thread, with what both do."""
    costs, size = COSTS[target.level], BYTES[spec.dtype]
    both = spec.M * spec.K if way == COLUMNS else spec.K * spec.N
    if way == COLUMNS and spec.b_strides[1] == 1 and spec.K * spec.N * size > costs.far:
        both += spec.K * spec.N  # processors fetch whole rows from far away
    share = _share(plan, spec, way)
    packing = plan.packing * (share if way == COLUMNS else 1.0)
    return (plan.cost - plan.packing) * share + packing + both * size * costs.read


def by_columns(
    kernels: Sequence[Kernel], shared: Sequence[bool], products: Mapping[int, tuple[ProductSpec, Plan]], target: Target
) -> set[int]:
    """The products that are best divided by columns.

    Args:
        kernels: of a plan, in order.
        shared: whether threads divide each of them.
        products: by place, those of which they do, with the code chosen for them.
        target: whose costs count.
    """
    costs = COSTS[target.level]
    free = [n for n, (spec, plan) in products.items() if plan.by_columns and not spec.batch]
    if not free:
        return set()
    program, ways = _Program(kernels, shared, 2 * costs.near), [ROWS] * len(kernels)

    def cost(n: int, way: int) -> float:
        ways[n] = way
        spec, plan = products[n]
        return _alone(spec, plan, target, way) + program.traffic(n, ways) * costs.transfer

    for _ in range(_SWEEPS):
        before = list(ways)
        for n in free:
            rows, columns = cost(n, ROWS), cost(n, COLUMNS)
            ways[n] = COLUMNS if columns < rows else ROWS
        if ways == before:
            break
    return {n for n in free if ways[n] == COLUMNS}
