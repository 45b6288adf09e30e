"""Large batches chunk by chunk: kernels that go through the rows of a batch together, while these are in the caches.

A plan runs its kernels one after another, each over all rows of the batch; what the next one reads has then left the
caches. A stretch of kernels may as well run chunk by chunk of rows (:class:`~chainrule.compiler.kernels.Chunked`), as
long as chunk c of each of them meets only chunk c of what the others write. Sums over the rows take part where
``passes.split`` has cut them: a chunk is added to the sum of its part. Nothing in how a kernel computes changes, only
when, so the results have the same bits either way.

NOTE [chunks]. The stretch grows from products that take the batch row by row. In the order of the plan, a kernel that
has to do with what the stretch writes joins it if it can; if not, it waits until the stretch is done, and so does what
depends on it. All others go before. A kernel can join if it is a loop with the rows (or the chunks) as its first
dimension, such a product, or a sum over rows by parts, and each of its accesses to what the stretch writes stays
within a chunk: with C chunks and a buffer of n elements, chunk c has those from c n / C to (c + 1) n / C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chainrule.compiler.aliasing import may_fail
from chainrule.compiler.arena import touched
from chainrule.compiler.epilogues import written_by
from chainrule.compiler.kernels import SCRATCH, Access, Buffer, Chunked, Kernel, Loop, Plan, Product, Reduction, Store
from chainrule.compiler.parts import Division, division_of
from chainrule.core.shapes import Shape, size_of
from chainrule.ir.graph import Value

#: bytes of a chunk, in all that is computed from it, beyond which it does not stay in a cache anyway
MOST_BYTES = 3 << 20
#: points of a loop that may be done in two: what need not wait for the stretch, and the rest
SMALL = 1024


def in_blocks(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The same kernels, with products over parts of the rows of a batch computed in blocks of a chunk's rows."""
    out = []
    for k in kernels:
        if isinstance(k, Product):
            division = _division(k)
            if division is not None:
                k = k._replace(block=division.size)
        out.append(k)
    return out


def _division(k: Product) -> Division | None:
    """How the rows are cut over which the matrices of a product's batch are sums, part by part."""
    if len(k.batch) != 1 or k.epilogue is not None or k.a_rows:
        return None
    division = division_of(k.batch[0] * k.k)
    if division is None or division.parts != k.batch[0]:
        return None
    b_strides = k.b_rows.index.strides if k.b_rows else k.b.strides[:2]
    whole = k.a.strides[0] == k.k * k.a.strides[2] and b_strides[0] == k.k * b_strides[1]
    return division if whole else None


def chunked(kernels: Sequence[Kernel]) -> tuple[list[Kernel], Chunked | None]:
    """The kernels in another order, and which of them run chunk by chunk; None: none of them."""
    work: dict[int, int] = {}
    for k in kernels:
        if isinstance(k, Product) and k.block:
            rows = k.batch[0] * k.k
            work[rows] = work.get(rows, 0) + rows * k.m * k.n
    for rows in sorted(work, key=lambda r: (-work[r], r)):
        division = division_of(rows)
        assert division is not None
        found = _Stretch(division)
        found.take(kernels)
        if found.pays:
            start, count = len(found.before), len(found.inside)
            return found.before + found.inside + found.after, Chunked(
                start, start + count, division.chunks, division.parts, division.size
            )
    return list(kernels), None


def within_chunks(plan: Plan) -> list[Buffer]:
    """The buffers that the stretch of a plan makes for itself: of a chunk's part nothing is asked for after it."""
    if plan.chunked is None:
        return []
    inside = plan.kernels[plan.chunked.first : plan.chunked.end]
    others = {layout.buffer for layout in plan.outputs}
    for k in (*plan.kernels[: plan.chunked.first], *plan.kernels[plan.chunked.end :]):
        others.update(touched(k))
    made = {b for k in inside for b in written_by(k) if b.role == SCRATCH}
    return sorted(made - others, key=lambda b: b.number)


class _Memory:
    """The buffers that some kernels touch, and those of them that they write."""

    def __init__(self) -> None:
        self.touched: set[Buffer] = set()
        self.written: set[Buffer] = set()

    def add(self, k: Kernel) -> None:
        self.touched.update(touched(k))
        self.written.update(written_by(k))

    def meets(self, k: Kernel) -> bool:
        """Whether it matters in which order a kernel and these run."""
        return not (self.written.isdisjoint(touched(k)) and self.touched.isdisjoint(written_by(k)))


class _Use(NamedTuple):
    """What a kernel does with a buffer: an access over a space, whose first dimension the chunks cut, or anything."""

    buffer: Buffer
    access: Access | None
    space: Shape
    writes: bool


