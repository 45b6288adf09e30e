"""Functions that copy operands of a matrix product into scratch, in the order in which tiles read them.

A panel holds ``stride`` neighbouring columns of B as [k][stride], zeros beyond the last column. Every function is made
once per module and shape; each of the functions here gives its name.
"""

from __future__ import annotations

from typing import Any

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm_finite import largest, note, with_sizes
from chainrule.compiler.llvm.gemm_plan import Index, exact
from chainrule.compiler.llvm.gemm_rows import LINE, Rows
from chainrule.compiler.llvm.values import BYTES, Value

#: rows of B that packing asks for ahead of those it copies
AHEAD = 16


def pack_rows(module: Module, kind: str, columns: int, stride: int, b_k: int, index: Index | None) -> str:
    """``(source, panel, depth, index)``: rows of B that are contiguous, ``b_k`` elements apart or found by index.

    The second-level cache is asked for rows to come: a panel takes so little of each that the processor does not see
    where the next one is.
    """
    name = f"pack_rows_{kind}_{columns}_{stride}_{rows_name(b_k, index)}"
    if module.has(name):
        return name
    with module.function(name, internal=True, noalias=False, source="ptr", panel="ptr", depth="i64", index="ptr") as b:
        source, panel, depth, place = b.args
        rows = Rows(b, kind, source, b_k, 0, index, place)
        with b.loop_carrying(0, depth, 1, [panel]) as k:
            copy_row(b, rows, k.index, depth, k.values[0], columns, stride)
            k.next(b.offset(k.values[0], stride * BYTES[kind]))
    return name


def rows_name(b_k: int, index: Index | None) -> str:
    """Where rows are, as part of a name."""
    return _word(b_k) + (f"_by_{index.kind}_{_word(index.stride)}_{index.size}" if index else "")


def copy_row(b: Builder, rows: Rows, k: Value, depth: Value, target: Value, columns: int, stride: int) -> list[Value]:
    """Copy row k of ``depth`` rows to its place in a panel, and ask for a later one; the vectors that were read."""
    kind, size, width = rows.kind, BYTES[rows.kind], b.target.width(BYTES[rows.kind])
    later = b.select(k < depth - AHEAD, k + AHEAD, depth - 1)
    source, far = rows.at(k), rows.at(later)
    for at in range(0, columns * size, LINE):
        b.prefetch(b.offset(far, at), locality=2)
    read: list[Value] = []
    for at in range(0, stride, width):
        lanes = min(width, columns - at)
        read += _copy(b, b.offset(source, at * size), b.offset(target, at * size), kind, lanes, width)
    return read


def _copy(b: Builder, source: Value, target: Value, kind: str, lanes: int, width: int) -> list[Value]:
    """One vector with ``lanes`` of its elements read, the others zero; what was read."""
    if lanes == width or (b.target.has_avx512f and lanes > 0):
        v = b.load(source, kind, width, mask=b.tail_mask(lanes, width) if lanes < width else None)
        b.store(v, target)
        return [v]
    b.store(b.zero(kind, width), target)
    at, read = 0, []
    for part in exact(max(0, lanes)):
        read.append(b.load(b.at(source, at, kind), kind, part))
        b.store(read[-1], b.at(target, at, kind))
        at += part
    return read


def pack_turned(module: Module, kind: str, columns: int, noting: bool = False) -> str:
    """``(source, panel, depth, b_n, stride)``: up to one vector of columns of B, each contiguous.

    ``depth`` is at least the vector's width; ``b_n`` is the distance of columns, ``stride`` the panel's, in bytes.
    Square blocks are transposed in registers; the last block overlaps the one before where the width does not divide
    the depth. ``noting``: what a last argument, ``flag``, points at is set to 1 if there is an infinity or NaN.
    """
    name = f"pack_turned_{kind}_{columns}{'_noting' if noting else ''}"
    if module.has(name):
        return name
    width = module.target.width(BYTES[kind])
    arguments: dict[str, Any] = {"source": "ptr", "panel": "ptr", "depth": "i64", "b_n": "i64", "stride": "i64"}
    arguments |= {"flag": "ptr"} if noting else {}
    with module.function(name, internal=True, noalias=False, inline=False, **arguments) as b:
        source, panel, depth, b_n, stride, *flag = b.args
        last = depth - width
        with b.loop_carrying(0, depth, width, [largest(b, kind, width)] if noting else []) as i:
            k = b.select(i.index < last, i.index, last)
            src = b.at(source, k, kind)
            rows = []
            for r in range(columns):
                rows.append(b.load(src, kind, width))
                if r + 1 < columns:
                    src = b.offset(src, b_n)
            i.next(*(with_sizes(b, seen, rows) for seen in i.values))
            rows += [b.zero(kind, width)] * (width - columns)
            dst = b.offset(panel, k * stride)
            for row in b.transpose(rows):
                b.store(row, dst)
                dst = b.offset(dst, stride)
        for seen in i.results:
            note(b, kind, seen, flag[0])
    return name


def pack_any(module: Module, kind: str) -> str:
    """``(source, panel, depth, columns, stride, b_k, b_n)``: B with any strides (elements), one element at a time."""
    name = f"pack_any_{kind}"
    if module.has(name):
        return name
    numbers: dict[str, Any] = dict.fromkeys(("depth", "columns", "stride", "b_k", "b_n"), "i64")
    with module.function(name, internal=True, noalias=False, inline=False, source="ptr", panel="ptr", **numbers) as b:
        source, panel, depth, columns, stride, b_k, b_n = b.args
        with b.loop(0, depth) as k:
            src, dst = b.at(source, k * b_k, kind), b.at(panel, k * stride, kind)
            with b.loop(0, columns) as n:
                b.store(b.load(b.at(src, n * b_n, kind), kind), b.at(dst, n, kind))
            with b.loop(columns, stride) as n:
                b.store(b.zero(kind), b.at(dst, n, kind))
    return name


def _word(n: int) -> str:
    """A number as part of a name."""
    return str(n).replace("-", "m")
