"""Long sums over the rows of a batch are added up part by part.

A training step over a large batch reads its rows twice: in the forward pass, and for the gradients of the weights,
which are sums over all rows. Where those are sums of the sums of ``parts`` equal parts of the rows, the rows can go
through the whole step chunk by chunk while they are in the caches (``compiler.chunks``), and each of several threads
adds up parts of its own. How the rows are cut depends on their number alone, so the bits do not depend on who adds.

For x with R = P K rows: x^T y, with [M, R] and [R, N], becomes the sum over p of P products [M, K] [K, N], and a sum
over the rows that of the sums over each chunk.
"""

from __future__ import annotations

from typing import Any

from chainrule.compiler.parts import division_of
from chainrule.compiler.passes.rewrite import rewrite
from chainrule.compiler.passes.symbolic import Symbol, Writer
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Graph, Instruction, Value

#: bytes of a matrix that is read twice, from which it leaves the caches in between
LEAST_BYTES = 2 << 20
#: partial results may take this part of the operands' elements
MOST_PARTIAL = 0.25


def split_sums(graph: Graph) -> Graph:
    """The graph with products and sums over the rows of large batches in parts."""
    batches, products = _batches(graph)
    if not batches:
        return graph

    def rule(writer: Writer, instruction: Instruction, inputs: tuple[Value, ...]) -> Any:
        name, symbols = instruction.op.name, [Symbol(writer, v) for v in inputs]
        if instruction.results[0] in products:
            return _product(writer, *symbols, batches)
        if name == "sum" and inputs[0].shape[:1] and inputs[0].shape[0] in batches:
            return _sum(writer, symbols[0], instruction.results[0].shape, **instruction.params)
        return None

    return rewrite(graph, rule)


def _batches(graph: Graph) -> tuple[set[int], set[Value]]:
    """Numbers of rows of large matrices that one product takes row by row and another one sums over.

    Also the results of all products that sum over the rows of both their operands.
    """
    #: of a view the matrix it shows, and whether transposed
    shown: dict[Value, tuple[Value, bool]] = {}
    by_rows: set[Value] = set()
    summed: set[Value] = set()
    products: set[Value] = set()
    for i in graph.instructions:
        x, result = i.inputs[0] if i.inputs else None, i.results[0]
        if x is not None and len(x.shape) == len(result.shape) == 2:
            matrix, turned = shown.get(x, (x, False))
            if i.op.name in ("alias", "detach") or (i.op.name == "reshape" and x.shape == result.shape):
                shown[result] = matrix, turned
            elif i.op.name == "permute":
                shown[result] = matrix, turned ^ (i.params["perm"] == (1, 0))
        if i.op.name == "matmul":
            (left, left_turned), (right, right_turned) = (shown.get(v, (v, False)) for v in i.inputs)
            (summed if left_turned else by_rows).add(left)
            if not right_turned:
                summed.add(right)
            if left_turned and not right_turned:
                products.add(result)
    batches = {
        v.shape[0]
        for v in by_rows & summed
        if len(v.shape) == 2 and v.nbytes >= LEAST_BYTES and v.dtype.kind == "f" and division_of(v.shape[0])
    }
    return batches, products


def _product(m: Writer, x: Symbol, y: Symbol, batches: set[int]) -> Any:
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] not in batches:
        return None
    rows, columns, inner = x.shape[0], y.shape[1], x.shape[1]
    division = division_of(inner)
    assert division is not None
    parts = division.parts
    if parts * rows * columns > MOST_PARTIAL * inner * (rows + columns):
        return None
    a = m.permute(m.reshape(x, (rows, parts, inner // parts)), (1, 0, 2))
    b = m.reshape(y, (parts, inner // parts, columns))
    return m.sum(m.matmul(a, b), (0,), False)


def _sum(m: Writer, x: Symbol, shape: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if 0 not in axes or x.dtype.kind != "f":
        return None
    division = division_of(x.shape[0])
    assert division is not None
    chunked = m.reshape(x, (division.chunks, division.size, *x.shape[1:]))
    partial = m.sum(chunked, tuple(a + 1 for a in axes), False)
    total = m.sum(partial, (0,), False)
    return m.reshape(total, shape) if size_of(shape) else total
