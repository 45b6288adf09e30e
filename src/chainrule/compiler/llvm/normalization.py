"""Machine code of layer normalization and its gradient along the rows of a matrix of any size, for eager mode.

Forward, a row goes through the first-level cache three times: its mean; the sum of the squared differences from it, so
r = 1 / sqrt(var + eps); then the result. Backward, with h = (x - mean) r and d = g w: the sums of d and of d h, on the
way g and g h are added to the gradients of bias and weight; then (d - mean d - h mean(d h)) r. Rows follow one another,
so the gradients of weight and bias have the order of summation of NumPy's sums along the first axis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.rows import Row
from chainrule.compiler.llvm.target import host
from chainrule.compiler.llvm.values import Value

_Element = Callable[[Value, "Value | None"], Value]


class _Rows:
    """The loop over rows: ``count`` is the number of columns as a number of the kind."""

    def __init__(self, b: Builder, kind: str, columns: Value, count: Value) -> None:
        self.b, self.kind, self.columns, self.count = b, kind, columns, count
        self.row = Row(b, kind, columns)

    def load(self, start: Value, at: Value, mask: Value | None) -> Value:
        """A vector."""
        return self.b.load(self.b.at(start, at, self.kind), self.kind, self.row.width, mask=mask)

    def store(self, value: Value, start: Value, at: Value, mask: Value | None) -> None:
        """A vector."""
        self.b.store(value, self.b.at(start, at, self.kind), mask=mask)

    def mean(self, element: _Element) -> Value:
        """The mean of what ``element`` gives, in every lane."""
        return self.b.splat(self.row.fold(0.0, self.b.add, element) / self.count, self.row.width)


@functools.cache
def forward(kind: str) -> Callable[..., Any]:
    """``(x, w, b, y, mean, r, rows, columns, count, eps)``: addresses of dense arrays, then numbers.

    ``mean`` and ``r`` get one number for each row; ``count`` is the number of columns as a floating-point number.

    Raises:
        BackendUnavailableError: llvmlite is absent, or the processor is of an unknown kind.
    """
    module = Module(host())
    arguments = dict.fromkeys(("x", "w", "b", "y", "mean", "r"), "ptr")
    arguments |= {"rows": "i64", "columns": "i64", "count": kind, "eps": kind}
    with module.function("layer_norm", noalias=False, **arguments) as b:  # type: ignore[arg-type]
        x, w, bias, y, means, scales, rows, columns, count, eps = b.args
        m = _Rows(b, kind, columns, count)
        with b.loop(0, rows) as i:
            source, goal = (b.at(p, i * columns, kind) for p in (x, y))
            mean = m.mean(lambda at, mask: m.load(source, at, mask))

            def square(at: Value, mask: Value | None) -> Value:
                c = m.load(source, at, mask) - mean
                return c * c

            r = b.const(1.0, kind, m.row.width) / b.sqrt(m.mean(square) + b.splat(eps, m.row.width))

            def finish(at: Value, mask: Value | None) -> None:
                h = (m.load(source, at, mask) - mean) * r
                m.store(h * m.load(w, at, mask) + m.load(bias, at, mask), goal, at, mask)

            m.row.each(finish)
            b.store(b.extract(mean, 0), b.at(means, i, kind))
            b.store(b.extract(r, 0), b.at(scales, i, kind))
    return cache.build(module.text, module.target).function("layer_norm", *arguments.values())


@functools.cache
def backward(kind: str) -> Callable[..., Any]:
    """``(g, x, w, mean, r, dx, dw, db, rows, columns, count)``; ``dw`` and ``db`` are added to.

    Raises:
        BackendUnavailableError: llvmlite is absent, or the processor is of an unknown kind.
    """
    module = Module(host())
    arguments = dict.fromkeys(("g", "x", "w", "mean", "r", "dx", "dw", "db"), "ptr")
    arguments |= {"rows": "i64", "columns": "i64", "count": kind}
    with module.function("layer_norm_backward", noalias=False, **arguments) as b:  # type: ignore[arg-type]
        g, x, w, means, scales, dx, dw, db, rows, columns, count = b.args
        m = _Rows(b, kind, columns, count)
        with b.loop(0, rows) as i:
            cotangent, source, goal = (b.at(p, i * columns, kind) for p in (g, x, dx))
            mean, r = (b.splat(b.load(b.at(p, i, kind), kind), m.row.width) for p in (means, scales))

            def h(at: Value, mask: Value | None) -> Value:
                return (m.load(source, at, mask) - mean) * r

            def d(at: Value, mask: Value | None) -> Value:
                return m.load(cotangent, at, mask) * m.load(w, at, mask)

            def along(at: Value, mask: Value | None) -> Value:
                m.store(m.load(db, at, mask) + m.load(cotangent, at, mask), db, at, mask)
                return d(at, mask)

            def across(at: Value, mask: Value | None) -> Value:
                found = h(at, mask)
                m.store(m.load(dw, at, mask) + m.load(cotangent, at, mask) * found, dw, at, mask)
                return d(at, mask) * found

            even, odd = m.mean(along), m.mean(across)

            def finish(at: Value, mask: Value | None) -> None:
                m.store((d(at, mask) - even - h(at, mask) * odd) * r, goal, at, mask)

            m.row.each(finish)
    return cache.build(module.text, module.target).function("layer_norm_backward", *arguments.values())
