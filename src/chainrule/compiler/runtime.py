"""Running a captured program as native code, bound to the tensors it reads and writes.

NOTE [a bound program]. State (parameters, optimizer state, buffers, generator positions) is read and written where it
is: its addresses stand in the table of the native program, and a call only checks that every tensor still holds the
array it held. What the program replaces is computed in place where nothing can fail afterwards
(``compiler.aliasing``), else copied when all has succeeded. A call under a transform runs the program through tensors;
one whose result has to be differentiable applies it as one op (``compiler.derivative``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.aliasing import in_place
from chainrule.compiler.derivative import ProgramOp
from chainrule.compiler.kernels import INPUT, OUTPUT, SCRATCH, Layout, dense
from chainrule.compiler.llvm.repeat import LOST, Moves
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.program import (
    Argument,
    Expected,
    Fixed,
    Gradient,
    Output,
    Program,
    Same,
    Scalar,
    State,
    overlapping,
)
from chainrule.compiler.verify import verify_program
from chainrule.compiler.watch import Identities
from chainrule.core import trees
from chainrule.core.shapes import size_of
from chainrule.ir.state import get_state
from chainrule.tape.clock import Stamper, owner
from chainrule.tape.node import Leaf
from chainrule.tensors.tensor import Tensor, wrap

#: results of at most so many elements are computed in memory of the program's own and copied out, which is quicker
SMALL = 64


class _Gradient:
    """The array behind ``.grad`` of one leaf, used again at the next call unless someone else holds it."""

    __slots__ = ("dtype", "leaf", "number", "shape", "tensor")

    def __init__(self, leaf: Leaf, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.leaf, self.number, self.shape, self.dtype = leaf, number, shape, dtype
        self.tensor: Tensor | None = None

    def fresh(self) -> np.ndarray[Any, Any]:
        """An array that nobody but this object and the leaf refers to."""
        t = self.tensor
        if t is not None and type(t._d) is np.ndarray and t._view is None:
            held = 3 if self.leaf.grad is t else 2  # this slot, the local name (and the leaf); the call adds its own
            if sys.getrefcount(t) == held + 1 and sys.getrefcount(t._d) == 3 and t._d.base is None:
                return t._d  # the tensor, the bound program's note of the address, and the call refer to it
        array = np.empty(self.shape, self.dtype)
        self.tensor = wrap(array)
        return array


class BoundProgram:
    """A program with its native code and the tensors of its state.

    Attributes:
        program, native: what is run.
        aliases: how many of the written tensors are computed in place.
    """

    def __init__(self, program: Program, native: NativeProgram, verify: str = "first") -> None:
        self.program, self.native = program, native
        self._verify = verify
        program.differentiable = ProgramOp(program, native, verify)
        self._lock = threading.Lock()
        position = {s: n for n, s in enumerate(program.sources)}
        pairs = [(position[s], at) for s, at in program.writes if isinstance(s, State) and s in position]
        aliases = in_place(native.plan, pairs)
        plan = native.plan
        self.aliases = len(aliases)
        self._alias_of = aliases
        self.memory = native.memory()
        #: arguments that did not require a gradient when captured: if one does now, the result must be differentiable
        self._without_grad = [
            s.index for s, e in program.expected if isinstance(s, Argument) and e is not None and not e.requires_grad
        ]
        self._numbers = [b.number for b in plan.inputs]
        self._arguments = [
            (s.index, self._numbers[n]) for n, s in enumerate(program.sources) if isinstance(s, Argument)
        ]
        self._gradients_read = [(s, self._numbers[n]) for n, s in enumerate(program.sources) if isinstance(s, Gradient)]
        self._gradients_expected = [(s, e) for s, e in program.expected if isinstance(s, Gradient)]
        self._owners: frozenset[int] = frozenset()  # of the memory that is written
        self._scalars: list[tuple[Any, np.ndarray[Any, Any]]] = []
        for n, s in enumerate(program.sources):
            if isinstance(s, Scalar):
                cell = np.empty((), s.dtype)
                self._scalars.append((s.read, cell))
                self.memory.table[self._numbers[n]] = cell.__array_interface__["data"][0]
        self._state = [(s.held, self._numbers[n]) for n, s in enumerate(program.sources) if isinstance(s, State)]
        written = [(s.held, at) for s, at in program.writes if isinstance(s, State)]
        self._written = [t for t, _ in written]
        self._copies: list[tuple[Tensor, int]] = []
        self._owned: dict[int, np.ndarray[Any, Any]] = {}
        self._scratch: dict[int, np.ndarray[Any, Any]] = {}  # views of the arena, which stays where it is
        self._aliased: list[tuple[int, int]] = []
        for t, at in written:
            b = plan.outputs[at].buffer
            if b in aliases:
                self._aliased.append((b.number, aliases[b].number))
            else:
                self._copies.append((t, at))
        graded = {at: s for s, at in program.grads if at is not None}
        self._cleared = [s.held._node for s, at in program.grads if at is None and isinstance(s, State)]
        self._grads: list[tuple[_Gradient, int]] = []
        returned = {x.index for x in program.leaves if isinstance(x, Output)}
        self._results: dict[int, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        self._general = not all(isinstance(s, State) for s, _ in (*program.writes, *program.grads))
        for at, (v, layout) in enumerate(zip(native.graph.outputs, plan.outputs, strict=True)):
            b = layout.buffer
            if b.role != OUTPUT or b in aliases:
                continue
            if at in graded and at not in returned and isinstance(graded[at], State):
                self._grads.append((_Gradient(graded[at].held._node, b.number, v.shape, v.dtype), at))  # type: ignore[union-attr]
            elif at in returned and size_of(v.shape) > SMALL:
                self._results[at] = (b.number, v.shape, v.dtype)
            else:
                array = self._owned[at] = np.empty(v.shape, v.dtype)
                self.memory.table[b.number] = array.__array_interface__["data"][0]
        #: outputs that are (views of) inputs: read before anything is written
        self._borrowed = [at for at, layout in enumerate(plan.outputs) if layout.buffer.role == INPUT]
        self._settable = {at for _, at in self._grads}
        rest = [(s, at) for at, s in graded.items() if at not in self._settable]
        self._graded = [(s.held._node, at) for s, at in rest if isinstance(s, State)]
        self._same_state: Callable[[], bool] = bool
        #: whether the cells hold the Python numbers as they are; who knows of changes calls :meth:`renew`
        self._numbers_known = self.numbers_watched = False
        self._viewed: list[Tensor] = []
        self._addresses: dict[int, np.ndarray[Any, Any]] = {}
        self._stamper = Stamper()
        self.bound = False

    # ---- binding
    def bind(self) -> bool:
        """Take the addresses of all state; False if some of it is not plain dense memory."""
        self.bound = False
        for t, number in self._state:
            d = t.numpy_payload()
            if not (d.flags.c_contiguous and d.flags.aligned) or (t._view is not None and t._view.stale):
                return False
            self.memory.table[number] = d.__array_interface__["data"][0]
        for t in self._written:
            if not t.numpy_payload().flags.writeable:
                return False
        for number, old in self._aliased:
            self.memory.table[number] = self.memory.table[old]
        state = Identities()
        for t, _ in self._state:
            state.is_(f"{state.name(t)}._d", t._d)
            state.is_(f"{state.name(t)}._node", t._node)
        self._same_state = state.function()
        self._viewed = [t for t in self._written if t._view is not None]
        self._stamper = Stamper(*(t._d for t in self._written))
        self._owners = frozenset(id(owner(t._d)) for t in self._written)
        self.bound = True
        return True

    def current(self) -> bool:
        """Whether every tensor of the state still holds the array, and is the leaf, that the table knows."""
        return self.bound and self._same_state()

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether state, gradients and memory are as the program needs them, for arguments of the right types.

        True is reliable; False means that :meth:`Program.mismatch` has to look closer.
        """
        if not (self.bound and self._same_state()):
            return False
        for source, expected in self._gradients_expected:
            g = source.tensor(leaves)
            if g is not expected and (g is None or expected is None or Expected.of(g) != expected):
                return False
        for source, same in self.program.identical:
            if source.tensor(leaves) is not same:
                return False
        if self._general:
            return overlapping(self.program.sources, self.program.writes, leaves) is None
        for i, _ in self._arguments:
            d = leaves[i]._d
            if id(d if d.base is None else owner(d)) in self._owners:
                return False
        return True

    def renew(self) -> None:
        """Python numbers may have changed."""
        self._numbers_known = False

    @property
    def readers(self) -> list[Callable[[], Any]]:
        """What reads the Python numbers."""
        return [read for read, _ in self._scalars]

    # ---- running
    def run(self, leaves: Sequence[Any]) -> Any:
        """The program's result for arguments that fit it; its writes are committed."""
        self.renew()
        self.numbers_watched = False  # until the caller says who does
        interpreter, grad = get_state()
        bound = self.current() or self.bind()
        if interpreter is not None or not bound or not self.direct(leaves, grad):
            return self.program.run(leaves)
        return self.run_directly(leaves)

    def direct(self, leaves: Sequence[Any], grad: bool) -> bool:
        """Whether machine code is all it takes: no argument is written, and no result needs a history."""
        history = self.program.history or any(leaves[i]._node is not None for i in self._without_grad)
        return not (self._general or (grad and history))

    def run_directly(self, leaves: Sequence[Any]) -> Any:
        """As :meth:`run`, for a caller that has just been told that it :meth:`fits` and goes :meth:`direct`."""
        with self._lock:
            if self._verify != "never":
                self._check(leaves)
            return self._run(leaves)

    def _check(self, leaves: Sequence[Any]) -> None:
        """Hold the native code to the reference on these inputs, kernel by kernel, in memory of its own."""
        verify_program(self.native, [np.asarray(s.tensor(leaves)._d) for s in self.program.sources], self._alias_of)
        if self._verify == "first":
            self._verify = "never"

    def _run(self, leaves: Sequence[Any]) -> Any:
        table = self.memory.table
        held = []
        for index, number in self._arguments:
            a = leaves[index]._d
            if type(a) is not np.ndarray or not a.flags.c_contiguous or not a.flags.aligned:
                a = np.ascontiguousarray(a)
            held.append(a)
            table[number] = a.__array_interface__["data"][0]
        for source, number in self._gradients_read:
            a = np.ascontiguousarray(source.tensor(leaves)._d)
            held.append(a)
            table[number] = a.__array_interface__["data"][0]
        outputs: dict[int, np.ndarray[Any, Any]] = {}
        for at, (number, shape, dtype) in self._results.items():
            a = outputs[at] = np.empty(shape, dtype)
            table[number] = a.__array_interface__["data"][0]
        self._refresh(outputs)
        self.native.execute(self.memory)
        for at in self._borrowed:
            outputs[at] = self.native.read(at, self.memory)
        del held
        return self._commit(outputs, leaves)

    def _refresh(self, outputs: dict[int, np.ndarray[Any, Any]]) -> None:
        """Read Python numbers anew, and have arrays for the gradients."""
        table = self.memory.table
        if not self._numbers_known:
            for read, cell in self._scalars:
                cell[()] = read()
            self._numbers_known = self.numbers_watched
        for g, at in self._grads:
            a = outputs[at] = g.fresh()
            if self._addresses.get(at) is not a:
                table[g.number] = a.__array_interface__["data"][0]
                self._addresses[at] = a

    # ---- many steps in one call
    def repeatable(self, entry: Sequence[Any], grad: bool) -> bool:
        """Whether steps like this one, which :meth:`run` has just done, can follow each other in machine code.

        Not if something has to be looked at in between: gradients that are added to, results with history or that are
        inputs, ops without machine code, verification of every call.
        """
        native = self.native
        return (
            native.repeats
            and self._verify == "never"
            and self.direct(entry, grad)
            and not (self._gradients_read or self._borrowed)
            and all(not isinstance(x, Same) for x in self.program.leaves)
            and all(t._d.flags.c_contiguous for t in self._written)
            and all(dense(o, v.shape) for o, v in zip(native.plan.outputs, native.graph.outputs, strict=True))
            and self.current()
        )

    def repeat(
        self,
        arrays: Sequence[np.ndarray[Any, Any]],
        start: int,
        stacks: dict[int, np.ndarray[Any, Any]],
        watched: int | None = None,
    ) -> int:
        """Run the program on the entries of ``arrays`` from ``start`` on, one after another, in machine code.

        Args:
            arrays: for each argument its entries, dense, along the first dimension.
            start: the first entry that is wanted.
            stacks: for each output that is returned, by its number, where to put its values, entry by entry.
            watched: the number of an output of one float; a step where it is not finite is the last one.

        Returns:
            How many steps were done.
        """
        table, plan, moves = self.memory.table, self.native.plan, Moves()
        with self._lock:
            for index, number in self._arguments:
                a = arrays[index]
                table[number] = a.__array_interface__["data"][0] + start * a.strides[0]
                moves.steps.append((number, a.strides[0]))
            outputs: dict[int, np.ndarray[Any, Any]] = {}
            self._refresh(outputs)
            kept = {at for _, at in (*self._copies, *self._graded)}
            for at, stack in stacks.items():
                layout, step = plan.outputs[at], stack.strides[0]
                goal = stack.__array_interface__["data"][0] + start * step
                if at in self._results or (at in self._owned and at not in kept):
                    table[layout.buffer.number] = goal
                    moves.steps.append((layout.buffer.number, step))
                else:
                    moves.copies.append((self._address(layout), goal, step, step))
            for t, at in self._copies:
                goal = t._d.__array_interface__["data"][0]
                moves.copies.append((self._address(plan.outputs[at]), goal, t._d.nbytes, 0))
            if watched is not None:
                layout, size = plan.outputs[watched], plan.outputs[watched].buffer.dtype.itemsize
                moves.watched = size, layout.buffer.number, layout.offset * size
            status = 0
            try:
                done, status = self.native.repeat(self.memory, len(arrays[0]) - start, moves)
            finally:
                for at in self._owned.keys() & stacks.keys():
                    table[plan.outputs[at].buffer.number] = self._owned[at].__array_interface__["data"][0]
                if status in (0, LOST):
                    self._set_gradients(outputs)
                self._written_now()
            if status not in (0, LOST):
                self.native.fail(status, self.memory)
            return done

    def _address(self, layout: Layout) -> int:
        return int(self.memory.table[layout.buffer.number]) + layout.offset * layout.buffer.dtype.itemsize

    def output(self, at: int, outputs: dict[int, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """An output that may live anywhere, as an array of its own (or of this program's, for what is copied on)."""
        found = outputs.get(at)
        if found is None:
            found = self._owned.get(at)
        if found is None:
            found = self._scratch.get(at)
        if found is None:
            if self.native.plan.outputs[at].buffer.role != SCRATCH:
                return self.native.read(at, self.memory)
            found = self._scratch[at] = self.native.view(at, self.memory)
        return found

    def _commit(self, outputs: dict[int, np.ndarray[Any, Any]], leaves: Sequence[Any]) -> Any:
        for t, at in self._copies:
            np.copyto(t._d, self.output(at, outputs))
        self._set_gradients(outputs)
        self._written_now()
        result = [
            wrap(outputs[x.index] if x.index in outputs else np.array(self.output(x.index, outputs)))
            if isinstance(x, Output)
            else x.source.tensor(leaves)
            if isinstance(x, Same)
            else x.value
            for x in self.program.leaves
        ]
        return result[0] if self.program.result.kind is None else trees.unflatten(self.program.result, result)

    def _set_gradients(self, outputs: dict[int, np.ndarray[Any, Any]]) -> None:
        for g, _ in self._grads:
            g.leaf.grad = g.tensor
        for node, at in self._graded:
            node.grad = wrap(np.array(self.output(at, outputs)))
        for node in self._cleared:
            node.grad = None

    def _written_now(self) -> None:
        """Tell views and the mutation clock that the state was written."""
        for t in self._viewed:
            t._view.generation += 1
        self._stamper.stamp()


__all__ = ["BoundProgram", "Fixed"]
