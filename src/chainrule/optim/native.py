"""Eager optimizer steps as machine code: one call for all parameters of a group.

NOTE [native updates]. An update in NumPy is a dozen calls per parameter, each of which goes through memory. The rule as
machine code (``compiler.llvm.update``) goes through it once, and gives the same bits. So it makes no difference to any
result when an optimizer changes from one to the other; when it pays is all that matters. Loading the compiler takes
about 0.15 s, once per process, so an optimizer changes after ``STEPS`` steps, and not before it would have saved
``WORTH`` seconds; that is estimated from sizes alone, so a program changes at the same step in every run. What the
machine code does not cover (views, arrays that are not dense, float16, parameters at different step counts) stays with
NumPy, as does everything where llvmlite is absent or ``CHAINRULE_COMPILE=0`` is set.

``optim`` imports the compiler here, inside a function, when an optimizer changes over; the compiler knows nothing of
optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ctypes import addressof, c_char
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np

from chainrule.tape.clock import Place, Stamper
from chainrule.tensors.tensor import Tensor

STEPS, WORTH = 20, 0.01
#: seconds saved per parameter and per element of it, for a rule without state; thrice that more for each state array
PER_PARAMETER, PER_ELEMENT = 1e-6, 0.15e-9

KINDS = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
_payload = attrgetter("_d")
from_buffer = c_char.from_buffer


def address(array: np.ndarray[Any, Any]) -> int:
    """Where the elements of a dense, writable array begin; a fifth of the time that ``__array_interface__`` takes."""
    return addressof(from_buffer(array)) if array.size else 0


class Rows:
    """The addresses of some parameters, their gradients and state: the table that the machine code walks.

    Attributes:
        params: the parameters.
        state: the tensors of each one's state arrays, and then those of its counters.
        dtype: of all arrays.
    """

    def __init__(self, params: list[Tensor], state: list[list[Tensor]], slots: int) -> None:
        self.params, self.state = params, state
        self._slots = [tensors[:slots] for tensors in state] or [[] for _ in params]
        self._counters = [tensors[slots:] for tensors in state]
        self.dtype = params[0]._d.dtype
        self._tensors = [t for p, held in zip(params, self._slots, strict=True) for t in (p, *held)]
        self._arrays = [t._d for t in self._tensors]
        self.table = np.array(
            [
                [p._d.size, address(p._d), 0, *(address(t._d) for t in held)]
                for p, held in zip(params, self._slots, strict=True)
            ],
            np.int64,
        )
        self._gradients = self.table[:, 2]
        self._stamper = Stamper(*map(_payload, params))

    @classmethod
    def of(cls, params: list[Tensor], state: list[list[Tensor]], slots: int) -> Rows | None:
        """The table; None if machine code does not cover these parameters."""
        dtype = params[0]._d.dtype
        for n, p in enumerate(params):
            for t in (p, *(state[n][:slots] if state else ())):
                d = t._d
                dense = type(d) is np.ndarray and d.dtype == dtype and d.shape == p._d.shape and d.flags.carray
                if not dense or (t._view is not None and t._view.parent is not None):
                    return None
        return cls(params, state, slots) if dtype in KINDS else None

    def fits(self, params: list[Tensor], state: list[list[Tensor]]) -> bool:
        """Whether the table is that of these tensors, and they still hold the arrays whose addresses are in it."""
        return (
            len(params) == len(self.params)
            and all(map(is_, params, self.params))
            and all(map(is_, chain.from_iterable(state), chain.from_iterable(self.state)))
            and all(map(is_, map(_payload, self._tensors), self._arrays))
            and all(a.flags.writeable for a in self._arrays)
            and all(p._view is None or p._view.parent is None for p in self.params)
        )

    def counts(self) -> list[float] | None:
        """The counters that all parameters have in common; None if they differ."""
        first = [t._d.item() for t in self._counters[0]] if self._counters else []
        return first if all([t._d.item() for t in tensors] == first for tensors in self._counters[1:]) else None

    def point(self, gradients: list[np.ndarray[Any, Any]]) -> bool:
        """Put the gradients' addresses into the table; False if one is not plain dense memory of the same dtype."""
        dtype = self.dtype
        if not all(type(g) is np.ndarray and g.dtype is dtype and g.flags.carray for g in gradients):
            return False
        self._gradients[:] = [address(g) for g in gradients]
        return True

    def written(self, after: Sequence[float], place: Place) -> None:
        """Set the counters, and note that the parameters were written by the user's line."""
        for tensors in self._counters:
            for t, x in zip(tensors, after, strict=True):
                t._d[...] = x
        self._stamper.stamp(place)
        for p in self.params:
            if p._view is not None:
                p._view.generation += 1


class NativeSteps:
    """The machine code of one optimizer's steps: whether it is time for it, and the tables of the groups."""

    def __init__(self) -> None:
        self._steps, self._seconds = 0, 0.0
        self._rows: dict[int, Rows] = {}
        self._enabled: Callable[[], bool] = bool
        self._rule: Callable[..., Callable[[int, int, int], None]] | None = None
        self._settled = False

    def wanted(self, sizes: Callable[[], Iterable[tuple[int, int]]]) -> bool:
        """Count a step; whether it should run as machine code. ``sizes``: elements and state arrays per parameter."""
        if not self._settled:
            self._steps += 1
            self._seconds += sum([(PER_PARAMETER + PER_ELEMENT * n) * (1 + 3 * slots) for n, slots in sizes()])
            if self._steps >= STEPS and self._seconds >= WORTH:
                self._settle()
        return self._rule is not None and self._enabled()

    def _settle(self) -> None:
        """Load the compiler, where it can be had and is not switched off."""
        from chainrule.compiler.compiled import enabled
        from chainrule.compiler.llvm.target import BackendUnavailableError, available, host
        from chainrule.compiler.llvm.update import native_rule

        if not enabled():
            return
        self._settled, self._enabled = True, enabled
        if available():
            try:
                host()
            except BackendUnavailableError:  # a processor that no code is made for: NumPy stays
                return
            self._rule = native_rule

    def rows(self, group: dict[str, Any], params: list[Tensor], state: list[list[Tensor]], slots: int) -> Rows | None:
        """The table of a group's parameters, made anew when a tensor or its memory was exchanged."""
        found = self._rows.get(id(group))
        if found is None or not found.fits(params, state):
            found = Rows.of(params, state, slots)
            if found is not None:
                self._rows[id(group)] = found
        return found

    def code(self, rule: Any, slots: tuple[str, ...], names: tuple[str, ...], options: Any, rows: Rows) -> Any:
        """The machine code of a rule for the numbers in a table."""
        assert self._rule is not None
        return self._rule(rule, slots, names, options, KINDS[rows.dtype])
