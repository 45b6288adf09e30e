"""The check of a native program against the reference kernels, kernel by kernel.

Each kernel of the plan runs alone, on the memory its predecessors left, so errors do not add up and bounds can be
tight. Its inputs are read from the buffers, the same instructions are evaluated with NumPy, and what it wrote has to
lie in the range that NOTE [ranges] of ``compiler.bounds`` derives. The bounds, with u half the unit in the last place
of 1:

* elementwise instructions: see there;
* sums of n terms: those of the terms' ranges, and (n - 1) u sum|x|, which holds for every order of additions (Higham,
  "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2); extremes: those of the terms;
* matrix products: (k + 1) u |A| |B| (section 3.5 there), for every order, with or without fused multiply-add, twice
  that where the reference is not computed in a wider format;
* loops and branches: exactly what their blocks' machine code gives, called step by step; the blocks' kernels, in up to
  32 steps of each loop, are held to these bounds in turn;
* NaN and infinities where the reference has them, integers and booleans exact, and nothing else written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule.compiler import bounds, sum_bounds
from chainrule.compiler.bounds import Array, Range
from chainrule.compiler.control.machine import expected
from chainrule.compiler.kernels import (
    INPUT,
    OUTPUT,
    SCRATCH,
    Access,
    Buffer,
    Call,
    Check,
    Kernel,
    Layout,
    Loop,
    Plan,
    Product,
    Routine,
    Rows,
    Store,
    row_major,
)  # fmt: skip
from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.loops import emit_loop
from chainrule.core.errors import describe_place
from chainrule.core.memory import address
from chainrule.core.shapes import Shape, size_of
from chainrule.ir.graph import Instruction, Value
from chainrule.ir.op import REGISTRY

if TYPE_CHECKING:
    from chainrule.compiler.native import NativeProgram

_GUARD, _FILL = 64, 0xFF
#: bytes from which inputs are not copied
LARGE = 1 << 20


class VerificationError(RuntimeError):
    """A native kernel disagrees with the reference: a defect of the compiler, never of the program compiled.

    Attributes:
        instruction: the first one that differs; None if the kernel as a whole did something wrong.
        kernel: its kernel's number in the plan.
        index: of the first element that differs, in the kernel's order of dimensions.
        got, expected: the two values there.
        limits: the least and the largest value that would have been accepted.
    """

    def __init__(
        self,
        kernel: Kernel,
        number: int,
        what: str,
        instruction: Instruction | None = None,
        index: Shape | None = None,
        got: Any = None,
        expected: Any = None,
        limits: tuple[Any, Any] | None = None,
    ) -> None:
        self.instruction, self.kernel, self.index = instruction, number, index
        self.got, self.expected, self.limits = got, expected, limits
        lines = [f"compiled code disagrees with the reference kernels: {what}"]
        if instruction is not None:
            lines += [f"  node:     {instruction}", f"  at:       {describe_place(instruction.place)}"]
        if index is not None:
            lines += [
                f"  index:    {list(index)}",
                f"  expected: {expected!r}, within {limits!r}",
                f"  got:      {got!r}",
            ]
        lines.append('  fix:      please report this; verify="never" skips the check, CHAINRULE_COMPILE=0 the compiler')
        lines += [f"  kernel {number}:", *(f"    {line}" for line in str(kernel).splitlines())]
        super().__init__("\n".join(lines))


class Result(NamedTuple):
    """What a kernel should have written: an instruction's result, the elements of memory it is in, and its range."""

    instruction: Instruction
    place: Layout | Access
    range: Range


def strided(flat: Array, place: Layout | Access, shape: Shape) -> Array:
    """The elements of an access over a space, as a view of its buffer's memory."""
    if size_of(shape) == 0:
        return np.empty(shape, flat.dtype)
    step = flat.dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat[place.offset :], shape, [s * step for s in place.strides])


