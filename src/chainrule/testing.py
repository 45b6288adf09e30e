"""Assertions for tests of numerical programs, with PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.tensors import Tensor, tensor

_TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def assert_close(
    actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None, equal_nan: bool = False
) -> None:
    """Raise unless shapes and dtypes agree and ``|actual - expected| <= atol + rtol |expected|`` everywhere.

    Raises:
        AssertionError: naming the worst element, its index and both values.
    """
    a, b = (v.numpy(force=True) if isinstance(v, Tensor) else np.asarray(v) for v in (actual, expected))
    if a.shape != b.shape:
        raise AssertionError(f"the shapes differ: {a.shape} and {b.shape}")
    if a.dtype != b.dtype:
        raise AssertionError(f"the dtypes differ: {a.dtype} and {b.dtype}")
    default = _TOLERANCES.get(a.dtype.name, (0.0, 0.0))
    r, t = default[0] if rtol is None else rtol, default[1] if atol is None else atol
    close = np.isclose(a, b, r, t, equal_nan)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        error = np.where(close, -1.0, np.nan_to_num(np.abs(a.astype(np.float64) - b), nan=np.inf))
    at = np.unravel_index(int(np.argmax(error)), a.shape) if a.shape else ()
    raise AssertionError(
        f"{int((~close).sum())} of {a.size} elements differ by more than rtol={r}, atol={t}; "
        f"worst at {tuple(int(i) for i in at)}: {a[at]} and {b[at]}"
    )


def make_tensor(*shape: int, dtype: Any, low: float = -9.0, high: float = 9.0, requires_grad: bool = False) -> Tensor:
    """A tensor of uniform random numbers in [low, high), from a fixed stream of NumPy's."""
    numbers = np.random.default_rng(0).uniform(low, high, shape)
    return tensor(numbers.astype(dtypes.as_numpy(dtype)), requires_grad=requires_grad)
