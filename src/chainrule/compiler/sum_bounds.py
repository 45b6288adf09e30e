"""Ranges of sums, extremes, matrix products, and of ops on whole arrays; see NOTE [ranges] in ``compiler.bounds``."""

from __future__ import annotations

import numpy as np

from chainrule.compiler.bounds import Array, Range, flushed, overflowed
from chainrule.ir.graph import Instruction


def _gamma(n: int, u: float) -> float:
    """The bound n u / (1 - n u) of n roundings; infinite where it says nothing."""
    return n * u / (1 - n * u) if n * u < 1 else np.inf


def reduce(kind: str, x: Range, kept: int) -> Range:
    """A reduction over all but the first ``kept`` dimensions."""
    axes = tuple(range(kept, x.value.ndim))
    n = int(np.prod(x.value.shape[kept:], dtype=np.int64))
    dtype = x.value.dtype
    free = None if x.free is None else np.broadcast_to(x.free, x.value.shape).any(axes)
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
    nan = np.isnan(low) & np.isnan(high)
    unsure = (np.isnan(low) ^ np.isnan(high)) | ((size > float(info.max)) & ~nan)
    low, high = np.where(np.isfinite(low), low - error, low), np.where(np.isfinite(high), high + error, high)
    if info.max < np.finfo(np.float64).max:
        low, high = overflowed(low, high, info, 0.0)
    return flushed(Range(value, np.asarray(low), np.asarray(high), _some(free, np.asarray(unsure)), signed=False))


def product(a: Array, b: Array) -> Range:
    """A matrix product of arrays in memory."""
    k = a.shape[-1]
    least = np.finfo(a.dtype).tiny
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        exact = np.matmul(x, y)
        p, q = (np.where(np.isfinite(v), abs(v), 0.0) for v in (x, y))
        size = np.matmul(p, q)
        found = _summed(exact.astype(a.dtype), exact, exact, size, k + 1, k + 1, None)
        lost = np.matmul(np.where(p < least, p, 0.0), q) + np.matmul(p, np.where(q < least, q, 0.0))
        if lost.any():
            found = Range(found.value, found.low - lost, found.high + lost, found.free, signed=False)
        # an infinity times a denormal number is infinite, or not a number where that is taken for zero
        tiny = (v.astype(np.float64) for v in ((p > 0) & (p < least), (q > 0) & (q < least)))
        infinite = (v.astype(np.float64) for v in (np.isinf(x), np.isinf(y)))
        (s, t), (u, v) = tiny, infinite
        if (s.any() and v.any()) or (t.any() and u.any()):
            found.free = _some(found.free, np.matmul(s, v) + np.matmul(u, t) > 0)
    return found


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
