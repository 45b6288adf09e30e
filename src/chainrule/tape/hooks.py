"""Functions that see, and may replace, the cotangent at a node or leaf while a backward pass runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

_ids = count()
_LAST = -1
#: node or leaf -> {id: function of a cotangent that returns a replacement or None}
HOOKS: weakref.WeakKeyDictionary[Any, dict[int, Callable[[Any], Any]]] = weakref.WeakKeyDictionary()


def registered() -> bool:
    """Whether any hook exists (asked of the plain dictionary inside, because this is asked for every leaf)."""
    return bool(HOOKS.data)  # type: ignore[attr-defined]


class RemovableHandle:
    """Returned when a hook is registered; :meth:`remove` takes the hook away again."""

    def __init__(self, table: dict[int, Any]) -> None:
        self.id, self._table = next(_ids), table

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def register(target: Any, hook: Callable[[Any], Any]) -> RemovableHandle:
    """Call ``hook`` with the complete cotangent of ``target`` in every later pass, in order of registration."""
    table = HOOKS.setdefault(target, {})
    handle = RemovableHandle(table)
    table[handle.id] = hook
    if _LAST in table:
        table[_LAST] = table.pop(_LAST)
    return handle


def register_last(target: Any, hook: Callable[[Any], Any]) -> None:
    """Call ``hook`` after all others of ``target``, also those registered later; there is one such place."""
    HOOKS.setdefault(target, {})[_LAST] = hook


def remove_last(target: Any) -> None:
    """Take away what :func:`register_last` put in place."""
    HOOKS.get(target, {}).pop(_LAST, None)


def run(target: Any, g: Any) -> Any:
    """``g`` after the hooks of ``target``."""
    table = HOOKS.get(target)
    if table:
        for hook in list(table.values()):
            new = hook(g)
            g = g if new is None else new
    return g
