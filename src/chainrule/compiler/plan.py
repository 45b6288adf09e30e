"""Planning: from a graph to kernels, buffers and their places in one arena.

1. Every value gets a layout. View ops (reshape, permute, broadcast, basic indexing, flip) only compute another layout
   of the same buffer.
2. Elementwise instructions and reductions join a loop over the same space as their inputs where that is possible, so
   that what is used only inside it never reaches memory (NOTE [fusion]).
3. A loop over the elements of a matrix product becomes the product's epilogue (``compiler.epilogues``), and products
   look up rows that were gathered for them alone (``compiler.gathers``).
4. Kernels that can go through the rows of a large batch together do so chunk by chunk (``compiler.chunks``).
5. Scratch buffers that do not live at the same time share the arena.

NOTE [fusion]. Kernels run in order, and each depends on earlier ones only. An instruction may join the loop at position
p if all its inputs are ready before p, or are computed point by point in that very loop. So the earliest position is
that of its latest input, and any later loop over the same space will do. A reduction is ready after its loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.arena import arrange, touched
from chainrule.compiler.chunks import chunked, in_blocks
from chainrule.compiler.control.machine import with_buffers, work_words
from chainrule.compiler.epilogues import fuse_epilogues
from chainrule.compiler.gathers import fold_gathers
from chainrule.compiler.kernels import (
    CONSTANT,
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
    Order,
    Plan,
    Product,
    Reduction,
    Routine,
    Store,
    dense,
    row_major,
)
from chainrule.compiler.layouts import view_layout
from chainrule.compiler.llvm import routines
from chainrule.compiler.llvm.vmath import lowers
from chainrule.compiler.zeros import leave_out_zeros
from chainrule.core.shapes import Shape, size_of
from chainrule.ir.graph import Graph, Instruction, Value
from chainrule.ir.op import REGISTRY, Elementwise

#: a loop takes no more instructions, and no more loads and stores, than registers and the instruction cache like
MOST_INSTRUCTIONS, MOST_ACCESSES = 96, 24
VIEWS = ("reshape", "permute", "broadcast_to", "getitem", "flip", "alias", "detach")
_REDUCTIONS = ("sum", "amax", "amin")
#: the values that have to be there before a result is computed
Late = Mapping[Value, tuple[Value, ...]]
Orders = Mapping[Value, Order]


class _Group:
    """A kernel in the making: a loop's instructions, or one instruction of another kind."""

    def __init__(self, space: Shape | None, axes: tuple[int, ...] | None = None) -> None:
        self.space, self.axes = space, axes
        self.items: list[Instruction] = []
        self.made: set[Value] = set()
        self.read: set[Value] = set()
        self.order: Order | None = None


