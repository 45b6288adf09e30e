"""``chainrule.compile``: functions and whole training steps as native programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.compiler.function import Captured
from chainrule.compiler.guards import Watch, observe
from chainrule.compiler.program import Program
from chainrule.core import trees
from chainrule.ir.state import get_state


class Compiled(Captured):
    """A function that is captured at its first call and runs as native code from then on.

    As :class:`~chainrule.compiler.function.Captured`, with machine code in place of the reference evaluator.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._bound: dict[int, Any] = {}
        self._last: tuple[trees.Structure, list[Any], Watch, Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not enabled() or get_state().interpreter is not None:
            return self.function(*args, **kwargs)
        leaves, structure = trees.flatten((args, kwargs))
        last = self._last
        if last is not None and last[0] == structure and last[2].unchanged() and last[3].current():
            if all(map(_alike, leaves, last[1])):
                return last[3].run(leaves)
        with self._lock:
            program = self._find(leaves, structure) or self._capture(args, kwargs, leaves)
            bound = self._bind(program)
            watch = Watch()
            observe(self.function, leaves, watch)
        result = bound.run(leaves)
        if any(p is program for p in self.programs):
            self._last = (structure, [_signature(v) for v in leaves], watch.close(), bound)
        return result

    def _bind(self, program: Program) -> Any:
        from chainrule.compiler.native import NativeProgram  # needs llvmlite
        from chainrule.compiler.runtime import BoundProgram

        found = self._bound.get(id(program))
        if found is None or found.program is not program:
            found = self._bound[id(program)] = BoundProgram(program, NativeProgram(program.graph))
        return found
