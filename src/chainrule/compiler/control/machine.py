"""Machine code of loops and branches.

NOTE [blocks as machine code]. Every block is a native program of its own: a function of a table of addresses. The
kernel of a loop makes that table in its scratch memory, once: addresses of constants are copied from a template,
scratch memory follows the table, what every step reads keeps its place. Then the loop sets, for every step, where the
slices, the outputs and the carry are, and calls the function. A carry goes to and fro between two places, and the last
step writes it where it belongs. A branch calls one of two functions. A block that holds an op without machine code has
none itself: then the whole loop or branch runs its reference kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.control.loops import steps
from chainrule.compiler.kernels import CONSTANT, OUTPUT, SCRATCH, Buffer, Layout, Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import base
from chainrule.compiler.llvm.values import Value
from chainrule.compiler.passes import optimize
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Graph, Instruction, blocks
from chainrule.ir.graph import Value as GraphValue
from chainrule.ir.op import REGISTRY

Array = np.ndarray[Any, Any]
#: steps of a loop that the verifier looks into kernel by kernel
LOOKED_INTO = 32
_ALIGN = 64


class Code(NamedTuple):
    """A block as machine code.

    Attributes:
        native: its program.
        address: where its function starts, as an array of one number.
        template: its table of addresses, with those of constants.
    """

    native: Any
    address: Array
    template: Array

    @property
    def table(self) -> int:
        """Bytes of its table."""
        return _up(self.template.nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of its table and its scratch memory."""
        return self.table + _up(self.native.plan.arena) + _up(self.native.scratch)


class Machine(NamedTuple):
    """What the kernel of a loop or branch needs: its blocks, and the constants that name them in the plan."""

    codes: tuple[Code, ...]
    buffers: tuple[tuple[Buffer, Buffer], ...] = ()

    def constants(self) -> list[tuple[Buffer, Array]]:
        """The constants with their arrays."""
        pairs = zip(self.codes, self.buffers, strict=True)
        return [(b, a) for c, (x, y) in pairs for b, a in ((x, c.address), (y, c.template))]


