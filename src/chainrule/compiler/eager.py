"""Kernels of hot ops as machine code, for eager calls large enough: what :mod:`chainrule.ir.native` asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.compiled import enabled
from chainrule.compiler.llvm import normalization
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


def _dense(a: Array, x: Array) -> Array:
    """As machine code reads it, of the dtype of x."""
    return np.require(a, x.dtype, ("C", "A"))


def _layer_norm(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, tuple[Array, Array]]:
    y, columns = np.empty_like(x), w.size
    lead = x.shape[: x.ndim - w.ndim] + (1,) * w.ndim
    mean, r = (np.empty(lead, x.dtype) for _ in range(2))
    arrays = (x, _dense(w, x), _dense(b, x), y, mean, r)
    run = normalization.forward(_KINDS[x.dtype.char])
    run(*map(address, arrays), x.size // columns, columns, columns, eps)
    return y, (mean, r)


def _layer_norm_backward(g: Array, x: Array, w: Array, mean: Array, r: Array) -> tuple[Array, Array, Array]:
    columns = w.size
    dx, dw, db = np.empty_like(x), np.zeros(w.shape, x.dtype), np.zeros(w.shape, x.dtype)
    arrays = (_dense(g, x), x, _dense(w, x), mean, r, dx, dw, db)
    run = normalization.backward(_KINDS[x.dtype.char])
    run(*map(address, arrays), x.size // columns, columns, columns)
    return dx, dw, db


_KERNELS: dict[str, Callable[..., Any]] = {
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "softmax": _along_rows("softmax"),
    "log_softmax": _along_rows("log_softmax"),
    "softmax_nll": _softmax_nll,
}


def kernel(name: str) -> Callable[..., Any] | None:
    """Machine code for an op on dense float32 and float64 arrays; None without llvmlite or with compiling off."""
    return _KERNELS[name] if enabled() and _possible() else None