class _Memory:
    """All buffers of a plan, owned by one check: inputs are copies, and each block lies between guard bytes.

    Inputs of ``LARGE`` bytes or more (a data set whose rows a step gathers) that no output stands in are used where
    they are, unless the check is strict: no kernel has a store to them.
    """

    def __init__(
        self, plan: Plan, scratch: int, arrays: Sequence[Array], aliases: Mapping[Buffer, Buffer], strict: bool
    ) -> None:
        self.blocks: list[Array] = []
        self.arrays: dict[Buffer, Array] = {}
        self.table = np.zeros(len(plan.buffers) + 1, np.uintp)
        given = {b: np.asarray(a) for b, a in zip(plan.inputs, arrays, strict=True)}
        given.update(plan.constants)
        #: per buffer the block it is in and the byte it starts at
        self.where: dict[Buffer, tuple[int, int]] = {}
        self.arena = self._block(plan.arena)
        replaced = set(aliases.values())
        for b in sorted(plan.buffers, key=lambda b: b in aliases):
            if b.role == INPUT and b.nbytes >= LARGE and b not in replaced and not strict:
                self.arrays[b] = a = np.ascontiguousarray(given[b], b.dtype).reshape(-1)
                self.table[b.number] = address(a)
                continue
            if b.role == SCRATCH:
                self.where[b] = 0, _GUARD + b.offset
            elif b in aliases:
                self.where[b] = self.where[aliases[b]]
            else:
                found = self._block(b.nbytes)
                self.where[b] = len(self.blocks) - 1, _GUARD
                if b in given:
                    a = np.ascontiguousarray(given[b], b.dtype).reshape(-1).view(np.uint8)
                    found[: a.size] = a
            block, at = self.where[b]
            held = self.blocks[block][at : at + b.nbytes]
            self.arrays[b] = held.view(b.dtype)
            self.table[b.number] = address(held)
        self.scratch = self._block(scratch)
        self.table[-1] = address(self.scratch)
        self.address = int(address(self.table))

    def _block(self, nbytes: int) -> Array:
        """Bytes from a multiple of the guard's size on, full of what no kernel would compute."""
        whole = np.full(nbytes + 3 * _GUARD, _FILL, np.uint8)
        start = _GUARD + -address(whole) % _GUARD
        self.blocks.append(whole[start - _GUARD : start + nbytes + _GUARD])
        return whole[start : start + nbytes]

    def read(self, place: Layout | Access, shape: Shape) -> Array:
        """A copy of the elements of an access."""
        return strided(self.arrays[place.buffer], place, shape).copy()

    def snapshot(self) -> list[Array]:
        """All bytes, but for the working memory of matrix products."""
        return [b.copy() for b in self.blocks[:-1]]

    def strayed(self, before: list[Array], written: Sequence[tuple[Layout | Access, Shape]]) -> str | None:
        """Where memory changed that a kernel did not declare to write, or None."""
        allowed = [np.zeros(b.size, bool) for b in before]
        for place, shape in written:
            b = place.buffer
            block, at = self.where[b]
            elements = np.zeros(b.size, bool)
            strided(elements, place, shape)[...] = True
            allowed[block][at : at + b.nbytes] |= np.repeat(elements, b.dtype.itemsize)
        for n, (old, new, free) in enumerate(zip(before, self.blocks, allowed, strict=False)):
            changed = np.flatnonzero((old != new) & ~free)
            if changed.size:
                names = [b for b, (block, _) in self.where.items() if block == n and b.role != SCRATCH]
                return f"byte {int(changed[0]) - _GUARD} of {names[0] if names else 'the arena'}"
        return None

    def guards_hold(self) -> bool:
        """Whether nothing was written right before or after any block."""
        return all(bool((b[:_GUARD] == _FILL).all() and (b[-_GUARD:] == _FILL).all()) for b in self.blocks)


