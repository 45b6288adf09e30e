"""Machine code of softmax and its relatives along the rows of a matrix of any size, for eager mode.

A row goes through the first-level cache three times, instead of a whole matrix through memory five times: its maximum
m; e = exp(x - m) and the sum s of these; then e / s, or (x - m) - ln s. Where NumPy's kernel gives NaN, so does this,
and denormal numbers are kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from chainrule.compiler.llvm import cache, vexp
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.rows import Row
from chainrule.compiler.llvm.target import host
from chainrule.compiler.llvm.values import Value


@functools.cache
def row_function(name: str, kind: str) -> Callable[..., Any]:
    """``softmax`` or ``log_softmax``: ``(x, y, rows, columns)``; ``softmax_nll``: more, for the losses.

    All arguments are addresses or numbers. Matrices are dense. With ``softmax_nll`` y becomes the softmax; of each row,
    ``places`` has the place of its target in the whole matrix as int64, ``sums`` gets s, ``picked`` gets x - m there.

    Raises:
        BackendUnavailableError: llvmlite is absent, or the processor is of an unknown kind.
    """
    module = Module(host())
    arguments = {"x": "ptr", "y": "ptr", "rows": "i64", "columns": "i64"}
    if name == "softmax_nll":
        arguments |= dict.fromkeys(("places", "sums", "picked"), "ptr")
    with module.function(name, noalias=False, **arguments) as b:  # type: ignore[arg-type]
        x, y, rows, columns, *losses = b.args
        row = Row(b, kind, columns)
        with b.loop(0, rows) as i:
            source, goal = (b.at(p, i * columns, kind) for p in (x, y))

            def load(p: Value, at: Value, mask: Value | None) -> Value:
                return b.load(b.at(p, at, kind), kind, row.width, mask=mask)

            m = row.fold(-math.inf, b.maximum, lambda at, mask: load(source, at, mask))
            most = b.splat(m, row.width)

            def exponential(at: Value, mask: Value | None) -> Value:
                e = vexp.exp(b, load(source, at, mask) - most, kind)
                if name != "log_softmax":
                    b.store(e, b.at(goal, at, kind), mask=mask)
                return e

            s = row.fold(0.0, b.add, exponential)
            total = b.splat(s, row.width)
            log = vexp.log(b, total, kind) if name == "log_softmax" else None

            def finish(at: Value, mask: Value | None) -> None:
                value = load(goal, at, mask) / total if log is None else (load(source, at, mask) - most) - log
                b.store(value, b.at(goal, at, kind), mask=mask)

            if losses:
                places, sums, picked = losses
                target = b.load(b.at(x, b.load(b.at(places, i, "i64"), "i64"), kind), kind)
                b.store(s, b.at(sums, i, kind))
                b.store(target - m, b.at(picked, i, kind))
            row.each(finish)
    return cache.build(module.text, module.target).function(name, *arguments.values())
