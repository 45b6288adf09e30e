"""Where the result of an instruction may lie: interval arithmetic with outward rounding, for checks of compiled code.

NOTE [ranges]. The reference kernel and machine code both approximate the exact value of an instruction. So each value
of a kernel gets a range that holds every result a correct implementation may give. What is read from memory is known
exactly; an op maps the ends of its operands' ranges in float64 (all corners, turning points, poles), and widens the
result by its own rounding, ``ULPS[name]`` units in the last place. Ops that IEEE 754 or integer arithmetic define
exactly stay exact on exact operands: then equality is asked for, with the sign of zero. Machine code may take denormal
numbers for zero, so ranges near zero reach to zero. Where a tie, a pole, or an overflow that depends on rounding
decides, an element is ``free``: nothing is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler import gamma_bounds
from chainrule.ir.graph import Instruction

Array = np.ndarray[Any, Any]

#: ops that do not round: a choice among operands, a bit flipped, a whole number
_UNROUNDED = frozenset((
    "neg", "abs", "sign", "relu", "maximum", "minimum", "clamp_min", "clamp_max", "where", "copysign", "floor", "ceil",
    "trunc", "round", "copy", "detach",
))  # fmt: skip
#: ops whose result is exact, or rounded once, from exact operands: compiled code has no freedom
EXACT = _UNROUNDED | {
    "add", "sub", "mul", "div", "sqrt", "square", "reciprocal", "floor_divide", "remainder", "fmod", "eq", "ne", "lt",
    "le", "gt", "ge", "isnan", "isinf", "isfinite", "signbit", "logical_and", "logical_or", "logical_xor",
    "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "bitwise_left_shift",
    "bitwise_right_shift", "cast", "one_hot",
}  # fmt: skip
#: the sign of a zero that these give is not defined
_ANY_ZERO = frozenset(("maximum", "minimum", "clamp_min", "clamp_max", "relu"))
#: units in the last place, compiled code and float64 reference kernel together; all others: 1 (rounded once)
ULPS = dict.fromkeys((
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "hypot", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "sigmoid", "softplus", "rsqrt", "pow",
), 4.0) | dict.fromkeys(("logaddexp", "xlogy", "silu", "gelu", "erfinv"), 6.0)  # fmt: skip
ULPS |= dict.fromkeys(("lgamma", "digamma"), 8.0) | {"polygamma": 24.0}
#: where a function that is monotone on either side turns
_TURNS = {
    "lgamma": 1.4616321449683623,
    "abs": 0.0,
    "square": 0.0,
    "cosh": 0.0,
    "silu": -1.2784645427610738,
    "gelu": -0.7517915246935645,
}
_COMPARE = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_CORNERS = frozenset(("add", "sub", "mul", "maximum", "minimum", "clamp_min", "clamp_max", "logaddexp", "xlogy"))


class Range:
    """A value with everything it may be.

    Attributes:
        value: what the reference kernel gives, in the value's own dtype.
        low, high: the ends, float64 for floating-point values; both are ``value`` if it is exact everywhere.
        free: where nothing is known; None: nowhere.
        exact: whether ``low is high is value``.
        signed: whether the signs of zeros are defined too.
    """

    __slots__ = ("free", "high", "low", "signed", "value")

    def __init__(
        self, value: Array, low: Array | None = None, high: Array | None = None, free: Array | None = None,
        signed: bool = True,
    ) -> None:  # fmt: skip
        self.value = value
        self.low, self.high = (value, value) if low is None or high is None else (low, high)
        self.free, self.signed = free, signed

    @property
    def exact(self) -> bool:
        """Whether no element has any freedom."""
        return self.low is self.value and self.free is None

    def wrong(self, found: Array) -> Array:
        """A mask of the elements of an implementation's result that cannot be right."""
        if self.value.dtype.kind != "f":
            bad = (found < self.low) | (found > self.high) if self.value.dtype.kind != "b" else self._wrong_bool(found)
        else:
            x = found.astype(np.float64)
            bad = ~((x >= self.low) & (x <= self.high)) & ~(np.isnan(x) & np.isnan(self.low) & np.isnan(self.high))
            if self.exact and self.signed:
                bad |= (self.value == 0) & (np.signbit(found) != np.signbit(self.value))
        return bad if self.free is None else bad & ~self.free

    def _wrong_bool(self, found: Array) -> Array:
        raw = found.view(np.uint8)
        return (raw > 1) | (found & ~self.high) | (~found & self.low)

    def ends(self) -> tuple[Array, Array]:
        """Both ends in float64."""
        low = self.low.astype(np.float64)
        return low, low if self.high is self.low else self.high.astype(np.float64)


