"""Vector trigonometric functions in float64 (float32 goes through float64).

Methods: reduction by three parts of pi/2 as in FreeBSD's msun, for large arguments by exact integer multiplication with
the bits of 2/pi (Payne and Hanek, 1983); arcus functions as in msun and Cephes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chainrule.compiler.llvm import coefficients as c
from chainrule.compiler.llvm.twofold import fast_two_sum, two_product, two_sum
from chainrule.compiler.llvm.values import Value
from chainrule.compiler.llvm.vexp import INF, NAN, nearest

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

#: pi/2 in parts of 33 bits, each with what is left after it
_P1, _P1T = 1.57079632673412561417e00, 6.07710050650619224932e-11
_P2 = 6.07710050630396597660e-11
_P3, _P3T = 2.02226624871116645580e-21, 8.47842766036889956997e-32
_LARGE = 1.0e6
_PI_HALF, _PI_HALF_LOW = 1.57079632679489655800e00, 6.12323399573676603587e-17

#: floor(2/pi 2^1168)
_TWO_OVER_PI_BITS = 1168
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d085603",
    16,
)

# x = m 2^e with a 53-bit m. From bit e - 1 on, 192 bits of 2/pi times m give x 2/pi modulo 4 with 190 fraction bits.
_REDUCE = """\
define internal void @chainrule.reduce(double %x, ptr %out) #1 {{
entry:
  %a = call double @llvm.fabs.f64(double %x)
  %bits = bitcast double %a to i64
  %biased = lshr i64 %bits, 52
  %fraction = and i64 %bits, 4503599627370495
  %m = or i64 %fraction, 4503599627370496
  %j0 = sub i64 %biased, 1076
  %low = add i64 %j0, 191
  %s = sub i64 {bits}, %low
  %byte = lshr i64 %s, 3
  %bit = and i64 %s, 7
  %at = getelementptr i8, ptr {table}, i64 %byte
  %raw = load i256, ptr %at, align 1
  %bit256 = zext i64 %bit to i256
  %shifted = lshr i256 %raw, %bit256
  %window = trunc i256 %shifted to i192
  %m192 = zext i64 %m to i192
  %product = mul i192 %window, %m192
  %half = shl i192 1, 189
  %up = add i192 %product, %half
  %n192 = lshr i192 %up, 190
  %n = trunc i192 %n192 to i64
  %whole = shl i192 %n192, 190
  %rest = sub i192 %product, %whole
  %negative = icmp slt i192 %rest, 0
  %minus = sub i192 0, %rest
  %size = select i1 %negative, i192 %minus, i192 %rest
  %z192 = call i192 @llvm.ctlz.i192(i192 %size, i1 false)
  %z = trunc i192 %z192 to i64
  %left = shl i192 %size, %z192
  %top192 = lshr i192 %left, 128
  %top = trunc i192 %top192 to i64
  %next192 = lshr i192 %left, 64
  %next = trunc i192 %next192 to i64
  %hi53 = lshr i64 %top, 11
  %lo11 = shl i64 %top, 53
  %lo53 = lshr i64 %next, 11
  %lo64 = or i64 %lo11, %lo53
  %lo63 = lshr i64 %lo64, 1
  %e = sub i64 972, %z
  %unitbits = shl i64 %e, 52
  %unit = bitcast i64 %unitbits to double
  %hif = sitofp i64 %hi53 to double
  %lof = sitofp i64 %lo63 to double
  %hi = fmul double %hif, %unit
  %lounit = fmul double %unit, 0x3C00000000000000
  %lo = fmul double %lof, %lounit
  %p = fmul double %hi, 0x3FF921FB54442D18
  %pn = fneg double %p
  %q = call double @llvm.fma.f64(double %hi, double 0x3FF921FB54442D18, double %pn)
  %t1 = call double @llvm.fma.f64(double %hi, double 0x3C91A62633145C07, double %q)
  %t2 = call double @llvm.fma.f64(double %lo, double 0x3FF921FB54442D18, double %t1)
  %r = fadd double %p, %t2
  %back = fsub double %r, %p
  %l = fsub double %t2, %back
  %below = fcmp olt double %x, 0.0
  %flip = xor i1 %below, %negative
  %rn = fneg double %r
  %ln = fneg double %l
  %rs = select i1 %flip, double %rn, double %r
  %ls = select i1 %flip, double %ln, double %l
  %nn = sub i64 0, %n
  %ns = select i1 %below, i64 %nn, i64 %n
  store double %rs, ptr %out, align 8
  %o1 = getelementptr i8, ptr %out, i64 {step}
  store double %ls, ptr %o1, align 8
  %o2 = getelementptr i8, ptr %out, i64 {twice}
  store i64 %ns, ptr %o2, align 8
  ret void
}}"""


def _reduce_large(b: Builder, x: Value) -> list[Value]:
    """The exact reduction, lane by lane, for finite |x| >= 2^20: rest, its low part, multiple of pi/2."""
    w = x.width
    table = np.frombuffer(_TWO_OVER_PI.to_bytes(_TWO_OVER_PI_BITS // 8, "little") + bytes(64), np.uint8)
    name = "chainrule.reduce" if w == 1 else f"chainrule.reduce.{w}"
    for f in ("fma.f64(double, double, double)", "fabs.f64(double)"):
        full = "llvm." + f.split("(")[0]
        b.declare(full, f"declare double @llvm.{f}")
    b.declare("llvm.ctlz.i192", "declare i192 @llvm.ctlz.i192(i192, i1)")
    text = _REDUCE.format(bits=_TWO_OVER_PI_BITS, table=b.data(table).text, step=8 * w, twice=16 * w)
    b.module.add(name, text.replace("@chainrule.reduce(", f"@{name}("))
    inputs, outputs = b.alloca(8 * w), b.alloca(24 * w)
    b.store(x, inputs)
    with b.loop(0, w) as i:
        b.call(name, b.load(b.at(inputs, i, "f64"), "f64"), b.at(outputs, i, "f64"))
    return [
        b.load(outputs, "f64", w),
        b.load(b.offset(outputs, 8 * w), "f64", w),
        b.load(b.offset(outputs, 16 * w), "i64", w),
    ]


def reduce(b: Builder, x: Value, terms: str) -> tuple[Value, Value, Value]:
    """(r, low, n): x = n pi/2 + r + low, |r| <= pi/4 or hardly more; of n the last two bits count."""
    w = x.width
    a = b.abs(x)
    large = (a >= _LARGE) & (a < INF)
    near = b.select(a < _LARGE, x, 0.0)
    nf, n = nearest(b, near, 2 / math.pi)
    r = near - nf * _P1
    if terms == "f32":
        r, low = r - nf * _P1T, b.zero("f64", w)
    else:
        r, e1 = two_sum(b, r, nf * -_P2)
        r, e2 = two_sum(b, r, nf * -_P3)
        r, low = fast_two_sum(b, r, (e1 + e2) - nf * _P3T)

    def slow() -> list[Value]:
        far = _reduce_large(b, b.select(large, x, 2.0**21))
        return [b.select(large, u, v) for u, v in zip(far, (r, low, n), strict=True)]

    r, low, n = b.if_else(b.any(large), slow, lambda: [r, low, n])
    return r, low, n


def _sin_cos_parts(b: Builder, r: Value, low: Value, terms: str) -> tuple[Value, Value, Value, Value]:
    """sin and cos of r + low for |r| <= pi/4, each as a larger and a smaller part."""
    z = r * r
    sp, cp = b.horner(z, c.SIN[terms]), b.horner(z, c.COS[terms])
    if terms == "f32":
        return r, sp * z * r, b.fma(z, -0.5, 1.0), z * z * cp
    half = z * 0.5
    one = 1.0 - half
    return r, b.fma(sp * z, r, low - half * low), one, ((1.0 - one) - half) + b.fma(z * z, cp, -(r * low))


def sin_cos(b: Builder, r: Value, low: Value, terms: str) -> tuple[Value, Value]:
    """sin and cos of r + low for |r| <= pi/4."""
    s, s_low, co, co_low = _sin_cos_parts(b, r, low, terms)
    return s + s_low, co + co_low


def _turn(b: Builder, y: Value, n: Value, x: Value) -> Value:
    """y with its sign flipped where bit 1 of n is set; NaN for x infinite or NaN."""
    y = b.bitcast(b.bits(y) ^ ((n & 2) << 62), "f64")
    return b.select(b.abs(x) < INF, y, b.const(NAN, "f64", x.width))


def sin(b: Builder, x: Value, terms: str) -> Value:
    """sin x."""
    r, low, n = reduce(b, x, terms)
    s, co = sin_cos(b, r, low, terms)
    y = _turn(b, b.select(b.ne(n & 1, 0), co, s), n, x)
    return b.select(b.abs(x) < 2.0**-27, x, y)


def cos(b: Builder, x: Value, terms: str) -> Value:
    """cos x."""
    r, low, n = reduce(b, x, terms)
    s, co = sin_cos(b, r, low, terms)
    return _turn(b, b.select(b.ne(n & 1, 0), s, co), n + 1, x)


def tan(b: Builder, x: Value, terms: str) -> Value:
    """tan x = sin x / cos x."""
    r, low, n = reduce(b, x, terms)
    s, s_low, co, co_low = _sin_cos_parts(b, r, low, terms)
    odd = b.ne(n & 1, 0)
    if terms == "f32":
        s, co = s + s_low, co + co_low
        y = b.select(odd, -co, s) / b.select(odd, s, co)
    else:
        s, s_low = fast_two_sum(b, s, s_low)
        co, co_low = fast_two_sum(b, co, co_low)
        top, top_low = b.select(odd, -co, s), b.select(odd, -co_low, s_low)
        d, d_low = b.select(odd, s, co), b.select(odd, s_low, co_low)
        y = top / d
        back, back_low = two_product(b, y, d)
        y = y + ((((top - back) - back_low) + top_low) - y * d_low) / d
    y = b.select(b.abs(x) < INF, y, b.const(NAN, "f64", x.width))
    return b.select(b.abs(x) < 2.0**-27, x, y)


# ---- arcus functions
_ASIN_P = (
    3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02, 2.01212532134862925881e-01,
    -3.25565818622400915405e-01, 1.66666666666666657415e-01,
)  # fmt: skip
_ASIN_Q = (
    7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e00, -2.40339491173441421878e00, 1.0
)  # fmt: skip


def _asin_ratio(b: Builder, z: Value) -> Value:
    """(asin(x) - x) / x as a function of z = x^2 <= 1/4."""
    return z * b.horner(z, _ASIN_P) / b.horner(z, _ASIN_Q)


def _upper(b: Builder, x: Value) -> Value:
    """x with the last 32 bits cleared."""
    return b.bitcast(b.bits(x) & -(1 << 32), "f64")


def asin(b: Builder, x: Value, terms: str) -> Value:
    """arcsin x; above 1/2 as pi/2 - 2 arcsin sqrt((1 - x) / 2)."""
    a = b.abs(x)
    small = a < 0.5
    t = (1.0 - a) * 0.5
    ratio = _asin_ratio(b, b.select(small, x * x, t))
    near = b.fma(x, ratio, x)
    s = b.sqrt(t)
    w = _upper(b, s)
    rest = b.select(t > 0.0, (t - w * w) / (s + w), 0.0)
    p = (s + s) * ratio - (_PI_HALF_LOW - (rest + rest))
    q = math.pi / 4 - (w + w)
    return b.select(small, near, b.copysign(math.pi / 4 - (p - q), x))


def acos(b: Builder, x: Value, terms: str) -> Value:
    """arccos x."""
    a = b.abs(x)
    small = a < 0.5
    t = (1.0 - a) * 0.5
    ratio = _asin_ratio(b, b.select(small, x * x, t))
    near = _PI_HALF - (x - (_PI_HALF_LOW - x * ratio))
    s = b.sqrt(t)
    w = _upper(b, s)
    rest = b.select(t > 0.0, (t - w * w) / (s + w), 0.0)
    right = w + b.fma(ratio, s, rest)
    left = b.fma(ratio, s, -_PI_HALF_LOW) + s
    far = b.select(x < 0.0, math.pi - (left + left), right + right)
    return b.select(small, near, far)


_ATAN_P = (
    -8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1, -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)  # fmt: skip
_ATAN_Q = (
    1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2, 4.853903996359136964868e2,
    1.945506571482613964425e2,
)  # fmt: skip


def _atan_core(b: Builder, x: Value) -> Value:
    """arctan x - x for |x| <= 0.66."""
    z = x * x
    return x * (z * (b.horner(z, _ATAN_P) / b.horner(z, _ATAN_Q)))


def atan(b: Builder, x: Value, terms: str) -> Value:
    """arctan x, reduced to |t| <= 0.66 by -1 / x or (x - 1) / (x + 1)."""
    a = b.abs(x)
    far, middle = a > 2.41421356237309504880, a > 0.66
    top = b.select(far, -1.0, b.select(middle, a - 1.0, a))
    bottom = b.select(far, a, b.select(middle, a + 1.0, 1.0))
    t = top / bottom
    zero = b.zero("f64", x.width)
    base = b.select(far, b.const(_PI_HALF, "f64", x.width), b.select(middle, math.pi / 4, zero))
    low = b.select(far, b.const(_PI_HALF_LOW, "f64", x.width), b.select(middle, _PI_HALF_LOW / 2, zero))
    return b.copysign(base + (t + (_atan_core(b, t) + low)), x)


def atan2(b: Builder, y: Value, x: Value, terms: str) -> Value:
    """The angle of the point (x, y), with the sign of y, from -pi to pi."""
    ay, ax = b.abs(y), b.abs(x)
    swap = ay > ax
    top, bottom = b.select(swap, ax, ay), b.select(swap, ay, ax)
    q = top / bottom
    q = b.select(b.eq(top, bottom), 1.0, q)  # both infinite
    q = b.select(b.eq(bottom, 0.0), 0.0, q)
    # what the rounding of the quotient lost, where nothing over- or underflows
    product, error = two_product(b, q, bottom)
    lost = b.select((bottom < 1e300) & (top > 1e-280), ((top - product) - error) / bottom, 0.0)
    middle = q > 0.41421356237309503
    t = b.select(middle, (q - 1.0) / (q + 1.0), q)
    base = b.select(middle, b.const(math.pi / 4, "f64", x.width), 0.0)
    low = b.select(middle, b.const(_PI_HALF_LOW / 2, "f64", x.width), 0.0)
    rest = _atan_core(b, t) + low + lost / b.fma(q, q, 1.0)
    # base + t + rest, or pi/2 minus it, or pi minus that
    negative = b.bits(x) < 0
    zero = b.zero("f64", x.width)
    one = b.select(swap, _PI_HALF, b.select(negative, math.pi, zero))
    one_low = b.select(swap, _PI_HALF_LOW, b.select(negative, 2 * _PI_HALF_LOW, zero))
    minus = swap ^ negative
    sign = b.select(minus, b.const(-1.0, "f64", x.width), 1.0)
    head = one + sign * base
    y0 = head + sign * t
    lost_head = (head - y0) + sign * t
    angle = y0 + (lost_head + (one_low + sign * rest))
    angle = b.select(b.eq(ay, 0.0), b.select(negative, math.pi, zero), angle)
    angle = b.select(b.is_nan(x) | b.is_nan(y), b.const(NAN, "f64", x.width), angle)
    return b.copysign(angle, y)
