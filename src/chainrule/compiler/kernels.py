"""Kernels: what a graph becomes before machine code, as plain data that can be printed.

A :class:`Buffer` is memory; an :class:`Access` says which element of it a point of an iteration space touches. Views
are accesses, so they cost nothing. A :class:`Loop` computes elementwise instructions, and sums or extremes, point by
point; a :class:`Product` is a matrix product; a :class:`Call` runs the reference kernel of an op that has no machine
code of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule.core.shapes import Shape
from chainrule.ir.graph import Instruction, Value, describe_type

INPUT, CONSTANT, OUTPUT, SCRATCH = "input", "constant", "output", "scratch"
_LETTERS = {INPUT: "x", CONSTANT: "c", OUTPUT: "y", SCRATCH: "t"}


class Buffer:
    """A range of memory that holds ``size`` elements densely.

    ``role`` says who owns it: the caller ("input", "output"), the program ("constant"), or the arena ("scratch"), where
    it starts at byte ``offset``.
    """

    __slots__ = ("dtype", "number", "offset", "role", "size")

    def __init__(self, number: int, size: int, dtype: np.dtype[Any], role: str) -> None:
        self.number, self.size, self.dtype, self.role = number, size, dtype, role
        self.offset = 0

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{_LETTERS[self.role]}{self.number}"


class Access(NamedTuple):
    """Element ``offset + sum(index * stride)`` of a buffer, for a point of a space; stride 0 repeats."""

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        terms = [f"{s}*i{k}" if s != 1 else f"i{k}" for k, s in enumerate(self.strides) if s]
        return f"{self.buffer}[{' + '.join([*([str(self.offset)] if self.offset else []), *terms]) or '0'}]"


class Layout(NamedTuple):
    """Where the elements of a value of some shape are: an access with a stride per dimension."""

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]


def row_major(shape: Shape) -> tuple[int, ...]:
    """The strides of a dense array."""
    strides, step = [], 1
    for d in reversed(shape):
        strides.append(step)
        step *= d
    return tuple(reversed(strides))


class Store(NamedTuple):
    """A value computed at each point is written."""

    value: Value
    access: Access


class Reduction(NamedTuple):
    """A value is combined over the reduced dimensions ("sum", "amax", "amin") and written once per kept point."""

    kind: str
    value: Value
    result: Value
    access: Access


#: the lanes and the sizes that reductions run over when a reduced dimension is vectorized; empty: one after the other
Order = tuple[int, ...]


class Loop:
    """Elementwise instructions over one iteration space, the last ``reduced`` dimensions of which are summed over.

    Attributes:
        space: sizes, outermost first.
        reduced: how many trailing dimensions the reductions run over.
        loads: values that are read, with their accesses.
        body: instructions in order; each works on the point at hand.
        stores, reductions: what is written.
        counters: for results that compare with an index along a dimension (one-hot), that index's stride per dimension.
        order: the order in which reductions have to combine, as ``llvm.loops`` names it; None: any.
    """

    def __init__(
        self,
        space: Shape,
        reduced: int,
        loads: dict[Value, Access],
        body: list[Instruction],
        stores: list[Store],
        reductions: list[Reduction],
        counters: dict[Value, tuple[int, ...]],
        order: Order | None = None,
    ) -> None:
        self.space, self.reduced, self.loads, self.body = space, reduced, loads, body
        self.stores, self.reductions, self.counters, self.order = stores, reductions, counters, order

    def __str__(self) -> str:
        kept = len(self.space) - self.reduced
        lines = [f"loop {list(self.space[:kept])}" + (f" reducing {list(self.space[kept:])}" if self.reduced else "")]
        lines += [f"  {v!r} = {a}" for v, a in self.loads.items()]
        lines += [f"  {i}" for i in self.body]
        lines += [f"  {s.access} = {s.value!r}" for s in self.stores]
        lines += [f"  {r.access} = {r.kind} {r.value!r}" for r in self.reductions]
        return "\n".join(lines)


class Rows(NamedTuple):
    """Which rows of a table an operand of a product consists of: indices, which may count from the end, of ``size``.

    The access goes over the batch and the rows.
    """

    index: Access
    size: int


class Product(NamedTuple):
    """C = A B for matrices in the last two dimensions of accesses; leading dimensions are a batch.

    An ``epilogue`` is a loop over the elements of C, computed while they are in registers: what it loads from there
    is the product; C is written only if that is one of its stores. An operand with ``rows`` is a table of which these
    rows are meant (along the batch, its own strides are 0). With ``block``, the sums over k are computed in blocks of
    so many steps, which divides k. ``zeros`` of an operand, "a" or "b", may be left out.
    """

    instruction: Instruction
    batch: Shape
    m: int
    n: int
    k: int
    a: Access
    b: Access
    c: Access
    epilogue: Loop | None = None
    a_rows: Rows | None = None
    b_rows: Rows | None = None
    block: int = 0
    zeros: str = ""

    @property
    def reads(self) -> list[tuple[Access, Shape]]:
        """What is read, over which space: operands, indices, and what the epilogue loads beside the product."""
        more = self.epilogue.loads.values() if self.epilogue else ()
        found = [(a, (*self.batch, self.m, self.n)) for a in more if a.buffer is not self.c.buffer]
        for operand, rows, count, length in (
            (self.a, self.a_rows, self.m, self.k),
            (self.b, self.b_rows, self.k, self.n),
        ):
            found.append((operand, (*self.batch, rows.size if rows else count, length)))
            found += [(rows.index, (*self.batch, count))] if rows else []
        return found

    @property
    def writes(self) -> list[Access]:
        """What is written, over the batch and the two dimensions of C."""
        return [s.access for s in self.epilogue.stores] if self.epilogue else [self.c]

    def __str__(self) -> str:
        batch = f" {list(self.batch)} times" if self.batch else ""
        lines = [f"product{batch} [{self.m}, {self.k}] [{self.k}, {self.n}]"]
        operands = " ".join(
            f"{a} by {rows.index}" if rows else str(a) for a, rows in ((self.a, self.a_rows), (self.b, self.b_rows))
        )
        operands += f" without zeros of {self.zeros}" if self.zeros else ""
        if self.epilogue is None:
            return "\n".join([*lines, f"  {self.c} = {operands}"])
        names = [repr(v) for v, a in self.epilogue.loads.items() if a.buffer is self.c.buffer]
        e, more = self.epilogue, {v: a for v, a in self.epilogue.loads.items() if a.buffer is not self.c.buffer}
        rest = Loop(e.space, 0, more, e.body, e.stores, [], {})
        return "\n".join([*lines, f"  {', '.join(names)} = {operands}", f"then {rest}"])


class Check(NamedTuple):
    """Raise as eager mode does unless every element of an integer value lies in [0, size)."""

    instruction: Instruction
    access: Access
    count: int
    size: int

    def __str__(self) -> str:
        return f"check 0 <= {self.access} < {self.size}"


class Routine(NamedTuple):
    """An op with machine code of its own on whole arrays, such as a gather or a sort; ``work`` is its scratch memory.

    With ``checks`` its function reports operands that eager mode refuses; then the reference kernel raises the error.
    Without outputs it is no more than these checks. ``control`` is the machine code of the blocks of a loop or branch.
    """

    instruction: Instruction
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    work: Buffer | None
    checks: bool
    control: Any = None

    def __str__(self) -> str:
        if self.control is None:
            return f"{'routine' if self.outputs else 'checks of'} {self.instruction}"
        lines = [f"control {self.instruction}"]
        for code in self.control.codes:
            lines += [f"  {line}" for line in str(code.native.plan).splitlines()]
        return "\n".join(lines)


class Call(NamedTuple):
    """The reference kernel of an op, on arrays: for ops without machine code of their own."""

    instruction: Instruction
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]

    def __str__(self) -> str:
        return f"call {self.instruction}"


Kernel = Loop | Product | Check | Routine | Call


class Chunked(NamedTuple):
    """The kernels ``first <= n < end`` run chunk by chunk of a batch's rows, ``size`` of which are a chunk.

    The chunks of one of the ``parts`` run in order, in one thread.
    """

    first: int
    end: int
    chunks: int
    parts: int
    size: int

    def __str__(self) -> str:
        last = self.end - 1
        return f"kernels {self.first} to {last}: {self.chunks} chunks of {self.size} rows, in {self.parts} parts"


class Plan(NamedTuple):
    """Kernels in order, all buffers, and the bytes of the arena (known before anything runs)."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Layout, ...]
    constants: tuple[tuple[Buffer, np.ndarray[Any, Any]], ...]
    arena: int
    chunked: Chunked | None = None

    @property
    def calls(self) -> list[Call]:
        """The ops that run outside machine code."""
        return [k for k in self.kernels if isinstance(k, Call)]

    def __str__(self) -> str:
        lines = [f"arena: {self.arena} bytes, {len(self.kernels)} kernels, {len(self.calls)} calls"]
        for b in self.buffers:
            at = f" at {b.offset}" if b.role == SCRATCH else ""
            lines.append(f"buffer {b!r}: {describe_type(b.dtype, (b.size,))}{at}")
        lines += [str(self.chunked)] if self.chunked else []
        return "\n".join([*lines, *map(str, self.kernels)])


def dense(layout: Layout, shape: Shape) -> bool:
    """Whether a layout is that of a dense array that fills its buffer from some offset."""
    return all(s == r or d == 1 for s, r, d in zip(layout.strides, row_major(shape), shape, strict=True))
