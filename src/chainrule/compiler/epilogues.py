"""Epilogues: a loop over the elements of a matrix product becomes what happens to them before they are stored.

A bias, an activation, a mask then cost no pass over memory. The loop may be any that reads the product's result point
by point and no other value that is computed after the product; reductions stay a loop of their own, over what the
epilogue stored. The result itself is stored only if something else reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from chainrule.compiler.arena import touched
from chainrule.compiler.kernels import Access, Buffer, Check, Kernel, Loop, Product, Routine, Store
from chainrule.core.shapes import Shape

#: longer sums are computed in blocks, whose partial results an epilogue would need memory for
MOST_STEPS = 800
#: instructions and accesses that leave the registers of a tile alone
MOST_INSTRUCTIONS, MOST_ACCESSES = 8, 8


def fuse_epilogues(kernels: Sequence[Kernel], kept: set[Buffer]) -> list[Kernel]:
    """The same kernels, with loops moved into the products that feed them; ``kept`` buffers are read in the end."""
    out = list(kernels)
    for at, k in enumerate(kernels):
        if not isinstance(k, Product) or k.k > MOST_STEPS or not min(k.m, k.n, *k.batch, 1):
            continue
        readers = [n for n, other in enumerate(out) if n != at and k.c.buffer in touched(other)]
        loop_at = next((n for n in readers if n > at), None)
        found = out[loop_at] if loop_at is not None else None
        if loop_at is None or not isinstance(found, Loop) or readers[0] < at:
            continue
        parts = _split(found, k)
        if parts is None or not _movable(parts[0], out, at, loop_at):
            continue
        epilogue, rest = parts
        if len(readers) > 1 or k.c.buffer in kept:
            epilogue.stores.append(Store(k.instruction.results[0], k.c))
            epilogue.loads.setdefault(k.instruction.results[0], k.c)
        stores = sorted(epilogue.stores, key=lambda s: not _direct(s.access, k))
        if not stores or not _direct(stores[0].access, k):
            continue
        epilogue = Loop(epilogue.space, 0, epilogue.loads, epilogue.body, stores, [], {})
        out[at] = k._replace(epilogue=epilogue)
        out[loop_at] = rest
    return [k for k in out if not (isinstance(k, Loop) and not k.stores and not k.reductions)]


def _direct(a: Access, k: Product) -> bool:
    """Whether a product can store its elements there: of its dtype, each at a place of its own, rows contiguous."""
    return a.buffer.dtype == k.c.buffer.dtype and a.strides[-1:] == (1,) and all(a.strides)


def _split(loop: Loop, k: Product) -> tuple[Loop, Loop] | None:
    """The elementwise part of a loop, over the product's dimensions, and what is left; None if it does not fit."""
    size = k.c.buffer.dtype.itemsize
    small = all(v.dtype.itemsize <= size for i in loop.body for v in (*i.inputs, *i.results))
    if loop.counters or not loop.stores or not small or len(loop.body) > MOST_INSTRUCTIONS:
        return None
    if len(loop.loads) + len(loop.stores) > MOST_ACCESSES:
        return None
    where = {s.value: s.access for s in loop.stores}
    if any(r.value not in where for r in loop.reductions):
        return None
    order = _order(loop, k, (*k.batch, k.m, k.n))
    if order is None:
        return None
    turned = lambda a: a._replace(strides=tuple(a.strides[d] for d in order))  # noqa: E731
    epilogue = Loop(
        (*k.batch, k.m, k.n), 0, {v: turned(a) for v, a in loop.loads.items()}, list(loop.body),
        [s._replace(access=turned(s.access)) for s in loop.stores], [], {},
    )  # fmt: skip
    loads = {r.value: where[r.value] for r in loop.reductions}
    return epilogue, Loop(loop.space, loop.reduced, loads, [], [], loop.reductions, {})


def _order(loop: Loop, k: Product, space: Shape) -> tuple[int, ...] | None:
    """Which dimension of a loop is each of the product's, if the loop reads each element of the product just once."""
    reads = [a for a in loop.loads.values() if a.buffer is k.c.buffer]
    if len(loop.space) != len(space):
        return None
    for order in permutations(range(len(space))):
        if tuple(loop.space[d] for d in order) == space and all(
            (a.offset, tuple(a.strides[d] for d in order)) == (k.c.offset, k.c.strides) for a in reads
        ):
            return order
    return None


def _movable(epilogue: Loop, kernels: Sequence[Kernel], at: int, loop_at: int) -> bool:
    """Whether what a loop does may be done at an earlier position: what it reads is there, and nobody sees it early."""
    read = {a.buffer for a in epilogue.loads.values()}
    written = {s.access.buffer for s in epilogue.stores}
    product = kernels[at]
    assert isinstance(product, Product)
    if any(written_by(k) & (read - {product.c.buffer}) for k in kernels[at:loop_at]):
        return False
    return not any(written & set(touched(k)) for k in kernels[at:loop_at])


def written_by(k: Kernel) -> set[Buffer]:
    """The buffers a kernel writes."""
    if isinstance(k, Loop):
        return {s.access.buffer for s in k.stores} | {r.access.buffer for r in k.reductions}
    if isinstance(k, Product):
        return {a.buffer for a in k.writes}
    work = {k.work} if isinstance(k, Routine) and k.work else set()
    return set() if isinstance(k, Check) else {layout.buffer for layout in k.outputs} | work