class _Planner:
    def __init__(self, graph: Graph, lowered: frozenset[str], has_f16: bool, late: Late, orders: Orders) -> None:
        self.graph, self.lowered, self.has_f16, self.late, self.orders = graph, lowered, has_f16, late, orders
        #: the first group that the instruction at hand may join
        self.after = 0
        self.buffers: list[Buffer] = []
        self.layouts: dict[Value, Layout] = {}
        self.groups: list[_Group] = []
        #: after which group a value may be read from memory; -1: always
        self.ready: dict[Value, int] = {}
        #: the value whose buffer a view looks at
        self.base: dict[Value, Value] = {}
        #: values made here: copies, zeros by dtype; and those that are always stored
        self.copies: list[Value] = []
        self.zeros: dict[np.dtype[Any], Value] = {}
        self.forced: set[Value] = set()
        #: the machine code of loops and branches, by their first result
        self.control: Callable[[Instruction], Any] | None = None
        self.machines: dict[Value, Any] = {}

    # ---- values
    def buffer(self, v: Value, role: str) -> Layout:
        """A new dense buffer for a value."""
        found = Buffer(len(self.buffers), max(1, size_of(v.shape)), v.dtype, role)
        self.buffers.append(found)
        layout = self.layouts[v] = Layout(found, 0, row_major(v.shape))
        return layout

    def layout(self, v: Value) -> Layout:
        """Where a value is, or will be."""
        found = self.layouts.get(v)
        return self.buffer(v, SCRATCH) if found is None else found

    # ---- grouping
    def place(self, i: Instruction) -> None:
        name, result = i.op.name, i.results[0]
        self.after = max((self.ready[v] for v in self.late.get(result, ())), default=0)
        if name in VIEWS:
            self._view(i)
        elif name in ("cat", "unslice", "put") and not (name == "put" and _repeats(i)):
            self._assemble(i)
        elif name in _REDUCTIONS and name in self.lowered and self._converts(i):
            self._join(i, i.inputs[0].shape, i.params["axes"])
        elif self._pointwise(i):
            if name == "one_hot" and not dense(self.layout(i.inputs[0]), i.inputs[0].shape):
                i = i._replace(inputs=(self._copy(i.inputs[0]),))  # indices are checked one after the other
            self._join(i, result.shape, None)
        else:
            if i.op.kind == "control":
                i = self._controlled(i)
            if name in routines.IN_PLACE and self._routine(i):
                i = i._replace(inputs=(self._copy(i.inputs[0], self.layout(result)), *i.inputs[1:]))
            group = _Group(None)
            group.items.append(i)
            self._append(group, i)

    def _routine(self, i: Instruction) -> bool:
        return i.op.name in self.lowered and routines.lowers(i, self.has_f16)

    def _controlled(self, i: Instruction) -> Instruction:
        """A loop or branch on dense operands, if its blocks have machine code."""
        machine = self.control(i) if self.control is not None else None
        if machine is None:
            return i
        self.machines[i.results[0]] = with_buffers(machine, self.buffers)
        return i._replace(inputs=tuple(v if dense(self.layout(v), v.shape) else self._copy(v) for v in i.inputs))

    def _pointwise(self, i: Instruction) -> bool:
        name = i.op.name
        if name == "copy":
            return True
        if name in ("cast", "one_hot"):
            return self._converts(i)
        if name not in self.lowered or not isinstance(i.op, Elementwise):
            return False
        return lowers(name, i.inputs[-1].dtype, has_report=False, has_f16=self.has_f16)

    def _converts(self, i: Instruction) -> bool:
        """Whether the processor converts the dtypes of an instruction: float16 is computed with in float32."""
        return self.has_f16 or all(v.dtype != np.float16 for v in (*i.inputs, *i.results))

    def _view(self, i: Instruction) -> None:
        """The result is another layout of the input's buffer; a reshape that needs one gets a dense copy first."""
        x, result = i.inputs[0], i.results[0]
        layout = view_layout(i, self.layout(x))
        if layout is None:
            x = self._copy(x)
            layout = view_layout(i, self.layout(x))
            assert layout is not None
        self._look(result, x, layout)

    def _look(self, result: Value, x: Value, layout: Layout) -> None:
        self.layouts[result], self.base[result], self.ready[result] = layout, self.base.get(x, x), self.ready[x]

    def _copy(self, x: Value, into: Layout | None = None, after: int = 0) -> Value:
        """A copy of x in a buffer of its own, or into part of another one, not before position ``after``."""
        new = Value(-1 - len(self.copies), x.shape, x.dtype)
        self.copies.append(new)
        if into is not None:
            self.layouts[new] = into
            self.forced.add(new)
        self._join(Instruction(REGISTRY["copy"], (x,), {}, (new,)), x.shape, None, after)
        return new

    def _assemble(self, i: Instruction) -> None:
        """Results that are written part by part: joined, padded, or copied and overwritten in one place."""
        name, result = i.op.name, i.results[0]
        whole = self.layout(result)
        position = 0
        if name == "cat":
            axis, start = i.params["axis"], 0
            for x in i.inputs:
                part = Layout(whole.buffer, whole.offset + start * whole.strides[axis], whole.strides)
                position = max(position, self.ready[self._copy(x, part)])
                start += x.shape[axis]
        else:
            first = self._zeros(result) if name == "unslice" else i.inputs[0]
            position = self.ready[self._copy(first, whole)]
            view = ("getitem", {"index": i.params["index"]}) if name == "unslice" else i.params["view"]
            look = Instruction(REGISTRY[view[0]], (result,), dict(view[1]), (i.inputs[-1],))
            part_layout = view_layout(look, whole)
            assert part_layout is not None  # a write goes through views alone
            position = self.ready[self._copy(i.inputs[-1], part_layout, position + 1)]
        self.ready[result] = position

    def _zeros(self, like: Value) -> Value:
        """Zeros of a value's shape: one constant, repeated."""
        key = like.dtype
        found = self.zeros.get(key)
        if found is None:
            found = self.zeros[key] = Value(-1 - len(self.copies), (), like.dtype)
            self.copies.append(found)
            self.buffer(found, CONSTANT)
            self.ready[found] = -1
        spread = Value(-1 - len(self.copies), like.shape, like.dtype)
        self.copies.append(spread)
        layout = self.layouts[found]
        self._look(spread, found, Layout(layout.buffer, 0, (0,) * len(like.shape)))
        return spread

    def _append(self, group: _Group, i: Instruction) -> None:
        self.groups.append(group)
        for r in i.results:
            self.ready[r] = len(self.groups) - 1

    def _join(self, i: Instruction, space: Shape, axes: tuple[int, ...] | None, after: int = 0) -> None:
        start = max(after, self.after, *(self.ready[v] for v in i.inputs))
        order = self.orders.get(i.results[0])
        for p in range(start, len(self.groups)):
            g = self.groups[p]
            if g.space != space or not _compatible(g, axes) or (order is not None and g.order not in (None, order)):
                continue
            late = [v for v in i.inputs if self.ready[v] >= p]
            if late and i.op.name == "one_hot":  # its input has another space, so it comes from memory
                continue
            if any(v not in g.made for v in late):
                continue
            reads = g.read | {v for v in i.inputs if v not in g.made}
            if len(g.items) >= MOST_INSTRUCTIONS or len(reads) > MOST_ACCESSES:
                continue
            self._add(g, p, i, axes)
            return
        group = _Group(space, axes)
        self.groups.append(group)
        self._add(group, len(self.groups) - 1, i, axes)

    def _add(self, group: _Group, position: int, i: Instruction, axes: tuple[int, ...] | None) -> None:
        group.items.append(i)
        group.read.update(v for v in i.inputs if v not in group.made)
        if axes is None:
            group.made.update(i.results)
        else:
            group.axes, group.order = axes, self.orders.get(i.results[0], group.order)
        for r in i.results:
            self.ready[r] = position

    # ---- kernels
    def kernels(self) -> list[Kernel]:
        """All groups as kernels; checks of indices come before what uses them."""
        used_outside = self._used_outside()
        out: list[Kernel] = []
        for g in self.groups:
            if g.space is not None:
                out += [self._check(i) for i in g.items if i.op.name == "one_hot"]
                out.append(self._loop(g, used_outside))
            else:
                out.append(self._single(g.items[0]))
        return out

    def _used_outside(self) -> set[Value]:
        """Values that must be in memory: read by another kernel, through a view, or returned."""
        needed = {self.base.get(v, v) for v in self.graph.outputs} | self.forced
        for g in self.groups:
            for i in g.items:
                for v in i.inputs:
                    if v not in g.made or g.space is None:
                        needed.add(self.base.get(v, v))
        return needed

    def _access(self, v: Value, order: Sequence[int]) -> Access:
        """How a loop over the (reordered) dimensions of a value's shape reads or writes it."""
        layout = self.layout(v)
        return Access(layout.buffer, layout.offset, tuple(layout.strides[d] for d in order))

    def _loop(self, g: _Group, needed: set[Value]) -> Loop:
        assert g.space is not None
        axes = g.axes or ()
        order = [d for d in range(len(g.space)) if d not in axes] + list(axes)
        loads: dict[Value, Access] = {}
        body: list[Instruction] = []
        reductions: list[Reduction] = []
        stores: list[Store] = []
        counters: dict[Value, tuple[int, ...]] = {}
        last = len(g.space) - 1
        for i in g.items:
            source = i.inputs[0]
            if i.op.name == "one_hot":
                layout = self.layout(source)
                strides = (*layout.strides, 0)
                loads.setdefault(source, Access(layout.buffer, layout.offset, tuple(strides[d] for d in order)))
                counters[i.results[0]] = tuple(int(d == last) for d in order)
                body.append(i)
            else:
                for v in i.inputs:
                    if v not in g.made and v not in loads:
                        loads[v] = self._access(v, order)
                if i.op.name in _REDUCTIONS:
                    kept = [d for d in range(len(g.space)) if d not in axes]
                    target = self._reduced(i, kept)
                    reductions.append(Reduction(i.op.name, source, i.results[0], target))
                else:
                    body.append(i)
            if i.results[0] in g.made and i.results[0] in needed:
                stores.append(Store(i.results[0], self._access(i.results[0], order)))
        space = tuple(g.space[d] for d in order)
        return Loop(space, len(axes), loads, body, stores, reductions, counters, g.order)

    def _reduced(self, i: Instruction, kept: list[int]) -> Access:
        layout = self.layout(i.results[0])
        strides = layout.strides
        if i.params["keepdims"]:
            strides = tuple(strides[d] for d in kept)
        return Access(layout.buffer, layout.offset, strides)

    def _check(self, i: Instruction) -> Check:
        v = i.inputs[0]
        layout = self.layout(v)
        assert dense(layout, v.shape)
        return Check(i, Access(layout.buffer, layout.offset, (1,)), size_of(v.shape), i.params["classes"])

    def _single(self, i: Instruction) -> Kernel:
        if (
            i.op.name == "matmul"
            and "matmul" in self.lowered
            and i.results[0].dtype.kind == "f"
            and i.results[0].dtype.itemsize >= 4
        ):
            return self._product(i)
        layouts = tuple(self.layout(v) for v in i.inputs), tuple(self.layout(v) for v in i.results)
        machine = self.machines.get(i.results[0])
        if machine is None and not self._routine(i):
            return Call(i, *layouts)
        words = routines.work_words(i) if machine is None else work_words(i, machine)
        work = Buffer(len(self.buffers), words, np.dtype(np.int64), SCRATCH) if words else None
        self.buffers += [work] if work else []
        return Routine(i, *layouts, work, machine is not None or i.op.name in routines.CHECKED, machine)

    def _product(self, i: Instruction) -> Product:
        x, y = i.inputs
        result = i.results[0]
        batch = result.shape[:-2]

        def operand(v: Value) -> Access:
            layout = self.layout(v)
            lead = (0,) * (len(result.shape) - len(v.shape))
            own = tuple(
                0 if d == 1 and n != 1 else s
                for s, d, n in zip(layout.strides, v.shape, result.shape[len(lead) :], strict=True)
            )
            return Access(layout.buffer, layout.offset, (*lead, *own[:-2], *layout.strides[-2:]))

        c = self.layout(result)
        return Product(i, batch, result.shape[-2], result.shape[-1], x.shape[-1], operand(x), operand(y), Access(*c))


