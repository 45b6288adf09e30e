"""The mutation clock: how a saved value that was overwritten is caught at almost no cost.

NOTE [mutation clock]. One integer counts in-place writes anywhere. A node stores the time at which it was made; a
write stamps the array that owns the memory with the new time. Backward looks at a node's saved arrays only if the
clock has moved since the node was made, and raises if the owner of one bears a later stamp. Views share their owner,
so a write through any of them is seen. The stamp of an array dies with it.
"""

from __future__ import annotations

import weakref
from functools import partial
from types import CodeType
from typing import Any

import numpy as np

from chainrule.core.errors import user_place

Place = tuple[CodeType, int] | None


class Clock:
    """The one counter; ``now`` is read on every recorded op."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


CLOCK = Clock()
#: id of the owning array -> (time of its last write, the user's line, a reference that clears the entry)
_stamps: dict[int, tuple[int, Place, weakref.ref[Any]]] = {}


def owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array at the end of a chain of views."""
    base = array.base
    while isinstance(base, np.ndarray):
        array = base
        base = array.base
    return array


def stamp(array: np.ndarray[Any, Any], place: Place = None) -> None:
    """Record that the memory of ``array`` was just written, by the user's line (found if not given)."""
    CLOCK.now += 1
    held = owner(array)
    key = id(held)
    old = _stamps.get(key)
    reference = weakref.ref(held, partial(_forget, key)) if old is None else old[2]
    _stamps[key] = (CLOCK.now, place or user_place(), reference)


def _forget(key: int, _: object) -> None:
    """The owner of that address is gone: its stamp must not be taken for that of the next array there."""
    _stamps.pop(key, None)


def written_since(array: Any, time: int) -> Place | bool:
    """Where the memory of ``array`` was written after ``time`` (True if the line is unknown), or False."""
    if type(array) is not np.ndarray:
        return False
    entry = _stamps.get(id(owner(array)))
    if entry is None or entry[0] <= time:
        return False
    return entry[1] or True


def _compiled() -> None:
    """The line named for a write by a compiled program."""


class Stamper:
    """Stamps a fixed set of arrays again and again: what a compiled step writes. It keeps the arrays alive."""

    __slots__ = ("_arrays", "_place")

    def __init__(self, *arrays: np.ndarray[Any, Any]) -> None:
        self._place: Place = (_compiled.__code__, 0)
        owners = {id(owner(a)): owner(a) for a in arrays}
        self._arrays = list(owners.items())
        for a in owners.values():
            stamp(a, self._place)

    def stamp(self) -> None:
        """All of them were written just now."""
        CLOCK.now += 1
        now, place = CLOCK.now, self._place
        for key, a in self._arrays:
            entry = _stamps.get(key)
            if entry is None:
                stamp(a, place)
            else:
                _stamps[key] = (now, place, entry[2])
