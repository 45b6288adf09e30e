"""Views: tensors that look at the memory of another through a lens.

NOTE [views and writes]. A view remembers its parent and its view op (the lens). A write through a view goes up:
parent becomes ``put(parent, value, lens)``, and so on to the root, whose generation moves on. Other views notice that
their generation is behind and look through their lens again before they are next used. The same mechanism carries
history in eager mode, makes in-place operations functional under transforms, and names aliases in capture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import enable_grad
from chainrule.tape.clock import owner
from chainrule.tape.node import Leaf
from chainrule.tensors import kept
from chainrule.tensors.tensor import Tensor


class Root:
    """On a tensor of which views exist: how often it was written."""

    __slots__ = ("generation",)
    parent: Any = None
    stale = False

    def __init__(self) -> None:
        self.generation = 0


class Lens:
    """On a view: where it looks, and which generation of the root it has seen."""

    __slots__ = ("name", "params", "parent", "root", "seen")

    def __init__(self, parent: Tensor, root: Root, name: str, params: dict[str, Any]) -> None:
        self.parent, self.root, self.name, self.params = parent, root, name, params
        self.seen = root.generation

    @property
    def stale(self) -> bool:
        """Whether the root was written since."""
        return self.seen != self.root.generation

    @property
    def view(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """The lens as a static parameter of the op ``put``."""
        return self.name, tuple(self.params.items())


def root_of(t: Tensor) -> Tensor:
    """The tensor at the end of a chain of views."""
    while t._view is not None and t._view.parent is not None:
        t = t._view.parent
    return t


def _root_record(t: Tensor) -> Root:
    base = root_of(t)
    if base._view is None:
        base._view = Root()
    found: Root = base._view
    return found


def refresh(t: Tensor, look: Callable[[Tensor, Lens], Tensor]) -> None:
    """Look through the lenses again, from the last view that is up to date (or the root) down to ``t``.

    With grad mode on, whoever happens to ask: the history of a view is that of its base. A view that was made a leaf
    stays one.
    """
    chain = [t]
    p = t._view.parent
    while p._view is not None and p._view.stale:
        chain.append(p)
        p = p._view.parent
    with enable_grad():
        for v in reversed(chain):
            lens = v._view
            new = look(lens.parent, lens)
            v._d = new._d
            if type(v._node) is not Leaf:
                set_history(v, new._node)
            lens.seen = lens.root.generation


def set_history(t: Tensor, node: Any) -> None:
    """Give a tensor that was written its new place in the graph."""
    if kept.RETAINED and t._node is not None:
        kept.follow(t._node, node)
    t._node = node


def shares_memory(a: Any, b: Any) -> bool:
    """Whether two payloads are known to use the same memory."""
    return type(a) is np.ndarray and type(b) is np.ndarray and a.base is not None and owner(a) is owner(b)


def _stays_view(parent: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a traced reshape would be a view in eager mode: tried on an empty array of the root's shape."""
    lenses = []
    p = parent
    while p._view is not None and p._view.parent is not None:
        lenses.append(p._view)
        p = p._view.parent
    if all(lens.name == "alias" or lens.name == "detach" for lens in lenses):
        return True
    dummy = np.empty(p._d.shape, np.bool_)
    x = dummy
    for lens in reversed(lenses):
        kind, params = lens.name, lens.params
        if kind == "getitem":
            x = x[(*params["index"], ...)] if Ellipsis not in params["index"] else x[params["index"]]
        elif kind == "permute":
            x = x.transpose(params["perm"])
        elif kind == "reshape":
            x = x.reshape(params["shape"])
        elif kind == "broadcast_to":
            x = np.broadcast_to(x, params["shape"])
    return owner(x.reshape(shape)) is dummy


def attach(out: Tensor, parent: Tensor, name: str, params: dict[str, Any]) -> Tensor:
    """Make ``out`` a view of ``parent`` if it is one: if they share memory, or would outside the transform."""
    d = out._d
    if out is parent or out._view is not None:
        return out
    if type(d) is np.ndarray:
        if name == "reshape" and d.base is not parent._d and not shares_memory(d, parent._d):
            return out
    elif not isinstance(d, Tracer) or (name == "reshape" and not _stays_view(parent, params["shape"])):
        return out
    held = parent._view
    root = _root_record(parent) if held is None or held.parent is not None else held
    out._view = Lens(parent, root, name, params)
    return out
