"""``chainrule.compile``: functions and whole training steps as native programs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.budget import parse_size
from chainrule.compiler.function import Captured
from chainrule.compiler.guards import Watch, observe
from chainrule.compiler.llvm.target import BackendUnavailableError, available
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.program import Program
from chainrule.compiler.repeat import Results, entries
from chainrule.compiler.runtime import BoundProgram
from chainrule.core import trees
from chainrule.core.errors import TracerError
from chainrule.ir.state import get_state
from chainrule.tensors.tensor import Tensor

_SWITCH = "CHAINRULE_COMPILE"
_VERIFY = ("first", "always", "never")
_RECENT = 4  # programs that are found without looking closer
_TENSORS = {Tensor}
_told: set[str] = set()
#: the environment's own dictionary: asked at every call, which `os.environ.get` is too slow for
_data: dict[Any, Any] = getattr(os.environ, "_data", os.environ)  # type: ignore[assignment]
_encode: Callable[[str], Any] = getattr(os.environ, "encodevalue", str)
_KEY = getattr(os.environ, "encodekey", str)(_SWITCH)
_ON, _OFF = _encode("1"), {_encode(w) for w in ("0", "false", "off", "False", "OFF")}


def enabled() -> bool:
    """Whether functions are compiled: not where ``CHAINRULE_COMPILE=0`` is set."""
    return _data.get(_KEY, _ON) not in _OFF


def _tell_once(what: str) -> None:
    if what not in _told:
        _told.add(what)
        warnings.warn(what, UserWarning, stacklevel=4)


def _signature(v: Any) -> Any:
    """What an argument must be like for a program to be used without looking closer."""
    if isinstance(v, Tensor):
        return v._d.shape, v._d.dtype, v._node is not None
    return v


def _fits(v: Any, signature: Any) -> bool:
    if isinstance(v, Tensor):
        d = v._d
        return (
            type(signature) is tuple
            and d.shape == signature[0]
            and d.dtype is signature[1]
            and (v._node is not None) is signature[2]
            and (v._view is None or not v._view.stale)
        )
    return v is signature


class _Recent:
    """The last call's program with all that has to be unchanged for the next call to use it at once."""

    __slots__ = ("bound", "flat", "grad", "run", "signatures", "structure", "watch")

    def __init__(self, structure: trees.Structure, leaves: list[Any], watch: Watch, bound: BoundProgram) -> None:
        self.structure, self.bound, self.watch = structure, bound, watch
        self.signatures = [_signature(v) for v in leaves]
        self.grad = get_state().grad
        self.run = bound.run_directly if bound.direct(leaves, self.grad) else bound.program.run
        arguments, keywords = structure.children
        self.flat = not keywords.children and all(c.kind is None for c in arguments.children)

    def fits(self, leaves: Sequence[Any], grad: bool) -> bool:
        """Whether the program is right for these arguments and the state of everything else."""
        return (
            self.grad is grad
            and len(leaves) == len(self.signatures)
            and all(map(_fits, leaves, self.signatures))
            and self.bound.fits(leaves)
            and self.watch.unchanged()
        )


