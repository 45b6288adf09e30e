"""From a pure update rule to NumPy code that works in place.

An optimizer's rule is a pure function such as ``p - c["lr"] * g``. Called with plain arrays it would allocate an array
per operation and then copy the results back into the parameter and its state. Here the rule is called once with
symbols, which write down every operation, and the list is turned into a Python function of NumPy calls with ``out=``
arguments: new values land in the buffers of the old ones as soon as those are no longer read, everything else goes
through a few scratch buffers. The operations and their order stay those of the rule, so results are the same to the
last bit.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Program", "compile_rule"]

CHUNK = 1 << 17  # elements handled at once: keeps the working set in the caches and bounds the scratch memory

#: what the text of a program may call
CALLS = (np.add, np.subtract, np.multiply, np.divide, np.negative, np.sqrt, np.absolute, np.maximum, np.greater)

Rule = Callable[..., tuple[Any, Mapping[str, Any]]]


class Symbol:
    """A value that is not known yet: ``name`` in the program being written down; ``scalar`` for coefficients."""

    __slots__ = ("name", "recorder", "scalar")

    def __init__(self, recorder: Recorder, name: str, scalar: bool) -> None:
        self.recorder, self.name, self.scalar = recorder, name, scalar

    def __add__(self, other: Any) -> Symbol:
        return self.recorder.emit("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.recorder.emit("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.recorder.emit("subtract", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.recorder.emit("subtract", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.recorder.emit("multiply", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.recorder.emit("multiply", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.recorder.emit("divide", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.recorder.emit("divide", other, self)

    def __neg__(self) -> Symbol:
        return self.recorder.emit("negative", self)

    def __gt__(self, other: Any) -> Symbol:
        return self.recorder.emit("greater", self, other)

    def __bool__(self) -> bool:
        raise TypeError(
            "an update rule may not branch on a computed value: choose with m.where, or branch on a switch of the group"
        )


class Recorder:
    """Writes down what a rule does, and is the math namespace ``m`` that the rule sees while it does so."""

    def __init__(self) -> None:
        self.code: list[tuple[str, tuple[str, ...], Symbol]] = []

    def emit(self, op: str, *operands: Any) -> Symbol:
        scalar = all(x.scalar for x in operands if isinstance(x, Symbol))
        result = Symbol(self, f"v{len(self.code)}", scalar)
        self.code.append((op, tuple(x.name if isinstance(x, Symbol) else repr(x) for x in operands), result))
        return result

    def sqrt(self, x: Symbol) -> Symbol:
        return self.emit("sqrt", x)

    def abs(self, x: Symbol) -> Symbol:
        return self.emit("absolute", x)

    def maximum(self, x: Any, y: Any) -> Symbol:
        return self.emit("maximum", x, y)

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        return self.emit("where", condition, x, y)


class Program:
    """The in-place form of one rule: ``source`` is its text, ``scratch`` the number of scratch buffers it needs.

    Calling it with ``(arrays, coefficients)``, where ``arrays`` are the parameter, the gradient and the state in the
    order of the slots, updates parameter and state where they lie. All arrays have one shape; the gradient is only
    read.
    """

    def __init__(self, source: str, scratch: int) -> None:
        self.source, self.scratch = source, scratch
        namespace: dict[str, Any] = {f.__name__: f for f in (*CALLS, np.where, np.copyto)}
        exec(compile(source, "<optimizer rule>", "exec"), namespace)  # the text holds nothing but calls of these
        self._function: Callable[..., None] = namespace["update"]
        self._local = threading.local()  # scratch buffers: NumPy lets other threads run while it computes

    def __call__(
        self, arrays: tuple[np.ndarray[Any, Any], ...], coefficients: tuple[np.ndarray[Any, Any], ...]
    ) -> None:
        p = arrays[0]
        if p.size <= CHUNK or not all(x.flags.c_contiguous for x in arrays):
            self._function(*arrays, *coefficients, *self._scratch_for(p.shape, p.dtype))
            return
        scratch = self._scratch_for((CHUNK,), p.dtype)
        flat = [x.reshape(-1) for x in arrays]
        for low in range(0, p.size, CHUNK):
            part = [x[low : low + CHUNK] for x in flat]
            self._function(*part, *coefficients, *[t[: part[0].size] for t in scratch])

    def _scratch_for(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[np.ndarray[Any, Any]]:
        """Scratch buffers of that shape: views of the thread's own, so memory does not grow with the shapes seen."""
        views: dict[Any, list[np.ndarray[Any, Any]]] = self._local.__dict__
        found = views.get((shape, dtype))
        if found is None:
            size = math.prod(shape)
            if size > CHUNK:  # rare: a large parameter that is not contiguous
                return [np.empty(shape, dtype) for _ in range(self.scratch)]
            whole = views.setdefault(dtype, [np.empty(CHUNK, dtype) for _ in range(self.scratch)])
            found = views[shape, dtype] = [x[:size].reshape(shape) for x in whole]
        return found


