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


class Product(NamedTuple):
    """C = A B for matrices in the last two dimensions of accesses; leading dimensions are a batch."""

    instruction: Instruction
    batch: Shape
    m: int
    n: int
    k: int
    a: Access
    b: Access
    c: Access

    def __str__(self) -> str:
        batch = f" {list(self.batch)} times" if self.batch else ""
        return f"product{batch} [{self.m}, {self.k}] [{self.k}, {self.n}]\n  {self.c} = {self.a} {self.b}"


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
    ``control`` is the machine code of the blocks of a loop or branch.
    """

    instruction: Instruction
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    work: Buffer | None
    checks: bool
    control: Any = None

    def __str__(self) -> str:
        if self.control is None:
            return f"routine {self.instruction}"
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


class Plan(NamedTuple):
    """Kernels in order, all buffers, and the bytes of the arena (known before anything runs)."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Layout, ...]
    constants: tuple[tuple[Buffer, np.ndarray[Any, Any]], ...]
    arena: int

    @property
    def calls(self) -> list[Call]:
        """The ops that run outside machine code."""
        return [k for k in self.kernels if isinstance(k, Call)]

    def __str__(self) -> str:
        lines = [f"arena: {self.arena} bytes, {len(self.kernels)} kernels, {len(self.calls)} calls"]
        for b in self.buffers:
            at = f" at {b.offset}" if b.role == SCRATCH else ""
            lines.append(f"buffer {b!r}: {describe_type(b.dtype, (b.size,))}{at}")
        return "\n".join([*lines, *map(str, self.kernels)])


def dense(layout: Layout, shape: Shape) -> bool:
    """Whether a layout is that of a dense array that fills its buffer from some offset."""
    return all(s == r or d == 1 for s, r, d in zip(layout.strides, row_major(shape), shape, strict=True))
