"""Gathers that only matrix products read are not written out: the products look the rows up themselves.

``x[rows]`` with a large batch is as many bytes again as it takes from x. Tiles of a product fetch the rows they need
while the tiles before compute (``compiler.llvm.gemm_rows``), so the copy and its memory are saved. What is left of the
gather is the check that all indices are in bounds, before anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.arena import touched
from chainrule.compiler.epilogues import written_by
from chainrule.compiler.kernels import Access, Buffer, Kernel, Product, Routine, Rows
from chainrule.core.shapes import size_of

#: bytes of a gathered matrix from which this pays: a smaller one stays in the first-level cache
LEAST = 64 << 10
#: columns of a product above which it does: with fewer, other code is quicker, which does not look rows up
LEAST_COLUMNS = 16


def fold_gathers(kernels: Sequence[Kernel], kept: set[Buffer]) -> list[Kernel]:
    """The same kernels, with gathers of rows moved into products; ``kept`` buffers are read in the end."""
    out = list(kernels)
    for at, k in enumerate(kernels):
        if not isinstance(k, Routine) or not _gathers(k) or k.outputs[0].buffer in kept:
            continue
        users = [n for n, other in enumerate(out) if n != at and k.outputs[0].buffer in touched(other)]
        fixed = {k.inputs[0].buffer, k.inputs[1].buffer}
        if any(written_by(other) & fixed for other in out[at + 1 : max(users, default=at)]):
            continue
        changed = [_looking_up(out[n], k) for n in users]
        if not users or users[0] < at or any(c is None for c in changed):
            continue
        for n, c in zip(users, changed, strict=True):
            assert c is not None
            out[n] = c
        out[at] = k._replace(outputs=())
    return out


def _gathers(k: Routine) -> bool:
    """Whether a routine is a gather, large enough, of contiguous rows of a matrix by a vector of indices."""
    i = k.instruction
    if i.op.name != "take" or i.params["axis"] != 0 or len(i.inputs[1].shape) != 1 or len(i.inputs[0].shape) != 2:
        return False
    return k.inputs[0].strides[1] == 1 and k.outputs[0].buffer.nbytes >= LEAST


def _looking_up(k: Kernel, gather: Routine) -> Product | None:
    """A product that looks up the rows of its operands that a gather made; None if the kernel uses them otherwise."""
    table, index = gather.inputs
    made = gather.outputs[0]
    if not isinstance(k, Product) or len(k.batch) > 1 or k.n < LEAST_COLUMNS:
        return None
    for name in ("a", "b"):
        operand = getattr(k, name)
        if operand.buffer is not made.buffer:
            continue
        count, length = (k.m, k.k) if name == "a" else (k.k, k.n)
        by_matrix = [(count * s,) if k.batch else () for s in (made.strides[0], index.strides[0])]
        whole = Access(made.buffer, made.offset, (*by_matrix[0], *made.strides))
        if operand != whole or (size_of(k.batch) * count, length) != gather.instruction.results[0].shape:
            return None
        rows = Rows(
            Access(index.buffer, index.offset, (*by_matrix[1], *index.strides)), gather.instruction.inputs[0].shape[0]
        )
        lead = (0,) * len(k.batch)
        k = k._replace(**{name: Access(table.buffer, table.offset, (*lead, *table.strides)), f"{name}_rows": rows})
    others = [a for a, _ in k.reads] + k.writes
    return None if any(a.buffer is made.buffer for a in others) else k