def _up(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


def prepare(i: Instruction, build: Callable[[Graph], Any]) -> Machine | None:
    """The blocks of an instruction as machine code, or None if one of them has an op without any.

    Args:
        i: a loop or a branch.
        build: makes the native program of an optimized graph.
    """
    codes = []
    for _, block in blocks(i):
        native = build(with_own_outputs(optimize(block.graph)[0]))
        own = all(layout.buffer.role == OUTPUT for layout in native.plan.outputs)
        if native.plan.calls or not native.plan.kernels or not own:
            return None
        table = native.memory().table[: len(native.plan.buffers) + 1]
        template = np.where([b.role == SCRATCH for b in native.plan.buffers] + [True], 0, table)
        codes.append(Code(native, np.array([native.native.address("run0")], np.uintp), template.astype(np.uintp)))
    return Machine(tuple(codes))


def with_own_outputs(graph: Graph) -> Graph:
    """The graph with copies of outputs that are inputs, constants, views, or outputs already: each has its memory."""
    made = {r for i in graph.instructions for r in i.results if not i.op.is_view and i.op.name != "flip"}
    instructions, outputs = list(graph.instructions), []
    seen: set[GraphValue] = set()
    for v in graph.outputs:
        if v not in made or v in seen:
            copy = GraphValue(v.number, v.shape, v.dtype)
            instructions.append(Instruction(REGISTRY["copy"], (v,), {}, (copy,)))
            v = copy
        seen.add(v)
        outputs.append(v)
    return graph._replace(instructions=tuple(instructions), outputs=tuple(outputs))


def with_buffers(machine: Machine, buffers: list[Buffer]) -> Machine:
    """With a constant buffer for each address and template, entered in ``buffers``."""
    made: list[Buffer] = []
    for code in machine.codes:
        for array in (code.address, code.template):
            made.append(Buffer(len(buffers), array.size, array.dtype, CONSTANT))
            buffers.append(made[-1])
    return machine._replace(buffers=tuple(zip(made[::2], made[1::2], strict=True)))


def work_words(i: Instruction, machine: Machine) -> int:
    """Scratch memory in words of 8 bytes."""
    total = max(c.nbytes for c in machine.codes)
    if i.op.name == "scan":
        total += 2 * sum(_up(r.nbytes) for r in i.results[: i.params["carries"]])
    return total // 8


# ---- writing
def emit_control(module: Module, name: str, r: Routine) -> None:
    """A function ``i64 name(ptr table)``: 1 if a check in a block failed, else 0."""
    (_emit_scan if r.instruction.op.name == "scan" else _emit_cond)(module, name, r)


class _Frame:
    """The table of a block, made in scratch memory."""

    def __init__(self, b: Builder, table: Value, r: Routine, number: int) -> None:
        assert r.work is not None
        code, (address, template) = r.control.codes[number], r.control.buffers[number]
        self.b, self.plan = b, code.native.plan
        self.table = b.pointer(table, r.work.number)
        self.end = code.nbytes
        b.memcpy(self.table, b.pointer(table, template.number), code.template.nbytes)
        for x in self.plan.buffers:
            if x.role == SCRATCH:
                self.set(x.number, b.offset(self.table, code.table + x.offset))
        self.set(len(self.plan.buffers), b.offset(self.table, code.table + _up(self.plan.arena)))
        self.function = b.load(b.pointer(table, address.number), "ptr")

    def set(self, entry: int, address: Value) -> None:
        """Say where a buffer is."""
        self.b.store(address, self.b.at(self.table, entry, "ptr"))

    def get(self, entry: int) -> Value:
        """Where a buffer is."""
        return self.b.pointer(self.table, entry)

    def inputs(self) -> list[int]:
        """The entries of the inputs."""
        return [x.number for x in self.plan.inputs]

    def outputs(self) -> list[int]:
        """The entries of the outputs."""
        return [layout.buffer.number for layout in self.plan.outputs]

    def run(self) -> Value:
        """Call the block; whether a check failed."""
        status = self.b.op(f"call i64 {self.function.text}(ptr {self.table.text})", "i64")
        return self.b.ne(status, 0)


def _emit_scan(module: Module, name: str, r: Routine) -> None:
    i = r.instruction
    n, length, reverse = i.params["carries"], i.params["length"], i.params["reverse"]
    stop = n + i.params["slices"]
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        table = b.args[0]

        def place(layout: Layout) -> Value:
            return base(b, table, layout)

        if not length:
            for v, x, y in zip(i.inputs[:n], r.inputs, r.outputs, strict=False):
                b.memcpy(place(y), place(x), v.nbytes)
            b.ret(b.i64(0))
            return
        frame = _Frame(b, table, r, 0)
        entries, results = frame.inputs(), frame.outputs()
        for entry, x in zip(entries[stop:], r.inputs[stop:], strict=True):
            frame.set(entry, place(x))
        moving: list[tuple[int, int]] = []  # an entry, and the bytes from one step to the next
        pairs = [*zip(entries[n:stop], i.inputs[n:stop], r.inputs[n:stop], strict=True)]
        pairs += [*zip(results[n:], i.results[n:], r.outputs[n:], strict=True)]
        for entry, v, x in pairs:
            step = size_of(v.shape[1:]) * v.dtype.itemsize
            frame.set(entry, b.offset(place(x), (length - 1) * step if reverse else 0))
            moving.append((entry, -step if reverse else step))
        at, places = frame.end, []
        for entry, v, x, y in zip(entries[:n], i.results[:n], r.inputs[:n], r.outputs[:n], strict=True):
            frame.set(entry, place(x))
            places.append((b.offset(frame.table, at), b.offset(frame.table, at + _up(v.nbytes)), place(y)))
            at += 2 * _up(v.nbytes)
        with b.loop(0, length) as k:
            odd, last = b.ne(k & 1, 0), b.eq(k, length - 1)
            targets = [b.select(last, end, b.select(odd, u, v)) for v, u, end in places]
            for entry, p in zip(results[:n], targets, strict=True):
                frame.set(entry, p)
            with b.if_(frame.run()):
                b.ret(b.i64(1))
            for entry, p in zip(entries[:n], targets, strict=True):
                frame.set(entry, p)
            for entry, step in moving:
                if step:
                    frame.set(entry, b.offset(frame.get(entry), step))
        b.ret(b.i64(0))


def _emit_cond(module: Module, name: str, r: Routine) -> None:
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        table = b.args[0]

        def branch(number: int) -> Sequence[Value]:
            frame = _Frame(b, table, r, number)
            pairs = [*zip(frame.inputs(), r.inputs[1:], strict=True), *zip(frame.outputs(), r.outputs, strict=True)]
            for entry, x in pairs:
                frame.set(entry, base(b, table, x))
            failed = frame.run()
            return [b.select(failed, b.i64(1), b.i64(0))]

        pred = b.load(base(b, table, r.inputs[0]), "bool")
        b.ret(b.if_else(pred, lambda: branch(0), lambda: branch(1))[0])


# ---- checking
def expected(r: Routine, arrays: list[Array], verify: Callable[[Any, list[Array]], list[Array]]) -> list[Array]:
    """What a loop or branch should give, exactly: its blocks' machine code, called step by step from Python.

    Args:
        r: the kernel.
        arrays: its inputs.
        verify: the outputs of a native program, each of whose kernels it holds to the reference. It is asked for a
            branch, for every step of a loop of up to ``LOOKED_INTO``, and of a longer one for so many, evenly spaced.
    """
    i = r.instruction
    if i.op.name == "cond":
        return verify(r.control.codes[0 if arrays[0] else 1].native, arrays[1:])
    n, length = i.params["carries"], i.params["length"]
    stop = n + i.params["slices"]
    native = r.control.codes[0].native
    carry = arrays[:n]
    stacked = [np.zeros(v.shape, v.dtype) for v in i.results[n:]]
    look = set(np.linspace(0, length - 1, min(length, LOOKED_INTO)).astype(int).tolist()) if length else set()
    for k in steps(length, i.params["reverse"]):
        given = [*carry, *(x[k, ...] for x in arrays[n:stop]), *arrays[stop:]]
        found = verify(native, given) if k in look else native(given)
        carry = [np.asarray(a) for a in found[:n]]
        for y, row in zip(stacked, found[n:], strict=True):
            y[k] = row
    return [*carry, *stacked]
