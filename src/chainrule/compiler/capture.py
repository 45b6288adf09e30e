"""Capture: runs a function once with symbolic values and writes down what it computes, as a pure program.

NOTE [capture]. A tensor from outside becomes an input of the graph when it is first touched. One made inside from data
is a constant. The current value of a tensor from outside that is written lives in the capture's own table, never in the
tensor; so does ``.grad``. A view made outside is read through its lens from its root. What was written becomes an
output, committed by the program when all of it has been computed, so an error at any point, in the capture or in a
call, leaves parameters, gradients, optimizer state and generators as they were.

NOTE [what a capture does not see]. Python runs once. Values that are not tensors are fixed in the program (numbers
given through :meth:`Interpreter.scalar` excepted), and what Python does besides computing (printing, counting, list
appends, scheduler steps) happens at capture alone. See ``compiler.guards`` for what is checked before a program is
used again.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from chainrule.compiler.program import (
    Argument,
    Expected,
    Fixed,
    Gradient,
    Output,
    Program,
    Same,
    Scalar,
    Source,
    State,
    check_overlap,
)
from chainrule.core import trees
from chainrule.core.errors import TracerError, describe_place, explain, user_place
from chainrule.ir.graph import Constant, Graph, Instruction, Value, describe_size, describe_type, verify
from chainrule.ir.interpreter import Interpreter, Tracer, escaped
from chainrule.ir.op import REGISTRY, Op
from chainrule.ir.state import get_state
from chainrule.tape.node import Leaf, Node
from chainrule.tensors.tensor import Tensor, wrap
from chainrule.tensors.views import root_of

#: A constant of at least so many bytes (1 MiB) warns: it was probably meant to be an argument or a tensor made outside.
LARGE_CONSTANT = 1 << 20


class _Held:
    """A tensor from outside as the capture sees it."""

    __slots__ = ("current", "source", "tensor", "version", "written")

    def __init__(self, tensor: Tensor, source: Source) -> None:
        self.tensor, self.source = tensor, source
        self.current: Tracer | None = None  # None until it is read or written
        self.written, self.version = False, 0


class _Changed:
    """A tensor made inside from data that was written: its data, to be given back if it outlives the capture."""

    __slots__ = ("array", "constant", "reference")

    def __init__(self, tensor: Tensor, constant: Tracer | None) -> None:
        self.reference, self.array, self.constant = weakref.ref(tensor), tensor._d, constant


class Capture(Interpreter):
    """The level that writes ops down instead of computing them (see NOTE [capture])."""

    what = "a capture"
    watches = True

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[tuple[Value, Source]] = []
        self.constants: list[Constant] = []
        self.instructions: list[Instruction] = []
        self.expected: dict[Source, Expected | None] = {}
        self.identical: dict[Source, Tensor] = {}
        self._count = 0
        self._below: set[Interpreter] = set()
        self._held: dict[int, _Held] = {}
        self._views: dict[int, tuple[Tensor, int, Tracer]] = {}
        self._made: dict[int, tuple[weakref.ref[Tensor], Tracer]] = {}
        self._changed: dict[int, _Changed] = {}
        self._scalars: dict[Any, Tensor] = {}
        self._grads: dict[Leaf, Tensor | None] = {}
        self._owners: dict[Leaf, Argument | State] = {}
        self._gradients: dict[int, tuple[Tensor, Gradient]] = {}
        self._results: list[weakref.ref[Tensor]] = []
        self._inner: list[weakref.ref[Leaf]] = []
        self._arguments: list[tuple[Tensor, Argument, Tracer]] = []

    def __enter__(self) -> Any:
        super().__enter__()
        level = self.outer
        while level is not None:
            self._below.add(level)
            level = level.outer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is not None:
            self._give_back()
            self._forget()

    # ---- values
    def _tracer(self, shape: Sequence[int], dtype: Any) -> Tracer:
        value = Value(self._count, tuple(shape), np.dtype(dtype))
        self._count += 1
        return Tracer(self, value, None, value.shape, value.dtype)

    def _input(self, source: Source, tensor: Any) -> Tracer:
        tracer = self._tracer(tensor._d.shape, tensor._d.dtype)
        self.inputs.append((tracer.value, source))
        if not isinstance(source, Scalar):
            self.expected[source] = Expected.of(tensor)
        return tracer

    def argument(self, tensor: Tensor, index: int) -> Tensor:
        """A shell that stands for an argument of the call."""
        source = Argument(index)
        tracer = self._input(source, tensor)
        shell = wrap(tracer)
        if tensor._node is not None:
            shell._node = Leaf()
            shell._node.grad = tensor._node.grad if type(tensor._node) is Leaf else None
            self._owners[shell._node] = source
        self._arguments.append((shell, source, tracer))
        return shell

    def _outside(self, tensor: Tensor) -> bool:
        """Whether a tensor that is no view was made outside of this capture."""
        d = tensor._d
        if isinstance(d, Tracer):
            return d.interpreter in self._below
        return not self.bore(tensor)

    def value(self, tensor: Tensor) -> Tracer:
        """The current value of a tensor, as this capture sees it."""
        base = root_of(tensor)
        if base is not tensor and self._outside(base):
            return self._through(tensor, base)
        d = tensor._d
        if isinstance(d, Tracer) and d.interpreter not in self._below:
            if d.interpreter is self:
                return d
            raise TracerError(escaped(d) if not d.interpreter.alive else f"{d!r} was used outside of its transform")
        if self.bore(tensor):
            return self._constant(tensor)
        held = self._hold(tensor)
        if held.current is None:
            held.current = self._input(held.source, tensor)
        return held.current

    def _hold(self, tensor: Tensor) -> _Held:
        held = self._held.get(id(tensor))
        if held is None:
            gradient = self._gradients.get(id(tensor))
            source: Source = State(tensor) if gradient is None else gradient[1]
            held = self._held[id(tensor)] = _Held(tensor, source)
            if type(tensor._node) is Leaf and isinstance(source, State):
                self._owners.setdefault(tensor._node, source)
        return held

    def _through(self, view: Tensor, base: Tensor) -> Tracer:
        """The value of a view whose root was made outside: the root's current value, seen through the lenses."""
        tracer = self.value(base)
        version = self._hold(base).version
        known = self._views.get(id(view))
        if known is not None and known[0] is view and known[1] == version:
            return known[2]
        lenses = []
        p = view
        while p is not base:
            lenses.append(p._view)
            p = p._view.parent
        for lens in reversed(lenses):
            (tracer,) = self._emit(REGISTRY[lens.name], (tracer,), lens.params)
        self._views[id(view)] = (view, version, tracer)
        return tracer

    def _constant(self, tensor: Tensor) -> Tracer:
        known = self._made.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        place = user_place()
        array = np.array(tensor._d)
        if array.nbytes >= LARGE_CONSTANT:
            warnings.warn(
                f"a capture keeps a constant of {describe_size(array.nbytes)}, "
                f"{describe_type(array.dtype, array.shape)}, made at {describe_place(place)}: it will be the same in "
                "every call and is held as long as the program. Make the tensor outside, or pass it as an argument, if "
                "that is not meant",
                UserWarning,
                stacklevel=2,
            )
        tracer = self._tracer(array.shape, array.dtype)
        self.constants.append(Constant(tracer.value, array, place))
        self._made[id(tensor)] = (weakref.ref(tensor), tracer)
        return tracer

    def _emit(self, op: Op, values: Sequence[Tracer], params: dict[str, Any]) -> tuple[Tracer, ...]:
        avals = op.infer(*(v.value.aval for v in values), **params)
        results = tuple(self._tracer(a.shape, a.dtype) for a in ((avals,) if op.outputs == 1 else avals))
        inputs = tuple(v.value for v in values)
        outputs = tuple(r.value for r in results)
        self.instructions.append(Instruction(op, inputs, params, outputs, user_place(), get_state().grad))
        return results

    # ---- what the tensors above ask
    def process(self, op: Op, xs: Sequence[Any], params: dict[str, Any], apply: Callable[..., Any]) -> tuple[Any, bool]:
        """Write an op down. Its shape and dtype come from ``op.infer``."""
        shells = [wrap(r) for r in self._emit(op, [self.value(x) for x in xs], params)]
        self._results += [weakref.ref(s) for s in shells]
        return shells[0] if op.outputs == 1 else tuple(shells), True

    def lift(self, tensor: Tensor) -> Tensor:
        """The tensor's current value at this level, without history."""
        return wrap(self.value(tensor))

    def payload(self, tensor: Tensor) -> Any:
        """A value of a level inside as it is, everything else as this capture sees it."""
        d = tensor._d
        if isinstance(d, Tracer) and d.interpreter is not self and d.interpreter not in self._below:
            return d
        return self.value(tensor)

    def keeps(self, tensor: Tensor) -> bool:
        """Whether a tensor, or the root of a view, was made outside: its current value is in the table."""
        return self._outside(root_of(tensor))

    def guard_number(self, tensor: Tensor) -> None:
        """Only the numbers of constants may be read: those of a tensor from outside differ from call to call."""
        if self._outside(root_of(tensor)):
            raise TracerError(
                explain(
                    "the numbers of a tensor from outside were asked for during a capture, where it is an input "
                    "that may differ from call to call",
                    got=describe_type(tensor._d.dtype, tensor._d.shape),
                    fix="compute with the tensor (chainrule.where, or chainrule.cond(pred, true_fn, false_fn, "
                    "*operands), instead of `if`), capture the parts before and after this line separately, or read "
                    "the number outside and pass it as an argument",
                )
            )

    def guard_write(self, base: Tensor, tracked: bool) -> None:
        """Refuse a write whose history would have to stay in a tensor from outside, and memory that is read-only."""
        if not self._outside(base):
            return
        if tracked:
            raise TracerError(
                explain(
                    "during a capture a value with history was written into a tensor from outside",
                    fix="write under `with chainrule.no_grad():`, or write value.detach()",
                )
            )
        if type(base._d) is np.ndarray and not base._d.flags.writeable:
            raise RuntimeError(
                explain(
                    "the memory of this tensor cannot be written: several of its elements are one, or it is read-only",
                    fix="call .clone() or .contiguous() first",
                )
            )

    def rebind(self, tensor: Tensor, value: Tensor) -> None:
        """Note a write. Tensors from outside keep their own values; shells made inside are simply given the new one."""
        tracer = self.value(value)
        d = tensor._d
        if isinstance(d, Tracer) and d.interpreter is self:
            tensor._d = tracer
        elif root_of(tensor) is not tensor:
            return  # a view made outside: it is always read through its root
        elif self._outside(tensor):
            held = self._hold(tensor)
            if held.current is None:
                self.expected[held.source] = Expected.of(tensor)
            held.current, held.written = tracer, True
            held.version += 1
        else:
            known = self._made.get(id(tensor))
            constant = known[1] if known is not None and known[0]() is tensor else None
            self._changed[id(tensor)] = _Changed(tensor, constant)
            tensor._d = tracer

    def scalar(self, read: Callable[[], Any]) -> Any:
        """A Python number as an input that is read anew at every call; the same reader gives the same input."""
        key = _reader_key(read)
        shell = self._scalars.get(key)
        if shell is None:
            number = np.asarray(read())
            shell = self._scalars[key] = wrap(self._input(Scalar(read, number.dtype), wrap(number)))
        return shell

    # ---- gradients
    def _own(self, leaf: Leaf, tensor: Tensor | None) -> Argument | State | None:
        if leaf not in self._owners and tensor is not None and root_of(tensor) is tensor and self._outside(tensor):
            self._owners[leaf] = State(tensor)
        return self._owners.get(leaf)

    def read_grad(self, leaf: Leaf, tensor: Tensor | None = None) -> Any:
        """``.grad`` as far as the capture has come."""
        if leaf in self._grads:
            return self._grads[leaf]
        owner, g = self._own(leaf, tensor), leaf.grad
        if owner is not None:
            source = Gradient(owner)
            self.expected.setdefault(source, None if g is None else Expected.of(g))
            if g is not None and id(g) in self._held and self._held[id(g)].source != source:
                self.identical.setdefault(source, g)
            elif g is not None:
                self._gradients[id(g)] = (g, source)
        return g

    def write_grad(self, leaf: Leaf, value: Any, tensor: Tensor | None = None) -> None:
        """Note the new ``.grad``; the leaf keeps its own until the program commits."""
        if self._own(leaf, tensor) is None and leaf.level is not self:
            raise TracerError(
                explain(
                    "during a capture a backward pass reached a tensor through a graph that was recorded before it",
                    fix="compute the loss inside the captured function, from its parameters and arguments",
                )
            )
        self._grads[leaf] = value

    # ---- the end
    def finish(self, result: Any) -> tuple[trees.Structure, list[Any], bool]:
        """The structure of the result and what each leaf of it is (a tracer, or what is returned as it is)."""
        leaves, structure = trees.flatten(result)
        shells = {id(shell): source for shell, source, _ in self._arguments}
        found: list[Any] = []
        history = False
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                found.append(Fixed(leaf))
            elif id(leaf) in shells:
                found.append(Same(shells[id(leaf)]))
            elif not isinstance(leaf._d, Tracer) and self._outside(root_of(leaf)):
                found.append(Same(State(leaf)))
            else:
                node = leaf._node
                history = history or type(node) is Leaf or (type(node) is Node and node.edges is not None)
                found.append(self.value(leaf))
        return structure, found, history

    def effects(self) -> tuple[list[tuple[Source, Value]], list[tuple[Argument | State, Value | None]]]:
        """What was written, and which gradients were set; forgets the shells that say so."""
        grads: list[tuple[Argument | State, Value | None]] = []
        for leaf, g in self._grads.items():
            owner = self._owners.get(leaf)
            if owner is None:
                self._inner.append(weakref.ref(leaf))
            elif g is None or g is not leaf.grad:
                self.expected.setdefault(owner, Expected.of(self._owner_tensor(owner)))
                grads.append((owner, None if g is None else self.value(g).value))
        writes: list[tuple[Source, Value]] = [
            (held.source, held.current.value)
            for held in self._held.values()
            if held.written and held.current is not None
        ]
        for shell, source, first in self._arguments:
            if shell._d.shape != first.shape:
                raise TracerError(
                    explain(
                        f"during a capture the shape of {source} was changed in place",
                        fix="use the out-of-place method",
                    )
                )
            if shell._d is not first:
                writes.append((source, shell._d.value))
        self._forget()
        return writes, grads

    def _forget(self) -> None:
        """Let go of the shells and tracers in the tables: they know this capture, and a cycle would keep both."""
        tables: tuple[Any, ...] = (
            self._grads, self._views, self._scalars, self._arguments, self._held, self._made, self._gradients,
        )  # fmt: skip
        for table in tables:
            table.clear()

    def _owner_tensor(self, owner: Argument | State) -> Tensor:
        if isinstance(owner, State):
            return owner.held
        return next(shell for shell, source, _ in self._arguments if source == owner)

    def _give_back(self) -> list[tuple[Tensor, _Changed, Tracer]]:
        """Give tensors made inside that are still alive their data back; also what value they had reached."""
        alive = []
        for changed in self._changed.values():
            t = changed.reference()
            if t is not None and isinstance(t._d, Tracer) and t._d.interpreter is self:
                alive.append((t, changed, t._d))
                t._d, t._node = changed.array, None if type(t._node) is Node else t._node
        self._changed.clear()
        for leaf, owner in self._owners.items():
            if leaf.level is self and isinstance(owner, State):
                leaf.level = None
        return alive

    def _kept_leaves(self) -> bool:
        return any(r() is not None for r in self._inner)

    def _escaped(self) -> list[Tensor]:
        return [t for t in (r() for r in self._results) if t is not None and isinstance(t._d, Tracer)]

    def settle(self, promote: bool) -> tuple[list[tuple[Source, Value]], list[Tensor]]:
        """After the function's own variables are gone: what outlived it.

        A tensor made inside, written, and kept by someone (optimizer state made at the first step) is a state from now
        on: with ``promote`` an input, otherwise a constant that is written. A result of an op that is kept has no value
        to give: that is an error, since later calls of the program could not renew it.
        """
        if any(c.reference() is not None for c in self._changed.values()) or self._escaped() or self._kept_leaves():
            gc.collect()  # what only a reference cycle keeps is not kept by anyone
        writes: list[tuple[Source, Value]] = []
        newborn = []
        for t, changed, final in self._give_back():
            source = State(t)
            self.expected[source] = Expected.of(t)
            writes.append((source, final.value))
            newborn.append(t)
            if promote and changed.constant is not None:
                first = changed.constant.value
                self.constants = [c for c in self.constants if c.value is not first]
                self.inputs.append((first, source))
        if self._kept_leaves():
            raise TracerError(
                "a tensor that requires grad was made during a capture, got a gradient in it, and was kept outside\n"
                "  expected: parameters that exist before the capture\n"
                "  fix:      make it first, or call the function once without capture"
            )
        lost = self._escaped()
        if lost:
            raise TracerError(self._escape_message(lost[0]))
        return writes, newborn

    def _escape_message(self, t: Tensor) -> str:
        made = next((i for i in self.instructions if t._d.value in i.results), None)
        place = f"\n  made at:  {describe_place(made.place)}" if made is not None else ""
        return (
            f"a value computed during a capture was kept outside of it (in an attribute, a list, a closure): {t._d!r}"
            f"{place}\n"
            "  expected: every value that is needed later is returned, or written in place into a tensor made outside\n"
            "  fix:      return it from the function, or keep a tensor and use copy_() under no_grad"
        )


