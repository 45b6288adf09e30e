"""Kernels of hot ops as machine code, for eager calls large enough: what :mod:`chainrule.ir.native` asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.compiled import enabled
from chainrule.compiler.llvm.softmax import row_function
from chainrule.compiler.llvm.target import BackendUnavailableError, available, host
from chainrule.core.memory import address

Array = np.ndarray[Any, Any]

_KINDS = {"f": "f32", "d": "f64"}


@cache
def _possible() -> bool:
    if not available():
        return False
    try:
        host()
    except BackendUnavailableError:  # a processor that no code is made for
        return False
    return True


def _along_rows(name: str) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        y = np.empty_like(x)
        columns = x.shape[-1]
        row_function(name, _KINDS[x.dtype.char])(address(x), address(y), x.size // columns, columns)
        return y

    return run


def _softmax_nll(x: Array, places: Array) -> tuple[Array, Array, Array]:
    z = np.empty_like(x)
    sums, picked = (np.empty(len(x), x.dtype) for _ in range(2))
    addresses = (address(a) for a in (places, sums, picked))
    row_function("softmax_nll", _KINDS[x.dtype.char])(address(x), address(z), *x.shape, *addresses)
    return z, sums, picked


_KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": _along_rows("softmax"),
    "log_softmax": _along_rows("log_softmax"),
    "softmax_nll": _softmax_nll,
}


def kernel(name: str) -> Callable[..., Any] | None:
    """Machine code for an op on dense float32 and float64 arrays; None without llvmlite or with compiling off."""
    return _KERNELS[name] if enabled() and _possible() else None
