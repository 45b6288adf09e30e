"""Running a function as machine code under the strictest check there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.program import Program
from chainrule.compiler.verify import verify_program


def arrays_of(program: Program, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """What the inputs of a program's graph are read from, as arrays."""
    return [np.asarray(s.tensor(list(args))._d) for s in program.sources]


def same(a: Any, b: Any) -> bool:
    """Whether two arrays have one type and the same numbers, NaN equal to itself."""
    x, y = np.asarray(a), np.asarray(b)
    return x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def checked(
    function: Callable[..., Any], *args: cr.Tensor, target: Target | None = None, draws: Sequence[Sequence[Any]] = ()
) -> NativeProgram:
    """Capture, compile, run each kernel against its reference with all memory watched, and the whole twice.

    The kernels one by one and all of them in one call have to give the same bits. ``draws`` are further arguments.
    """
    program = capture(function, *args)
    native = NativeProgram(program.graph, target)
    for given in (args, *draws):
        arrays = arrays_of(program, given)
        kept = [a.copy() for a in arrays]
        stepwise = verify_program(native, arrays, strict=True)
        for _ in range(2):
            for a, b in zip(native(arrays), stepwise, strict=True):
                assert same(a, b)
        for a, b in zip(arrays, kept, strict=True):
            assert same(a, b), "an input was written"
    return native
