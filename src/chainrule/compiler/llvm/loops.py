"""Machine code of loops: elementwise instructions and reductions over strided memory, in explicit vectors.

One dimension is vectorized (``llvm.walk`` says which). What does not fill a vector at the end of a row runs the same
body on scalars. Reductions combine lane by lane, then the lanes in a fixed order, so the result depends on the shape
and the target alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.kernels import Check, Loop, Reduction
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.values import Value, kind_of
from chainrule.compiler.llvm.vmath import EMITTERS
from chainrule.compiler.llvm.walk import walk_of
from chainrule.core.shapes import size_of
from chainrule.ir import graph
from chainrule.ir.graph import Instruction

#: independent accumulators per reduction, so that additions overlap
ACCUMULATORS = 4
#: ops with machine code in loops
LOWERED = frozenset(EMITTERS) | {"one_hot", "sum", "amax", "amin", "cast", "copy"}


class _Row(NamedTuple):
    """An access within one row: the address of its first element and the stride along the row."""

    base: Value
    stride: int
    kind: str


class _Emitter:
    def __init__(self, b: Builder, loop: Loop, table: Value) -> None:
        self.b, self.loop = b, loop
        accesses, self.dims, self.vector, self.width = walk_of(loop, b.target)
        self.pointers = [b.at(b.pointer(table, a.buffer.number), a.offset, kind_of(a.buffer.dtype)) for a in accesses]
        self.kinds = [kind_of(a.buffer.dtype) for a in accesses]

    # ---- the nest
    @property
    def rows(self) -> int:
        """The size of the outermost dimension, if it is kept: what threads can divide among themselves."""
        return self.dims[0][0] if self.dims and self.dims[0][2] else 0

    def emit(self, begin: int | Value = 0, end: int | Value | None = None) -> None:
        """All points, or those whose index along the outermost (kept) dimension is in ``[begin, end)``."""
        if 0 in self.loop.space[: len(self.loop.space) - self.loop.reduced]:
            return
        self.begin: int | Value = begin
        self.end: int | Value = self.rows if end is None else end
        start = [self.b.i64(0)] * len(self.dims)
        outer = [d for d in range(len(self.dims)) if d != self.vector and self.dims[d][2]]
        self._outer(outer, start)

    def _outer(self, left: Sequence[int], index: list[Value]) -> None:
        """Loops over the kept dimensions that are not vectorized; there are few, so this recursion is shallow."""
        if not left:
            self._inner(index)
            return
        d = left[0]
        with self.b.loop(*((0, self.dims[d][0]) if d else (self.begin, self.end))) as i:
            index[d] = i
            self._outer(left[1:], index)

    def _vectors(self, body: Callable[[Value, int], None]) -> None:
        """The vectorized kept dimension, from end to end or within this thread's range."""
        b, n = self.b, self.dims[self.vector][0]
        if self.vector or isinstance(self.end, int):
            b.for_vectors(n, self.width, body)
            return
        begin, end = b.i64(self.begin), b.i64(self.end)
        b.for_vectors(end - begin, self.width, lambda i, w: body(i + begin, w))

    def _inner(self, index: list[Value]) -> None:
        if not self.dims:
            finish, totals = self._collect([self._start(r, 1) for r in self.loop.reductions])
            rows = self._rows(index, -1)
            self._point(rows, self.b.i64(0), 1, index, finish)
            self._write(totals, rows, self.b.i64(0))
            return
        if self.loop.reductions and self.dims[self.vector][2]:
            self._vectors(lambda i, w: self._column(index, i, w))
        elif self.loop.reductions:
            self._reduce_rows(index)
        else:
            rows = self._rows(index, self.vector)
            held = self._repeated(rows)
            self._vectors(lambda i, w: self._point(rows, i, w, index, self._finish_elementwise, held))

    def _rows(self, index: list[Value], vector: int) -> list[_Row]:
        """Addresses at index 0 of the vectorized dimension."""
        b, out = self.b, []
        for k, (p, kind) in enumerate(zip(self.pointers, self.kinds, strict=True)):
            for d, (_, strides, _) in enumerate(self.dims):
                if d != vector and strides[k] and index[d].text != "0":
                    p = b.at(p, index[d] * strides[k], kind)
            out.append(_Row(p, self.dims[vector][1][k] if self.dims else 0, kind))
        return out

    def _repeated(self, rows: list[_Row]) -> dict[graph.Value, Value]:
        """Loads that do not move along the row, done once before it."""
        names = list(self.loop.loads)
        return {v: self.b.load(rows[k].base, rows[k].kind) for k, v in enumerate(names) if rows[k].stride == 0}

    def _element(self, row: _Row, i: Value) -> Value:
        return self.b.at(row.base, i * row.stride if row.stride != 1 else i, row.kind)

    def _point(
        self,
        rows: list[_Row],
        i: Value,
        width: int,
        index: list[Value],
        finish: Callable[..., None],
        held: dict[graph.Value, Value] | None = None,
    ) -> None:
        """Load, compute, store for ``width`` points from ``i`` along the row."""
        b = self.b
        known: dict[graph.Value, Value] = {}
        for k, v in enumerate(self.loop.loads):
            if held is not None and v in held:
                known[v] = b.splat(held[v], width)
            else:
                known[v] = b.load(self._element(rows[k], i), rows[k].kind, width, stride=rows[k].stride)
        for instruction in self.loop.body:
            self._compute(instruction, known, i, width, index)
        first = len(self.loop.loads)
        for k, s in enumerate(self.loop.stores):
            row = rows[first + k]
            x = known[s.value]
            b.store(x, self._element(row, i), stride=row.stride)
        finish(known, width)

    def _finish_elementwise(self, known: dict[graph.Value, Value], width: int) -> None:
        pass

    def _compute(
        self, instruction: Instruction, known: dict[graph.Value, Value], i: Value, width: int, index: list[Value]
    ) -> None:
        b, name, result = self.b, instruction.op.name, instruction.results[0]
        xs = [known[v] for v in instruction.inputs]
        if name == "copy":
            known[result] = xs[0]
        elif name == "cast":
            known[result] = b.cast(xs[0], kind_of(result.dtype))
        elif name == "one_hot":
            known[result] = b.cast(b.eq(self._counter(result, i, width, index), b.cast(xs[0], "i64")), "i64")
        else:
            known[result] = EMITTERS[name](b, width, kind_of(instruction.inputs[-1].dtype), *xs)

    def _counter(self, v: graph.Value, i: Value, width: int, index: list[Value]) -> Value:
        """The index along a dimension of the space, which a one-hot compares with."""
        b = self.b
        k = len(self.pointers) + list(self.loop.counters).index(v)
        total, lanes = b.i64(0), 0
        for d, (_, strides, _) in enumerate(self.dims):
            if strides[k]:
                at = i if d == self.vector else index[d]
                total = total + at * strides[k]
                lanes = strides[k] if d == self.vector else lanes
        wide = b.splat(total, width)
        return wide + b.iota("i64", width) * lanes if width > 1 and lanes else wide

    # ---- reductions
    def _start(self, r: Reduction, width: int) -> Value:
        """What changes nothing: -0 for sums, as 0 + -0 is 0."""
        b, k, dtype = self.b, _carried(r.value.dtype), r.value.dtype
        if r.kind == "sum":
            empty = 0 in self.loop.space[len(self.loop.space) - self.loop.reduced :]
            return b.const(0.0 if empty else -0.0, k, width) if dtype.kind == "f" else b.zero(k, width)
        if dtype.kind == "f":
            return b.const(-np.inf if r.kind == "amax" else np.inf, k, width)
        if dtype.kind == "b":
            return b.const(r.kind == "amin", k, width)
        info = np.iinfo(dtype)
        return b.const(int(info.min if r.kind == "amax" else info.max), k, width)

    def _combine(self, kind: str, x: Value, y: Value) -> Value:
        b = self.b
        if x.kind == "bool":  # as NumPy has it: + is or
            return b.and_(x, y) if kind == "amin" else b.or_(x, y)
        return b.add(x, y) if kind == "sum" else b.maximum(x, y) if kind == "amax" else b.minimum(x, y)

    def _collect(self, accumulators: list[Value]) -> tuple[Callable[..., None], list[Value]]:
        """A finisher that adds this point's values to the accumulators, and where the new ones appear."""
        new: list[Value] = []

        def finish(known: dict[graph.Value, Value], width: int) -> None:
            new[:] = [
                self._combine(r.kind, a, self.b.cast(known[r.value], a.kind))
                for r, a in zip(self.loop.reductions, accumulators, strict=True)
            ]

        return finish, new

    def _column(self, index: list[Value], i: Value, width: int) -> None:
        """Reductions over inner dimensions, for ``width`` neighbouring kept points at once."""
        reduced = [d for d in range(len(self.dims)) if not self.dims[d][2]]
        start = [self._start(r, width) for r in self.loop.reductions]

        def run(left: Sequence[int], carried: list[Value]) -> list[Value]:
            if not left:
                finish, new = self._collect(carried)
                self._point(self._rows(index, self.vector), i, width, index, finish)
                return new
            with self.b.loop_carrying(0, self.dims[left[0]][0], 1, carried) as k:
                index[left[0]] = k.index
                k.next(*run(left[1:], k.values))
            return k.results

        results = run(reduced, start)
        for d in reduced:
            index[d] = self.b.i64(0)
        self._write(results, self._rows(index, self.vector), i)

    def _write(self, results: Sequence[Value], rows: list[_Row], i: Value) -> None:
        first = len(self.loop.loads) + len(self.loop.stores)
        for k, x in enumerate(results):
            row = rows[first + k]
            self.b.store(self.b.cast(x, row.kind), self._element(row, i), stride=row.stride)

    def _reduce_rows(self, index: list[Value]) -> None:
        """Reductions whose last dimension is vectorized: accumulators of whole vectors, combined at the end."""
        b, n = self.b, self.dims[self.vector][0]
        reduced = [d for d in range(len(self.dims)) if not self.dims[d][2] and d != self.vector]
        copies = ACCUMULATORS if n >= ACCUMULATORS * self.width else 1
        kinds = self.loop.reductions
        wide = [self._start(r, self.width) for _ in range(copies) for r in kinds]
        narrow = [self._start(r, 1) for r in kinds]

        def row(carried: list[Value]) -> list[Value]:
            rows = self._rows(index, self.vector)
            held = self._repeated(rows)
            vectors, scalars = carried[: len(wide)], carried[len(wide) :]
            step = self.width * copies
            whole = n - n % step
            vectors = self._run(rows, held, index, 0, whole, copies, self.width, vectors)
            first = vectors[: len(kinds)]
            rest = whole + (n - whole) // self.width * self.width
            first = self._run(rows, held, index, whole, rest, 1, self.width, first)
            vectors = [*first, *vectors[len(kinds) :]]
            scalars = self._run(rows, held, index, rest, n, 1, 1, scalars)
            return [*vectors, *scalars]

        def run(left: Sequence[int], carried: list[Value]) -> list[Value]:
            if not left:
                return row(carried)
            with b.loop_carrying(0, self.dims[left[0]][0], 1, carried) as k:
                index[left[0]] = k.index
                k.next(*run(left[1:], k.values))
            return k.results

        results = run(reduced, [*wide, *narrow])
        for d in (*reduced, self.vector):
            index[d] = b.i64(0)
        totals = []
        for j, r in enumerate(kinds):
            parts = [results[c * len(kinds) + j] for c in range(copies)]
            while len(parts) > 1:
                half = len(parts) // 2
                parts = [self._combine(r.kind, x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
            total = b.reduce(parts[0], lambda x, y, kind=r.kind: self._combine(kind, x, y))
            totals.append(self._combine(r.kind, total, results[len(wide) + j]))
        self._write(totals, self._rows(index, self.vector), b.i64(0))

    def _run(
        self,
        rows: list[_Row],
        held: dict[graph.Value, Value],
        index: list[Value],
        start: int,
        stop: int,
        copies: int,
        width: int,
        carried: list[Value],
    ) -> list[Value]:
        """One stretch of a row with its accumulators, ``copies`` vectors a round."""
        if start >= stop:
            return carried
        n = len(self.loop.reductions)
        with self.b.loop_carrying(start, stop, copies * width, carried) as k:
            following: list[Value] = []
            for c in range(copies):
                finish, new = self._collect(k.values[c * n : (c + 1) * n])
                at = k.index + c * width if c else k.index
                self._point(rows, at, width, index, finish, held)
                following += new
            k.next(*following)
        return k.results


def _carried(dtype: np.dtype[Any]) -> str:
    """What a reduction of a dtype is carried in: float16 in float32, rounded at the end."""
    kind = kind_of(dtype)
    return "f32" if kind == "f16" else kind


def emit_loop(module: Module, name: str, loop: Loop, shared: bool = False) -> int:
    """A function ``name(ptr table)`` that runs a loop; ``table[n]`` is the address of buffer n.

    A ``shared`` loop is a function ``name_rows(ptr table, i64 begin, i64 end)`` as well, for the part of the outermost
    dimension that one thread takes; its size is returned, 0 if the loop cannot be divided.
    """
    if shared:
        with module.function(f"{name}_rows", internal=True, inline=False, table="ptr", begin="i64", end="i64") as b:
            emitter = _Emitter(b, loop, b.args[0])
            emitter.emit(b.args[1], b.args[2])
        if emitter.rows:
            with module.function(name, internal=True, inline=False, table="ptr") as b:
                b.call(f"{name}_rows", b.args[0], b.i64(0), b.i64(emitter.rows))
            return emitter.rows
    with module.function(name, internal=True, inline=False, table="ptr") as b:
        _Emitter(b, loop, b.args[0]).emit()
    return 0


def work(loop: Loop) -> float:
    """A rough estimate of the microseconds a loop takes: a third of a nanosecond per element and operation."""
    accesses = len(loop.loads) + len(loop.stores)
    return size_of(loop.space) * (len(loop.body) + accesses) * 0.03e-3


def emit_check(module: Module, name: str, check: Check) -> None:
    """A function ``i64 name(ptr table)``: 1 if an index is out of bounds, else 0."""
    kind = kind_of(check.access.buffer.dtype)
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        base = b.at(b.pointer(b.args[0], check.access.buffer.number), check.access.offset, kind)
        if not check.count:
            b.ret(b.i64(0))
            return
        with b.loop_carrying(0, check.count, 1, [b.const(False, "bool")]) as k:
            x = b.cast(b.load(b.at(base, k.index, kind), kind), "i64")
            k.next(b.or_(k.values[0], b.not_(b.ult(x, check.size))))
        b.ret(b.cast(b.cast(k.results[0], "u8"), "i64"))
