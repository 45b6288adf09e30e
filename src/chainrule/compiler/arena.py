"""The arena: scratch buffers that do not live at the same time share memory."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import SCRATCH, Buffer, Check, Chunked, Kernel, Loop, Product, Routine

#: every buffer starts at a multiple of this many bytes
ALIGN = 64


def arrange(
    kernels: Sequence[Kernel], buffers: Sequence[Buffer], kept: Sequence[Buffer] = (), together: Chunked | None = None
) -> int:
    """Give scratch buffers offsets in the arena, first fit by size; returns its bytes.

    ``kept``: buffers that are read when all kernels have run; ``together``: kernels that run at the same time.
    """
    first, last = lifetimes(kernels, kept, together)
    placed: list[Buffer] = []
    total = 0
    for b in sorted((b for b in buffers if b.role == SCRATCH and b in first), key=lambda b: (-b.nbytes, b.number)):
        size = -(-b.nbytes // ALIGN) * ALIGN
        busy = sorted(
            (o.offset, o.offset + -(-o.nbytes // ALIGN) * ALIGN)
            for o in placed
            if first[o] <= last[b] and first[b] <= last[o]
        )
        at = 0
        for start, end in busy:
            if at + size <= start:
                break
            at = max(at, end)
        b.offset = at
        placed.append(b)
        total = max(total, at + size)
    return total


def lifetimes(
    kernels: Sequence[Kernel], kept: Sequence[Buffer] = (), together: Chunked | None = None
) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """The numbers of the first and of the last kernel that touch a buffer; ``kept`` ones live on after all kernels.

    Kernels that run ``together`` all count as the first and as the last of them.
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for t, k in enumerate(kernels):
        start, end = t, t
        if together is not None and together.first <= t < together.end:
            start, end = together.first, together.end - 1
        for b in touched(k):
            first.setdefault(b, start)
            last[b] = end
    last.update({b: len(kernels) for b in kept if b in first})
    return first, last


def touched(k: Kernel) -> list[Buffer]:
    """The buffers a kernel reads or writes."""
    if isinstance(k, Loop):
        return (
            [a.buffer for a in k.loads.values()]
            + [s.access.buffer for s in k.stores]
            + [r.access.buffer for r in k.reductions]
        )
    if isinstance(k, Product):
        return [*(a.buffer for a, _ in k.reads), *(a.buffer for a in k.writes)]
    if isinstance(k, Check):
        return [k.access.buffer]
    work = [k.work] if isinstance(k, Routine) and k.work else []
    return [*(layout.buffer for layout in (*k.inputs, *k.outputs)), *work]
