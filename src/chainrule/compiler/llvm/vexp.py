"""Vector exponentials, logarithms and hyperbolic functions for float32 and float64.

Every function takes the builder and values of kind f32 or f64 of any width; ``terms`` picks the polynomials ("f32":
float32 results are wanted, also where the computation runs in float64). Results are within 2 units in the last place
of the exact value. Methods: argument reduction and compensation as in FreeBSD's msun (Sun Microsystems, 1993) and
Cephes (Moshier, 1989), with polynomials of our own.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from chainrule.compiler.llvm import coefficients as c
from chainrule.compiler.llvm.twofold import fast_two_sum, two_product
from chainrule.compiler.llvm.values import BIAS, BYTES, FRACTION, Value

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

INF, NAN = math.inf, math.nan
#: ln 2 as a sum: the first part has so few bits that its product with an exponent is exact
LN2 = {"f32": (0.693359375, -2.12194440e-4), "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
#: arguments beyond which e^x is 0 or infinite
LIMITS = {"f32": (-150.0, 90.0), "f64": (-1000.0, 711.0)}
#: beyond it a product with its error may overflow
HUGE = {"f32": 1e30, "f64": 1e290}
_LOG2E = 1 / math.log(2)


def magic(kind: str) -> float:
    """1.5 times 2^(bits of the fraction): adding it leaves a whole number, which stands in the last bits."""
    return 1.5 * 2.0 ** FRACTION[kind]


def bit_pattern(x: float, kind: str) -> int:
    """The bits of a number as an integer."""
    if kind == "f32":
        return int(struct.unpack("<i", struct.pack("<f", x))[0])
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def nearest(b: Builder, x: Value, factor: float) -> tuple[Value, Value]:
    """round(x factor) as a floating-point number and as an integer, for |x factor| < 2^22 (f32) or 2^51 (f64)."""
    big = magic(x.kind)
    shifted = b.fma(x, factor, big)
    return shifted - big, b.bits(shifted) - bit_pattern(big, x.kind)


def whole_to_float(b: Builder, n: Value, kind: str) -> Value:
    """A small integer as a floating-point number (64-bit conversions are slow or absent on many processors)."""
    big = magic(kind)
    return b.bitcast(n + bit_pattern(big, kind), kind) - big


def scale(b: Builder, x: Value, n: Value, integer: Value) -> Value:
    """x 2^n, rounded once, with n given in both forms and |n| < 2 * bias."""
    kind, w = x.kind, x.width
    if b.target.has_avx512f and w > 1 and w * BYTES[kind] >= 16:
        if w * BYTES[kind] > 64:
            (x0, x1), (n0, n1), (i0, i1) = b.halves(x), b.halves(n), b.halves(integer)
            return b.join(scale(b, x0, n0, i0), scale(b, x1, n1, i1))
        size = w * BYTES[kind] * 8
        name = f"llvm.x86.avx512.mask.scalef.{'ps' if kind == 'f32' else 'pd'}.{size}"
        mask = "i16 -1" if w == 16 else "i8 -1"
        rounding = ("i32 4",) if size == 512 else ()
        return b.machine(name, (kind, w), x, n, b.zero(kind, w), mask, *rounding)
    half = integer >> 1
    for part in (half, integer - half):
        x = x * b.bitcast((part + BIAS[kind]) << FRACTION[kind], kind)
    return x


def clamp(b: Builder, x: Value, low: float, high: float) -> Value:
    """x held between two numbers; NaN stays."""
    x = b.select(x > high, high, x)
    return b.select(x < low, low, x)


def exp_reduced(b: Builder, x: Value, terms: str, low: Value | None = None) -> tuple[Value, Value, Value]:
    """(p, n, n as integer) with e^(x + low) = (1 + p) 2^n and |p| < 0.42; x is clamped to where that matters."""
    hi, lo = LN2[x.kind]
    x = clamp(b, x, *LIMITS[x.kind])
    n, integer = nearest(b, x, _LOG2E)
    r = b.fma(n, -hi, x)
    r = b.fma(n, -lo, r) if low is None else r + b.fma(n, -lo, low)
    return b.fma(b.horner(r, c.EXP[terms]), r * r, r), n, integer


def exp(b: Builder, x: Value, terms: str, low: Value | None = None) -> Value:
    """e^x, or e^(x + low) for a small ``low``."""
    p, n, integer = exp_reduced(b, x, terms, low)
    return scale(b, p + 1.0, n, integer)


def exp2(b: Builder, x: Value, terms: str) -> Value:
    """2^x."""
    limit = BIAS[x.kind] + 2.0
    x = clamp(b, x, -limit - FRACTION[x.kind], limit)
    n, integer = nearest(b, x, 1.0)
    r = x - n
    return scale(b, b.fma(b.horner(r, c.EXP2[terms]), r, 1.0), n, integer)


def expm1(b: Builder, x: Value, terms: str) -> Value:
    """e^x - 1 = 2 ((s - 1/2) + s r + s r^2 q), s = 2^(n-1): nothing cancels where n = 0, nothing overflows early."""
    kind = x.kind
    hi, lo = LN2[kind]
    held = clamp(b, x, -50.0, LIMITS[kind][1] - 1.0)
    n, integer = nearest(b, held, _LOG2E)
    r = b.fma(n, -hi, held)
    low = n * -lo
    rounded = r + low
    low = low - (rounded - r)
    r = rounded
    s = b.bitcast((integer + (BIAS[kind] - 1)) << FRACTION[kind], kind)
    large = s - 0.5
    first = s * r
    total = large + first
    # the rounding error of that sum (the larger operand first), and the rest
    swap = b.abs(large) > b.abs(first)
    big, small = b.select(swap, large, first), b.select(swap, first, large)
    rest = small - (total - big)
    tail = b.fma(b.horner(r, c.EXP[terms]), r * r, low)
    y = total + b.fma(s, tail, rest)
    y = y + y
    return b.select(b.abs(x) < 2.0 ** (-FRACTION[kind] - 2), x, y)


# ---- logarithms
def log_reduced(b: Builder, x: Value) -> tuple[Value, Value]:
    """(k, f) with x = 2^k (1 + f), 1 + f between sqrt(1/2) and sqrt(2), for positive finite x."""
    kind = x.kind
    least = 2.0 ** (1 - BIAS[kind])
    lift = float(FRACTION[kind] + 2)
    small = x < least
    x = b.select(small, x * 2.0**lift, x)
    i = b.bits(x)
    n = (i - bit_pattern(math.sqrt(0.5), kind)) >> FRACTION[kind]
    f = b.bitcast(i - (n << FRACTION[kind]), kind) - 1.0
    k = whole_to_float(b, n, kind)
    return k - b.select(small, b.const(lift, kind, x.width), 0.0), f


def log_special(b: Builder, x: Value, y: Value) -> Value:
    """y with the values of a logarithm at 0, below it, at infinity and NaN put right."""
    other = b.select(b.eq(x, 0.0), -INF, b.select(x < 0.0, b.const(NAN, x.kind, x.width), x))
    return b.select((x > 0.0) & (x < INF), y, other)


def log_tail(b: Builder, f: Value, terms: str) -> tuple[Value, Value]:
    """(f^2 / 2, r) with ln(1 + f) = f - f^2 / 2 + r."""
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return half, s * b.fma(b.horner(z, c.LOG[terms]), z, half)


def log(b: Builder, x: Value, terms: str) -> Value:
    """ln x."""
    k, f = log_reduced(b, x)
    hi, lo = LN2[x.kind]
    if x.kind == "f32":
        z = f * f  # Cephes logf: no division
        y = b.horner(f, _LOGF) * f * z
        y = b.fma(k, lo, y)
        y = b.fma(z, -0.5, y)
        return log_special(b, x, b.fma(k, hi, f + y))
    half, r = log_tail(b, f, terms)
    y = k * hi - ((half - b.fma(k, lo, r)) - f)
    return log_special(b, x, y)


_LOGF = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip

#: 1 / ln(base) in two parts, log(2) in that base in two parts
_BASES = {
    2: (1.44269504072144627571e00, 1.67517131648865118353e-10, 1.0, 0.0),
    10: (
        4.34294481878168880939e-01,
        2.50829467116452752298e-11,
        3.01029995663611771306e-01,
        3.69423907715893078616e-13,
    ),
}


def log_base(b: Builder, x: Value, terms: str, base: int) -> Value:
    """The logarithm of float64 x to base 2 or 10; ln(1 + f) is carried in two parts, the first of 20 bits."""
    inverse, inverse_low, two, two_low = _BASES[base]
    k, f = log_reduced(b, x)
    half, r = log_tail(b, f, terms)
    if terms == "f32":
        y = b.fma(f - (half - r), inverse + inverse_low, k * (two + two_low))
        return log_special(b, x, y)
    hi = b.bitcast(b.bits(f - half) & -(1 << 32), "f64")
    lo = (f - hi) - half + r
    head = k * two
    y = hi * inverse
    total = head + y
    rest = k * two_low + (lo + hi) * inverse_low + lo * inverse + ((head - total) + y)
    return log_special(b, x, rest + total)


def log1p(b: Builder, x: Value, terms: str, low: Value | None = None) -> Value:
    """ln(1 + x + low): with u = 1 + x rounded, ln u + (what was rounded away) / u."""
    hi, lo = LN2[x.kind]
    u = x + 1.0
    lost = b.select(x < 1.0, x - (u - 1.0), 1.0 - (u - x))
    k, f = log_reduced(b, u)
    near = b.eq(k, 0.0)
    f = b.select(near, x, f)
    lost = b.select(near, 0.0, lost)
    extra = b.select(b.abs(x) < 2.0**70, (lost if low is None else lost + low) / u, 0.0)
    half, r = log_tail(b, f, terms)
    y = k * hi - ((half - (r + b.fma(k, lo, extra))) - f)
    y = b.select(b.abs(x) < 2.0 ** (-FRACTION[x.kind] - 2), x, y)
    return log_special(b, u, y)


# ---- hyperbolic functions
def _half_exp(b: Builder, a: Value, terms: str) -> Value:
    """e^a / 2, finite a little further than e^a."""
    p, n, integer = exp_reduced(b, a, terms)
    return scale(b, p + 1.0, n - 1.0, integer - 1)


def sinh(b: Builder, x: Value, terms: str) -> Value:
    """sinh x: the odd polynomial below 1, (e^a - e^-a) / 2 above."""
    a = b.abs(x)
    z = x * x
    near = b.fma(b.horner(z, c.SINH[terms]) * z, x, x)
    e = _half_exp(b, a, terms)
    far = b.copysign(e - 0.25 / e, x)
    return b.select(a < 1.0, near, far)


def cosh(b: Builder, x: Value, terms: str) -> Value:
    """cosh x = (e^a + e^-a) / 2."""
    e = _half_exp(b, b.abs(x), terms)
    return e + 0.25 / e


_TANH = {
    "f32": (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1),
    "f64": (
        (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3),
        (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3),
    ),
}


def tanh(b: Builder, x: Value, terms: str) -> Value:
    """tanh x: Cephes's odd function below 5/8, 1 - 2 / (e^2a + 1) above."""
    a = b.abs(x)
    z = x * x
    if x.kind == "f32":
        near = b.fma(b.horner(z, _TANH["f32"]) * z, x, x)
    else:
        p, q = _TANH["f64"]
        near = b.fma(x, z * (b.horner(z, p) / b.horner(z, q)), x)
    far = b.copysign(1.0 - 2.0 / (exp(b, a + a, terms) + 1.0), x)
    return b.select(a < 0.625, near, far)


