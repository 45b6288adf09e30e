"""Machine code of update rules: one function that applies a rule to any number of parameters, in place.

The rule is the pure function of an optimizer, called once with values of the builder. Its operations are emitted as
they stand, each rounded by itself, with denormal numbers kept: so the results are those of NumPy bit for bit. (Two
things NumPy itself leaves open: the bits inside a NaN, and which zero ``maximum(-0, 0)`` is.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.target import host
from chainrule.compiler.llvm.values import BYTES, Value

#: vectors handled in a round, so that divisions and square roots overlap
UNROLL = 2

Rule = Callable[..., tuple[Any, Mapping[str, Any]]]
#: ``run(rows, count, coefficients)``: addresses of int64 rows ``[elements, p, g, state...]``, and of the coefficients
Run = Callable[[int, int, int], None]


class _Math:
    """The namespace ``m`` that a rule sees while its code is written."""

    def __init__(self, b: Builder, kind: str, width: int) -> None:
        self._b, self._kind, self._width = b, kind, width
        self.sqrt, self.abs, self.maximum = b.sqrt, b.abs, b.maximum

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        """x where the condition holds, else y."""
        if not isinstance(x, Value):
            x = self._b.const(x, self._kind, self._width)
        return self._b.select(condition, x, y)


@functools.lru_cache(maxsize=256)
def native_rule(
    rule: Rule, slots: tuple[str, ...], coefficients: tuple[str, ...], options: frozenset[str], kind: str
) -> Run:
    """The rule as machine code for numbers of a kind ("f32", "f64"); arguments as of ``optim.program.compile_rule``.

    Rows are handled one after the other, the parameter and its state are written where they lie, and the gradient is
    only read. Arrays are dense; a row of no elements is skipped.

    Raises:
        BackendUnavailableError: llvmlite is absent, or the processor is of an unknown kind.
    """
    target = host()
    widest, stride = target.width(BYTES[kind]), 3 + len(slots)
    module = Module(target)
    with module.function("update", noalias=False, rows="ptr", count="i64", numbers="ptr") as b:
        rows, count, numbers = b.args
        scalars = [b.load(b.at(numbers, k, kind), kind) for k in range(len(coefficients))]
        wide = [b.splat(x, widest) for x in scalars]
        with b.loop(0, count) as r:
            row = b.at(rows, r * stride, "i64")
            arrays = [b.pointer(row, 1 + k) for k in range(stride - 1)]

            def body(i: Value, width: int) -> None:
                at = [b.at(p, i, kind) for p in arrays]
                p, g, *state = (b.load(a, kind, width) for a in at)
                c = dict(zip(coefficients, wide if width > 1 else scalars, strict=True))
                new, new_state = rule(_Math(b, kind, width), p, g, dict(zip(slots, state, strict=True)), c, options)
                for value, where in zip((new, *(new_state[s] for s in slots)), (at[0], *at[2:]), strict=True):
                    b.store(value, where)

            b.for_vectors(b.load(row, "i64"), widest, body, UNROLL)
    return cache.build(module.text, target).function("update", "ptr", "i64", "ptr")
