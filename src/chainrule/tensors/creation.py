"""Tensors from data, sizes and ranges, with PyTorch's names, defaults and dtypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.core.shapes import flatten_sizes
from chainrule.ir.state import get_state
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor, device, wrap


def _finish(array: Any, dev: Any, requires_grad: bool) -> Tensor:
    if dev is not None:
        device(dev)
    t = wrap(array)
    interpreter = get_state().interpreter
    if interpreter is not None:
        interpreter.born(t)
    return t.requires_grad_() if requires_grad else t


def _has_tensor(data: Any) -> bool:
    if isinstance(data, Tensor):
        return True
    return isinstance(data, (list, tuple)) and any(_has_tensor(d) for d in data)


def _strip(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.numpy(force=True)
    return [_strip(d) for d in data] if isinstance(data, (list, tuple)) else data


def _array(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """Data as an array: Python floats get the default dtype, NumPy arrays keep theirs."""
    kind = None if dtype is None else dtypes.as_numpy(dtype)
    if _has_tensor(data):
        data = _strip(data)
    typed = isinstance(data, (np.ndarray, np.generic))
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"elements of type {array.dtype}")
    except (ValueError, TypeError, OverflowError) as error:
        raise TypeError(
            explain(
                "this data cannot become a tensor",
                expected="numbers, booleans, NumPy arrays, or nested lists of them of equal lengths",
                got=f"{type(data).__name__}: {error}",
            )
        ) from None
    if kind is None:
        wanted = array.dtype if typed or array.dtype.kind != "f" else dtypes.get_default_dtype().numpy
        if not typed and array.size == 0:
            wanted = dtypes.get_default_dtype().numpy
        if isinstance(data, list) and data and isinstance(data[0], (np.ndarray, np.generic)):
            wanted = array.dtype
        kind = dtypes.from_numpy(wanted).numpy
    elif not typed:
        _check_range(array, kind)
    return np.array(array, dtype=kind)


def _check_range(array: np.ndarray[Any, Any], kind: np.dtype[Any]) -> None:
    """Raise if a Python number does not fit an integer dtype; negative ones wrap around in uint8, as in PyTorch."""
    if kind.kind not in "iu" or array.dtype.kind not in "iuf" or not array.size:
        return
    info = np.iinfo(kind)
    low, high = float(array.min()), float(array.max())
    if not (info.min or -info.max) <= low <= high <= info.max:  # a NaN fails every comparison
        raise RuntimeError(
            explain(
                f"a value does not fit {dtypes.from_numpy(kind)}",
                expected=f"numbers from {info.min} to {info.max}",
                got=f"numbers from {low:g} to {high:g}",
                fix="choose a wider dtype",
            )
        )


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data`` (numbers, nested lists, NumPy arrays, tensors).

    Python floats get the default dtype (float32), integers int64, booleans bool; NumPy arrays keep their dtype.

    Raises:
        TypeError: if the data holds something else than numbers, or is ragged.
    """
    return _finish(_array(data, dtype), device, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else cast(data, dtypes.as_numpy(dtype))
    if isinstance(data, np.ndarray) and (dtype is None or dtypes.as_numpy(dtype) == data.dtype):
        return from_numpy(data)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of a NumPy array.

    Raises:
        TypeError: if it is not an array, or its dtype has no counterpart.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(explain("from_numpy needs a NumPy array", got=type(array).__name__, fix="use chainrule.tensor"))
    kind = dtypes.from_numpy(array.dtype)
    return _finish(
        array if array.dtype == kind.numpy and array.dtype.isnative else array.astype(kind.numpy), None, False
    )


def _filled(value: Any, sizes: tuple[Any, ...], dtype: Any, dev: Any, requires_grad: bool) -> Tensor:
    kind = dtypes.get_default_dtype().numpy if dtype is None else dtypes.as_numpy(dtype)
    shape = tuple(int(s) for s in flatten_sizes(sizes))
    array = np.zeros(shape, kind) if type(value) is int and value == 0 else np.full(shape, value, kind)
    return _finish(array, dev, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """Zeros of a shape."""
    return _filled(0, size, dtype, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """Ones of a shape."""
    return _filled(1, size, dtype, device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """A tensor whose values are not to be relied on (they are zeros, so that runs repeat)."""
    return _filled(0, size, dtype, device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere; its type decides the dtype if none is given."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    kind = dtypes.from_numpy(dtypes.python_dtype(value)) if dtype is None else dtype
    return _filled(value, (tuple(size) if isinstance(size, (tuple, list)) else (size,),), kind, device, requires_grad)


def _like(x: Tensor, value: Any, dtype: Any, requires_grad: bool) -> Tensor:
    kind = x._d.dtype if dtype is None else dtypes.as_numpy(dtype)
    out: Tensor = TENSORS.full(tuple(x._d.shape), value, kind)
    return out.requires_grad_() if requires_grad else out


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """Zeros of the shape and dtype of ``input``."""
    return _like(input, 0, dtype, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """Ones of the shape and dtype of ``input``."""
    return _like(input, 1, dtype, requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """As :func:`empty`, of the shape and dtype of ``input``."""
    return _like(input, 0, dtype, requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """``fill_value`` in the shape and dtype of ``input``."""
    return _like(input, fill_value, dtype, requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` below ``end``: integers unless a float is given.

    Raises:
        ValueError: for a step of zero or of the wrong sign.
    """
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (start, end, step))
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise ValueError(
            explain("arange cannot reach the end", expected="a nonzero step towards it", got=f"{start}, {end}, {step}")
        )
    given = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    kind = (
        (dtypes.int64.numpy if given else dtypes.get_default_dtype().numpy) if dtype is None else dtypes.as_numpy(dtype)
    )
    if given:
        array = np.arange(start, end, step).astype(kind)
    else:
        array = (start + step * np.arange(max(0, math.ceil((end - start) / step)), dtype=np.float64)).astype(kind)
    return _finish(array, device, requires_grad)


def _steps(steps: Any) -> int:
    n = int(steps)
    if n < 0:
        raise ValueError(explain("the number of steps is negative", expected="0 or more steps", got=str(n)))
    return n


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` numbers from ``start`` to ``end``, both included, evenly spaced.

    Raises:
        ValueError: for a negative number of steps.
    """
    kind = dtypes.get_default_dtype().numpy if dtype is None else dtypes.as_numpy(dtype)
    array = np.linspace(float(start), float(end), _steps(steps))
    return _finish(array.astype(kind), device, requires_grad)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """``base`` to the power of evenly spaced exponents."""
    kind = dtypes.get_default_dtype().numpy if dtype is None else dtypes.as_numpy(dtype)
    return _finish(np.logspace(float(start), float(end), _steps(steps), base=base).astype(kind), None, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal, else zeros, of shape (n, m)."""
    kind = dtypes.get_default_dtype().numpy if dtype is None else dtypes.as_numpy(dtype)
    return _finish(np.eye(n, m, dtype=kind), device, requires_grad)


def scalar_tensor(value: Any, *, dtype: Any = None) -> Tensor:
    """A tensor of zero dimensions."""
    kind = dtypes.get_default_dtype() if dtype is None else dtype
    return tensor(value, dtype=kind)


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Row and column numbers of the lower triangle, as a (2, k) tensor."""
    return _finish(np.stack(np.tril_indices(row, offset, col)).astype(np.int64), None, False)


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Row and column numbers of the upper triangle, as a (2, k) tensor."""
    return _finish(np.stack(np.triu_indices(row, offset, col)).astype(np.int64), None, False)


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)
