"""Independent oracles for the values of ops: exact rational or arbitrary-precision arithmetic, and plain Python loops.

None of them calls the NumPy function that the op's kernel calls. An op must have an entry in :data:`ORACLES`, or a
``reference`` in its declaration; a test fails for an op that has neither.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from mpmath import mp

mp.dps = 30
Array = np.ndarray[Any, Any]


def _each(function: Callable[..., Any], kind: Any = None) -> Callable[..., Array]:
    """A function of Python numbers over broadcast arrays; the result has the dtype of the last one, or ``kind``."""

    def oracle(*arrays: Array) -> Array:
        wide = np.broadcast_arrays(*arrays)
        out = np.empty(wide[0].shape, kind or np.result_type(*arrays[-2:]))
        for index in np.ndindex(out.shape):
            out[index] = function(*(a[index].item() for a in wide))
        return out

    return oracle


def _exact(function: Callable[..., Any]) -> Callable[..., Array]:
    return _each(lambda *xs: float(function(*(Fraction(x) for x in xs))))


def _precise(function: Callable[..., Any]) -> Callable[..., Array]:
    return _each(lambda *xs: float(function(*(mp.mpf(x) for x in xs))))


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


# ---- moving elements: every element is put in its place by its index
def _reshape(x: Array, shape: Any) -> Array:
    return np.array(list(x.flat), x.dtype).reshape(shape)


def _permute(x: Array, perm: Any) -> Array:
    out = np.empty([x.shape[p] for p in perm], x.dtype)
    for index in np.ndindex(x.shape):
        out[tuple(index[p] for p in perm)] = x[index]
    return out


def _broadcast_to(x: Array, shape: Any) -> Array:
    lead = len(shape) - x.ndim
    out = np.empty(shape, x.dtype)
    for index in np.ndindex(*shape):
        out[index] = x[tuple(0 if d == 1 else i for i, d in zip(index[lead:], x.shape, strict=True))]
    return out


def _flip(x: Array, axes: Any) -> Array:
    out = np.empty_like(x)
    for index in np.ndindex(x.shape):
        out[tuple(d - 1 - i if k in axes else i for k, (i, d) in enumerate(zip(index, x.shape, strict=True)))] = x[
            index
        ]
    return out


def _numbers(shape: Any) -> Array:
    return np.arange(math.prod(shape)).reshape(shape)


def _getitem(x: Array, index: Any) -> Array:
    places = _numbers(x.shape)[index]
    return np.array([x.flat[p] for p in np.ravel(places)], x.dtype).reshape(np.shape(places))


def _unslice(x: Array, index: Any, shape: Any) -> Array:
    out = np.zeros(math.prod(shape), x.dtype)
    for place, v in zip(np.ravel(_numbers(shape)[index]), x.flat, strict=True):
        out[place] = v
    return out.reshape(shape)


def _put(x: Array, v: Array, view: Any) -> Array:
    places = _numbers(x.shape)
    name, params = view[0], dict(view[1])
    seen = places[params["index"]] if name == "getitem" else places.transpose(params["perm"])
    out = x.ravel().copy()
    for place, value in zip(seen.flat, v.flat, strict=True):
        out[place] = value
    return out.reshape(x.shape)


def _cat(*xs: Array, axis: int) -> Array:
    slices = [s for x in xs for s in np.moveaxis(x, axis, 0)]
    return np.stack(slices, axis)


def _triangle(keep: Callable[[int, int, int], bool]) -> Callable[..., Array]:
    def oracle(x: Array, k: int) -> Array:
        out = x.copy()
        for index in np.ndindex(x.shape):
            if not keep(index[-2], index[-1], k):
                out[index] = 0
        return out

    return oracle


# ---- places that are data
def _take_add(g: Array, index: Array, axis: int, length: int) -> Array:
    rows = np.moveaxis(g, range(axis, axis + index.ndim), range(index.ndim))
    found = [[rows[p] for p in np.ndindex(index.shape) if index[p] == r] for r in range(length)]
    return np.stack([sum(f, np.zeros(rows.shape[index.ndim :])) for f in found], axis)


def _gather(x: Array, index: Array, axis: int) -> Array:
    out = np.empty(index.shape, x.dtype)
    for p in np.ndindex(index.shape):
        out[p] = x[(*p[:axis], index[p], *p[axis + 1 :])]
    return out


def _scatter(add: bool) -> Callable[..., Array]:
    def oracle(x: Array, index: Array, v: Array, axis: int) -> Array:
        out = x.copy()
        for p in np.ndindex(index.shape):
            at = (*p[:axis], index[p], *p[axis + 1 :])
            out[at] = out[at] + v[p] if add else v[p]
        return out

    return oracle


def _put_rows(x: Array, index: Array, v: Array) -> Array:
    out = list(x)
    for row, value in zip(index, v, strict=True):
        out[row] = value
    return np.stack(out)


# ---- over axes
def _over(function: Callable[[list[Any]], Any], kind: Any) -> Callable[..., Array]:
    def oracle(x: Array, axes: Any, keepdims: bool) -> Array:
        shape = tuple(1 if k in axes else d for k, d in enumerate(x.shape))
        out = np.empty(shape, kind)
        for p in np.ndindex(shape):
            ranges = [range(d) if k in axes else (p[k],) for k, d in enumerate(x.shape)]
            out[p] = function([x[q].item() for q in itertools.product(*ranges)])
        return out if keepdims else out.reshape([d for k, d in enumerate(x.shape) if k not in axes])

    return oracle


def _along(function: Callable[[list[Any]], int]) -> Callable[..., Array]:
    return lambda x, axis: np.apply_along_axis(lambda row: function(row.tolist()), axis, x)


def _argsort(x: Array, axis: int, descending: bool) -> Array:
    def order(row: Array) -> list[int]:
        return sorted(range(len(row)), key=lambda i: -row[i] if descending else row[i])

    return np.apply_along_axis(order, axis, x)


ORACLES: dict[str, Callable[..., Any]] = {
    "neg": _exact(lambda x: 0 - x),
    "add": _exact(lambda x, y: x + y),
    "sub": _exact(lambda x, y: x - y),
    "mul": _exact(lambda x, y: x * y),
    "div": _exact(lambda x, y: x / y),
    "pow": _precise(lambda x, y: mp.exp(y * mp.log(x))),
    "remainder": _exact(lambda x, y: x - math.floor(x / y) * y),
    "fmod": _exact(lambda x, y: x - math.trunc(x / y) * y),
    "floor_divide": _exact(lambda x, y: math.floor(x / y)),
    "reciprocal": _exact(lambda x: 1 / x),
    "square": _exact(lambda x: x * x),
    "abs": _exact(lambda x: x if x > 0 else -x),
    "sign": _exact(_sign),
    "exp": _precise(mp.exp),
    "exp2": _precise(lambda x: mp.mpf(2) ** x),
    "expm1": _precise(mp.expm1),
    "log": _precise(mp.log),
    "log2": _precise(lambda x: mp.log(x, 2)),
    "log10": _precise(mp.log10),
    "log1p": _precise(lambda x: mp.log(1 + x)),
    "sqrt": _precise(mp.sqrt),
    "rsqrt": _precise(lambda x: 1 / mp.sqrt(x)),
    "logaddexp": _precise(lambda x, y: mp.log(mp.exp(x) + mp.exp(y))),
    "xlogy": _precise(lambda x, y: x * mp.log(y)),
    "sin": _precise(mp.sin),
    "cos": _precise(mp.cos),
    "tan": _precise(mp.tan),
    "asin": _precise(mp.asin),
    "acos": _precise(mp.acos),
    "atan": _precise(mp.atan),
    "atan2": _precise(mp.atan2),
    "hypot": _precise(mp.hypot),
    "sinh": _precise(mp.sinh),
    "cosh": _precise(mp.cosh),
    "tanh": _precise(mp.tanh),
    "asinh": _precise(mp.asinh),
    "acosh": _precise(mp.acosh),
    "atanh": _precise(mp.atanh),
    "erf": _precise(mp.erf),
    "erfc": _precise(mp.erfc),
    "erfinv": _precise(mp.erfinv),
    "lgamma": _precise(mp.loggamma),
    "digamma": _precise(mp.digamma),
    "polygamma": _precise(lambda n, x: mp.polygamma(int(n), x)),
    "relu": _exact(lambda x: x if x > 0 else 0),
    "sigmoid": _precise(lambda x: 1 / (1 + mp.exp(-x))),
    "softplus": _precise(lambda x: mp.log(1 + mp.exp(x))),
    "silu": _precise(lambda x: x / (1 + mp.exp(-x))),
    "gelu": _precise(lambda x: x * mp.ncdf(x)),
    "where": _each(lambda c, x, y: x if c else y),
    "maximum": _each(lambda x, y: x if x > y else y),
    "minimum": _each(lambda x, y: x if x < y else y),
    "clamp_min": _each(lambda x, y: x if x > y else y),
    "clamp_max": _each(lambda x, y: x if x < y else y),
    "copysign": _each(math.copysign),
    "eq": _each(lambda x, y: not (x < y or x > y), bool),
    "ne": _each(lambda x, y: x < y or x > y, bool),
    "lt": _each(lambda x, y: x < y, bool),
    "le": _each(lambda x, y: not x > y, bool),
    "gt": _each(lambda x, y: x > y, bool),
    "ge": _each(lambda x, y: not x < y, bool),
    "isnan": _each(math.isnan, bool),
    "isinf": _each(math.isinf, bool),
    "isfinite": _each(math.isfinite, bool),
    "signbit": _each(lambda x: math.copysign(1, x) < 0, bool),
    "logical_and": _each(lambda x, y: bool(x) and bool(y), bool),
    "logical_or": _each(lambda x, y: bool(x) or bool(y), bool),
    "logical_xor": _each(lambda x, y: bool(x) != bool(y), bool),
    "logical_not": _each(lambda x: not x, bool),
    "bitwise_and": _each(lambda x, y: x & y),
    "bitwise_or": _each(lambda x, y: x | y),
    "bitwise_xor": _each(lambda x, y: x ^ y),
    "bitwise_not": _each(lambda x: not x if isinstance(x, bool) else -1 - x),
    "bitwise_left_shift": _each(lambda x, y: x * 2**y),
    "bitwise_right_shift": _each(lambda x, y: x // 2**y),
    "floor": _each(math.floor),
    "ceil": _each(math.ceil),
    "trunc": _each(math.trunc),
    "round": _each(round),
    "detach": _each(lambda x: x),
    "alias": _each(lambda x: x),
    "copy": _each(lambda x: x),
    "cast": lambda x, dtype: _each(dtype.type, dtype)(x),
    "reshape": _reshape,
    "permute": _permute,
    "broadcast_to": _broadcast_to,
    "flip": _flip,
    "getitem": _getitem,
    "unslice": _unslice,
    "put": _put,
    "cat": _cat,
    "tril": _triangle(lambda i, j, k: j - i <= k),
    "triu": _triangle(lambda i, j, k: j - i >= k),
    "take_add": _take_add,
    "gather": _gather,
    "scatter": _scatter(False),
    "scatter_add": _scatter(True),
    "put_rows": _put_rows,
    "amax": _over(max, float),
    "amin": _over(min, float),
    "sum": _over(math.fsum, float),
    "any": _over(any, bool),
    "all": _over(all, bool),
    "argmax": _along(lambda row: row.index(max(row))),
    "argmin": _along(lambda row: row.index(min(row))),
    "argsort": _argsort,
}