def _compatible(g: _Group, axes: tuple[int, ...] | None) -> bool:
    return axes is None or g.axes is None or g.axes == axes


def plan(
    graph: Graph,
    lowered: frozenset[str],
    has_f16: bool = True,
    late: Late | None = None,
    orders: Orders | None = None,
    control: Callable[[Instruction], Any] | None = None,
    chunks: bool = True,
    zeros: Sequence[str] = (),
) -> Plan:
    """Kernels and memory for a graph; ``lowered`` names the ops with machine code, float16 only with ``has_f16``.

    ``control`` gives the machine code of a loop or branch, None if it has none. ``late`` holds back results until other
    values are there, though their own inputs are ready before; ``orders`` says in which order reductions have to
    combine. With ``chunks``, kernels may go through a large batch together, which takes more memory. ``zeros`` tells as
    which operands of products each input has zeros to leave out (``compiler.zeros``); none unless given.
    """
    p = _Planner(graph, lowered, has_f16, late or {}, orders or {})
    p.control = control
    for v in graph.inputs:
        p.buffer(v, INPUT)
        p.ready[v] = -1
    for c in graph.constants:
        p.buffer(c.value, CONSTANT)
        p.ready[c.value] = -1
    for i in graph.instructions:
        p.place(i)
    kernels = p.kernels()
    outputs = tuple(p.layout(v) for v in graph.outputs)
    kept = {layout.buffer for layout in outputs}
    kernels = in_blocks(fold_gathers(fuse_epilogues(kernels, kept), kept))
    kernels = leave_out_zeros(kernels, {p.layouts[v].buffer: z for v, z in zip(graph.inputs, zeros, strict=False)})
    together = None
    if chunks:
        kernels, together = chunked(kernels)
    _drop_unused(kernels, p, outputs)
    _own_outputs(graph, p, outputs)
    inputs = tuple(p.layouts[v].buffer for v in graph.inputs)
    constants = [(p.layouts[c.value].buffer, np.ascontiguousarray(c.array)) for c in graph.constants]
    constants += [(p.layouts[v].buffer, np.zeros((), v.dtype)) for v in p.zeros.values()]
    constants += [pair for machine in p.machines.values() for pair in machine.constants()]
    arena = arrange(kernels, p.buffers, [layout.buffer for layout in outputs], together)
    return Plan(tuple(kernels), tuple(p.buffers), inputs, outputs, tuple(constants), arena, together)


def _drop_unused(kernels: Sequence[Kernel], p: _Planner, outputs: Sequence[Layout]) -> None:
    """Forget scratch buffers that no kernel uses any more; the others are numbered anew."""
    used = {b for k in kernels for b in touched(k)} | {layout.buffer for layout in outputs}
    p.buffers = [b for b in p.buffers if b.role != SCRATCH or b in used]
    for number, b in enumerate(p.buffers):
        b.number = number


def _own_outputs(graph: Graph, p: _Planner, outputs: Sequence[Layout]) -> None:
    """A scratch buffer that holds just one output, densely, belongs to the caller from the start."""
    holders: dict[Buffer, int] = {}
    for layout in outputs:
        holders[layout.buffer] = holders.get(layout.buffer, 0) + 1
    for v, layout in zip(graph.outputs, outputs, strict=True):
        b = layout.buffer
        if (
            b.role == SCRATCH
            and holders[b] == 1
            and layout.offset == 0
            and dense(layout, v.shape)
            and b.size == max(1, size_of(v.shape))
        ):
            b.role = OUTPUT


def _repeats(i: Instruction) -> bool:
    """Whether a write goes through a view that shows an element several times (then the last one wins)."""
    return i.params["view"][0] == "broadcast_to"