# ---- what each kernel should write
def _loop(
    k: Loop, memory: _Memory, known: dict[Value, Range], given: Mapping[Buffer, Range] = MappingProxyType({})
) -> list[Result]:
    """What a loop stores; what it loads from buffers of ``given`` is that instead of what is in memory."""
    for v, a in k.loads.items():
        known[v] = given[a.buffer] if a.buffer in given else bounds.read(memory.read(a, k.space))
    made: dict[Value, Instruction] = {}
    for i in k.body:
        xs = [known[v] for v in i.inputs]
        result = i.results[0]
        value = None
        if i.op.name == "one_hot":
            coordinate = np.zeros(k.space, np.int64)
            for d, step in enumerate(k.counters[result]):
                if step:
                    shape = [1] * len(k.space)
                    shape[d] = k.space[d]
                    coordinate += step * np.arange(k.space[d]).reshape(shape)
            value = (xs[0].value == coordinate).astype(result.dtype)
        known[result] = bounds.apply(i, xs, value)
        made[result] = i
    out = [Result(made.get(s.value) or _read(s.value), s.access, known[s.value]) for s in k.stores]
    kept = len(k.space) - k.reduced
    for r in k.reductions:
        i = Instruction(REGISTRY[r.kind], (r.value,), {"axes": _reduced_axes(k), "keepdims": False}, (r.result,))
        source = made.get(r.value)
        i = i._replace(place=source.place if source is not None else None)
        out.append(Result(i, r.access, sum_bounds.reduce(r.kind, known[r.value], kept)))
    return out


def _reduced_axes(k: Loop) -> tuple[int, ...]:
    return tuple(range(len(k.space) - k.reduced, len(k.space)))


def _read(v: Value) -> Instruction:
    """What stands for a value that a loop passes on as it is."""
    return Instruction(REGISTRY["copy"], (v,), {}, (v,))


def _product(k: Product, memory: _Memory, known: dict[Value, Range]) -> list[Result]:
    a, b = _operand(k.a, (*k.batch, k.m, k.k), k.a_rows, memory), _operand(k.b, (*k.batch, k.k, k.n), k.b_rows, memory)
    product = sum_bounds.product(a, b)
    if k.epilogue is None:
        return [Result(k.instruction, k.c, product)]
    results = _loop(k.epilogue, memory, known, {k.c.buffer: product})
    return [r._replace(instruction=k.instruction) if r.place is k.c else r for r in results]


def _operand(a: Access, shape: Shape, rows: Rows | None, memory: _Memory) -> Array:
    if rows is None:
        return memory.read(a, shape)
    matrix = a._replace(strides=a.strides[-2:])
    table: Array = memory.read(matrix, (rows.size, shape[-1]))[memory.read(rows.index, shape[:-1])]
    return table


def _whole(k: Routine | Call, memory: _Memory) -> list[Result]:
    """An op on whole arrays, by its reference kernel; a loop or branch by its blocks, which are verified themselves."""
    i = k.instruction
    held = memory.arrays
    xs = [
        strided(held[x.buffer], x, v.shape) if x.buffer.role == INPUT else memory.read(x, v.shape)
        for v, x in zip(i.inputs, k.inputs, strict=True)
    ]
    if isinstance(k, Routine) and k.control is not None:
        ranges = [Range(y) for y in expected(k, xs, verify_program)]
    else:
        ranges = sum_bounds.whole(i, xs)[: len(k.outputs)]
    return [Result(i, x, r) for x, r in zip(k.outputs, ranges, strict=True)]


def _expected(kernel: Kernel, memory: _Memory, known: dict[Value, Range]) -> list[Result]:
    """What a kernel should write, from what is in memory before it runs; ``known`` gets what a loop has inside."""
    if isinstance(kernel, Loop):
        return _loop(kernel, memory, known)
    if isinstance(kernel, Product):
        return _product(kernel, memory, known)
    if isinstance(kernel, Check):
        i = kernel.instruction
        i.op.kernel(memory.read(kernel.access, (kernel.count,)).reshape(i.inputs[0].shape), **i.params)
        return []
    return _whole(kernel, memory)


