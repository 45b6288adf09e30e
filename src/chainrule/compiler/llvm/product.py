"""Matrix products of a plan as specifications, with what follows them as code on elements in registers."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import Access, Product, Rows
from chainrule.compiler.llvm.builder import Builder
from chainrule.compiler.llvm.gemm_plan import Epilogue, Index, ProductSpec
from chainrule.compiler.llvm.points import compute
from chainrule.compiler.llvm.values import BYTES, Value, kind_of
from chainrule.ir import graph


def product_spec(p: Product) -> ProductSpec:
    """What to compute, from :func:`operands`."""
    rank, c = len(p.batch), p.writes[0]
    extras = [tuple(s * x.buffer.dtype.itemsize for s in x.strides[:rank]) for x in _extras(p)]
    return ProductSpec(
        p.m, p.n, p.k, kind_of(p.c.buffer.dtype),
        p.a.strides[rank:], p.b.strides[rank:], c.strides[rank:],
        batch=p.batch, a_batch=p.a.strides[:rank], b_batch=p.b.strides[:rank], c_batch=c.strides[:rank],
        epilogue=_epilogue(p), extras=tuple(extras),
        a_index=_index(p.a_rows), b_index=_index(p.b_rows), block=p.block, zeros=p.zeros,
    )  # fmt: skip


def operands(p: Product) -> tuple[list[Access], list[Access]]:
    """What the pointers of a product's function stand for: A, B and C, and those that follow the scratch memory."""
    return [p.a, p.b, p.writes[0]], [*(rows.index for rows in (p.a_rows, p.b_rows) if rows), *_extras(p)]


def _index(rows: Rows | None) -> Index | None:
    if rows is None:
        return None
    *batch, stride = rows.index.strides
    return Index(kind_of(rows.index.buffer.dtype), stride, rows.size, tuple(batch))


def _extras(p: Product) -> list[Access]:
    """What the epilogue of a product reads and writes beside the elements that the product stores itself."""
    if p.epilogue is None:
        return []
    loads = [a for a in p.epilogue.loads.values() if a.buffer is not p.c.buffer]
    return [*loads, *(s.access for s in p.epilogue.stores[1:])]


def _epilogue(p: Product) -> Epilogue | None:
    """The loop after a product, for elements of it in registers; extra pointers are those of :func:`_extras`."""
    loop = p.epilogue
    if loop is None:
        return None
    written = {s.access.buffer for s in loop.stores}

    def epilogue(
        b: Builder, value: Value, row: Value, column: Value, width: int, mask: Value | None, extras: Sequence[Value]
    ) -> Value:
        pointers = iter(extras)

        def place(a: Access) -> Value:
            at, size = next(pointers), BYTES[kind_of(a.buffer.dtype)]
            for index, stride in zip((row, column), a.strides[-2:], strict=True):
                at = b.offset(at, index * (stride * size)) if stride else at
            return at

        def load(a: Access) -> Value:
            kind, stride = kind_of(a.buffer.dtype), a.strides[-1]
            # what repeats is none of the results, so it may be read once for all elements of a tile
            fixed = a.buffer not in written and any(
                s == 0 and n > 1 for s, n in zip(a.strides[-2:], (p.m, p.n), strict=True)
            )
            if stride == 0:
                return b.splat(b.load(place(a), kind, invariant=fixed), width)
            return b.load(place(a), kind, width, stride=stride, mask=mask, invariant=fixed)

        known: dict[graph.Value, Value] = {}
        for v, a in loop.loads.items():
            known[v] = value if a.buffer is p.c.buffer else load(a)
        for i in loop.body:
            known[i.results[0]] = compute(b, i, [known[v] for v in i.inputs], width)
        for s in loop.stores[1:]:
            b.store(known[s.value], place(s.access), stride=s.access.strides[-1], mask=mask)
        return known[loop.stores[0].value]

    return epilogue
