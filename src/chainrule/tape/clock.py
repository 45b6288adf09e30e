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
_stamps: dict[int, tuple[int | _Time, Place, weakref.ref[Any]]] = {}


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
    if entry is None:
        return False
    written = entry[0]
    if (written if isinstance(written, int) else written.now) <= time:
        return False
    return entry[1] or True


class _Time:
    """The time of a write that several arrays share."""

    __slots__ = ("now",)

    def __init__(self, now: int) -> None:
        self.now = now


def _compiled() -> None:
    """The line named for a write by a compiled program."""


_COMPILED: Place = (_compiled.__code__, 0)


class Stamper:
    """Stamps a fixed set of arrays again and again: what a compiled step writes. It keeps the arrays alive.

    Their entries share one mutable time. As long as nothing else was stamped since the last time (the clock tells),
    the entries are still in place, and one assignment stamps them all.
    """

    __slots__ = ("_arrays", "_last", "_place", "_time")

    def __init__(self, *arrays: np.ndarray[Any, Any]) -> None:
        owners = {id(owner(a)): owner(a) for a in arrays}
        self._arrays = list(owners.items())
        self._time = _Time(0)
        self._last = -1
        self._place: Place = None

    def stamp(self, place: Place = _COMPILED) -> None:
        """All of them were written just now, by a compiled program unless a line of the user's is given."""
        undisturbed = CLOCK.now == self._last and place == self._place
        CLOCK.now += 1
        self._last, self._place = CLOCK.now, place
        if not undisturbed:
            self._time = _Time(0)
            for key, a in self._arrays:
                old = _stamps.get(key)
                reference = weakref.ref(a, partial(_forget, key)) if old is None else old[2]
                _stamps[key] = (self._time, place, reference)
        self._time.now = CLOCK.now
