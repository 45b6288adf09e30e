"""Programs: a pure graph, what its inputs are read from, and what its outputs are written to.

A run reads all inputs, evaluates the graph, and only then commits: gradients and tensors that the captured function
wrote get their new values. If anything raises before that, nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.reference import evaluate
from chainrule.core import trees
from chainrule.core.errors import TracerError, explain
from chainrule.ir.graph import Graph, describe_type, render
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import get_state, no_grad
from chainrule.tape.clock import owner
from chainrule.tape.node import Leaf
from chainrule.tensors.apply import constant, up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.inplace import write
from chainrule.tensors.tensor import Tensor, wrap


# ---- where inputs come from
class Argument(NamedTuple):
    """The tensor that is leaf number ``index`` of the call's arguments."""

    index: int

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor of this call."""
        return leaves[self.index]

    def __str__(self) -> str:
        return f"argument {self.index}"


class State:
    """A tensor from outside the function: a parameter, a buffer, optimizer state, the position of a generator."""

    __slots__ = ("held",)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor, always the same."""
        return self.held

    def __str__(self) -> str:
        return f"state ({type(self.held).__name__}{', requires grad' if self.held._node is not None else ''})"


class Gradient(NamedTuple):
    """``.grad`` of another source, as it stands when the call begins."""

    of: Argument | State

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The gradient, or None."""
        return self.of.tensor(leaves).grad

    def __str__(self) -> str:
        return f"grad of {self.of}"


class Scalar(NamedTuple):
    """A Python number read anew at every call, such as a learning rate."""

    read: Callable[[], Any]
    dtype: np.dtype[Any]

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The number as a tensor of zero dimensions."""
        return constant(np.asarray(self.read(), self.dtype))

    def __str__(self) -> str:
        names = [a for a in getattr(self.read, "args", ()) if isinstance(a, str)]
        return (
            f"number {names[-1]}" if names else f"number ({getattr(self.read, '__qualname__', 'read at every call')})"
        )


Source = Argument | State | Gradient | Scalar


class Expected(NamedTuple):
    """What a tensor was when the program was captured; a program is valid only for tensors like it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    requires_grad: bool

    @classmethod
    def of(cls, tensor: Any) -> Expected:
        """As the tensor is now."""
        return cls(tuple(tensor._d.shape), tensor._d.dtype, tensor._node is not None)

    def __str__(self) -> str:
        return describe_type(self.dtype, self.shape) + (" that requires grad" if self.requires_grad else "")


# ---- what is returned
class Output(NamedTuple):
    """A leaf of the result: the graph's output number ``index``."""

    index: int


class Same(NamedTuple):
    """A leaf of the result that is an argument or a tensor from outside, returned as it is."""

    source: Argument | State


class Fixed(NamedTuple):
    """A leaf of the result that is no tensor: what the function returned when it was captured."""

    value: Any