def read(array: Array) -> Range:
    """A value as it is in memory; denormal numbers may be taken for zero."""
    return flushed(Range(array))


def flushed(x: Range) -> Range:
    """With zero in the range of what may be flushed."""
    dtype = x.value.dtype
    if dtype.kind != "f":
        return x
    least = np.finfo(dtype).tiny
    near = (x.low < least) & (x.high > -least)
    if near.any():
        near &= (x.low != 0) | (x.high != 0)
    if not near.any():
        return x
    low, high = x.ends()
    low, high = np.where(near, np.minimum(low, 0.0), low), np.where(near, np.maximum(high, 0.0), high)
    return Range(x.value, low, high, x.free, x.signed)


def apply(i: Instruction, xs: list[Range], value: Array | None = None) -> Range:
    """The range of an elementwise instruction's result from those of its operands.

    Args:
        i: an instruction of a loop's body.
        xs: the operands' ranges.
        value: the reference value, where it is not the kernel's (an index compared with a coordinate).
    """
    name = i.op.name
    if name in ("copy", "detach"):
        return xs[0]
    with np.errstate(all="ignore"):
        if value is None:
            value = np.asarray(i.op.kernel(*(x.value for x in xs), **i.params))
        kind = value.dtype.kind
        exact = all(x.exact for x in xs)
        if name == "cast" and (kind != "b" or exact):
            return _cast(xs[0], value)
        if exact and (kind != "f" or name in EXACT):
            unsigned = name in _ANY_ZERO or (name in ("add", "sub", "mul", "where", "neg", "abs") and not _signed(xs))
            if name in ("div", "reciprocal", "copysign") and not xs[-1].signed:
                return Range(value, free=_free(xs, xs[-1].value == 0))
            return flushed(Range(value, signed=not unsigned))
        if name == "where":
            return _where(xs, value)
        if kind == "b":
            return _truth(name, xs, value)
        if kind != "f":
            moved = np.zeros(value.shape, bool)
            for x in xs:
                moved = moved | (x.low != x.high)
            return Range(value, free=_free(xs, moved))
        low, high, free = _ends(name, i.op.kernel, xs, value)
        return _rounded(name, xs, value, low, high, free)


def _signed(xs: list[Range]) -> bool:
    return all(x.signed for x in xs)


def _free(xs: list[Range], more: Array | None = None) -> Array | None:
    found = [x.free for x in xs if x.free is not None] + ([] if more is None else [more])
    if not found:
        return None
    out = found[0]
    for f in found[1:]:
        out = out | f
    return out if bool(out.any()) else None


def _spread(points: list[Array]) -> tuple[Array, Array, Array]:
    """The least and the largest of some points; free where only some of them are NaN."""
    nan = np.isnan(points[0])
    every, some = nan.copy(), nan.copy()
    for p in points[1:]:
        nan = np.isnan(p)
        every, some = every & nan, some | nan
    low, high = points[0], points[0]
    for p in points[1:]:
        low, high = np.minimum(low, p), np.maximum(high, p)
    return low, high, some & ~every


