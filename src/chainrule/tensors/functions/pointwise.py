"""Elementwise functions. Most are primitives as they are; the rest are short compositions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.namespace import as_operand, cast, common_dtype
from chainrule.tensors.tensor import Tensor

#: primitives as they are; the types are said here because the namespace is filled at run time
Unary: TypeAlias = Callable[[Tensor], Tensor]
Binary: TypeAlias = Callable[[Any, Any], Tensor]
abs: Unary = T.abs
neg: Unary = T.neg
sign: Unary = T.sign
exp: Unary = T.exp
exp2: Unary = T.exp2
expm1: Unary = T.expm1
log: Unary = T.log
log2: Unary = T.log2
log10: Unary = T.log10
log1p: Unary = T.log1p
sqrt: Unary = T.sqrt
rsqrt: Unary = T.rsqrt
square: Unary = T.square
reciprocal: Unary = T.reciprocal
sin: Unary = T.sin
cos: Unary = T.cos
tan: Unary = T.tan
asin: Unary = T.asin
acos: Unary = T.acos
atan: Unary = T.atan
sinh: Unary = T.sinh
cosh: Unary = T.cosh
tanh: Unary = T.tanh
asinh: Unary = T.asinh
acosh: Unary = T.acosh
atanh: Unary = T.atanh
erf: Unary = T.erf
erfc: Unary = T.erfc
erfinv: Unary = T.erfinv
lgamma: Unary = T.lgamma
digamma: Unary = T.digamma
sigmoid: Unary = T.sigmoid
relu: Unary = T.relu
floor: Unary = T.floor
ceil: Unary = T.ceil
trunc: Unary = T.trunc
isnan: Unary = T.isnan
isinf: Unary = T.isinf
isfinite: Unary = T.isfinite
signbit: Unary = T.signbit
logical_not: Unary = T.logical_not
bitwise_not: Unary = T.bitwise_not
softplus: Unary = T.softplus
silu: Unary = T.silu
gelu: Unary = T.gelu
atan2: Binary = T.atan2
maximum: Binary = T.maximum
minimum: Binary = T.minimum
fmod: Binary = T.fmod
remainder: Binary = T.remainder
hypot: Binary = T.hypot
copysign: Binary = T.copysign
logaddexp: Binary = T.logaddexp
xlogy: Binary = T.xlogy
mul: Binary = T.mul
eq: Binary = T.eq
ne: Binary = T.ne
lt: Binary = T.lt
le: Binary = T.le
gt: Binary = T.gt
ge: Binary = T.ge
logical_and: Binary = T.logical_and
logical_or: Binary = T.logical_or
logical_xor: Binary = T.logical_xor
bitwise_and: Binary = T.bitwise_and
bitwise_or: Binary = T.bitwise_or
bitwise_xor: Binary = T.bitwise_xor
bitwise_left_shift: Binary = T.bitwise_left_shift
bitwise_right_shift: Binary = T.bitwise_right_shift
polygamma = T.polygamma
pow: Binary = T.pow
_fast_add, _fast_sub, _fast_div = T.add, T.sub, T.div


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``."""
    out: Tensor = _fast_add(input, other if alpha == 1 else mul(other, alpha))
    return out


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``."""
    out: Tensor = _fast_sub(input, other if alpha == 1 else mul(other, alpha))
    return out


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


def floor_divide(input: Any, other: Any) -> Tensor:
    """``floor(input / other)``, in the common dtype."""
    out: Tensor = T.floor_divide(input, other)
    return out


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; ``rounding_mode`` "floor" or "trunc" rounds the quotient.

    Raises:
        RuntimeError: for another rounding mode.
    """
    if rounding_mode is None:
        out: Tensor = _fast_div(input, other)
        return out
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        kind = common_dtype([as_operand(input, "div"), as_operand(other, "div")])
        return cast(trunc(_fast_div(input, other)), kind)
    raise RuntimeError(f"rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")


