"""Sums, means, extremes, norms, running sums, softmax and order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import DTypeError, explain
from chainrule.core.shapes import normalize_axes, normalize_axis, size_of
from chainrule.ir.state import no_grad
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import SINGLE
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor


class values_indices(NamedTuple):
    """Two results: values, and the indices where they stand."""

    values: Any
    indices: Any


_sum, _mean, _softmax, _log_softmax = SINGLE["sum"], SINGLE["mean"], SINGLE["softmax"], SINGLE["log_softmax"]
_ALL_AXES = tuple([tuple(range(rank)) for rank in range(65)])


def _axes(x: Tensor, dim: Any) -> tuple[int, ...]:
    rank = len(x._d.shape)
    return _ALL_AXES[rank] if dim is None else normalize_axes(dim, rank)


def _summed(x: Tensor, dtype: Any) -> Tensor:
    """Integers and booleans are summed as int64."""
    if dtype is not None:
        return cast(x, dtypes.as_numpy(dtype))
    return x if x._d.dtype.kind == "f" else cast(x, dtypes.int64.numpy)


def need_floating(x: Tensor, name: str, dtype: Any = None) -> Tensor:
    if dtype is not None:
        return cast(x, dtypes.as_numpy(dtype))
    if x._d.dtype.kind != "f":
        raise DTypeError(
            explain(f"{name} needs a floating tensor", got=str(x.dtype), fix="convert first, for example with .float()")
        )
    return x


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None) -> Tensor:
    """The sum over ``dim`` (all dimensions if None); integers give int64."""
    x = input if dtype is None and input._d.dtype.kind == "f" else _summed(input, dtype)
    return _sum(x, {"axes": _axes(x, dim if axis is None else axis), "keepdims": keepdim})


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None) -> Tensor:
    """The mean over ``dim``: the sum divided by the number of elements.

    Raises:
        RuntimeError: for an integer tensor.
    """
    x = need_floating(input, "mean", dtype)
    return _mean(x, {"axes": _axes(x, dim if axis is None else axis), "keepdims": keepdim})


def var(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: int | None = None
) -> Tensor:
    """The variance: squared distances from the mean, summed and divided by n - correction (1 if unbiased)."""
    x = need_floating(input, "var")
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = _axes(x, dim)
    take = correction if correction is not None else int(unbiased)
    n = size_of([x._d.shape[a] for a in axes]) - take
    d = T.sub(x, mean(x, axes or None, keepdim=True) if axes else x)
    total = T.sum(T.mul(d, d), axes, keepdim)
    return T.div(total, float(n) if n > 0 else 0.0)  # type: ignore[no-any-return]


def std(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: int | None = None
) -> Tensor:
    """The square root of :func:`var`; its gradient is zero where it is zero."""
    return _root(var(input, dim, unbiased, keepdim, correction=correction))


def _root(x: Tensor, p: float = 2) -> Tensor:
    """The p-th root of x >= 0, with the derivative 0 at 0 instead of the one-sided limit, infinity."""
    zero = T.eq(x, 0)
    safe = T.where(zero, 1.0, x)
    return T.where(zero, 0.0, T.sqrt(safe) if p == 2 else T.pow(safe, 1 / p))  # type: ignore[no-any-return]


def var_mean(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Variance and mean."""
    return var(input, dim, unbiased, keepdim), mean(input, None if isinstance(dim, bool) else dim, keepdim)


