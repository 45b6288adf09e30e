"""The elementwise ops of the registry as vector code: ``EMITTERS[name](b, W, dtype, *args) -> value``.

``W`` is the number of lanes (1: scalars), ``dtype`` the NumPy dtype (or kind) of the operands that are not masks.
Values are those of the ops' NumPy kernels, special values included. Transcendental functions lie within 2 units in the
last place of the exact value, except that ``sigmoid`` gives 0 where the value is too small to be a normal number, and
``logaddexp`` in float64 has the error of its larger term. The gamma functions lie within 4 for positive arguments
(:mod:`~chainrule.compiler.llvm.vgamma` has the negative ones), ``erfinv`` within 3. Float16 is computed in float32 and
rounded. Ops for which eager mode refuses some operands (an integer divided by zero, an integer to a negative power)
need ``b.report`` to be set, else they are not lowered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule.compiler.llvm import verf, vexp, vgamma, vpow, vtrig
from chainrule.compiler.llvm.values import BITS, FLOATS, UNSIGNED, Value, kind_of

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

Emitter = Callable[..., Value]

EMITTERS: dict[str, Emitter] = {}
DIVISION, POWER = "integer division by zero", "negative integer power"


class NotLoweredError(NotImplementedError):
    """An op has no native code for this dtype or on this processor; it runs as its NumPy kernel."""


def lowers(name: str, dtype: Any, *, has_report: bool = True, has_f16: bool = True) -> bool:
    """Whether an op has native code for operands of this dtype, known without emitting any."""
    kind = kind_of(dtype)
    if name not in EMITTERS or (kind == "f16" and not has_f16):
        return False
    if kind in FLOATS:
        return not name.startswith("bitwise")
    if kind == "bool" and name in _NO_BOOL:
        return False
    if name in _FLOAT_ONLY:
        return False
    return has_report or name not in ("pow", "remainder", "fmod", "floor_divide")


_FLOAT_ONLY: set[str] = set()
_NO_BOOL = {
    "neg",
    "sub",
    "sign",
    "round",
    "remainder",
    "fmod",
    "floor_divide",
    "bitwise_left_shift",
    "bitwise_right_shift",
}


def _register(name: str, rule: Callable[..., Value]) -> None:
    """Enter a rule ``(b, *values)``; float16 operands are computed in float32."""

    def emitter(b: Builder, width: int, dtype: Any, *args: Value) -> Value:
        kind = kind_of(dtype)
        if not lowers(name, kind, has_report=b.report is not None, has_f16=b.target.has_f16):
            raise NotLoweredError(f"op {name!r} has no native code for {kind} here")
        if kind != "f16":
            return rule(b, *args)
        y = rule(b, *(b.cast(a, "f32") if a.kind == "f16" else a for a in args))
        return b.cast(y, "f16") if y.kind == "f32" else y

    EMITTERS[name] = emitter


def _float(name: str, single: Callable[..., Value] | None, double: Callable[..., Value]) -> None:
    """An op on floating-point numbers: ``single`` in float32 (None: through float64), ``double`` in float64."""
    _FLOAT_ONLY.add(name)

    def rule(b: Builder, *args: Value) -> Value:
        if args[0].kind == "f64":
            return double(b, *args, "f64")
        if single is not None:
            return single(b, *args, "f32")
        return b.cast(double(b, *(b.cast(a, "f64") for a in args), "f32"), "f32")

    _register(name, rule)


# ---- transcendental functions: name, float32 (None: by way of float64), float64
def _xlogy(b: Builder, x: Value, y: Value, terms: str) -> Value:
    return b.select(b.eq(x, 0.0) & b.eq(y, y), 0.0, x * vexp.log(b, y, terms))


for _name, _single, _double in (
    ("exp", vexp.exp, vexp.exp),
    ("exp2", vexp.exp2, vexp.exp2),
    ("expm1", vexp.expm1, vexp.expm1),
    ("log", vexp.log, vexp.log),
    ("log2", None, lambda b, x, terms: vexp.log_base(b, x, terms, 2)),
    ("log10", None, lambda b, x, terms: vexp.log_base(b, x, terms, 10)),
    ("log1p", vexp.log1p, vexp.log1p),
    ("logaddexp", None, vexp.logaddexp),
    ("xlogy", _xlogy, _xlogy),
    ("sin", None, vtrig.sin),
    ("cos", None, vtrig.cos),
    ("tan", None, vtrig.tan),
    ("asin", None, vtrig.asin),
    ("acos", None, vtrig.acos),
    ("atan", None, vtrig.atan),
    ("atan2", None, vtrig.atan2),
    ("hypot", None, vpow.hypot),
    ("sinh", vexp.sinh, vexp.sinh),
    ("cosh", vexp.cosh, vexp.cosh),
    ("tanh", vexp.tanh, vexp.tanh),
    ("asinh", None, vexp.asinh),
    ("acosh", None, vexp.acosh),
    ("atanh", None, vexp.atanh),
    ("erf", lambda b, x, terms: verf.erf32(b, x), verf.erf64),
    ("erfc", None, verf.erfc),
    ("erfinv", None, vgamma.erfinv),
    ("lgamma", None, vgamma.lgamma),
    ("digamma", None, vgamma.digamma),
    ("polygamma", None, vgamma.polygamma),
    ("sigmoid", vexp.sigmoid, vexp.sigmoid),
    ("softplus", vexp.softplus, vexp.softplus),
    ("silu", vexp.silu, vexp.silu),
    ("gelu", None, verf.gelu),
    ("sqrt", lambda b, x, terms: b.sqrt(x), lambda b, x, terms: b.sqrt(x)),
    ("rsqrt", lambda b, x, terms: 1.0 / b.sqrt(x), lambda b, x, terms: 1.0 / b.sqrt(x)),
    ("reciprocal", lambda b, x, terms: 1.0 / x, lambda b, x, terms: 1.0 / x),
    ("div", lambda b, x, y, terms: x / y, lambda b, x, y, terms: x / y),
    ("copysign", lambda b, x, y, terms: b.copysign(x, y), lambda b, x, y, terms: b.copysign(x, y)),
):
    _float(_name, _single, _double)


# ---- arithmetic; booleans as NumPy has it: + is or, * is and
def _arithmetic(name: str, rule: Callable[..., Value], boolean: Callable[..., Value] | None = None) -> None:
    _register(name, lambda b, *v: boolean(b, *v) if boolean is not None and v[0].kind == "bool" else rule(b, *v))


def _sign(b: Builder, x: Value) -> Value:
    one = b.const(1, x.kind, x.width)
    if x.kind in UNSIGNED:
        return b.select(b.ne(x, 0), one, 0)
    y = b.select(x > 0, one, b.select(x < 0, b.const(-1, x.kind, x.width), 0))
    return b.select(b.is_nan(x), x, y) if x.kind in FLOATS else y


def _relu(b: Builder, x: Value) -> Value:
    return b.select(b.lt(x, 0), 0, x)  # NaN stays


_arithmetic("neg", lambda b, x: -x)
_arithmetic("add", lambda b, x, y: x + y, lambda b, x, y: x | y)
_arithmetic("sub", lambda b, x, y: x - y)
_arithmetic("mul", lambda b, x, y: x * y, lambda b, x, y: x & y)
_arithmetic("square", lambda b, x: x * x, lambda b, x: x)
_arithmetic("abs", lambda b, x: b.abs(x), lambda b, x: x)
_arithmetic("sign", _sign)
_arithmetic("relu", _relu, lambda b, x: x)
for _name in ("maximum", "clamp_min"):
    _arithmetic(_name, lambda b, x, y: b.maximum(x, y), lambda b, x, y: x | y)
for _name in ("minimum", "clamp_max"):
    _arithmetic(_name, lambda b, x, y: b.minimum(x, y), lambda b, x, y: x & y)
_arithmetic("detach", lambda b, x: x)


def _where(b: Builder, mask: Value, x: Value, y: Value) -> Value:
    return b.select(b.cast(mask, "bool"), x, y)


_register("where", _where)


# ---- division with a remainder
def _fmod_float(b: Builder, x: Value, y: Value) -> Value:
    return b.op(f"frem {x.typed}, {y.text}", x.kind, x.width)


def _divisor(b: Builder, y: Value) -> tuple[Value, Value]:
    """A divisor that the processor takes, and where y was -1 (the least integer / -1 traps); zeros are reported."""
    zero = b.eq(y, 0)
    assert b.report is not None  # lowers() saw to it
    b.report(zero, DIVISION)
    if y.kind in UNSIGNED:
        return b.select(zero, 1, y), b.zero("bool", y.width)
    minus = b.eq(y, -1)
    return b.select(zero | minus, 1, y), minus


def _fmod(b: Builder, x: Value, y: Value) -> Value:
    if x.kind in FLOATS:
        return _fmod_float(b, x, y)
    d, _ = _divisor(b, y)
    return b.irem(x, d)


def _remainder(b: Builder, x: Value, y: Value) -> Value:
    if x.kind in FLOATS:
        r = _fmod_float(b, x, y)
        r = b.select(b.eq(r, 0.0), b.copysign(b.zero(x.kind, x.width), y), r)
        return b.select(b.ne(r, 0.0) & ((y < 0.0) ^ (r < 0.0)), r + y, r)
    d, _ = _divisor(b, y)
    r = b.irem(x, d)
    if x.kind in UNSIGNED:
        return r
    return b.select(b.ne(r, 0) & ((r ^ d) < 0), r + d, r)


def _floor_divide(b: Builder, x: Value, y: Value) -> Value:
    if x.kind in FLOATS:
        r = _fmod_float(b, x, y)
        q = (x - r) / y
        q = b.select(b.ne(r, 0.0) & ((y < 0.0) ^ (r < 0.0)), q - 1.0, q)
        whole = b.floor(q)
        whole = b.select(q - whole > 0.5, whole + 1.0, whole)
        whole = b.select(b.eq(q, 0.0), b.copysign(b.zero(x.kind, x.width), x / y), whole)
        return b.select(b.eq(y, 0.0), x / y, whole)
    d, minus = _divisor(b, y)
    q = b.idiv(x, d)
    if x.kind in UNSIGNED:
        return q
    r = x - q * d
    q = b.select(b.ne(r, 0) & ((r ^ d) < 0), q - 1, q)
    return b.select(minus, -x, q)


def _pow(b: Builder, x: Value, y: Value) -> Value:
    if x.kind == "bool":
        return x | ~y
    if x.kind == "f64":
        return vpow.power(b, x, y, "f64")
    if x.kind in FLOATS:
        return b.cast(vpow.power(b, b.cast(x, "f64"), b.cast(y, "f64"), "f32"), "f32")
    assert b.report is not None  # lowers() saw to it
    if x.kind not in UNSIGNED:
        b.report(y < 0, POWER)
    one = b.const(1, x.kind, x.width)
    # square and multiply, one round per bit
    with b.loop_carrying(0, BITS[x.kind], 1, [one, x, y]) as k:
        result, base, left = k.values
        k.next(b.select(b.ne(left & 1, 0), result * base, result), base * base, b.lshr(left, 1))
    return k.results[0]


for _name, _rule in (("fmod", _fmod), ("remainder", _remainder), ("floor_divide", _floor_divide), ("pow", _pow)):
    _register(_name, _rule)


# ---- comparisons and tests
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _register(_name, lambda b, x, y, test=_name: getattr(b, test)(x, y))


def _test(rule: Callable[[Builder, Value], Value], integer: bool) -> Callable[[Builder, Value], Value]:
    """A test of floating-point numbers that has one answer for every integer."""
    return lambda b, x: rule(b, x) if x.kind in FLOATS else b.const(integer, "bool", x.width)


_register("isnan", _test(lambda b, x: b.is_nan(x), False))
_register("isinf", _test(lambda b, x: b.eq(b.abs(x), math.inf), False))
_register("isfinite", _test(lambda b, x: b.abs(x) < math.inf, True))


def _signbit(b: Builder, x: Value) -> Value:
    if x.kind in UNSIGNED:
        return b.zero("bool", x.width)
    return (b.bits(x) if x.kind in FLOATS else x) < 0


_register("signbit", _signbit)


def _truth(rule: Callable[..., Value]) -> Callable[..., Value]:
    return lambda b, *v: rule(b, *(b.cast(x, "bool") for x in v))


_register("logical_and", _truth(lambda b, x, y: x & y))
_register("logical_or", _truth(lambda b, x, y: x | y))
_register("logical_xor", _truth(lambda b, x, y: x ^ y))
_register("logical_not", _truth(lambda b, x: ~x))


# ---- bits; a shift by the number of bits or more (or by a negative number) leaves zero or the sign, as in NumPy
def _left(b: Builder, x: Value, y: Value) -> Value:
    inside = b.ult(y, BITS[x.kind])
    return b.select(inside, x << b.select(inside, y, 0), 0)


def _right(b: Builder, x: Value, y: Value) -> Value:
    inside = b.ult(y, BITS[x.kind])
    if x.kind in UNSIGNED:
        return b.select(inside, x >> b.select(inside, y, 0), 0)
    return x >> b.select(inside, y, BITS[x.kind] - 1)


_register("bitwise_and", lambda b, x, y: x & y)
_register("bitwise_or", lambda b, x, y: x | y)
_register("bitwise_xor", lambda b, x, y: x ^ y)
_register("bitwise_not", lambda b, x: ~x)
_register("bitwise_left_shift", _left)
_register("bitwise_right_shift", _right)


# ---- rounding to whole numbers, which integers are already
for _name, _method in (("floor", "floor"), ("ceil", "ceil"), ("trunc", "trunc"), ("round", "round_even")):
    _register(_name, lambda b, x, m=_method: getattr(b, m)(x) if x.kind in FLOATS else x)
