"""A counter of changes to modules: who remembers its value can tell in one look that no module has changed since.

Modules count when an attribute is set or deleted (a class with a ``__setattr__`` of its own is not relied on); their
tables of parameters, buffers, submodules and hooks are :class:`Tracked` dictionaries, which count by themselves.
"""

from __future__ import annotations

from typing import Any, TypeVar

F = TypeVar("F", bound=Any)


class Changes:
    """The counter; ``now`` never repeats."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


#: changes to modules, anywhere in the process
MODULES = Changes()
#: methods ``__setattr__`` that count
COUNTING: set[Any] = set()


def counting(method: F) -> F:
    """Declares that a ``__setattr__`` counts its calls."""
    COUNTING.add(method)
    return method


class Tracked(dict[Any, Any]):
    """A dictionary that counts its changes."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        MODULES.now += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        MODULES.now += 1
        super().__delitem__(key)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        MODULES.now += 1
        return super().__ior__(other)

    def clear(self) -> None:
        """Remove everything."""
        MODULES.now += 1
        super().clear()

    def pop(self, *args: Any) -> Any:
        """Remove an entry, and return its value."""
        MODULES.now += 1
        return super().pop(*args)

    def popitem(self) -> Any:
        """Remove the last entry, and return it."""
        MODULES.now += 1
        return super().popitem()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is put in if it is not there."""
        MODULES.now += 1
        return super().setdefault(key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Put in all entries of another dictionary."""
        MODULES.now += 1
        super().update(*args, **kwargs)