class _Stretch:
    """Kernels that run chunk by chunk, those before, and those after; see NOTE [chunks]."""

    def __init__(self, division: Division) -> None:
        self.division = division
        self.before: list[Kernel] = []
        self.inside: list[Kernel] = []
        self.after: list[Kernel] = []
        self._inside, self._after = _Memory(), _Memory()
        #: sums by parts, which are there when all chunks are done
        self._sums: set[Buffer] = set()
        self._waits = False

    @property
    def pays(self) -> bool:
        """Whether products that take a batch row by row, and sums over its rows, meet it in a cache."""
        products = [k for k in self.inside if isinstance(k, Product)]
        made = self._inside.written - self._sums
        rows = {k.a.buffer: k.m * k.k * k.a.buffer.dtype.itemsize for k in products if not k.block}
        nbytes = sum(b.nbytes for b in made) + sum(n for b, n in rows.items() if b not in made)
        return {bool(k.block) for k in products} == {False, True} and nbytes <= MOST_BYTES * self.division.chunks

    def take(self, kernels: Sequence[Kernel]) -> None:
        """Place all kernels, in their order."""
        for k in kernels:
            for part in self._apart(k):
                self._place(part)

    def _place(self, k: Kernel) -> None:
        if not self._waits and not self._after.meets(k):
            if not self._inside.meets(k) and not self._starts(k):
                self.before.append(k)
                return
            uses = self._uses(k)
            if uses is not None and all(map(self._fits, uses)):
                self.inside.append(k)
                self._inside.add(k)
                if isinstance(k, Product) and k.block:
                    self._sums.add(k.c.buffer)
                return
        self.after.append(k)
        self._after.add(k)
        self._waits |= may_fail(k)  # what it has checked holds for all that follow

    def _apart(self, k: Kernel) -> list[Kernel]:
        """A loop in two, if it does little or its results have nothing in common: what need not wait, and the rest."""
        if not isinstance(k, Loop) or not (_alike(k) if k.reductions else size_of(k.space) <= SMALL):
            return [k]
        made = self._inside.written | self._after.written
        late: set[Value] = {v for v, a in k.loads.items() if a.buffer in made}
        for i in k.body:
            if not late.isdisjoint(i.inputs):
                late.update(i.results)
        parts = [
            _with(
                k,
                [s for s in k.stores if (s.value in late) == waits],
                [r for r in k.reductions if (r.value in late) == waits],
            )
            for waits in (False, True)
        ]
        return [k] if None in parts else [p for p in parts if p is not None]

    def _starts(self, k: Kernel) -> bool:
        return isinstance(k, Product) and not k.batch and k.m == self.division.rows

    def _uses(self, k: Kernel) -> list[_Use] | None:
        """What a kernel reads and writes, if it can run chunk by chunk."""
        if isinstance(k, Product):
            return self._of_sums(k) if k.block else self._of_rows(k)
        if not isinstance(k, Loop) or k.reduced == len(k.space):
            return None
        out = [_Use(a.buffer, a, k.space, False) for a in k.loads.values()]
        out += [_Use(s.access.buffer, s.access, k.space, True) for s in k.stores]
        kept = k.space[: len(k.space) - k.reduced]
        return out + [_Use(r.access.buffer, r.access, kept, True) for r in k.reductions]

    def _of_rows(self, k: Product) -> list[_Use] | None:
        if not self._starts(k):
            return None
        space = (k.m, k.n)
        out = [_Use(k.b.buffer, None, (), False), *([_Use(k.b_rows.index.buffer, None, (), False)] if k.b_rows else [])]
        if k.a_rows:
            out += [_Use(k.a.buffer, None, (), False), _Use(k.a_rows.index.buffer, k.a_rows.index, (k.m,), False)]
        else:
            out.append(_Use(k.a.buffer, k.a, (k.m, k.k), False))
        loads = k.epilogue.loads.values() if k.epilogue else ()
        out += [_Use(a.buffer, a, space, False) for a in loads if a.buffer is not k.c.buffer]
        return out + [_Use(a.buffer, a, space, True) for a in k.writes]

    def _of_sums(self, k: Product) -> list[_Use] | None:
        rows = k.batch[0] * k.k
        if rows != self.division.rows:
            return None
        uses = [_Use(k.a.buffer, k.a._replace(strides=(k.a.strides[2], k.a.strides[1])), (rows, k.m), False)]
        if k.b_rows:
            index = k.b_rows.index
            uses.append(_Use(k.b.buffer, None, (), False))
            uses.append(_Use(index.buffer, index._replace(strides=index.strides[1:]), (rows,), False))
        else:
            uses.append(_Use(k.b.buffer, k.b._replace(strides=k.b.strides[1:]), (rows, k.n), False))
        return uses

    def _fits(self, use: _Use) -> bool:
        """Whether chunk c of a kernel meets chunk c alone of what the stretch writes."""
        inside = use.buffer in self._inside.written
        if not use.writes and not inside:
            return True
        if use.buffer in self._sums or (use.writes and not inside and use.buffer in self._inside.touched):
            return False
        return use.access is not None and _stays(use.access, use.space, self.division)


def _stays(a: Access, space: Shape, division: Division) -> bool:
    """Whether chunk c of an access over a space is in chunk c of its buffer."""
    if space[0] not in (division.rows, division.chunks) or 0 in space or a.offset < 0 or min(a.strides) < 0:
        return False
    entries, (length, rest) = space[0] // division.chunks, divmod(a.buffer.size, division.chunks)
    last = a.offset + sum((n - 1) * s for n, s in zip((entries, *space[1:]), a.strides, strict=True))
    return not rest and entries * a.strides[0] == length and last < length


def _alike(k: Loop) -> bool:
    """Whether a loop only reduces what it reads, all in one way, which then does not depend on what it does beside."""
    reads = {(a.strides, a.buffer.dtype.itemsize) for a in k.loads.values()}
    writes = {(r.access.strides, r.access.buffer.dtype.itemsize) for r in k.reductions}
    return not k.body and not k.stores and len(reads) == len(writes) == 1


def _with(k: Loop, stores: list[Store], reductions: list[Reduction]) -> Loop | None:
    """What of a loop some of its results need; None if these are none."""
    needed = {s.value for s in stores} | {r.value for r in reductions}
    if not needed:
        return None
    body = []
    for i in reversed(k.body):
        if not needed.isdisjoint(i.results):
            body.append(i)
            needed.update(i.inputs)
    loads = {v: a for v, a in k.loads.items() if v in needed}
    counters = {v: c for v, c in k.counters.items() if v in needed}
    return Loop(k.space, k.reduced, loads, body[::-1], stores, reductions, counters, k.order)