# ---- the check
def verify_program(
    native: NativeProgram,
    arrays: Sequence[Array],
    aliases: Mapping[Buffer, Buffer] | None = None,
    strict: bool = False,
) -> list[Array]:
    """The outputs of a native program, each of whose kernels was checked on the way.

    Args:
        native: the program.
        arrays: one per input; they are not written.
        aliases: output buffers that stand in the memory of an input buffer, as ``compiler.aliasing`` chooses them.
        strict: also compare all memory before and after each kernel (slow).

    Raises:
        VerificationError: naming the first instruction whose result is outside its bounds.
        IndexError, ZeroDivisionError, RuntimeError: as the reference kernel does for operands that it refuses.
    """
    plan = native.plan
    memory = _Memory(plan, native.scratch, arrays, aliases or {}, strict)
    for n, kernel in enumerate(plan.kernels):
        known: dict[Value, Range] = {}
        try:
            results = _expected(kernel, memory, known)
        except VerificationError:  # in a block
            raise
        except (IndexError, ArithmeticError, ValueError, RuntimeError):
            if native.run_kernel(n, memory.address) == 0:
                raise VerificationError(
                    kernel, n, "the reference raises an error that compiled code does not see"
                ) from None
            raise
        before = memory.snapshot() if strict else []
        if isinstance(kernel, Call):
            for r in results:
                strided(memory.arrays[r.place.buffer], r.place, r.range.value.shape)[...] = r.range.value
            continue
        if native.run_kernel(n, memory.address):
            raise VerificationError(kernel, n, "compiled code refuses operands that the reference takes")
        for r in results:
            error = _difference(kernel, n, r, strided(memory.arrays[r.place.buffer], r.place, r.range.value.shape))
            if error is not None:
                raise _inside(native, kernel, n, known) or error
        if strict:
            written = [(r.place, r.range.value.shape) for r in results]
            if isinstance(kernel, Routine) and kernel.work is not None:
                written.append((Layout(kernel.work, 0, (1,)), (kernel.work.size,)))
            where = memory.strayed(before, written)
            if where is not None:
                raise VerificationError(kernel, n, f"it wrote {where}, which is not its own")
        if not memory.guards_hold():
            raise VerificationError(kernel, n, "it wrote outside its buffers")
    return [memory.read(x, v.shape) for v, x in zip(native.graph.outputs, plan.outputs, strict=True)]


def _difference(kernel: Kernel, n: int, r: Result, found: Array) -> VerificationError | None:
    wrong = r.range.wrong(found)
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    index = tuple(int(x) for x in np.argwhere(wrong)[0])
    low, high = (np.broadcast_to(e, found.shape)[index].item() for e in (r.range.low, r.range.high))
    raw = found.view(np.uint8) if found.dtype == bool else found
    return VerificationError(
        kernel, n, f"{count} of {found.size} elements are outside their bounds", r.instruction, index,
        raw[index].item(), r.range.value[index].item(), (low, high),
    )  # fmt: skip


def _inside(native: NativeProgram, kernel: Kernel, n: int, known: dict[Value, Range]) -> VerificationError | None:
    """The first instruction of a loop or an epilogue that differs, found by compiling it with every result stored.

    None if the difference is gone then: the fault is in the product, the stores, the reductions, or in how the rest is
    scheduled.
    """
    k = kernel.epilogue if isinstance(kernel, Product) else kernel
    if not isinstance(k, Loop):
        return None
    new = {i.results[0]: Buffer(0, max(1, size_of(k.space)), i.results[0].dtype, OUTPUT) for i in k.body}
    loads = {v: Buffer(0, max(1, size_of(k.space)), v.dtype, OUTPUT) for v in k.loads}
    for number, b in enumerate([*loads.values(), *new.values()]):
        b.number = number
    steps = row_major(k.space)
    loop = Loop(
        k.space, 0, {v: Access(b, 0, steps) for v, b in loads.items()}, k.body,
        [Store(v, Access(b, 0, steps)) for v, b in new.items()], [], k.counters,
    )  # fmt: skip
    arrays = [np.ascontiguousarray(known[v].value) for v in loads] + [np.zeros(b.size, b.dtype) for b in new.values()]
    table = np.array([address(a) for a in arrays], np.uintp)
    module = Module(native.target)
    emit_loop(module, "body", loop)
    with module.function("run", table="ptr") as builder, builder.denormals_flushed():
        builder.call("body", builder.args[0])
    cache.build(module.text, native.target).function("run", "ptr")(address(table))
    for i, found in zip(k.body, arrays[len(loads) :], strict=True):
        result = Result(i, Access(new[i.results[0]], 0, steps), known[i.results[0]])
        error = _difference(kernel, n, result, found[: size_of(k.space)].reshape(k.space))
        if error is not None:
            return error
    return None
