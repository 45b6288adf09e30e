"""Nodes of the tape.

NOTE [what a node holds]. Raw payloads and edges, never a Tensor shell and never its own output shell, so a graph has
no reference cycles and is freed by counting alone. An edge is a :class:`Node` (the op that made the input), a
:class:`Leaf` (a tensor that requires a gradient) or None.
"""

from __future__ import annotations

from typing import Any

from chainrule.core.errors import describe_place
from chainrule.ir.op import Aval, Elementwise, Multilinear, Op, saved_for
from chainrule.tape.clock import CLOCK, Place
from chainrule.tape.names import name_of

#: level of a leaf that a finished function transform made for itself: nobody can ask for its gradient
CLOSED = object()


class Leaf:
    """The end of an edge: a tensor that requires a gradient. It owns ``.grad``, and knows the level it was made at."""

    __slots__ = ("__weakref__", "grad", "level")

    def __init__(self, level: Any = None) -> None:
        self.grad: Any = None
        self.level = level

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


class Node:
    """One recorded op.

    Attributes:
        op, params: what was applied.
        edges: where the cotangent of each input goes; None after the graph was freed.
        xs: the saved inputs (None where not needed).
        y, r: the saved output (a tuple for an op with several results) and residual, or None.
        avals: shapes (elementwise) or shapes and dtypes (multilinear) of the inputs; None if no rule asks for them.
        clock: the time at which it was made, see NOTE [mutation clock].
        place: the user's line.
    """

    __slots__ = ("__weakref__", "avals", "clock", "edges", "op", "params", "place", "r", "xs", "y")

    op: Op
    params: dict[str, Any]
    edges: tuple[Any, ...] | None
    xs: tuple[Any, ...]
    y: Any
    r: Any
    avals: Any
    clock: int
    place: Place

    def name(self) -> str:
        """PyTorch's way to call it, such as ``MulBackward0``."""
        if self.op is PICK and self.edges:
            name: str = self.edges[0].name()
            return name
        return name_of(self)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes that the cotangents go to, each with an output number."""
        return tuple((e, 0) for e in self.edges or ())

    def where(self) -> str:
        """The user's line that made it."""
        return describe_place(self.place)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class Pick(Op):
    """The pseudo-op that takes one of several results; its cotangent is a :class:`Cotangents`."""

    name = "pick"
    arity = 1


PICK = Pick()


class Roots(Op):
    """The pseudo-op at which a pass from several values starts; its parameters hold their cotangents."""

    name = "roots"


ROOTS = Roots()


class Cotangents(tuple[Any, ...]):
    """Cotangents of an op with several results; None where a result was not reached."""

    __slots__ = ()

    def __add__(self, other: Any) -> Cotangents:
        return Cotangents(b if a is None else a if b is None else a + b for a, b in zip(self, other, strict=True))


_plans: dict[tuple[Op, tuple[bool, ...]], tuple[tuple[bool, ...], bool]] = {}


def plan(op: Op, needed: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
    """What to save, per op and pattern of inputs that need gradients (see :func:`chainrule.ir.op.saved_for`)."""
    key = (op, needed)
    found = _plans.get(key)
    if found is None:
        found = saved_for(op, needed)
        if op.arity is not None:  # a variadic op may come with any number of inputs
            _plans[key] = found
    return found


def record(
    op: Op, edges: tuple[Any, ...], payloads: tuple[Any, ...], out: Any, residual: Any, params: Any, place: Place
) -> Node | None:
    """A node for an op just applied, or None if no cotangent would flow."""
    if op.arity is None or not all(op.differentiable):
        edges = tuple([e if e is not None and op.flows(i) else None for i, e in enumerate(edges)])
    needed = tuple([e is not None for e in edges])
    if True not in needed:
        return None
    keep, keep_out = plan(op, needed)
    n = Node()
    n.op, n.params, n.edges, n.clock, n.place = op, params, edges, CLOCK.now, place
    n.xs = tuple([d if k else None for d, k in zip(payloads, keep, strict=True)])
    n.y = out if keep_out else None
    n.r = residual
    n.avals = None
    if isinstance(op, Elementwise):
        n.avals = tuple([d.shape for d in payloads])
    elif isinstance(op, Multilinear):
        n.avals = tuple([Aval(d.shape, d.dtype) for d in payloads])
    return n


def pick(node: Node, index: int, count: int) -> Node:
    """The node of result ``index`` of an op with several results."""
    n = Node()
    n.op, n.params, n.edges, n.clock, n.place = PICK, {"index": index, "count": count}, (node,), node.clock, node.place
    n.xs, n.y, n.r, n.avals = (), None, None, None
    return n


def roots(targets: tuple[Any, ...], seeds: tuple[Any, ...]) -> Node:
    """A node from which one pass reaches all ``targets`` (nodes or leaves), each with its own cotangent."""
    n = Node()
    n.op, n.params, n.edges, n.clock, n.place = ROOTS, {"seeds": seeds}, targets, CLOCK.now, None
    n.xs, n.y, n.r, n.avals = (), None, None, None
    return n