class Program:
    """A captured function; call it with arguments like those it was captured with.

    Attributes:
        graph: the pure graph.
        sources: what each input of the graph is read from.
        writes: pairs of a source and the number of the output that becomes its value.
        grads: pairs of a source and the number of the output that becomes its ``.grad``, or None for no gradient.
        newborn: tensors that the captured function made and that outlived it (lazily made state); they are inputs.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        sources: tuple[Source, ...],
        result: trees.Structure,
        leaves: tuple[Output | Same | Fixed, ...],
        writes: tuple[tuple[Source, int], ...],
        grads: tuple[tuple[Argument | State, int | None], ...],
        arguments: trees.Structure,
        expected: tuple[tuple[Source, Expected | None], ...],
        identical: tuple[tuple[Source, Tensor], ...],
        static: tuple[tuple[int, Any], ...],
        history: bool,
        newborn: tuple[Tensor, ...],
    ) -> None:
        self.name, self.graph, self.sources = name, graph, sources
        self.result, self.leaves, self.writes, self.grads = result, leaves, writes, grads
        self.arguments, self.expected, self.identical, self.static = arguments, expected, identical, static
        self.history, self.newborn = history, newborn
        #: how outputs with history are computed; a compiled program puts itself here
        self.differentiable: Callable[[list[Any]], list[Tensor]] | None = None

    # ---- is it valid for this call?
    def mismatch(self, leaves: Sequence[Any], structure: trees.Structure) -> str | None:
        """Why the program is not valid for these arguments and the state as it is now, or None if it is.

        Checked: the structure of the arguments, their Python values, and of every tensor that is read or written its
        shape, dtype, whether it requires grad, and (for gradients read before they are set) whether it is None; and
        that nothing that is written shares memory with another input.
        """
        if structure != self.arguments:
            return f"the arguments have another structure: {structure}, captured with {self.arguments}"
        for index, value in self.static:
            if not same_value(leaves[index], value):
                return f"argument {index} is {leaves[index]!r}, captured with {value!r}"
        for source, expected in self.expected:
            t = source.tensor(leaves)
            if expected is None:
                if t is not None:
                    return f"the {source} is set now, and was None when captured"
            elif not isinstance(t, Tensor):
                return f"the {source} is {'None' if t is None else type(t).__name__} now, captured as {expected}"
            elif Expected.of(t) != expected and not self._may_require_grad(source, expected, t):
                return f"the {source} is {Expected.of(t)} now, captured as {expected}"
        for source, same in self.identical:
            if source.tensor(leaves) is not same:
                return f"the {source} is no longer the tensor that the function also uses by itself"
        pair = overlapping(self.sources, self.writes, leaves) if self.writes else None
        if pair is not None:
            return f"the {pair[0]} and the {pair[1]} share memory that the function writes, and did not when captured"
        return None

    def _may_require_grad(self, source: Source, expected: Expected, t: Tensor) -> bool:
        """An argument may require grad now if it did not, unless the program itself sets ``.grad`` of something."""
        return (
            isinstance(source, Argument) and not self.grads and Expected.of(t) == expected._replace(requires_grad=True)
        )

    def data(self, leaves: Sequence[Any]) -> list[np.ndarray[Any, Any] | None]:
        """For each input the array that it is in this call, if it is data: not written, and no gradient asked of it."""
        written = {s for s, _ in self.writes}
        learnt = {s for s, e in self.expected if e is not None and e.requires_grad}
        given = [None if s in written or s in learnt else s.tensor(leaves) for s in self.sources]
        return [None if t is None else np.asarray(up_to_date(t)._d) for t in given]

    # ---- running it
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the reference evaluator on these arguments and commit what the function writes.

        Raises:
            ValueError: if the program was captured for other arguments or another state; the message says which.
        """
        leaves, structure = trees.flatten((args, kwargs))
        why = self.mismatch(leaves, structure)
        if why is not None:
            raise ValueError(
                explain(
                    f"the captured program {self.name!r} does not fit this call",
                    got=why,
                    fix="capture again for these arguments; chainrule.compiler.captured does so by itself",
                )
            )
        return self.run(leaves)

    def run(self, leaves: Sequence[Any]) -> Any:
        """As a call, for arguments that are known to fit."""
        inputs = [up_to_date(s.tensor(leaves)) for s in self.sources]
        targets = [s.tensor(leaves) for s, _ in self.writes]
        owners = [s.tensor(leaves) for s, _ in self.grads]
        self._check_targets(targets, owners, leaves)
        interpreter, grad = get_state()
        traced = interpreter is not None or any(isinstance(t._d, Tracer) for t in inputs)
        if traced:
            outputs = self._evaluate_tensors(inputs)
        elif grad and self._has_history(leaves):
            outputs = (self.differentiable or self._evaluate_tensors)(inputs)
        else:
            outputs = self._evaluate_arrays(inputs)
        with no_grad():
            for (_, index), target in zip(self.writes, targets, strict=True):
                write(target, outputs[index].detach())
            for (_, at), t in zip(self.grads, owners, strict=True):
                t.grad = None if at is None else outputs[at].detach() if traced else wrap(outputs[at]._d)
        return trees.unflatten(self.result, [self._leaf(leaf, outputs, leaves) for leaf in self.leaves])

    def _has_history(self, leaves: Sequence[Any]) -> bool:
        """Whether a result should be differentiable: it was when captured, or an argument now requires a gradient."""
        return self.history or any(
            isinstance(leaves[s.index], Tensor) and leaves[s.index]._node is not None and not e.requires_grad
            for s, e in self.expected
            if isinstance(s, Argument) and e is not None
        )

    def _evaluate_tensors(self, inputs: list[Any]) -> list[Tensor]:
        taken = {id(t) for t in inputs}
        own = []
        for t in evaluate(self.graph, inputs, TENSORS):
            own.append(TENSORS.copy(t) if id(t) in taken else t)
            taken.add(id(t))
        return own

    def _evaluate_arrays(self, inputs: list[Any]) -> list[Tensor]:
        arrays = [np.asarray(t._d) for t in inputs]
        outputs = [np.asarray(a) for a in evaluate(self.graph, arrays)]
        # What is handed out or committed is an array of its own: nobody else's memory, and no other output's.
        taken = {id(a) for a in arrays} | {id(c.array) for c in self.graph.constants}
        own = []
        for a in outputs:
            if id(a) in taken or not a.flags.owndata or not a.flags.writeable:
                a = np.array(a)
            taken.add(id(a))
            own.append(wrap(a))
        return own

    def _leaf(self, leaf: Output | Same | Fixed, outputs: list[Tensor], leaves: Sequence[Any]) -> Any:
        if isinstance(leaf, Output):
            return outputs[leaf.index]
        return leaf.source.tensor(leaves) if isinstance(leaf, Same) else leaf.value

    def _check_targets(self, targets: list[Tensor], owners: list[Tensor], leaves: Sequence[Any]) -> None:
        """Everything that could keep a commit from succeeding, before anything is computed."""
        for t in targets:
            if type(t._d) is np.ndarray and not t._d.flags.writeable:
                raise RuntimeError(
                    explain(
                        f"{self.name} writes a tensor whose memory cannot be written: it is expanded or read-only",
                        got=f"shape {tuple(t._d.shape)}",
                        fix="pass a clone()",
                    )
                )
        for t in owners:
            if type(t._node) is not Leaf:
                raise TracerError(
                    explain(
                        f"{self.name} calls backward() inside, down to an argument that is the result of a computation",
                        fix="pass a leaf (detach().requires_grad_()), or call backward() on the result, outside",
                    )
                )
        if self.writes:
            check_overlap(self.name, self.sources, self.writes, leaves)

    def __str__(self) -> str:
        notes = {v: str(s) for v, s in zip(self.graph.inputs, self.sources, strict=True)}
        outputs = self.graph.outputs
        lines = [f"program {self.name}:", render(self.graph, notes)]
        shown = [repr(outputs[x.index]) if isinstance(x, Output) else str(x[0]) for x in self.leaves]
        lines.append(f"result: {', '.join(shown) or 'nothing'}")
        lines += [f"write {outputs[index]!r} to {source}" for source, index in self.writes]
        lines += [f"set grad of {source} to {'None' if at is None else repr(outputs[at])}" for source, at in self.grads]
        return "\n".join(lines)

    def __repr__(self) -> str:
        g = self.graph
        return (
            f"<program {self.name}: {len(g.inputs)} inputs, {len(g.constants)} constants, "
            f"{len(g.instructions)} instructions, {len(self.writes) + len(self.grads)} writes>"
        )