def float_power(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent`` in float64."""
    f8 = np.dtype(np.float64)
    out: Tensor = pow(cast(as_operand(input, "float_power"), f8), cast(as_operand(exponent, "float_power"), f8))
    return out


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest integer, or to ``decimals`` places; ties go to the even neighbour."""
    if decimals == 0:
        out: Tensor = T.round(input)
        return out
    scale = 10.0**decimals
    return _fast_div(T.round(mul(input, scale)), scale)  # type: ignore[no-any-return]


def frac(input: Tensor) -> Tensor:
    """``input - trunc(input)``."""
    return sub(input, trunc(input))


def sgn(input: Tensor) -> Tensor:
    """As :func:`sign`."""
    out: Tensor = sign(input)
    return out


def positive(input: Tensor) -> Tensor:
    """``input`` itself."""
    return input


def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return mul(input, math.pi / 180)


def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return mul(input, 180 / math.pi)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` holds, else ``other``; with the condition alone, the indices where it holds.

    The gradient of the branch not taken is exactly zero, also where that branch is not finite.
    """
    if input is None and other is None:
        return tuple(constant(i) for i in np.nonzero(condition.numpy(force=True)))
    return T.where(condition, input, other)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``input`` kept between ``min`` and ``max`` (numbers, tensors or None); the gradient passes at the bounds.

    Raises:
        RuntimeError: if both bounds are None.
    """
    if min is None and max is None:
        raise RuntimeError(explain("clamp needs min or max, got neither"))
    out = input if min is None else T.clamp_min(input, min)
    return out if max is None else T.clamp_max(out, max)


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """``max(input, min)``."""
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """``min(input, max)``."""
    return clamp(input, max=max)


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and infinities replaced by numbers (0, and the largest of the dtype)."""
    top = dtypes.finfo(input._d.dtype) if input._d.dtype.kind == "f" else None
    if top is None:
        return input
    out = where(isnan(input), nan, input)
    out = where(eq(out, math.inf), top.max if posinf is None else posinf, out)
    return where(eq(out, -math.inf), top.min if neginf is None else neginf, out)  # type: ignore[no-any-return]


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``ln(x / (1 - x))``, with x first kept in [eps, 1 - eps] if eps is given."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return sub(log(x), log1p(T.sub(0.0, x)))


def lerp(input: Tensor, end: Any, weight: Any) -> Tensor:
    """``input + weight (end - input)``."""
    return add(input, mul(weight, sub(end, input)))


def addcmul(input: Tensor, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    """``input + value tensor1 tensor2``."""
    return add(input, mul(tensor1, tensor2), alpha=value)


def addcdiv(input: Tensor, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    """``input + value tensor1 / tensor2``."""
    return add(input, div(tensor1, tensor2), alpha=value)


def heaviside(input: Tensor, values: Any) -> Tensor:
    """0 below zero, 1 above, ``values`` at zero."""
    return where(eq(input, 0), values, cast(gt(input, 0), input._d.dtype))  # type: ignore[no-any-return]


def sinc(input: Tensor) -> Tensor:
    """``sin(pi x) / (pi x)``, and 1 at 0."""
    zero = eq(input, 0)
    safe = mul(where(zero, 1.0, input), math.pi)
    return where(zero, 1.0, div(sin(safe), safe))  # type: ignore[no-any-return]


def fmax(input: Any, other: Any) -> Tensor:
    """The larger; where one is NaN, the other."""
    return where(logical_or(ge(input, other), isnan(other)), input, other)  # type: ignore[no-any-return]


def fmin(input: Any, other: Any) -> Tensor:
    """The smaller; where one is NaN, the other."""
    return where(logical_or(le(input, other), isnan(other)), input, other)  # type: ignore[no-any-return]


def ldexp(input: Any, other: Any) -> Tensor:
    """``input * 2 ** other``."""
    return mul(input, pow(2.0, other))


def logaddexp2(input: Any, other: Any) -> Tensor:
    """``log2(2 ** input + 2 ** other)``, without overflow."""
    return mul(logaddexp(mul(input, math.log(2)), mul(other, math.log(2))), 1 / math.log(2))


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension ``p``:
    p (p - 1) / 4 ln pi + sum over j < p of ln Gamma(x - j / 2)."""
    out = lgamma(input)
    for j in range(1, p):
        out = add(out, lgamma(sub(input, j / 2)))
    return add(out, p * (p - 1) / 4 * math.log(math.pi))


def isposinf(input: Tensor) -> Tensor:
    """Whether an element is positive infinity."""
    return eq(input, math.inf)


def isneginf(input: Tensor) -> Tensor:
    """Whether an element is negative infinity."""
    return eq(input, -math.inf)


def isreal(input: Tensor) -> Tensor:
    """True for every element: there are no complex numbers here."""
    return T.full(tuple(input._d.shape), True, np.dtype(bool))  # type: ignore[no-any-return]


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Elementwise ``|input - other| <= atol + rtol |other|``; equal infinities are close."""
    same = T.eq(input, other)
    if input._d.dtype.kind != "f" or other._d.dtype.kind != "f":
        input, other = cast(input, np.dtype(np.float64)), cast(other, np.dtype(np.float64))
    if equal_nan:
        same = T.logical_or(same, T.logical_and(T.isnan(input), T.isnan(other)))
    near = T.le(T.abs(T.sub(input, other)), T.add(T.mul(T.abs(other), rtol), atol))
    finite = T.logical_and(T.isfinite(input), T.isfinite(other))
    return T.logical_or(same, T.logical_and(finite, near))  # type: ignore[no-any-return]


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, see :func:`isclose`."""
    return bool(isclose(input, other, rtol, atol, equal_nan).numpy(force=True).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all values are the same."""
    return np.array_equal(input.numpy(force=True), other.numpy(force=True))


def isin(elements: Tensor, test_elements: Any) -> Tensor:
    """Whether each element is among ``test_elements``."""
    test = test_elements.numpy(force=True) if isinstance(test_elements, Tensor) else test_elements
    return constant(np.isin(elements.numpy(force=True), test))


true_divide = divide = div
multiply, subtract, absolute, negative, fix = mul, sub, abs, neg, trunc
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
arcsin, arccos, arctan, arctan2, arcsinh, arccosh, arctanh = asin, acos, atan, atan2, asinh, acosh, atanh
clip = clamp

#: public functions that are also methods, and whose in-place versions exist
BOTH = [
    "abs",
    "absolute",
    "neg",
    "negative",
    "sign",
    "sgn",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "sigmoid",
    "relu",
    "fmod",
    "remainder",
    "hypot",
    "copysign",
    "xlogy",
    "add",
    "sub",
    "subtract",
    "mul",
    "multiply",
    "div",
    "divide",
    "true_divide",
    "floor_divide",
    "pow",
    "float_power",
    "floor",
    "ceil",
    "trunc",
    "fix",
    "round",
    "frac",
    "deg2rad",
    "rad2deg",
    "clamp",
    "clip",
    "clamp_min",
    "clamp_max",
    "nan_to_num",
    "logit",
    "lerp",
    "addcmul",
    "addcdiv",
    "sinc",
    "heaviside",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "bitwise_left_shift",
    "bitwise_right_shift",
]
FUNCTIONS = [
    *BOTH,
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "logaddexp",
    "logaddexp2",
    "ldexp",
    "mvlgamma",
    "rsub",
    "positive",
    "isnan",
    "isinf",
    "isposinf",
    "isneginf",
    "isfinite",
    "isreal",
    "signbit",
    "isclose",
    "allclose",
    "equal",
    "isin",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "not_equal",
]
PLAIN = ["where"]
