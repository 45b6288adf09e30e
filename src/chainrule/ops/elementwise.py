"""Elementwise arithmetic, exponentials, trigonometric and hyperbolic functions.

Each declaration reads: name, NumPy kernel, then per input the action of its partial on ``g`` (see ``ir.op``).
Derivatives: Abramowitz & Stegun, chapters 4 and 7, unless a comment says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from chainrule.core.errors import DTypeError, explain
from chainrule.ir.op import elementwise
from chainrule.ops.samples import away, between, binary, booleans, real, sample, unary, unary_between

_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_ONE_OVER_SQRT_TAU = 1 / math.sqrt(2 * math.pi)
_LN2, _LN10 = math.log(2), math.log(10)


@cache
def _special() -> Any:
    from scipy import special  # not needed at import, and not quick to load

    return special


def _scipy(name: str) -> Callable[..., Any]:
    """A function of scipy.special as a kernel; it computes float16 in a wider type, so the dtype is put right."""

    def kernel(*xs: Any) -> Any:
        y = getattr(_special(), name)(*xs)
        kind = xs[0].dtype
        return y if y.dtype == kind else y.astype(kind)

    return kernel


def _positive(*shape: int) -> Any:
    return between(0.3, 2.0, *shape)


def _nonzero(*shape: int) -> Any:
    return away(0.3, *shape)


def _whole(*shape: int) -> Any:
    return lambda rng: rng.integers(-2, 3, shape).astype(float)


def _orders(*shape: int) -> Any:
    return lambda rng: rng.integers(1, 4, shape).astype(float)


# ---- arithmetic
neg = elementwise("neg", np.negative, lambda m, g, y, x: -g, doc="-x", samples=unary())
add = elementwise(
    "add", np.add, lambda m, g, z, x, y: g, lambda m, g, z, x, y: g, doc="x + y", samples=binary(),
    special=[((math.inf, 1.0), math.inf), ((math.inf, -math.inf), math.nan)],
)  # fmt: skip
sub = elementwise("sub", np.subtract, lambda m, g, z, x, y: g, lambda m, g, z, x, y: -g, doc="x - y", samples=binary())
mul = elementwise(
    "mul", np.multiply, lambda m, g, z, x, y: g * y, lambda m, g, z, x, y: g * x, doc="x y", samples=binary(),
    special=[((0.0, math.inf), math.nan)],
)  # fmt: skip
# d/dy as -(g / y) (x / y) rather than -g x / y^2, which overflows for small y.
div = elementwise(
    "div", np.true_divide, lambda m, g, z, x, y: g / y, lambda m, g, z, x, y: -g * (z / y), doc="x / y",
    promotes="float", samples=binary(real, _nonzero), special=[((1.0, 0.0), math.inf), ((0.0, 0.0), math.nan)],
)  # fmt: skip


def _pow(x: Any, y: Any) -> Any:
    return np.logical_or(x, np.logical_not(y)) if x.dtype.kind == "b" else x**y


# At y = 0 the power is constant in x, and at x = 0 it is constant in y for y > 0: no 0 * inf there.
pow = elementwise(
    "pow", _pow,
    lambda m, g, z, x, y: m.where(m.eq(y, 0), m.zeros_like(g), g * (y * x ** (y - 1))),
    lambda m, g, z, x, y: m.where(m.logical_and(m.eq(x, 0), y >= 0), m.zeros_like(g), g * (z * m.log(x))),
    doc="x ** y", samples=(*binary(_positive, real), sample(_positive(3), _whole(3))),
    special=[((0.0, 0.0), 1.0), ((math.nan, 0.0), 1.0), ((2.0, math.inf), math.inf), ((-8.0, 1 / 3), math.nan)],
)  # fmt: skip


def _checked(divide: Callable[..., Any]) -> Callable[..., Any]:
    """Division that has no value for booleans, nor for an integer by zero: errors, where NumPy gives int8 and 0."""

    def kernel(x: Any, y: Any) -> Any:
        if x.dtype.kind == "b":
            raise DTypeError(explain("booleans have no division with a remainder", fix="convert with .long() first"))
        if x.dtype.kind != "f" and not np.all(y):
            raise ZeroDivisionError(
                explain("an integer was divided by zero", fix="convert to floating point first, or mask the zeros")
            )
        return divide(x, y)

    return kernel


# The remainder has the sign of the divisor (Python's %); its jumps have measure zero. The quotient is read off the
# value: x / y may round up to the next integer.
_DIVISIONS = (sample(between(0.1, 0.8, 3, 4), between(0.9, 1.5, 4)), sample(_nonzero(4), _nonzero(3, 1)))
remainder = elementwise(
    "remainder", _checked(np.remainder), lambda m, g, z, x, y: g, lambda m, g, z, x, y: -g * m.floor_divide(x, y),
    doc="x - floor(x / y) y", samples=_DIVISIONS,
)  # fmt: skip
fmod = elementwise(
    "fmod", _checked(np.fmod), lambda m, g, z, x, y: g, lambda m, g, z, x, y: -g * m.round((x - z) / y),
    doc="x - trunc(x / y) y", samples=_DIVISIONS,
)  # fmt: skip
floor_divide = elementwise(
    "floor_divide", _checked(np.floor_divide), doc="floor(x / y)", arity=2, samples=binary(real, _nonzero)
)
reciprocal = elementwise(
    "reciprocal", lambda x: 1 / x, lambda m, g, y, x: -g * (y * y), doc="1 / x", promotes="float",
    samples=unary(_nonzero), special=[((0.0,), math.inf)],
)  # fmt: skip


def _sign(x: Any) -> Any:
    return x.copy() if x.dtype.kind == "b" else np.sign(x)


square = elementwise("square", lambda x: np.multiply(x, x), lambda m, g, y, x: g * (2 * x), doc="x^2", samples=unary())
abs = elementwise(
    "abs", np.abs, lambda m, g, y, x: g * m.sign(x), doc="|x|; derivative 0 at 0", samples=unary(_nonzero)
)
sign = elementwise("sign", _sign, lambda m, g, y, x: m.zeros_like(g), doc="-1, 0 or 1", samples=unary(_nonzero))

# ---- exponentials, logarithms, roots
exp = elementwise(
    "exp", np.exp, lambda m, g, y, x: g * y, doc="e^x", promotes="float", samples=unary(),
    special=[((1e4,), math.inf), ((-1e4,), 0.0)],
)  # fmt: skip
exp2 = elementwise("exp2", np.exp2, lambda m, g, y, x: g * (y * _LN2), doc="2^x", promotes="float", samples=unary())
expm1 = elementwise(
    "expm1", np.expm1, lambda m, g, y, x: g * (y + 1), doc="e^x - 1", promotes="float", samples=unary(),
    special=[((1e-12,), 1.0000000000005e-12)],
)  # fmt: skip
log = elementwise(
    "log", np.log, lambda m, g, y, x: g / x, doc="ln x", promotes="float", samples=unary(_positive),
    special=[((0.0,), -math.inf), ((-1.0,), math.nan)],
)  # fmt: skip
log2 = elementwise(
    "log2", np.log2, lambda m, g, y, x: g / (x * _LN2), doc="log2 x", promotes="float", samples=unary(_positive)
)
log10 = elementwise(
    "log10", np.log10, lambda m, g, y, x: g / (x * _LN10), doc="log10 x", promotes="float", samples=unary(_positive)
)
log1p = elementwise(
    "log1p", np.log1p, lambda m, g, y, x: g / (1 + x), doc="ln(1 + x)", promotes="float", samples=unary(_positive),
    special=[((1e-15,), 1e-15)],
)  # fmt: skip
sqrt = elementwise(
    "sqrt", np.sqrt, lambda m, g, y, x: g / (2 * y), doc="square root", promotes="float", samples=unary(_positive),
    special=[((0.0,), 0.0), ((-1.0,), math.nan)],
)  # fmt: skip
rsqrt = elementwise(
    "rsqrt", lambda x: 1 / np.sqrt(x), lambda m, g, y, x: g * (-0.5 * (y / x)), doc="1 / sqrt(x)", promotes="float",
    samples=unary(_positive), special=[((0.0,), math.inf)],
)  # fmt: skip
logaddexp = elementwise(
    "logaddexp", np.logaddexp, lambda m, g, z, x, y: g * m.sigmoid(x - y), lambda m, g, z, x, y: g * m.sigmoid(y - x),
    doc="ln(e^x + e^y)", promotes="float", samples=binary(), special=[((1e4, 1e4), 1e4 + _LN2)],
)  # fmt: skip

xlogy = elementwise(
    "xlogy", _scipy("xlogy"),
    lambda m, g, z, x, y: m.where(m.logical_and(m.eq(x, 0), y <= 0), m.zeros_like(g), m.xlogy(g, y)),
    lambda m, g, z, x, y: g * (x / y),
    doc="x ln y, and 0 where x = 0", promotes="float", samples=binary(real, _positive),
    special=[((0.0, 0.0), 0.0), ((0.0, math.inf), 0.0)],
)  # fmt: skip

# ---- trigonometric and hyperbolic
sin = elementwise("sin", np.sin, lambda m, g, y, x: g * m.cos(x), doc="sin x", promotes="float", samples=unary())
cos = elementwise("cos", np.cos, lambda m, g, y, x: -g * m.sin(x), doc="cos x", promotes="float", samples=unary())
tan = elementwise(
    "tan", np.tan, lambda m, g, y, x: g * (1 + y * y), doc="tan x", promotes="float", samples=unary_between(-1, 1)
)
asin = elementwise(
    "asin", np.arcsin, lambda m, g, y, x: g / m.sqrt(1 - x * x), doc="arcsin x", promotes="float",
    samples=unary_between(-0.8, 0.8), special=[((2.0,), math.nan)],
)  # fmt: skip
acos = elementwise(
    "acos", np.arccos, lambda m, g, y, x: -g / m.sqrt(1 - x * x), doc="arccos x", promotes="float",
    samples=unary_between(-0.8, 0.8),
)  # fmt: skip
atan = elementwise(
    "atan", np.arctan, lambda m, g, y, x: g / (1 + x * x), doc="arctan x", promotes="float", samples=unary()
)
# At the origin, where there is no derivative, zero flows, as in PyTorch; hypot keeps the squares from overflowing.
atan2 = elementwise(
    "atan2", np.arctan2,
    lambda m, g, z, x, y: m.where(m.logical_or(x, y), g * (y / m.hypot(x, y) / m.hypot(x, y)), m.zeros_like(g)),
    lambda m, g, z, x, y: m.where(m.logical_or(x, y), -g * (x / m.hypot(x, y) / m.hypot(x, y)), m.zeros_like(g)),
    doc="the angle of (y, x), where x is the first argument's side", promotes="float", samples=binary(_nonzero),
    special=[((0.0, -1.0), math.pi)],
)  # fmt: skip
hypot = elementwise(
    "hypot", np.hypot, lambda m, g, z, x, y: g * (x / z), lambda m, g, z, x, y: g * (y / z), doc="sqrt(x^2 + y^2)",
    promotes="float", samples=binary(_nonzero), special=[((3e200, 4e200), 5e200)],
)  # fmt: skip
sinh = elementwise("sinh", np.sinh, lambda m, g, y, x: g * m.cosh(x), doc="sinh x", promotes="float", samples=unary())
cosh = elementwise("cosh", np.cosh, lambda m, g, y, x: g * m.sinh(x), doc="cosh x", promotes="float", samples=unary())
tanh = elementwise(
    "tanh", np.tanh, lambda m, g, y, x: g * (1 - y * y), doc="tanh x", promotes="float", samples=unary(),
    special=[((1e4,), 1.0), ((-1e4,), -1.0)],
)  # fmt: skip
asinh = elementwise(
    "asinh", np.arcsinh, lambda m, g, y, x: g / m.sqrt(x * x + 1), doc="arsinh x", promotes="float", samples=unary()
)
acosh = elementwise(
    "acosh", np.arccosh, lambda m, g, y, x: g / m.sqrt(x * x - 1), doc="arcosh x", promotes="float",
    samples=unary_between(1.2, 3),
)  # fmt: skip
atanh = elementwise(
    "atanh", np.arctanh, lambda m, g, y, x: g / (1 - x * x), doc="artanh x", promotes="float",
    samples=unary_between(-0.8, 0.8), special=[((1.0,), math.inf)],
)  # fmt: skip


# ---- error function and gamma function
def _lgamma(x: Any) -> Any:
    y = _scipy("gammaln")(x)
    return np.where(np.isneginf(x), np.inf, y).astype(y.dtype, copy=False)


erf = elementwise(
    "erf", _scipy("erf"), lambda m, g, y, x: g * (_TWO_OVER_SQRT_PI * m.exp(-x * x)), doc="error function",
    promotes="float", samples=unary(), special=[((math.inf,), 1.0)],
)  # fmt: skip
erfc = elementwise(
    "erfc", _scipy("erfc"), lambda m, g, y, x: -g * (_TWO_OVER_SQRT_PI * m.exp(-x * x)),
    doc="1 - erf x, without cancellation", promotes="float", samples=unary(), special=[((-math.inf,), 2.0)],
)  # fmt: skip
erfinv = elementwise(
    "erfinv", _scipy("erfinv"), lambda m, g, y, x: g * (m.exp(y * y) / _TWO_OVER_SQRT_PI),
    doc="inverse error function", promotes="float", samples=unary_between(-0.8, 0.8), special=[((1.0,), math.inf)],
)  # fmt: skip
lgamma = elementwise(
    "lgamma", _lgamma, lambda m, g, y, x: g * m.digamma(x), doc="ln |Gamma(x)|",
    promotes="float", samples=unary(_positive), special=[((0.0,), math.inf), ((-math.inf,), math.inf)],
)  # fmt: skip
digamma = elementwise(
    "digamma", _scipy("digamma"), lambda m, g, y, x: g * m.polygamma(1.0, x), doc="d/dx ln Gamma(x)",
    promotes="float", samples=unary(_positive),
)  # fmt: skip


def _polygamma(n: Any, x: Any) -> Any:
    """In float64: the factorial of the order leaves the range of float32 at 35."""
    return np.asarray(_special().polygamma(np.asarray(n, np.float64), np.asarray(x, np.float64))).astype(x.dtype)


# The order is an operand, so that the chain of derivatives has no end.
polygamma = elementwise(
    "polygamma", _polygamma, None,
    lambda m, g, out, x, y: g * m.polygamma(x + 1.0, y), doc="the x-th derivative of digamma at y", promotes="float",
    samples=(sample(_orders(3, 4), _positive(3, 4)), sample(_orders(), _positive(5))),
)  # fmt: skip

# ---- activations that are one op because composing them costs several
_zeros: dict[str, Any] = {}


def _relu(x: Any) -> Any:
    """Beside an array of the same dtype NumPy need not work out what a Python number means."""
    kind = x.dtype.char
    zero = _zeros.get(kind)
    if zero is None:
        zero = _zeros[kind] = np.zeros((), x.dtype)
    return np.maximum(x, zero)


relu = elementwise(
    "relu", _relu, lambda m, g, y, x: m.where(y <= 0, m.zeros_like(g), g),
    doc="max(x, 0); subgradient 0 at 0", samples=unary(_nonzero), special=[((math.nan,), math.nan), ((-0.5,), 0.0)],
)  # fmt: skip


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


sigmoid = elementwise(
    "sigmoid", _sigmoid, lambda m, g, y, x: g * (y * (1 - y)), doc="1 / (1 + e^-x)", promotes="float", samples=unary(),
    special=[((1e4,), 1.0), ((-1e4,), 0.0)],
)  # fmt: skip
softplus = elementwise(
    "softplus", lambda x: np.logaddexp(x, x.dtype.type(0)), lambda m, g, y, x: g * m.sigmoid(x), doc="ln(1 + e^x)",
    promotes="float", samples=unary(), special=[((1e4,), 1e4), ((-1e4,), 0.0)],
)  # fmt: skip
silu = elementwise(
    "silu", lambda x: x * _sigmoid(x),
    lambda m, g, y, x: g * (m.sigmoid(x) * (1 + x * (1 - m.sigmoid(x)))),
    doc="x sigmoid(x)", promotes="float", samples=unary(), special=[((-1e3,), 0.0), ((1e4,), 1e4)],
)  # fmt: skip
_erf = _scipy("erf")
# Hendrycks & Gimpel, 2016, "Gaussian error linear units".
gelu = elementwise(
    "gelu", lambda x: x * (0.5 * (1 + _erf(x * math.sqrt(0.5)))),
    lambda m, g, y, x: g * (0.5 * (1 + m.erf(x * math.sqrt(0.5))) + x * (m.exp(-0.5 * (x * x)) * _ONE_OVER_SQRT_TAU)),
    doc="x Phi(x), Phi the normal distribution function", promotes="float", samples=unary(), special=[((1e4,), 1e4)],
)  # fmt: skip

# ---- choosing
where = elementwise(
    "where", np.where, None, lambda m, g, out, x, y, z: m.where(x, g, m.zeros_like(g)),
    lambda m, g, out, x, y, z: m.where(x, m.zeros_like(g), g), doc="y where x holds, else z",
    samples=(sample(booleans(3, 4), real(3, 4), real(3, 4)), sample(booleans(4), real(3, 1), real())),
)  # fmt: skip
# At a tie both inputs get half, and at NaN both get all, as in PyTorch: what is not a number stays visible.
maximum = elementwise(
    "maximum", np.maximum,
    lambda m, g, z, x, y: m.where(x < y, m.zeros_like(g), m.where(m.eq(x, y), g / 2, g)),
    lambda m, g, z, x, y: m.where(y < x, m.zeros_like(g), m.where(m.eq(x, y), g / 2, g)),
    doc="the larger; NaN if either is", samples=binary(), special=[((math.nan, 1.0), math.nan)],
)  # fmt: skip
minimum = elementwise(
    "minimum", np.minimum,
    lambda m, g, z, x, y: m.where(x > y, m.zeros_like(g), m.where(m.eq(x, y), g / 2, g)),
    lambda m, g, z, x, y: m.where(y > x, m.zeros_like(g), m.where(m.eq(x, y), g / 2, g)),
    doc="the smaller; NaN if either is", samples=binary(), special=[((math.nan, 1.0), math.nan)],
)  # fmt: skip
# Within the bounds, the bounds included, all of g passes to x.
clamp_min = elementwise(
    "clamp_min", np.maximum,
    lambda m, g, z, x, y: m.where(x >= y, g, m.zeros_like(g)),
    lambda m, g, z, x, y: m.where(x < y, g, m.zeros_like(g)),
    doc="max(x, y); at a tie x gets the gradient", samples=binary(), special=[((math.nan, 1.0), math.nan)],
)  # fmt: skip
clamp_max = elementwise(
    "clamp_max", np.minimum,
    lambda m, g, z, x, y: m.where(x <= y, g, m.zeros_like(g)),
    lambda m, g, z, x, y: m.where(x > y, g, m.zeros_like(g)),
    doc="min(x, y); at a tie x gets the gradient", samples=binary(), special=[((math.nan, 1.0), math.nan)],
)  # fmt: skip
copysign = elementwise(
    "copysign", np.copysign, lambda m, g, z, x, y: g * (m.sign(x) * m.sign(z)), None, doc="|x| with the sign of y",
    promotes="float", samples=binary(_nonzero),
)  # fmt: skip