def same_value(a: Any, b: Any) -> bool:
    """Whether two Python values are interchangeable in a program: equal numbers or texts of one type, or one object."""
    if a is b:
        return True
    plain = (bool, int, float, complex, str, bytes, np.dtype)
    return type(a) is type(b) and isinstance(a, plain) and repr(a) == repr(b)


def overlapping(
    sources: Sequence[Source], writes: Sequence[tuple[Source, int]], leaves: Sequence[Any]
) -> tuple[Source, Source] | None:
    """Two inputs that share memory, one of which is written; the graph of the other would not see the change."""
    everything = dict.fromkeys([*sources, *(s for s, _ in writes)])
    by_owner: dict[int, list[tuple[Source, Any]]] = {}
    for s in everything:
        d = None if isinstance(s, Scalar) else s.tensor(leaves)
        if isinstance(d, Tensor) and type(d._d) is np.ndarray:
            by_owner.setdefault(id(owner(d._d)), []).append((s, d._d))
    written = {s for s, _ in writes}
    for group in by_owner.values():
        for i, (s, a) in enumerate(group):
            for other, b in group[i + 1 :]:
                if (s in written or other in written) and np.may_share_memory(a, b):
                    return s, other
    return None


def check_overlap(
    name: str, sources: Sequence[Source], writes: Sequence[tuple[Source, int]], leaves: Sequence[Any]
) -> None:
    """Raise if a tensor that is written shares memory with another input."""
    pair = overlapping(sources, writes, leaves)
    if pair is not None:
        raise TracerError(
            explain(
                f"{name} writes a tensor whose memory another input uses too, with no view between them",
                got=f"{pair[0]} and {pair[1]}",
                fix="make one of them a view of the other, or give one its own memory with clone()",
            )
        )
