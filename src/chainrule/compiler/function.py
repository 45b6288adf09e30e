"""Functions that are captured when they are called, once per kind of call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.compiler.capture import trace
from chainrule.compiler.guards import difference, observe
from chainrule.compiler.program import Program
from chainrule.core import trees
from chainrule.ir.state import get_state

#: how many programs one function keeps; the one not used for longest goes first
LIMIT = 32


class _Entry(NamedTuple):
    seen: dict[str, Any]
    program: Program


class Captured:
    """A function that runs as a captured program.

    A call captures the function unless a program fits it (NOTE [guards] in ``compiler.guards`` says what is compared),
    then runs the program with the reference evaluator. Inside another capture or a transform the function itself runs,
    so it becomes part of what is going on there.

    Attributes:
        function: what was wrapped.
        captures: how often it was captured.
        reasons: why, for each capture but the first.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.captures = 0
        self.reasons: list[str] = []
        self._entries: list[_Entry] = []
        self._unsettled = False
        self._lock = threading.RLock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if get_state().interpreter is not None:
            return self.function(*args, **kwargs)
        leaves, structure = trees.flatten((args, kwargs))
        with self._lock:
            program = self._find(leaves, structure) or self._capture(args, kwargs, leaves)
        return program.run(leaves)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    @property
    def programs(self) -> list[Program]:
        """The programs kept, the last used one last."""
        return [e.program for e in self._entries]

    def _find(self, leaves: Sequence[Any], structure: trees.Structure) -> Program | None:
        now = observe(self.function, leaves)
        why = None
        for i in reversed(range(len(self._entries))):
            seen, program = self._entries[i]
            reason = program.mismatch(leaves, structure) or difference(seen, now)
            if reason is None:
                self._entries.append(self._entries.pop(i))
                return program
            why = why or reason
        if why is not None:
            self.reasons.append(why)
        return None

    def _capture(self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Sequence[Any]) -> Program:
        """Capture for this call.

        A function that made state at this call (kept tensors it made and wrote) will find that state at its next call
        and do something else, so such a program is run once and not kept. If the next capture makes state again, the
        function does so in every call, and the program that does so each time is right.
        """
        seen = observe(self.function, leaves)
        program = trace(self.function, args, kwargs, promote=not self._unsettled)
        self.captures += 1
        if program.newborn and not self._unsettled:
            self._unsettled = True
            self.reasons.append("the last call made new state")
            return program
        self._unsettled = False
        self._entries = [*self._entries, _Entry(seen, program)][-LIMIT:]
        return program


def captured(function: Callable[..., Any]) -> Captured:
    """``function`` as a :class:`Captured`; use it as ``step = captured(step)`` or as a decorator.

    The results and effects are those of the function itself, for what a capture can see; a function that needs a number
    in order to go on raises ``TracerError`` with the line and the ways out.
    """
    return Captured(function)