def asinh(b: Builder, x: Value, terms: str) -> Value:
    """arsinh x = ln(1 + a + a^2 / (1 + sqrt(1 + a^2))), ln(2 a) for large a, with the sign of x."""
    a = b.abs(x)
    z = a * a
    large = a > 2.0**60
    y = b.select(large, a, a + z / (b.sqrt(z + 1.0) + 1.0))
    y = log1p(b, y, terms) + b.select(large, b.const(math.log(2), x.kind, x.width), 0.0)
    return b.copysign(y, x)


def acosh(b: Builder, x: Value, terms: str) -> Value:
    """arcosh x = ln(1 + t + sqrt(2 t + t^2)), t = x - 1; ln(2 x) for large x."""
    t = x - 1.0
    large = x > 2.0**60
    y = b.select(large, x, t + b.sqrt(b.fma(t, t, t + t)))
    y = log1p(b, y, terms) + b.select(large, b.const(math.log(2), x.kind, x.width), 0.0)
    return b.select(x < 1.0, b.const(NAN, x.kind, x.width), y)


def atanh(b: Builder, x: Value, terms: str) -> Value:
    """artanh x = ln(1 + 2 a / (1 - a)) / 2 with the sign of x."""
    a = b.abs(x)
    twice = a + a
    d, d_low = fast_two_sum(b, b.const(1.0, x.kind, x.width), -a)
    ratio = twice / d
    back, back_low = two_product(b, ratio, d)
    low = (((twice - back) - back_low) - ratio * d_low) / d
    return b.copysign(log1p(b, ratio, terms, b.select(a < 1.0, low, 0.0)) * 0.5, x)


