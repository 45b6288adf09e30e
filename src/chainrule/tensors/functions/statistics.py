"""Statistics: quantiles, reductions that leave NaN out, covariance and correlation, the most frequent value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core.errors import explain
from chainrule.core.shapes import normalize_axis, size_of
from chainrule.ir.interpreter import Tracer
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.functions.reduce import argsort, last_axis, need_floating, restore, sort, sum, values_indices
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor

_ROUNDED = {"lower": T.floor, "higher": T.ceil, "nearest": T.round}


def _quantile(name: str, input: Tensor, q: Any, dim: Any, keepdim: bool, interpolation: str, skip: bool) -> Tensor:
    x = need_floating(input, name)
    y, axes = last_axis(x, dim)
    n, axis = y._d.shape[-1], len(y._d.shape) - 1
    level = cast(q, x._d.dtype)
    if n == 0:
        raise RuntimeError(explain(f"{name} of no elements", got=f"shape {tuple(x._d.shape)}"))
    if interpolation not in (*_ROUNDED, "linear", "midpoint"):
        raise RuntimeError(
            explain(
                f"{name}: unknown interpolation", expected=f"linear, midpoint, {', '.join(_ROUNDED)}", got=interpolation
            )
        )
    if len(level._d.shape) > 1:
        raise RuntimeError(
            explain(f"{name}: q has too many dimensions", expected="a number or a vector", got=str(tuple(level.shape)))
        )
    if not isinstance(level._d, Tracer) and not np.all((level._d >= 0) & (level._d <= 1)):
        raise RuntimeError(explain(f"{name}: q is out of range", expected="0 to 1", got=str(level.tolist())))
    levels = level._d.shape[0] if level._d.shape else 1
    missing = T.isnan(y)
    count = T.sum(cast(T.logical_not(missing), x._d.dtype), (axis,), True)
    at = T.mul(T.reshape(level, (levels,)), T.clamp_min(T.sub(count, 1.0), 0.0))
    at = _ROUNDED[interpolation](at) if interpolation in _ROUNDED else at
    low, high = T.floor(at), T.ceil(at)
    weight = T.mul(T.sub(high, low), 0.5) if interpolation == "midpoint" else T.sub(at, low)
    ordered = sort(y, -1).values
    below, above = (T.gather(ordered, cast(i, np.dtype(np.int64)), axis=axis) for i in (low, high))
    out = T.add(below, T.mul(T.sub(above, below), weight))
    if not skip:
        out = T.where(T.any(missing, (axis,), True), math.nan, out)
    if not level._d.shape:
        return restore(T.reshape(out, tuple(y._d.shape[:-1])), x._d.shape, axes, keepdim)
    out = T.permute(out, (axis, *range(axis)))
    kept = tuple(1 if i in axes else d for i, d in enumerate(x._d.shape))
    return T.reshape(out, (levels, *kept)) if keepdim else out  # type: ignore[no-any-return]


def quantile(input: Tensor, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """The q-quantile along ``dim`` (or of all elements): what stands at q (n - 1) in order; NaN where there is a NaN.

    Args:
        input: the data.
        q: one level in [0, 1], or a vector of them, which become the first dimension of the result.
        dim: the dimension that is reduced.
        keepdim: whether it stays, with size 1.
        interpolation: between neighbours in order "linear", or "lower", "higher", "midpoint", "nearest".

    Raises:
        RuntimeError: for levels outside [0, 1], more than one dimension of them, or no elements.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(
    input: Tensor, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """As :func:`quantile`, of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over ``dim`` of the elements that are not NaN."""
    x = T.where(T.isnan(input), 0, input) if input._d.dtype.kind == "f" else input
    return sum(x, dim, keepdim, dtype=dtype)


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of the elements that are not NaN; NaN where there are none."""
    x = need_floating(input, "nanmean", dtype)
    count = sum(cast(T.logical_not(T.isnan(x)), x._d.dtype), dim, keepdim)
    return T.div(nansum(x, dim, keepdim), count)  # type: ignore[no-any-return]


def nanmedian(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower median of the elements that are not NaN; with ``dim`` values and indices."""
    if dim is None:
        return nanmedian(T.reshape(input, (size_of(input._d.shape),)), 0).values
    axis = normalize_axis(dim, len(input._d.shape))
    order = argsort(input, axis)
    if not input._d.shape:
        return values_indices(input, order)
    count = T.sum(cast(T.logical_not(T.isnan(input)), np.dtype(np.int64)), (axis,), True)
    middle = T.floor_divide(T.clamp_min(T.sub(count, 1), 0), 2)
    index = T.gather(order, middle, axis=axis)
    return _chosen(input, index, axis, keepdim)


def _chosen(x: Tensor, index: Tensor, axis: int, keepdim: bool) -> values_indices:
    """The elements at an index of size 1 along the axis, and the index."""
    values = T.gather(x, index, axis=axis)
    if keepdim:
        return values_indices(values, index)
    shape = tuple(d for i, d in enumerate(x._d.shape) if i != axis)
    return values_indices(T.reshape(values, shape), T.reshape(index, shape))


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> values_indices:
    """The most frequent value along ``dim`` (the smallest of several), and where it stands last."""
    order = argsort(input, dim)
    if not input._d.shape:
        return values_indices(input, order)
    axis = normalize_axis(dim, len(input._d.shape))
    n = input._d.shape[axis]
    lead, rest = tuple(input._d.shape[:axis]), tuple(input._d.shape[axis + 1 :])
    x = T.gather(input, order, axis=axis)
    same = T.eq(T.reshape(x, (*lead, n, 1, *rest)), T.reshape(x, (*lead, 1, n, *rest)))
    count = T.sum(cast(same, np.dtype(np.int64)), (axis + 1,), False)
    first = T.reshape(T.argmax(count, axis=axis), (*lead, 1, *rest))
    place = T.sub(T.add(first, T.gather(count, first, axis=axis)), 1)
    return _chosen(input, T.gather(order, place, axis=axis), axis, keepdim)


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariance matrix of variables (rows) from observations (columns).

    Args:
        input: shape (variables, observations), or (observations,) for one variable.
        correction: what is taken off the number of observations; 1 makes the estimate unbiased.
        fweights: how often each observation counts (integers).
        aweights: how important each observation is.

    Raises:
        RuntimeError: for more than two dimensions.
    """
    if len(input._d.shape) > 2:
        raise RuntimeError(explain("cov needs at most two dimensions", got=f"shape {tuple(input._d.shape)}"))
    n = input._d.shape[-1] if input._d.shape else 1
    x = T.reshape(input, (size_of(input._d.shape) // max(n, 1), n))
    if fweights is None and aweights is None:
        weighted = centred = T.sub(x, T.div(T.sum(x, (1,), True), float(n)))
        scale: Any = float(n - correction)
    else:
        w = T.mul(1.0 if fweights is None else fweights, 1.0 if aweights is None else aweights)
        total = T.sum(w, (0,), False)
        centred = T.sub(x, T.div(T.sum(T.mul(x, w), (1,), True), total))
        weighted = T.mul(centred, w)
        spread = total if aweights is None else T.sum(T.mul(w, aweights), (0,), False)
        scale = T.sub(
            total, T.div(T.mul(spread, float(correction)), total) if aweights is not None else float(correction)
        )
    out = T.div(T.matmul(weighted, T.permute(centred, (1, 0))), scale)
    return out if len(input._d.shape) == 2 else T.reshape(out, ())  # type: ignore[no-any-return]


def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation coefficients of variables (rows): the covariances over the standard deviations."""
    c = cov(input)
    if not c._d.shape:
        return T.div(c, c)  # type: ignore[no-any-return]
    n = c._d.shape[0]
    s = T.sqrt(T.getitem(T.reshape(c, (n * n,)), (slice(None, None, n + 1),)))
    out = T.div(T.div(c, T.reshape(s, (n, 1))), s)
    return T.clamp_max(T.clamp_min(out, -1.0), 1.0)  # type: ignore[no-any-return]


FUNCTIONS = ["quantile", "nanquantile", "nansum", "nanmean", "nanmedian", "mode", "cov", "corrcoef"]