class Compiled(Captured):
    """A function that is captured at its first call and runs as native code from then on.

    As :class:`~chainrule.compiler.function.Captured`, with machine code in place of the reference evaluator. Inside a
    transform or another capture, and where ``CHAINRULE_COMPILE=0`` is set, the function itself runs.

    Attributes:
        fallback: run the function itself, saying so once, if it cannot be captured.
        verify: when the machine code is held to the reference evaluator.
        memory_budget: the most bytes of scratch memory that a program may need; None: any.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        fallback: bool = False,
        verify: str = "first",
        memory_budget: int | str | None = None,
    ) -> None:
        super().__init__(function)
        self.memory_budget = None if memory_budget is None else parse_size(memory_budget)
        if verify not in _VERIFY:
            raise ValueError(f"verify must be one of {', '.join(map(repr, _VERIFY))}, got {verify!r}")
        self.fallback, self.verify = fallback, verify
        self._bound: dict[int, BoundProgram] = {}
        self._recent: list[_Recent] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = get_state()
        if state.interpreter is not None or not enabled():
            return self.function(*args, **kwargs)
        if not kwargs and set(map(type, args)) == _TENSORS:  # nothing to take apart
            for recent in self._recent:
                if recent.flat and recent.fits(args, state.grad):
                    return recent.run(args)
        leaves, structure = trees.flatten((args, kwargs))
        for recent in self._recent:
            if recent.structure == structure and recent.fits(leaves, state.grad):
                return recent.run(leaves)
        try:
            bound = self._prepare(args, kwargs, leaves, structure)
        except (TracerError, BackendUnavailableError) as error:
            if not self.fallback:
                raise
            _tell_once(f"{self.function} runs eagerly, because it cannot be compiled: {error}")
            return self.function(*args, **kwargs)
        result = bound.run(leaves)
        if any(p is bound.program for p in self.programs):
            watch = Watch()
            observe(self.function, leaves, watch)
            bound.numbers_watched = watch.numbers_of(bound.readers)
            others = [r for r in self._recent if r.bound is not bound]
            self._recent = [_Recent(structure, leaves, watch.close(bound.renew), bound), *others[: _RECENT - 1]]
        return result

    def map(self, *args: Any) -> Any:
        """The results of calling the function with each entry of the arguments along their first dimension, stacked.

        ``f.map(xs, ys)`` is ``[f(x, y) for x, y in zip(xs, ys)]`` with the tensors of the results stacked, effects
        included: an epoch of training steps is one call, ``losses = step.map(order)`` for a step that gathers the rows
        it is given. The first step is an ordinary call; the others run in machine code without Python in between, where
        that is possible, so what :meth:`__call__` looks for in Python is looked for once.

        Args:
            args: trees of tensors of shapes ``(steps, ...)``.

        Returns:
            The function's result, its tensors with a first dimension of size ``steps``; what is no tensor as the first
            step returned it.

        Raises:
            TypeError, ValueError: if the arguments are not tensors with equally many entries, at least one.
            IndexError: as the step itself does; the steps before it are done.
        """
        return self.repeat(args).stacked()

    def repeat(self, args: tuple[Any, ...], watched: bool = False) -> Results:
        """As :meth:`map`, with what is needed to go on after fewer steps; ``watched`` as :class:`Results` has it."""
        leaves, structure = trees.flatten((args, {}))
        count = entries(getattr(self.function, "__name__", "the function"), leaves)
        results = Results(count, watched)
        while not results.done or not results.ended:
            entry = [t[results.done] for t in leaves]
            state = get_state()
            if results.done and enabled() and state.interpreter is None:
                recent = next((r for r in self._recent if r.structure == structure and r.fits(entry, state.grad)), None)
                if recent is not None and recent.bound.repeatable(entry, state.grad):
                    results.rest(recent.bound, [np.ascontiguousarray(t._d) for t in leaves])
                    break
            arguments, keywords = trees.unflatten(structure, entry)
            results.append(self(*arguments, **keywords))
        return results

    def _prepare(self, args: Any, kwargs: Any, leaves: list[Any], structure: trees.Structure) -> BoundProgram:
        with self._lock:
            program = self._find(leaves, structure) or self._capture(args, kwargs, leaves)
            bound = self._bound.get(id(program))
            if bound is None or bound.program is not program:
                native = NativeProgram(program.graph, memory_budget=self.memory_budget, data=program.data(leaves))
                bound = BoundProgram(program, native, self.verify)
                kept: dict[int, Program] = {id(p): p for p in self.programs}
                self._bound = {k: b for k, b in self._bound.items() if k in kept}
                self._bound[id(program)] = bound
            return bound

    @property
    def bound(self) -> list[BoundProgram]:
        """The native programs made so far."""
        return list(self._bound.values())


def compile(
    function: Callable[..., Any] | None = None,
    *,
    fallback: bool = False,
    verify: str = "first",
    memory_budget: int | str | None = None,
) -> Any:
    """``function`` as native code: use ``step = chainrule.compile(step)``, or as a decorator.

    A function, or a whole training step (forward, ``backward()``, clipping, ``optimizer.step()``, in-place statistics,
    random draws), is captured at its first call as one pure program, optimized, and compiled. Later calls with
    arguments of the same shapes and dtypes run it; others capture again. Without llvmlite the function runs eagerly,
    and a warning says once how to get it.

    Args:
        function: what to compile.
        fallback: if the function cannot be captured (a branch on a tensor's value), run it eagerly and say so once,
            instead of raising the ``TracerError`` that names the line.
        verify: hold the machine code to the reference evaluator, kernel by kernel and within the bounds that
            ``compiler.verify`` states, on the "first" call of every program, "always", or "never". A disagreement
            raises ``VerificationError`` with the first instruction that differs.
        memory_budget: the most scratch memory that a program may need at its peak, known before it runs: bytes, or text
            such as "64MB" or "1.5GiB". Where it needs more, values that the backward pass waits for are recomputed
            instead of kept (see ``compiler.passes.recompute``), which takes time and changes no bit of any result.
            Arguments, results, gradients, parameters and the packed blocks of matrix products are not counted. A
            program that cannot be made to fit raises ``MemoryBudgetError``.

    Raises:
        ValueError, TypeError: for a ``verify`` or a ``memory_budget`` that is none.
    """
    if memory_budget is not None:
        parse_size(memory_budget)
    if function is None:
        return lambda f: compile(f, fallback=fallback, verify=verify, memory_budget=memory_budget)
    if not available():
        _tell_once("chainrule.compile runs functions eagerly, because llvmlite is not installed: pip install llvmlite")
        return function
    return Compiled(function, fallback, verify, memory_budget)