@functools.lru_cache(maxsize=256)
def compile_rule(rule: Rule, slots: tuple[str, ...], coefficients: tuple[str, ...], options: frozenset[str]) -> Program:
    """The in-place NumPy program of ``rule(m, p, g, state, c, options)``.

    ``slots`` names the state arrays and ``coefficients`` the scalars in ``c``; both fix the order of the arguments.
    """
    m = Recorder()
    p, g = Symbol(m, "p", False), Symbol(m, "g", False)
    state = {name: Symbol(m, name, False) for name in slots}
    c = {name: Symbol(m, f"c_{name}", True) for name in coefficients}
    new_p, new_state = rule(m, p, g, state, c, options)
    if set(new_state) != set(slots):
        raise ValueError(f"the rule must return new values for the state {slots}, got {tuple(new_state)}")
    body, scratch = _plan(m.code, {"p": new_p, **new_state})
    arguments = ["p", "g", *slots, *(f"c_{name}" for name in coefficients), *(f"t{k}" for k in range(scratch))]
    lines = [f"def update({', '.join(arguments)}):", *(f"    {line}" for line in body)]
    return Program("\n".join(lines) + "\n", scratch)


def _plan(code: list[tuple[str, tuple[str, ...], Symbol]], outputs: dict[str, Symbol]) -> tuple[list[str], int]:
    """Lines of code that leave ``outputs[buffer]`` in each ``buffer``, and the number of scratch buffers they use."""
    never = len(code)
    last_read: dict[str, int] = {}
    for i, (_, operands, _) in enumerate(code):
        last_read.update(dict.fromkeys(operands, i))
    last_read.update({value.name: never for value in outputs.values()})
    defined = {result.name: i for i, (_, _, result) in enumerate(code)}
    place: dict[str, str] = {}  # where a value lies; inputs and scalars lie under their own name
    free: list[str] = []
    scratch = 0

    def dies(name: str, i: int) -> bool:
        return last_read.get(name, -1) <= i

    def may_hold(buffer: str, result: str, i: int) -> bool:
        """May ``result``, made by line i, be written into the buffer of a parameter or state?"""
        final = outputs[buffer].name
        occupants = [buffer, *(value for value, where in place.items() if where == buffer)]
        return all(dies(x, i) for x in occupants) and (
            final == result or last_read.get(result, i) <= defined.get(final, -1)
        )

    lines = []
    for i, (op, operands, result) in enumerate(code):
        inputs = [place.get(x, x) for x in operands]
        dying = dict.fromkeys(place.get(x, x) for x in operands if dies(x, i))
        if result.scalar or op in ("where", "greater"):  # where has no out= and comparisons change the dtype
            place[result.name] = result.name
            lines.append(f"{result.name} = {op}({', '.join(inputs)})")
        else:
            own = [b for b, value in outputs.items() if value.name == result.name and may_hold(b, result.name, i)]
            reused = [b for b in dying if b in outputs and may_hold(b, result.name, i)]
            spare = [b for b in dying if b[0] == "t" and b[1:].isdigit()]
            if own or reused or spare:
                target = (own or spare or reused)[0]
            elif free:
                target = free.pop()
            else:
                target, scratch = f"t{scratch}", scratch + 1
            place[result.name] = target
            lines.append(f"{op}({', '.join(inputs)}, out={target})")
        free += [b for b in dying if b[0] == "t" and b[1:].isdigit() and b != place[result.name]]
    moves = {b: place.get(value.name, value.name) for b, value in outputs.items()}
    moves = {b: source for b, source in moves.items() if b != source}
    while moves:  # a buffer is overwritten only when nobody needs what it holds
        ready = [b for b in moves if b not in moves.values()]
        target = ready[0] if ready else next(iter(moves))
        if not ready:  # old values that go round in a circle
            lines.append(f"copyto(t{scratch}, {target})")
            moves = {b: f"t{scratch}" if source == target else source for b, source in moves.items()}
            scratch += 1
        lines.append(f"copyto({target}, {moves.pop(target)})")
    return lines or ["pass"], scratch
