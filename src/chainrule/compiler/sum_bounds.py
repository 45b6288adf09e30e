"""Ranges of sums, extremes, matrix products, and of ops on whole arrays; see NOTE [ranges] in ``compiler.bounds``."""

from __future__ import annotations

import numpy as np

from chainrule.compiler.bounds import Array, Range, flushed, overflowed
from chainrule.ir.graph import Instruction

#: products of more multiplications than this are held to one in their own precision
LARGE = 1 << 25


def _gamma(n: int, u: float) -> float:
    """The bound n u / (1 - n u) of n roundings; infinite where it says nothing."""
    return n * u / (1 - n * u) if n * u < 1 else np.inf


def reduce(kind: str, x: Range, kept: int) -> Range:
    """A reduction over all but the first ``kept`` dimensions."""
    axes = tuple(range(kept, x.value.ndim))
    n = int(np.prod(x.value.shape[kept:], dtype=np.int64))
    dtype = x.value.dtype
    free = None if x.free is None else np.asarray(np.broadcast_to(x.free, x.value.shape).any(axes))
    with np.errstate(all="ignore"):
        if kind != "sum":
            extreme = np.maximum.reduce if kind == "amax" else np.minimum.reduce
            low, high = extreme(x.low, axes), extreme(x.high, axes)
            value = low if x.exact else extreme(x.value, axes)
            if x.exact:
                return Range(np.asarray(value), signed=False)
            return Range(np.asarray(value), np.asarray(low), np.asarray(high), free, signed=False)
        value = np.asarray(np.add.reduce(x.value, axes, None if dtype.kind == "f" else dtype))
        if dtype.kind != "f":
            return Range(value, free=_some(free, np.asarray((x.low != x.high).any(axes))))
        a, b = x.ends()
        size = np.maximum(abs(a), abs(b))
        whole = np.where(np.isfinite(size), size, 0.0).sum(axes)
        low, high = a.sum(axes), b.sum(axes)
        return _summed(value, low, high, whole, n - 1, n, free)


def _some(free: Array | None, more: Array) -> Array | None:
    out = more if free is None else free | more
    return out if bool(np.any(out)) else None


def _summed(value: Array, low: Array, high: Array, size: Array, roundings: int, n: int, free: Array | None) -> Range:
    """Sums with ends known in float64, whose terms have ``size`` as the sum of their absolute values."""
    info = np.finfo(value.dtype)
    double = float(np.finfo(np.float64).eps)
    half = value.dtype == np.float16  # added up in float32, rounded once
    unit = float(np.finfo(np.float32).eps if half else info.eps) / 2
    error = (_gamma(max(roundings, 0), unit) + _gamma(n + 2, double / 2)) * size * (1 + double)
    error = error + n * 2.0 * float(info.tiny) * (n > 1)
    if half:
        error = error + float(info.eps) * np.where(np.isfinite(low), np.maximum(abs(low), abs(high)), 0.0)
    if np.isfinite(low).all() and np.isfinite(high).all() and np.max(size, initial=0.0) <= float(info.max):
        low, high, unsure = low - error, high + error, np.zeros((), bool)
    else:
        nan = np.isnan(low) & np.isnan(high)
        unsure = (np.isnan(low) ^ np.isnan(high)) | ((size > float(info.max)) & ~nan)
        low, high = np.where(np.isfinite(low), low - error, low), np.where(np.isfinite(high), high + error, high)
    if info.max < np.finfo(np.float64).max:
        low, high = overflowed(low, high, info, 0.0)
    return flushed(Range(value, np.asarray(low), np.asarray(high), _some(free, np.asarray(unsure)), signed=False))


def product(a: Array, b: Array) -> Range:
    """A matrix product of arrays in memory.

    The bound is (k + 1) u times |A| |B|, of which the product of the rows' and columns' lengths is an upper bound
    (Cauchy and Schwarz) that costs no second product. Large products are computed in their own precision: then the
    reference has that error too.
    """
    k = a.shape[-1]
    least = np.finfo(a.dtype).tiny
    wide = a.dtype == np.float64 or a.size * b.shape[-1] <= LARGE
    with np.errstate(all="ignore"):
        exact = np.matmul(a, b, dtype=np.float64) if wide else np.matmul(a, b).astype(np.float64)
        plain = bool(np.isfinite(a).all() and np.isfinite(b).all())
        x, y = (a, b) if plain else (np.where(np.isfinite(v), v, 0) for v in (a, b))
        size = _lengths(x, -1) * _lengths(y, -2)
        value = exact.astype(a.dtype)
        found = _summed(value, exact, exact, size, (k + 1) * (1 if wide else 2), k + 1, None)
        s, t = (_denormal(v, least) for v in (x, y))
        if not (s.any() or t.any()):
            return found
        lost = np.matmul(abs(x) * s, abs(y), dtype=np.float64) + np.matmul(abs(x), abs(y) * t, dtype=np.float64)
        found = Range(found.value, found.low - lost, found.high + lost, found.free, signed=False)
        if not plain:  # an infinity times a denormal number is infinite, or not a number where that is taken for zero
            u, v = (np.isinf(m).astype(np.float64) for m in (a, b))
            found.free = _some(found.free, np.matmul(s.astype(np.float64), v) + np.matmul(u, t.astype(np.float64)) > 0)
    return found


def _lengths(x: Array, axis: int) -> Array:
    """Euclidean lengths of rows or columns, in float64, rounded up; sums of absolute values where squares overflow."""
    squares = np.sqrt(np.sum(np.square(x, dtype=np.float64), axis, keepdims=True)) * (1 + 1e-12 * x.shape[axis])
    fine = np.isfinite(squares) & (squares > 1e-150)
    return (
        np.asarray(squares)
        if fine.all()
        else np.where(fine, squares, np.sum(abs(x), axis, dtype=np.float64, keepdims=True))
    )


def _denormal(x: Array, least: float) -> Array:
    return (x != 0) & (abs(x) < least)


def whole(i: Instruction, xs: list[Array]) -> list[Range]:
    """The results of an op that works on whole arrays: exact, but for sums along the way.

    Raises what the reference kernel raises.
    """
    with np.errstate(all="ignore"):
        y = i.op.kernel(*xs, **i.params)
        if i.op.residual:
            y = y[0]
        values = [np.asarray(v) for v in ((y,) if i.op.outputs == 1 else y)]
        if i.op.name not in ("cumsum", "take_add", "scatter_add") or values[0].dtype.kind != "f":
            return [flushed(Range(v)) for v in values]
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in xs]
        size = [np.where(np.isfinite(x), abs(x), 0.0) if x.dtype.kind == "f" else x for x in wide]
        exact, sums = (np.asarray(i.op.kernel(*v, **i.params)) for v in (wide, size))
        n = max(x.size for x in xs) + 1
        if i.op.name == "cumsum":
            n = xs[0].shape[i.params["axis"]] if xs[0].shape else 1
        return [_summed(values[0], exact, exact, sums, n - 1, n, None)]