def std_mean(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean."""
    return std(input, dim, unbiased, keepdim), mean(input, None if isinstance(dim, bool) else dim, keepdim)


def last_axis(x: Tensor, dim: Any) -> tuple[Tensor, tuple[int, ...]]:
    """``x`` with the reduced axes flattened into the last one, and those axes."""
    axes = _axes(x, dim)
    shape = x._d.shape
    kept = [i for i in range(len(shape)) if i not in axes]
    moved = T.permute(x, (*kept, *axes)) if axes else x
    return T.reshape(moved, (*(shape[i] for i in kept), size_of([shape[a] for a in axes]))), axes


def restore(y: Tensor, shape: Any, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    if not keepdim:
        return y
    return T.reshape(y, tuple(1 if i in axes else d for i, d in enumerate(shape)))  # type: ignore[no-any-return]


def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over ``dim``, by halves: a tree of products, whose derivative is right also at zero factors."""
    x = _summed(input, dtype)
    y, axes = last_axis(x, dim)
    lead = (slice(None),) * (len(y._d.shape) - 1)
    if y._d.shape[-1] == 0:
        y = T.cat(y, T.full((*y._d.shape[:-1], 1), 1, y._d.dtype), axis=len(lead))
    while (n := y._d.shape[-1]) > 1:
        half = n // 2
        paired = T.mul(T.getitem(y, (*lead, slice(0, half))), T.getitem(y, (*lead, slice(half, 2 * half))))
        y = T.cat(paired, T.getitem(y, (*lead, slice(2 * half, n))), axis=len(lead)) if n % 2 else paired
    return restore(T.getitem(y, (*lead, 0)), x._d.shape, axes, keepdim)


def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along ``dim``."""
    x = _summed(input, dtype)
    return T.cumsum(x, axis=normalize_axis(dim, len(x._d.shape))) if x._d.shape else x


def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running products along ``dim``, in log2(n) rounds of products with a shifted copy (Hillis & Steele, 1986)."""
    x = _summed(input, dtype)
    if not x._d.shape:
        return x
    axis = normalize_axis(dim, len(x._d.shape))
    lead, n, shift = (slice(None),) * axis, x._d.shape[axis], 1
    while shift < n:
        head = T.getitem(x, (*lead, slice(0, shift)))
        rest = T.mul(T.getitem(x, (*lead, slice(shift, n))), T.getitem(x, (*lead, slice(0, n - shift))))
        x = T.cat(head, rest, axis=axis)
        shift *= 2
    return x


def _nonempty(x: Tensor, axes: tuple[int, ...], name: str) -> None:
    if 0 in [x._d.shape[a] for a in axes]:
        raise IndexError(
            explain(f"{name} over an axis without elements has no value", got=f"shape {tuple(x._d.shape)}")
        )


def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest value over ``dim``; ties share the gradient equally."""
    axes = _axes(input, None if dim == () else dim)
    _nonempty(input, axes, "amax")
    return T.amax(input, axes, keepdim)  # type: ignore[no-any-return]


def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest value over ``dim``; ties share the gradient equally."""
    axes = _axes(input, None if dim == () else dim)
    _nonempty(input, axes, "amin")
    return T.amin(input, axes, keepdim)  # type: ignore[no-any-return]


def aminmax(input: Tensor, *, dim: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Smallest and largest value."""
    return amin(input, dim, keepdim), amax(input, dim, keepdim)


def _arg(name: str, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    x = cast(input, np.dtype(np.int64)) if input._d.dtype.kind == "b" else input
    if dim is None:
        _nonempty(x, tuple(range(len(x._d.shape))), name)
        out = getattr(T, name)(T.reshape(x, (size_of(x._d.shape),)), axis=0)
        return T.reshape(out, (1,) * len(x._d.shape)) if keepdim else out  # type: ignore[no-any-return]
    axis = normalize_axis(dim, len(x._d.shape))
    if not x._d.shape:
        return T.full((), 0, np.int64)  # type: ignore[no-any-return]
    _nonempty(x, (axis,), name)
    out = getattr(T, name)(x, axis=axis)
    return restore(out, x._d.shape, (axis,), keepdim)


def argmax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The index of the (first) largest element along ``dim``, or in the flattened tensor."""
    return _arg("argmax", input, dim, keepdim)


def argmin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The index of the (first) smallest element along ``dim``, or in the flattened tensor."""
    return _arg("argmin", input, dim, keepdim)


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, Tensor):
        return (T.maximum if name == "max" else T.minimum)(input, dim)
    if dim is None:
        return (amax if name == "max" else amin)(input)
    axis = normalize_axis(dim, len(input._d.shape))
    if not input._d.shape:
        return values_indices(input, _arg("arg" + name, input, dim, False))
    index = _arg("arg" + name, input, axis, True)
    values = T.gather(input, index, axis=axis)
    if keepdim:
        return values_indices(values, index)
    shape = tuple(d for i, d in enumerate(input._d.shape) if i != axis)
    return values_indices(T.reshape(values, shape), T.reshape(index, shape))


def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest value; with ``dim`` values and indices (the gradient goes to the first of ties); with a second
    tensor the elementwise maximum."""
    return _extreme("max", input, dim, keepdim)


def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest value; with ``dim`` values and indices; with a second tensor the elementwise minimum."""
    return _extreme("min", input, dim, keepdim)


def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero."""
    return T.any(input, _axes(input, dim), keepdim)  # type: ignore[no-any-return]


def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero."""
    return T.all(input, _axes(input, dim), keepdim)  # type: ignore[no-any-return]


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    return sum(T.ne(input, 0), dim)


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``ln sum exp(x)`` over ``dim``, shifted by the maximum so that it is finite whenever the value is."""
    x = input if input._d.dtype.kind == "f" else cast(input, dtypes.get_default_dtype().numpy)
    axes = _axes(x, dim)
    if 0 in [x._d.shape[a] for a in axes]:
        return T.log(T.sum(x, axes, keepdim))  # type: ignore[no-any-return]
    with no_grad():
        top = T.detach(amax(x, axes, keepdim=True)) if axes else T.detach(x)
        top = T.where(T.isfinite(top), top, 0.0)
    total = T.log(T.sum(T.exp(T.sub(x, top)), axes, True))
    y = T.add(total, top)
    return y if keepdim or not axes else T.reshape(y, tuple(d for i, d in enumerate(x._d.shape) if i not in axes))  # type: ignore[no-any-return]


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``exp(x) / sum exp(x)`` along ``dim``."""
    x = need_floating(input, "softmax", dtype)
    if not x._d.shape:
        return T.reshape(T.softmax(T.reshape(x, (1,)), axis=0), ())  # type: ignore[no-any-return]
    return _softmax(x, {"axis": normalize_axis(dim, len(x._d.shape))})


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``x - ln sum exp(x)`` along ``dim``."""
    x = need_floating(input, "log_softmax", dtype)
    if not x._d.shape:
        return T.reshape(T.log_softmax(T.reshape(x, (1,)), axis=0), ())  # type: ignore[no-any-return]
    return _log_softmax(x, {"axis": normalize_axis(dim, len(x._d.shape))})


def norm(input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The vector p-norm over ``dim``: (sum |x|^p)^(1/p); ``inf``, ``-inf`` and 0 as limits, ``"fro"`` as 2.

    The gradient at zero is zero.
    """
    x = need_floating(input, "norm")
    axes = _axes(x, dim)
    p = 2.0 if p in (None, "fro") else float(p)
    if p == math.inf:
        return amax(T.abs(x), axes, keepdim)
    if p == -math.inf:
        return amin(T.abs(x), axes, keepdim)
    if p == 0:
        return T.sum(cast(T.ne(x, 0), x._d.dtype), axes, keepdim)  # type: ignore[no-any-return]
    if p == 1:
        return T.sum(T.abs(x), axes, keepdim)  # type: ignore[no-any-return]
    total = T.sum(T.mul(x, x) if p == 2 else T.pow(T.abs(x), p), axes, keepdim)
    return _root(total, p)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    return norm(T.sub(input, other), p)


# ---- order
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort along ``dim``; equal elements keep their order."""
    if not input._d.shape:
        return T.full((), 0, np.int64)  # type: ignore[no-any-return]
    return T.argsort(input, axis=normalize_axis(dim, len(input._d.shape)), descending=descending)  # type: ignore[no-any-return]


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> values_indices:
    """Sorted values and their indices along ``dim``; equal elements keep their order."""
    index = argsort(input, dim, descending)
    if not input._d.shape:
        return values_indices(input, index)
    return values_indices(T.gather(input, index, axis=normalize_axis(dim, len(input._d.shape))), index)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> values_indices:
    """The k largest (or smallest) elements along ``dim``, in order, and their indices.

    Raises:
        RuntimeError: if there are fewer than k.
    """
    axis = normalize_axis(dim, len(input._d.shape))
    n = input._d.shape[axis] if input._d.shape else 1
    if not 0 <= k <= n:
        raise RuntimeError(explain("topk: k is out of range", expected=f"0 to {n}", got=str(k)))
    if not input._d.shape:
        return values_indices(input, argsort(input))
    index = T.getitem(argsort(input, axis, largest), (*(slice(None),) * axis, slice(0, k)))
    return values_indices(T.gather(input, index, axis=axis), index)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> values_indices:
    """The k-th smallest element along ``dim`` (k from 1) and its index."""
    v, i = topk(input, k, dim, largest=False)
    axis = normalize_axis(dim, len(input._d.shape))
    index = (*(slice(None),) * axis, slice(k - 1, k) if keepdim else k - 1)
    return values_indices(T.getitem(v, index), T.getitem(i, index))


def median(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower median, or NaN where there is a NaN; with ``dim`` values and indices."""
    if dim is None and not size_of(input._d.shape):
        return mean(input)
    if dim is None:
        return median(T.reshape(input, (size_of(input._d.shape),)), 0).values
    if not input._d.shape:
        return values_indices(input, argsort(input))
    axis = normalize_axis(dim, len(input._d.shape))
    _nonempty(input, (axis,), "median")
    middle = (input._d.shape[axis] - 1) // 2
    index = T.getitem(argsort(input, axis), (*(slice(None),) * axis, slice(middle, middle + 1)))
    missing = T.isnan(input)
    index = T.where(T.any(missing, (axis,), True), _arg("argmax", missing, axis, True), index)
    values = T.gather(input, index, axis=axis)
    if keepdim:
        return values_indices(values, index)
    shape = tuple(d for i, d in enumerate(input._d.shape) if i != axis)
    return values_indices(T.reshape(values, shape), T.reshape(index, shape))


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: Any = None
) -> Any:
    """The distinct elements in order, if asked with the index of each element among them and their counts."""
    found = np.unique(input.numpy(force=True), return_inverse=True, return_counts=True, axis=dim)
    values, inverse, counts = (constant(np.asarray(f)) for f in found)
    out = [values] + ([inverse] if return_inverse else []) + ([counts] if return_counts else [])
    return out[0] if len(out) == 1 else tuple(out)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or the sum of its weights."""
    w = None if weights is None else weights.numpy(force=True)
    found = np.bincount(input.numpy(force=True), w, minlength)
    return constant(found if w is None or w.dtype.kind != "f" else found.astype(w.dtype))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Counts in equal bins between ``min`` and ``max`` (the data's range if both are 0)."""
    a = input.numpy(force=True)
    low, high = (float(a.min()), float(a.max())) if min == max == 0 else (min, max)
    return constant(np.histogram(a, bins, (low, high))[0].astype(a.dtype))


FUNCTIONS = [
    "sum",
    "mean",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "prod",
    "cumsum",
    "cumprod",
    "amax",
    "amin",
    "aminmax",
    "argmax",
    "argmin",
    "max",
    "min",
    "any",
    "all",
    "count_nonzero",
    "logsumexp",
    "softmax",
    "log_softmax",
    "norm",
    "dist",
    "argsort",
    "sort",
    "topk",
    "kthvalue",
    "median",
    "unique",
    "bincount",
    "histc",
]
