"""Blocks: a function captured as a graph of its own, to become the body of a loop or a branch.

NOTE [blocks]. A block is captured by a level inside the capture that is going on. What it reads from outside, traced
there or not, becomes an input of the block and so of the loop or branch. A tensor from outside that it writes is
carried along: its value goes in, its new value comes out and is written when the loop or branch is done. That is how
random draws (a generator's position is a tensor) and running statistics work inside. Refused are writes to the block's
own arguments, to tensors that require a gradient, and of ``.grad``, because a loop that is one op could not give them
the derivatives that eager mode gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.compiler.capture import Capture
from chainrule.compiler.program import State
from chainrule.core.errors import TracerError, explain
from chainrule.func.batch import Batch
from chainrule.ir.graph import Graph, Value, blocks, verify
from chainrule.ir.op import Aval
from chainrule.ir.state import get_state
from chainrule.tape.node import Leaf, Node
from chainrule.tensors.tensor import Tensor, wrap
from chainrule.tensors.views import root_of


def watched() -> bool:
    """Whether a capture is going on, at the current level or outside of it."""
    level = get_state().interpreter
    while level is not None:
        if level.watches:
            return True
        level = level.outer
    return False


def mapped() -> bool:
    """Whether the current level, or one between it and the next capture, is vmap."""
    level = get_state().interpreter
    while level is not None and not level.watches:
        if isinstance(level, Batch):
            return True
        level = level.outer
    return False


class BlockCapture(Capture):
    """The level that writes a block down (see NOTE [blocks])."""

    def __init__(self, what: str, changing: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.construct = what
        self._changing = {id(t) for t in changing}
        self.parameters: list[Value] = []
        self._leaves: set[Leaf] = set()

    def parameter(self, aval: Aval, tracked: bool) -> Tensor:
        """A shell for an argument of the block; ``tracked``: it may have history in eager mode."""
        tracer = self._tracer(aval.shape, aval.dtype)
        self.parameters.append(tracer.value)
        shell = wrap(tracer)
        if tracked and aval.dtype.kind == "f":
            shell._node = Leaf(self)
            self._leaves.add(shell._node)
        return shell

    def value(self, tensor: Tensor) -> Any:
        """As a capture sees it, but a view from outside is an input of its own, which keeps its history.

        Unless its root is written inside: then it is read through the root, whose value the loop carries.
        """
        base = root_of(tensor)
        if base is tensor or self.owns(tensor._d) or not self._outside(base):
            return super().value(tensor)
        if id(base) in self._changing or self._hold(base).written:
            return super().value(tensor)
        held = self._hold(tensor)
        if held.current is None:
            held.current = self._input(held.source, tensor)
        return held.current

    def scalar(self, read: Callable[[], Any]) -> Any:
        """A number read anew at every call is an input of the capture outside."""
        return read() if self.outer is None else self.outer.scalar(read)

    def read_grad(self, leaf: Leaf, tensor: Tensor | None = None) -> Any:
        """``.grad`` of what was made inside, else as the level outside sees it."""
        if leaf in self._grads:
            return self._grads[leaf]
        if leaf.level is self or self.outer is None:
            return leaf.grad
        return self.outer.read_grad(leaf, tensor)

    def write_grad(self, leaf: Leaf, value: Any, tensor: Tensor | None = None) -> None:
        """Allowed for what was made inside alone."""
        if leaf.level is not self or leaf in self._leaves:
            raise TracerError(
                explain(
                    f"inside {self.construct} a backward pass would set .grad of a tensor from outside",
                    fix="use chainrule.autograd.grad(...) or chainrule.func.grad(...) inside, and return the gradient",
                )
            )
        self._grads[leaf] = value


class Write(NamedTuple):
    """A tensor from outside that a block writes, and its new value."""

    tensor: Tensor
    value: Value


class Traced(NamedTuple):
    """A captured block.

    Attributes:
        graph: its inputs are the arguments, then what was read from outside.
        outside: the tensors that were read from outside.
        tracked: per output, whether it had history.
        writes: tensors from outside that were written.
    """

    graph: Graph
    outside: list[Tensor]
    tracked: list[bool]
    writes: list[Write]


def trace(
    what: str, function: Callable[..., Sequence[Tensor]], avals: Sequence[Aval], tracked: Sequence[bool]
) -> Traced:
    """Capture ``function``, called with a tensor per aval, which returns a list of tensors.

    Args:
        what: the construct, for messages: "the body of scan".
        function: the block.
        avals: types of the arguments.
        tracked: per argument, whether it may have history.

    Raises:
        TracerError: for what NOTE [blocks] refuses, or a number that is needed to go on.
    """
    written: list[Tensor] = []
    while True:
        found = _attempt(BlockCapture(what, written), what, function, avals, tracked)
        new = [w.tensor for w in found.writes]
        views = [t for t in found.outside if root_of(t) is not t and any(root_of(t) is w for w in new)]
        if not views:
            return found
        if any(t._node is not None for t in views):
            raise _write_refused(what)
        written = new


def _attempt(
    level: BlockCapture, what: str, function: Callable[..., Sequence[Tensor]], avals: Sequence[Aval], tracked: Any
) -> Traced:
    with level:
        shells = [level.parameter(a, t) for a, t in zip(avals, tracked, strict=True)]
        first = [s._d for s in shells]
        results = list(function(*shells))
        check_unwritten(what, zip(shells, first, strict=True))
        values = [level.value(t).value for t in results]
        history = [type(t._node) is Leaf or (type(t._node) is Node and t._node.edges is not None) for t in results]
        writes = [Write(_written(what, s), v) for s, v in level.effects()[0]]
    del shells, results
    newborn = level.settle(False)[1]
    if newborn:
        raise TracerError(
            f"inside {what} a tensor was made, written and kept outside of it\n"
            "  fix: make it before, or carry its value"
        )
    sources = [s for _, s in level.inputs]
    assert all(isinstance(s, State) for s in sources)
    inputs = (*level.parameters, *(v for v, _ in level.inputs))
    graph = Graph(inputs, tuple(level.constants), tuple(level.instructions), tuple(values))
    return Traced(verify(graph), [s.held for s in sources if isinstance(s, State)], history, writes)


def check_unwritten(what: str, pairs: Any) -> None:
    """Raise if one of some tensors no longer has the payload it is paired with."""
    if any(t._d is not payload for t, payload in pairs):
        raise written_argument(what)


def written_argument(what: str) -> TracerError:
    """The error for a block that writes its arguments."""
    return TracerError(
        explain(
            f"inside {what} one of its arguments was written in place",
            expected="a function that leaves what it is given as it is",
            fix="use the out-of-place operation (x + y instead of x.add_(y)), or write to a clone()",
        )
    )


def _written(what: str, source: Any) -> Tensor:
    tensor: Tensor = source.held
    if tensor._node is not None:
        raise _write_refused(what)
    return tensor


def _write_refused(what: str) -> TracerError:
    return TracerError(
        explain(
            f"inside {what} a tensor from outside that requires a gradient was written in place",
            fix="carry its value through the loop or return it from the branch, and write it afterwards",
        )
    )


def draws(graph: Graph) -> bool:
    """Whether a graph, or a block in it, draws random numbers."""
    todo = [graph]
    while todo:
        for i in todo.pop().instructions:
            if i.op.random:
                return True
            todo += [block.graph for _, block in blocks(i)]
    return False


def check_draws(what: str, graph: Graph) -> None:
    """Raise for a block that draws random numbers where vmap would have to know how."""
    if draws(graph) and mapped():
        raise TracerError(
            explain(
                f"a random draw inside {what}, under vmap inside a capture",
                fix="draw the numbers before, and pass them in (as xs, or by name)",
            )
        )


def avals_of(tensors: Sequence[Tensor]) -> list[Aval]:
    """Shapes and dtypes."""
    return [Aval(tuple(t._d.shape), t._d.dtype) for t in tensors]


def fresh(graph: Graph, aval: Aval) -> Value:
    """A new value, numbered after those of a graph."""
    numbers = [v.number for v in graph.inputs] + [c.value.number for c in graph.constants]
    numbers += [v.number for i in graph.instructions for v in i.results]
    return Value(max(numbers, default=-1) + 1, aval.shape, aval.dtype)


def as_list(values: Any) -> list[Any]:
    """The results (or their cotangents) of an op with one or several of them."""
    return list(values) if isinstance(values, tuple) else [values]


def saves() -> bool:
    """Whether an op applied now may be differentiated later, so that what its derivative needs should be kept."""
    interpreter, grad = get_state()
    return grad or interpreter is None or not interpreter.watches