# ---- what is made of them
def sigmoid(b: Builder, x: Value, terms: str) -> Value:
    """1 / (1 + e^-x); values too small to be normal numbers become zero."""
    return 1.0 / (exp(b, -x, terms) + 1.0)


def silu(b: Builder, x: Value, terms: str) -> Value:
    """x / (1 + e^-x), for negative x as x e^x / (1 + e^x), which does not overflow."""
    p, n, integer = exp_reduced(b, -b.abs(x), terms)
    e = scale(b, p + 1.0, n, integer)
    below = b.select(x < LIMITS[x.kind][0], x * 0.0, scale(b, b.fma(p, x, x), n, integer))
    top = b.select(x < 0.0, below, x)
    d, d_low = fast_two_sum(b, b.const(1.0, x.kind, x.width), e)
    inverse = 1.0 / d
    y = top * inverse
    back, back_low = two_product(b, y, d)
    fixed = b.fma(((top - back) - back_low) - y * d_low, inverse, y)
    return b.select(b.abs(y) < HUGE[x.kind], fixed, y)


def logaddexp(b: Builder, x: Value, y: Value, terms: str) -> Value:
    """ln(e^x + e^y) = max + ln(1 + e^-|x - y|), in float64.

    Where the sum nearly cancels, the error is that of the larger term, as in NumPy.
    """
    # equal infinities have no difference
    gap = b.select(b.eq(x, y), b.zero(x.kind, x.width), b.abs(x - y))
    return b.maximum(x, y) + log1p(b, exp(b, -gap, terms), terms)


def softplus(b: Builder, x: Value, terms: str) -> Value:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)."""
    return b.maximum(x, 0.0) + log1p(b, exp(b, -b.abs(x), terms), terms)