def _reader_key(read: Callable[[], Any]) -> Any:
    """Readers that read the same thing have the same key: partials of one function over the same objects."""
    if isinstance(read, partial) and not read.keywords:
        return (read.func, *(a if isinstance(a, (str, int)) else id(a) for a in read.args))
    return id(read)


def capture(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Program:
    """Run ``function`` once with symbolic values and return what it computes as a :class:`Program`.

    Nothing is computed and no tensor changes; call the program to do both. Tensors among the arguments become its
    arguments, every other value among them is fixed.

    Raises:
        TracerError: if a number is needed to go on (``if tensor``, ``.item()``), or a value is kept outside.
        TypeError: for a NumPy array among the arguments.
    """
    return trace(function, args, kwargs, promote=True)


def trace(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], promote: bool) -> Program:
    """As :func:`capture`; ``promote`` says what tensors become that the function makes, writes and keeps."""
    leaves, structure = trees.flatten((args, kwargs))
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, np.ndarray):
            raise TypeError(
                explain(
                    f"argument {i} of a captured function is a NumPy array: its contents would be fixed in the program",
                    fix="pass a tensor: chainrule.from_numpy(array) shares its memory",
                )
            )
    level = Capture()
    with level:
        static = tuple((i, leaf) for i, leaf in enumerate(leaves) if not isinstance(leaf, Tensor))
        given = [level.argument(leaf, i) if isinstance(leaf, Tensor) else leaf for i, leaf in enumerate(leaves)]
        shell_args, shell_kwargs = trees.unflatten(structure, given)
        result = function(*shell_args, **shell_kwargs)
        shape, found, history = level.finish(result)
        writes, grads = level.effects()
    del result, given, shell_args, shell_kwargs
    born_writes, newborn = level.settle(promote)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    sources = tuple(s for _, s in level.inputs)
    outputs: list[Value] = []

    def output(value: Value) -> int:
        outputs.append(value)
        return len(outputs) - 1

    result_leaves = tuple(Output(output(x.value)) if isinstance(x, Tracer) else x for x in found)
    all_writes = tuple((s, output(v)) for s, v in (*writes, *born_writes))
    set_grads = tuple((s, None if v is None else output(v)) for s, v in grads)
    check_overlap(name, sources, all_writes, leaves)
    graph = Graph(tuple(v for v, _ in level.inputs), tuple(level.constants), tuple(level.instructions), tuple(outputs))
    return Program(
        name, verify(graph), sources, shape, result_leaves, all_writes, set_grads, structure,
        tuple(level.expected.items()), tuple(level.identical.items()), static, history, tuple(newborn),
    )  # fmt: skip
