"""The backward pass: moves cotangents from a node to the leaves, without recursion, freeing as it goes.

Two engines of the same form. :func:`backward_raw` works on arrays, with a rule per op prepared once (``back``);
:func:`backward_traced` works on tensors through a math namespace, for ``create_graph`` and inside transforms. Both
count the uses of every node, then visit a node when all its uses have reported (Kahn, 1962).

NOTE [borrow, then own]. The first cotangent that reaches a node is borrowed, it may be an array someone else holds;
from the second on the sum is a fresh array of ours and further ones are added in place. What is handed to a leaf says
whether it is fresh, so that ``.grad`` is always an array of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import GradError, describe_place, explain
from chainrule.ir.namespace import NUMPY, Namespace
from chainrule.ir.op import Elementwise, General, Multilinear, Op
from chainrule.tape.anomaly import WATCHING, inspect
from chainrule.tape.clock import CLOCK, written_since
from chainrule.tape.hooks import HOOKS, registered, run
from chainrule.tape.node import PICK, ROOTS, Cotangents, Leaf, Node, pick

Back = Callable[[Node, Any], Iterable[Any]]
#: ``accumulate(leaf, cotangent, fresh)``
Accumulate = Callable[[Leaf, Any, bool], None]


# ---- one op, on raw arrays
def _back_elementwise(op: Elementwise) -> Back:
    if op.arity == 1:
        (p,) = op.partials
        assert p is not None
        rule = p
        return lambda n, g: (rule(NUMPY, g, n.y, n.xs[0]),)
    if op.arity == 2:
        p, q = op.partials

        def back(n: Node, g: Any) -> tuple[Any, Any]:
            x, y = n.xs
            a, b = n.edges  # type: ignore[misc]
            s = n.avals
            u = v = None
            if a is not None:
                u = p(NUMPY, g, n.y, x, y)  # type: ignore[misc]
                if s is not None and u.shape != s[0]:
                    u = NUMPY.unbroadcast(u, s[0])
            if b is not None:
                v = q(NUMPY, g, n.y, x, y)  # type: ignore[misc]
                if s is not None and v.shape != s[1]:
                    v = NUMPY.unbroadcast(v, s[1])
            return u, v

        return back
    return lambda n, g: cotangents(n, g, NUMPY, n.xs, n.y, n.r)


def _install(op: Op) -> Back:
    """The raw backward rule of an op, made at its first use."""
    if op is PICK:
        back: Back = _back_pick
    elif op is ROOTS:
        back = lambda n, g: n.params["seeds"]  # noqa: E731
    elif isinstance(op, Elementwise):
        back = _back_elementwise(op)
    elif isinstance(op, General):
        vjp = op.vjp
        back = lambda n, g: vjp(NUMPY, g, n.y, n.r, [e is not None for e in n.edges or ()], *n.xs, **n.params)  # noqa: E731
    elif isinstance(op, Multilinear) and op.arity == 1:
        transpose: Any = op.transposes[0]
        back = lambda n, g: (transpose(NUMPY, g, n.avals, None, **n.params),)  # noqa: E731
    else:
        back = lambda n, g: cotangents(n, g, NUMPY, n.xs, n.y, n.r)  # noqa: E731
    op.back = back
    return back


def _back_pick(n: Node, g: Any) -> tuple[Cotangents]:
    at, size = n.params["index"], n.params["count"]
    return (Cotangents(g if i == at else None for i in range(size)),)


def cotangents(n: Node, g: Any, m: Namespace, xs: Sequence[Any], y: Any, r: Any) -> list[Any]:
    """The cotangents of all inputs of a node, None where no edge goes, through any namespace."""
    op, edges = n.op, n.edges
    assert edges is not None
    if op is PICK:
        return list(_back_pick(n, g))
    if op is ROOTS:
        return list(n.params["seeds"])
    if isinstance(op, Elementwise):
        out: list[Any] = []
        for i, (p, e) in enumerate(zip(op.partials, edges, strict=True)):
            if e is None or p is None:
                out.append(None)
            else:
                u = p(m, g, y, *xs)
                out.append(u if n.avals is None else m.unbroadcast(u, n.avals[i]))
        return out
    if isinstance(op, Multilinear):
        return [None if e is None else op.transpose(i, m, g, n.avals, xs, n.params) for i, e in enumerate(edges)]
    assert isinstance(op, General)
    return list(op.vjp(m, g, y, r, tuple(e is not None for e in edges), *xs, **n.params))


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def check(n: Node) -> None:
    """Raise if a value the node saved was overwritten since, naming both lines."""
    for value in (*n.xs, *_each(n.y), *_each(n.r)):
        place = written_since(value, n.clock)
        if place:
            raise GradError(
                f"a value that {n.op.name} saved for the backward pass was changed in place afterwards\n"
                f"  used at:    {n.where()}\n"
                f"  changed at: {describe_place(place if isinstance(place, tuple) else None)}\n"
                "  fix:        use the out-of-place operation there, or change a clone()"
            )


def _count_uses(start: Any) -> dict[Any, int]:
    uses = {start: 0}
    stack = [start] if type(start) is Node else []
    while stack:
        n = stack.pop()
        edges = n.edges
        if edges is None:
            raise _freed(n)
        for c in edges:
            if c is not None:
                if c in uses:
                    uses[c] += 1
                else:
                    uses[c] = 1
                    if type(c) is Node:
                        stack.append(c)
    return uses


def _count_uses_towards(start: Any, want: Iterable[Any]) -> dict[Any, int]:
    """As :func:`_count_uses`, for the nodes from which something in ``want`` is reached, and for these only."""
    users: dict[Any, list[Any]] = {start: []}
    stack = [start] if type(start) is Node else []
    while stack:
        n = stack.pop()
        if n.edges is None:
            raise _freed(n)
        for c in n.edges:
            if c is not None:
                if c in users:
                    users[c].append(n)
                else:
                    users[c] = [n]
                    if type(c) is Node:
                        stack.append(c)
    uses: dict[Any, int] = {}
    found = [c for c in want if c in users]
    while found:
        c = found.pop()
        if c not in uses:
            uses[c] = len(users[c])
            found += users[c]
    return uses


def _freed(n: Node) -> GradError:
    return GradError(
        explain(
            "this graph was freed by an earlier backward pass",
            got=f"{n.name()} of {n.where()}",
            fix="pass retain_graph=True to that pass, or run the forward computation again",
        )
    )


def _free(n: Node) -> None:
    n.edges = n.y = n.r = None
    n.xs = ()


def backward_raw(start: Any, g: Any, retain: bool, accumulate: Accumulate | None, want: dict[Any, Any] | None) -> None:
    """Move the array ``g`` from ``start`` to all leaves.

    Args:
        start: the node or leaf of the differentiated value.
        g: its cotangent; never changed.
        retain: keep the graph for another pass.
        accumulate: called for every leaf reached, unless None.
        want: nodes or leaves whose complete cotangent is stored in this dictionary. Without ``accumulate`` only nodes
            that lead to them are visited, and freed.
    """
    prune = accumulate is None and want is not None
    uses = _count_uses_towards(start, want or ()) if prune else _count_uses(start)
    if start not in uses:
        return
    if type(start) is not Node:
        _deliver(start, g, False, accumulate, want)
        return
    cot: dict[Any, Any] = {start: g}
    owned: set[Any] = set()
    ready = [start]
    now = CLOCK.now
    special = registered() or want is not None
    watch = WATCHING.get()
    ndarray, add = np.ndarray, np.add
    while ready:
        n = ready.pop()
        g = cot.pop(n)
        edges: Any = n.edges
        if special:
            g = run(n, g)
            if want is not None and n in want:
                want[n] = g
                if prune and not any(c in uses for c in edges):
                    continue
        if n.clock != now:
            check(n)
        back = n.op.back or _install(n.op)
        found = back(n, g)
        if watch:
            inspect(n, g, found)
        for c, gi in zip(edges, found, strict=True):
            if c is None or (prune and c not in uses):
                continue
            if gi is None:  # a rule may find that nothing flows
                uses[c] -= 1
                if not uses[c] and c in cot:
                    _finish(c, cot, ready, c in owned, accumulate, want)
                elif not uses[c] and type(c) is Node:
                    _skip(c, uses, cot, ready, owned, accumulate, want)
                continue
            old = cot.get(c)
            if old is None:
                cot[c] = gi
                fresh = gi is not g and getattr(gi, "base", g) is None
            else:
                fresh = True
                if c in owned and type(old) is ndarray:
                    add(old, gi, out=old)
                else:
                    cot[c] = old + gi
                    owned.add(c)
            left = uses[c] - 1
            if left:
                uses[c] = left
            elif type(c) is Node:
                owned.discard(c)
                ready.append(c)
            else:
                _deliver(c, cot.pop(c), fresh, accumulate, want)
        if not retain:
            n.edges = n.y = n.r = None
            n.xs = ()


def _finish(
    c: Any, cot: dict[Any, Any], ready: list[Any], owned: bool, accumulate: Accumulate | None, want: Any
) -> None:
    if type(c) is Node:
        ready.append(c)
    else:
        _deliver(c, cot.pop(c), owned, accumulate, want)


def _skip(
    c: Node, uses: Any, cot: Any, ready: list[Any], owned: set[Any], accumulate: Accumulate | None, want: Any
) -> None:
    """Nothing reached ``c``: report its own uses as done, so that what lies behind it is not waited for."""
    stack = [c]
    while stack:
        for e in stack.pop().edges or ():
            if e is None or e not in uses:
                continue
            uses[e] -= 1
            if not uses[e]:
                if e in cot:
                    _finish(e, cot, ready, e in owned, accumulate, want)
                elif type(e) is Node:
                    stack.append(e)


def _deliver(leaf: Any, g: Any, fresh: bool, accumulate: Accumulate | None, want: dict[Any, Any] | None) -> None:
    if registered():
        new = run(leaf, g)
        fresh = fresh and leaf not in HOOKS  # a hook may have kept what it saw
        g = new
    if want is not None and leaf in want:
        want[leaf] = g
    if accumulate is not None:
        accumulate(leaf, g, fresh)


class Level(NamedTuple):
    """What the traced engine needs of tensors: a namespace, and shells for saved payloads."""

    m: Namespace
    shell: Callable[[Any, Any], Any]


def backward_traced(
    start: Any, g: Any, retain: bool, accumulate: Accumulate | None, want: dict[Any, Any] | None, level: Level
) -> None:
    """As :func:`backward_raw`, with tensors as cotangents: the pass itself is recorded or interpreted."""
    prune = accumulate is None and want is not None
    uses = _count_uses_towards(start, want or ()) if prune else _count_uses(start)
    if start not in uses:
        return
    if type(start) is not Node:
        _deliver(start, g, False, accumulate, want)
        return
    cot: dict[Any, Any] = {start: g}
    ready = [start]
    m, shell = level
    watch = WATCHING.get()
    while ready:
        n = ready.pop()
        g = run(n, cot.pop(n))
        edges = n.edges
        assert edges is not None
        if want is not None and n in want:
            want[n] = g
            if prune and not any(c in uses for c in edges):
                continue
        if n.clock != CLOCK.now:
            check(n)
        xs = tuple(_lift(d, edges[i] if i < len(edges) else None, shell) for i, d in enumerate(n.xs))
        found = cotangents(n, g, m, xs, _outputs(n, shell), None)
        if watch:
            inspect(n, g, found)
        for c, gi in zip(edges, found, strict=True):
            if c is None or c not in uses:
                continue
            if gi is not None:
                old = cot.get(c)
                cot[c] = gi if old is None else old + gi
            uses[c] -= 1
            if uses[c]:
                continue
            if c in cot:
                _finish(c, cot, ready, False, accumulate, want)
            elif type(c) is Node:
                _skip(c, uses, cot, ready, set(), accumulate, want)
        if not retain:
            _free(n)


def _lift(payload: Any, edge: Any, shell: Callable[[Any, Any], Any]) -> Any:
    number = isinstance(payload, (int, float)) and not isinstance(payload, np.generic)
    return payload if payload is None or number else shell(payload, edge)


def _outputs(n: Node, shell: Callable[[Any, Any], Any]) -> Any:
    """The saved result with its history; for several, each gets a fresh node that picks it."""
    if isinstance(n.y, tuple):
        size = len(n.y)
        return tuple(shell(d, pick(n, i, size) if d.dtype.kind == "f" else None) for i, d in enumerate(n.y))
    return None if n.y is None else shell(n.y, n)


def leaves(start: Any) -> Iterable[Leaf]:
    """All leaves that a node reaches."""
    seen, stack = {start}, [start]
    while stack:
        n = stack.pop()
        if type(n) is not Node:
            yield n
            continue
        for c in n.edges or ():
            if c is not None and c not in seen:
                seen.add(c)
                stack.append(c)