def _ends(name: str, kernel: Callable[..., Any], xs: list[Range], value: Array) -> tuple[Array, Array, Array | None]:
    """Ends before rounding, in float64, and where nothing is known."""
    ends = [x.ends() for x in xs]
    a, b = ends[0]
    points = all(low is high for low, high in ends)

    def f(*args: Array) -> Array:
        return np.asarray(kernel(*args), np.float64)

    if points:
        y = f(*(low for low, _ in ends))
        free = None
        if name in ("div", "reciprocal", "rsqrt", "copysign", "atan2") and not xs[-1].signed:
            free = ends[-1][0] == 0
        return y, y, free
    if len(xs) == 1:
        if name in ("sin", "cos"):
            middle, half = f(a / 2 + b / 2), (b - a) / 2
            same = a == b
            y = np.where(same, f(a), middle)
            half = np.where(same, 0.0, half)
            return np.maximum(y - half, -1.0) + 0 * y, np.minimum(y + half, 1.0) + 0 * y, np.isnan(y) & ~np.isnan(value)
        low, high, free = _spread([f(a), f(b)])
        if name in _TURNS:
            t = _TURNS[name]
            y = f(np.asarray(t))
            inside = (a < t) & (t < b)
            low, high = np.where(inside, np.minimum(low, y), low), np.where(inside, np.maximum(high, y), high)
            if name == "lgamma":  # one turning point between two negative poles
                free = free | ((a <= 0) & (b > a) & ~((np.floor(a) == np.floor(b)) & (f(a) < np.inf)))
                free = free | ((a <= 0) & (b > a) & ~(gamma_bounds.digamma(a) * gamma_bounds.digamma(b) > 0))
        elif name == "tan":
            free = free | ((b > a) & ((b - a > 1) | (np.cos(a) * np.cos(b) <= 0)))
        elif name == "digamma":
            free = free | ((a <= 0) & (b > a) & ~((np.floor(a) == np.floor(b)) & (a != np.floor(a))))
        elif name in ("reciprocal", "rsqrt"):
            free = free | ((a <= 0) & (b >= 0))
        return low, high, free
    c, d = ends[1]
    corners = [f(a, c), f(a, d), f(b, c), f(b, d)]
    low, high, free = _spread(corners)
    if name in _CORNERS:
        return low, high, free
    zero = (c <= 0) & (d >= 0)
    moving = (a != b) | (c != d)
    if name in ("div", "floor_divide"):
        free = free | zero
    elif name == "pow":
        whole = (c == d) & (c == np.floor(c))
        inside = (a < 0) & (b > 0)
        low, high = np.where(inside, np.minimum(low, 0.0), low), np.where(inside, np.maximum(high, 0.0), high)
        free = free | (moving & np.where(whole, (c < 0) & (a <= 0) & (b >= 0), (a < 0) | ((a <= 0) & (c <= 0))))
    elif name == "polygamma":  # monotone for positive arguments
        free = free | (moving & ((a != b) | (c <= 0)))
    elif name == "hypot":
        inside = ((a < 0) & (b > 0)) | ((c < 0) & (d > 0))
        least = f(
            np.where((a < 0) & (b > 0), 0.0, np.minimum(abs(a), abs(b))),
            np.where(zero, 0.0, np.minimum(abs(c), abs(d))),
        )
        low = np.where(inside, least, low)
    elif name == "atan2":
        free = free | (moving & (c <= 0) & (a <= 0) & (b >= 0))
    elif name == "copysign":
        size = np.maximum(abs(a), abs(b))
        low, high = np.where(zero, -size, low), np.where(zero, size, high)
        across = (a < 0) & (b > 0)
        low, high = np.where(across, -size, low), np.where(across, size, high)
    elif name in ("remainder", "fmod"):
        whole_part = np.floor if name == "remainder" else np.trunc
        q = [whole_part(u / v) for u in (a, b) for v in (c, d)]
        free = free | (moving & (zero | ~((q[0] == q[1]) & (q[0] == q[2]) & (q[0] == q[3]))))
    else:
        free = free | moving
    return low, high, free


def _rounded(name: str, xs: list[Range], value: Array, low: Array, high: Array, free: Array | None) -> Range:
    """Ends widened by the op's rounding in the value's dtype, with what overflows and what is flushed."""
    info = np.finfo(value.dtype)
    if name not in _UNROUNDED:
        step = ULPS.get(name, 1.0) * float(info.eps)
        extra = np.zeros(())
        if name == "erfc":  # the reference kernel's exponential of a rounded -x^2
            u, v = xs[0].ends()
            relative = np.minimum(np.maximum(abs(u), abs(v)), 40.0) ** 2 * 2.0**-52
            low, high = low - relative * abs(low), high + relative * abs(high)
        elif name in ("gelu", "logaddexp"):  # sums that cancel: their error is that of the terms
            for x in xs:
                u, v = x.ends()
                extra = np.maximum(extra, np.maximum(abs(u), abs(v)))
            extra = np.where(np.isfinite(extra), extra, 0.0) * (step if name == "logaddexp" else 2.0**-51)
        elif name in ("lgamma", "digamma", "polygamma"):
            extra = gamma_bounds.error(name, [x.ends() for x in xs])
        some = np.where((low == 0) & (high == 0), 0.0, float(info.smallest_subnormal))
        low = np.where(np.isfinite(low), low - (step * abs(low) + extra + some), low)
        high = np.where(np.isfinite(high), high + (step * abs(high) + extra + some), high)
        low, high = overflowed(low, high, info, step)
    return flushed(Range(value, low, high, _free(xs, free), signed=False))


def overflowed(low: Array, high: Array, info: Any, step: float) -> tuple[Array, Array]:
    """Beyond the largest number lies infinity; close to it, either may come out."""
    most = float(info.max)
    if low.size and np.min(low) >= -most and np.max(high) <= most:  # nearly always, and without a NaN
        return low, high
    surely = most * (1 + float(info.eps)) if info.max < np.finfo(np.float64).max else np.inf
    new_low = np.where(low >= surely, np.inf, np.where(low > most, most, low))
    new_high = np.where(high > most, np.inf, high)
    return np.where(low < -most, -np.inf, new_low), np.where(
        high <= -surely, -np.inf, np.where(high < -most, -most, new_high)
    )


