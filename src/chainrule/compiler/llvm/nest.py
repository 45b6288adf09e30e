"""Nests of loops over several strided operands, and the check that indices are in bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from chainrule.compiler.kernels import Layout
from chainrule.compiler.llvm.builder import Builder
from chainrule.compiler.llvm.values import Value, kind_of
from chainrule.core.shapes import Shape


class Dim(NamedTuple):
    """One dimension of a nest: its size, and the stride of each operand along it."""

    size: int
    strides: tuple[int, ...]


def dims_of(shape: Shape, *strides: Sequence[int]) -> list[Dim]:
    """The dimensions of a shape, given each operand's strides."""
    return [Dim(n, tuple(s)) for n, *s in zip(shape, *strides, strict=True)]


def collapse(dims: Sequence[Dim]) -> list[Dim]:
    """Without dimensions of size 1, and with neighbours that every operand walks as one made one."""
    out: list[Dim] = []
    for d in dims:
        if d.size == 1:
            continue
        if out and all(o == s * d.size for o, s in zip(out[-1].strides, d.strides, strict=True)):
            out[-1] = Dim(out[-1].size * d.size, d.strides)
        else:
            out.append(d)
    return out


def walk(
    b: Builder,
    dims: Sequence[Dim],
    pointers: Sequence[Value],
    kinds: Sequence[str],
    body: Callable[[Sequence[Value]], None],
) -> None:
    """Loops over ``dims`` in row-major order; ``body(pointers)`` gets the addresses of the point at hand.

    There is a level of Python recursion per dimension, of which there are few.
    """
    if not dims:
        body(pointers)
        return
    with b.loop(0, dims[0].size) as i:
        inner = [
            b.at(p, i if s == 1 else i * s, k) if s else p
            for p, s, k in zip(pointers, dims[0].strides, kinds, strict=True)
        ]
        walk(b, dims[1:], inner, kinds, body)


def base(b: Builder, table: Value, layout: Layout) -> Value:
    """The address of a layout's first element; ``table[n]`` is the address of buffer n."""
    kind = kind_of(layout.buffer.dtype)
    return b.at(b.pointer(table, layout.buffer.number), layout.offset, kind)


def moved_kind(itemsize: int) -> str:
    """The kind to move elements of a size as, without a look at their value."""
    return {1: "u8", 2: "i16", 4: "i32", 8: "i64"}[itemsize]


def lanes(b: Builder, itemsize: int, count: int) -> int:
    """Lanes of the widest vector that ``count`` elements of a size fill."""
    return min(b.target.width(itemsize), 1 << (count.bit_length() - 1) if count else 1)


def outside(b: Builder, table: Value, layout: Layout, shape: Shape, size: int, negative: bool) -> Value:
    """Whether an element of an integer value lies outside [0, size), or [-size, size) with ``negative``."""
    kind = kind_of(layout.buffer.dtype)
    found = b.alloca(8, 8)
    b.store(b.i64(0), found)
    dims = collapse(dims_of(shape, layout.strides))
    count, (stride,) = dims[-1] if dims else Dim(1, (0,))

    def test(p: Value, i: Value, width: int) -> Value:
        x = b.cast(b.load(b.at(p, i if stride == 1 else i * stride, kind), kind, width, stride=stride), "i64")
        return ~(b.ult(x + size, 2 * size) if negative else b.ult(x, size))

    def row(pointers: Sequence[Value]) -> None:
        width = lanes(b, 8, count) if stride == 1 else 1
        whole = count - count % width
        with b.loop_carrying(0, whole, width, [b.const(False, "bool", width)]) as k:
            k.next(k.values[0] | test(pointers[0], k.index, width))
        bad = b.any(k.results[0])
        if whole < count:
            with b.loop_carrying(whole, count, 1, [bad]) as k:
                k.next(k.values[0] | test(pointers[0], k.index, 1))
            bad = k.results[0]
        b.store(b.load(found, "i64") | b.cast(b.cast(bad, "u8"), "i64"), found)

    if 0 not in shape:
        walk(b, dims[:-1], [base(b, table, layout)], [kind], row)
    return b.ne(b.load(found, "i64"), 0)
