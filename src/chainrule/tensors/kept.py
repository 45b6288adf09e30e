"""Gradients kept where no leaf holds them: of results of ops, and of tensors that require none (any more)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from chainrule.tape import hooks
from chainrule.tape.node import Node


class _Kept:
    """The gradient of a result for which ``retain_grad`` was called, and the hook that fills it in."""

    __slots__ = ("grad", "make")

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.grad: Any = None
        self.make = make

    def arrive(self, g: Any) -> None:
        """Add a cotangent."""
        new = self.make(g)
        self.grad = new if self.grad is None else self.grad + new


RETAINED: weakref.WeakKeyDictionary[Node, _Kept] = weakref.WeakKeyDictionary()
#: id of a tensor without node -> its gradient, and a reference that clears the entry
_parked: dict[int, tuple[Any, weakref.ref[Any]]] = {}


def retain(node: Node, make: Callable[[Any], Any]) -> None:
    """Keep the gradient of a node in the passes to come; ``make`` makes a Tensor of a cotangent."""
    if node not in RETAINED:
        kept = RETAINED[node] = _Kept(make)
        hooks.register_last(node, kept.arrive)


def follow(old: Any, new: Any) -> None:
    """A tensor's history went from ``old`` to ``new`` because it was written: what is retained goes along."""
    kept = RETAINED.pop(old, None)
    if kept is not None:
        hooks.remove_last(old)
        if type(new) is Node:
            RETAINED[new] = kept
            hooks.register_last(new, kept.arrive)


def of_node(node: Node) -> Any:
    """The gradient retained for a result, or None."""
    kept = RETAINED.get(node)
    return None if kept is None else kept.grad


def set_of_node(node: Node, grad: Any, make: Callable[[Any], Any]) -> None:
    """Replace the gradient of a result."""
    if grad is not None:
        retain(node, make)
    if node in RETAINED:
        RETAINED[node].grad = grad


def _forget(key: int) -> Callable[[Any], None]:
    def forget(_: Any) -> None:
        _parked.pop(key, None)

    return forget


def park(tensor: Any, grad: Any) -> None:
    """Keep the gradient of a tensor that requires none; None forgets it."""
    key = id(tensor)
    if grad is None:
        _parked.pop(key, None)
    else:
        _parked[key] = grad, weakref.ref(tensor, _forget(key))


def parked(tensor: Any) -> Any:
    """The gradient kept by :func:`park`, or None."""
    found = _parked.get(id(tensor))
    return None if found is None else found[0]