def _cast(x: Range, value: Array) -> Range:
    source, dtype = x.value.dtype, value.dtype
    if dtype.kind == "b" or source == dtype:
        return Range(value) if dtype.kind == "b" else x
    if dtype.kind == "f":
        low, high = x.ends()
        wide = source.kind != "f" or dtype.itemsize >= source.itemsize
        if x.exact and (dtype != np.float16 or source == np.float32):
            return flushed(Range(value, signed=x.signed))
        info = np.finfo(dtype)
        step = 0.0 if wide and source.kind == "f" else float(info.eps)
        low, high = (e + side * step * (abs(e) + float(info.tiny)) for e, side in ((low, -1), (high, 1)))
        low, high = overflowed(low, high, info, step)
        low, high = np.where(np.isinf(x.low), x.low, low), np.where(np.isinf(x.high), x.high, high)
        return flushed(Range(value, low, high, x.free, signed=False))
    if source.kind != "f":
        if x.exact:
            return Range(value)
        return Range(value, x.low.astype(dtype), x.high.astype(dtype), _free([x], x.low != x.high))
    low, high = (np.trunc(e) for e in x.ends())
    bounds = np.iinfo(dtype)
    inside = (low >= bounds.min) & (high < float(bounds.max) + (0 if dtype.itemsize == 8 else 1))
    held = [np.where(inside, e, 0.0).astype(dtype) for e in (low, high)]
    if x.exact:
        return Range(value, free=_free([x], ~inside))
    return Range(value, held[0], held[1], _free([x], ~inside))


def _truths(x: Range) -> tuple[Array, Array]:
    """Whether a value surely is, and whether it may be, true."""
    if x.value.dtype.kind == "b":
        return x.low, x.high
    low, high = x.low, x.high
    sure = (low > 0) | (high < 0) | np.isnan(low)
    return sure, sure | ~((low == 0) & (high == 0))


def _truth(name: str, xs: list[Range], value: Array) -> Range:
    """Ops with a boolean result, on operands with ranges: decided where the ranges are."""
    low = high = value
    x = xs[0]
    if name in _COMPARE:
        (a, b), (c, d) = x.ends(), xs[1].ends()
        nan = np.isnan(a) | np.isnan(c)
        if name in ("lt", "ge"):
            yes, no = b < c, a >= d
        elif name in ("le", "gt"):
            yes, no = b <= c, a > d
        else:
            yes, no = (a == b) & (c == d) & (a == c), (b < c) | (a > d)
        if name in ("ge", "gt", "ne"):
            yes, no = no, yes
        yes = np.where(nan, name == "ne", yes)
        no = np.where(nan, name != "ne", no)
        low, high = yes, ~no
    elif name in ("logical_and", "logical_or", "logical_xor", "logical_not", "cast"):
        pairs = [_truths(v) for v in xs]
        if name == "cast":
            low, high = pairs[0]
        elif name == "logical_not":
            low, high = ~pairs[0][1], ~pairs[0][0]
        elif name == "logical_xor":
            unsure = (pairs[0][0] != pairs[0][1]) | (pairs[1][0] != pairs[1][1])
            low, high = value & ~unsure, value | unsure
        else:
            join = np.logical_and if name == "logical_and" else np.logical_or
            low, high = join(pairs[0][0], pairs[1][0]), join(pairs[0][1], pairs[1][1])
    else:
        unsure = x.low != x.high
        if name == "signbit":
            unsure = unsure & (x.low <= 0) & (x.high >= 0) | ((x.value == 0) & (not x.signed))
        elif name in ("isnan", "isinf", "isfinite"):
            unsure = np.isinf(x.low) != np.isinf(x.high) if name != "isnan" else np.zeros(value.shape, bool)
        low, high = value & ~unsure, value | unsure
    return Range(value, low, high, _free(xs))


def _where(xs: list[Range], value: Array) -> Range:
    c, x, y = xs
    sure, may = _truths(c)
    if c.free is not None:
        sure, may = sure & ~c.free, may | c.free
    unsure = may & ~sure
    (a, b), (d, e) = (x.ends(), y.ends()) if value.dtype.kind == "f" else ((x.low, x.high), (y.low, y.high))
    low = np.where(sure, a, np.where(unsure, np.minimum(a, d), d))
    high = np.where(sure, b, np.where(unsure, np.maximum(b, e), e))
    free = np.zeros(value.shape, bool)
    if value.dtype.kind == "f":
        free |= unsure & (np.isnan(a) != np.isnan(d))
    if x.free is not None:
        free |= may & x.free
    if y.free is not None:
        free |= ~sure & y.free
    return Range(value, low, high, _free([], free), signed=x.signed and y.signed)
