"""Machine code of ops whose places are data: slices by index, element by element, writing and adding by index.

All are one nest over three operands: the *table* that indices point into, the *indices*, and the *other* side. An index
is read once per slice; the dimensions of a slice are the inner ones, in vectors. Every index is checked before any
element is touched. Indices are visited in row-major order, so a place that is named twice gets what NumPy gives it: the
last element written, or the sum in that order.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import Layout, Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import Dim, base, collapse, dims_of, lanes, moved_kind, outside, walk
from chainrule.compiler.llvm.values import BYTES, Value, kind_of
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Instruction

READ, WRITE, ADD = "read", "write", "add"
#: bytes by which a gather of rows asks for memory ahead: the processor cannot guess where the next row is
AHEAD = 8 << 10


class _Places:
    """What the ops have in common, made out from an instruction and its layouts."""

    def __init__(self, r: Routine) -> None:
        i = r.instruction
        name = i.op.name
        x, self.index = i.inputs[0], i.inputs[1]
        self.mode = {"take": READ, "gather": READ, "scatter": WRITE, "put_rows": WRITE}.get(name, ADD)
        self.negative = name in ("take", "take_add", "put_rows")
        self.axis = axis = i.params.get("axis", 0)
        at, out = r.inputs[1], r.outputs[0]
        if name in ("take", "gather"):
            table, other, shape = r.inputs[0], out, x.shape
        elif name == "take_add":
            table, other, shape = out, r.inputs[0], i.results[0].shape
        else:  # x was copied to the result before
            table, other, shape = out, r.inputs[2], x.shape
        self.table, self.at, self.other = table, at, other
        self.itemsize = x.dtype.itemsize
        self.size, self.step = shape[axis], table.strides[axis]
        if self.negative:  # slices along the axis; the index has dimensions of its own in its place
            rank, zeros = len(self.index.shape), (0,) * len(shape)
            dims = dims_of(shape[:axis], table.strides[:axis], zeros[:axis], other.strides[:axis])
            dims += dims_of(self.index.shape, (0,) * rank, at.strides, other.strides[axis : axis + rank])
            rest = slice(axis + 1, None)
            dims += dims_of(shape[rest], table.strides[rest], zeros[rest], other.strides[axis + rank :])
        else:
            own = tuple(0 if d == axis else s for d, s in enumerate(table.strides))
            dims = dims_of(self.index.shape, own, at.strides, other.strides)
        self.dims = collapse(dims)

    def split(self) -> tuple[list[Dim], list[Dim]]:
        """The dimensions with an index per step, and those of a slice: no place comes twice along one of these."""
        n = len(self.dims)
        while n:
            table, index, _ = self.dims[n - 1].strides
            if index or not (table or self.mode == READ):
                break
            n -= 1
        return self.dims[:n], self.dims[n:]

    def rows(self) -> bool:
        """Whether this reads contiguous rows, one for each index, of more than a few lines of the cache."""
        outer, inner = self.split()
        return (
            self.mode == READ
            and len(outer) == len(inner) == 1
            and inner[0].strides == (1, 0, 1)
            and inner[0].size * self.itemsize >= 256
        )


def emit_places(module: Module, name: str, r: Routine) -> None:
    """A function ``i64 name(ptr table)`` for take, take_add, gather, scatter, scatter_add or put_rows.

    It returns 1, having touched nothing, if an index is out of bounds; else 0.
    """
    if not r.outputs:
        _emit_check(module, name, r)
        return
    p = _Places(r)
    dtype = r.instruction.results[0].dtype
    kind = kind_of(dtype) if p.mode == ADD and dtype.kind != "b" else moved_kind(dtype.itemsize)
    integer = kind_of(p.index.dtype)
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        table = b.args[0]
        with b.if_(outside(b, table, p.at, p.index.shape, p.size, p.negative)):
            b.ret(b.i64(1))
        if r.instruction.op.name == "take_add":
            b.memset(base(b, table, p.table), size_of(r.instruction.results[0].shape) * dtype.itemsize)
        outer, inner = p.split()

        def slice_at(pointers: Sequence[Value]) -> None:
            i = b.cast(b.load(pointers[1], integer), "i64")
            if p.negative:
                i = b.select(i < 0, i + p.size, i)
            start = b.at(pointers[0], i if p.step == 1 else i * p.step, kind)
            both = [Dim(d.size, (d.strides[0], d.strides[2])) for d in inner]
            last = both[-1] if both else Dim(1, (0, 0))
            places = [start, pointers[2]]
            walk(b, both[:-1], places, [kind, kind], lambda at: _move(b, p.mode, kind, dtype.kind, last, at))

        if p.rows():
            _read_rows(b, p, kind, integer)
        elif all(d.size for d in p.dims):
            places = [base(b, table, x) for x in (p.table, p.at, p.other)]
            walk(b, outer, places, [kind, integer, kind], slice_at)
        b.ret(b.i64(0))


def _emit_check(module: Module, name: str, r: Routine) -> None:
    """A function ``i64 name(ptr table)``: 1 if an index of a take is out of bounds, else 0."""
    x, index = r.instruction.inputs
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        bad = outside(b, b.args[0], r.inputs[1], index.shape, x.shape[r.instruction.params["axis"]], True)
        b.ret(b.cast(b.cast(bad, "u8"), "i64"))


def _read_rows(b: Builder, p: _Places, kind: str, integer: str) -> None:
    """Contiguous rows by index: while one is copied, the second-level cache is asked for one that comes later."""
    table, at, other = (base(b, b.args[0], x) for x in (p.table, p.at, p.other))
    (count, strides), (size, _) = p.dims
    distance = max(1, AHEAD // (size * BYTES[kind]))

    def row(n: Value) -> Value:
        i = b.cast(b.load(b.at(at, n * strides[1], integer), integer), "i64")
        return b.at(table, (b.select(i < 0, i + p.size, i) if p.negative else i) * p.step, kind)

    with b.loop(0, count) as n:
        later = b.select(n < count - distance, n + distance, count - 1)
        source, target, following = row(n), b.at(other, n * strides[2], kind), row(later)

        def body(i: Value, width: int) -> None:
            b.prefetch(b.at(following, i, kind), locality=2)
            b.store(b.load(b.at(source, i, kind), kind, width), b.at(target, i, kind))

        b.for_vectors(size, lanes(b, BYTES[kind], size), body)


def _move(b: Builder, mode: str, kind: str, numpy_kind: str, d: Dim, pointers: Sequence[Value]) -> None:
    """One row of a slice, read from the table, written to it or added to it."""
    inside, beside = d.strides

    def body(i: Value, width: int) -> None:
        p, q = (b.at(x, i if s == 1 else i * s, kind) if s else x for x, s in zip(pointers, d.strides, strict=True))
        if mode == READ:
            b.store(b.load(p, kind, width, stride=inside), q, stride=beside)
            return
        x = b.load(q, kind, width, stride=beside)
        if mode == ADD:
            old = b.load(p, kind, width, stride=inside)
            x = old | x if numpy_kind == "b" else old + x
        b.store(x, p, stride=inside)

    b.for_vectors(d.size, lanes(b, BYTES[kind], d.size), body)


def emit_ravel_index(module: Module, name: str, r: Routine) -> None:
    """A function ``i64 name(ptr table)``: 1 if an index is out of bounds, else 0 with the row-major index written."""
    i = r.instruction
    sizes, shape = i.params["sizes"], i.results[0].shape
    layouts: tuple[Layout, ...] = (*r.inputs, *r.outputs)
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        for layout, size in zip(r.inputs, sizes, strict=True):
            with b.if_(outside(b, b.args[0], layout, shape, size, True)):
                b.ret(b.i64(1))
        dims = collapse(dims_of(shape, *(x.strides for x in layouts)))
        last = dims[-1] if dims else Dim(1, (1,) * len(layouts))

        def row(pointers: Sequence[Value]) -> None:
            def body(k: Value, width: int) -> None:
                at = [b.at(p, k * s, "i64") for p, s in zip(pointers, last.strides, strict=True)]
                total = b.zero("i64", width)
                for p, s, n in zip(at, last.strides, sizes, strict=False):
                    x = b.load(p, "i64", width, stride=s)
                    total = total * n + b.select(x < 0, x + n, x)
                b.store(total, at[-1], stride=last.strides[-1])

            b.for_vectors(last.size, lanes(b, 8, last.size), body)

        if 0 not in shape:
            walk(b, dims[:-1], [base(b, b.args[0], x) for x in layouts], ["i64"] * len(layouts), row)
        b.ret(b.i64(0))


def lowers_places(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_places` covers an instruction: integer indices, shapes that need no broadcasting."""
    name, index, result = i.op.name, i.inputs[1], i.results[0]
    if index.dtype.kind not in "iu":
        return False
    if name in ("take_add", "scatter_add") and result.dtype == "f2" and not has_f16:
        return False
    axis = i.params.get("axis", 0)
    if name in ("take", "take_add"):
        return True
    x = i.inputs[0].shape
    if name == "put_rows":
        return i.inputs[2].shape == (*index.shape, *x[1:])
    beside = [(n, m) for d, (n, m) in enumerate(zip(index.shape, x, strict=True)) if d != axis]
    if name == "gather":
        return bool(x) and all(n == m for n, m in beside)
    return bool(x) and i.inputs[2].shape == index.shape and all(n <= m for n, m in beside)
