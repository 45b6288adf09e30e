"""Vector error function, its complement, and gelu.

Beyond 1 all three are e^(-x^2) erfcx(x), with erfcx(x) (1 + 2 x) as one polynomial in t = (x - 4) / (x + 4) over
the whole half line (Shepherd and Laframboise, 1981).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chainrule.compiler.llvm import coefficients as c
from chainrule.compiler.llvm.twofold import fast_two_sum, two_product
from chainrule.compiler.llvm.values import Value
from chainrule.compiler.llvm.vexp import exp, exp_reduced, scale

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder


def _tail(
    b: Builder, z: Value, square: Value, square_low: Value, slope: Value, terms: str
) -> tuple[Value, Value, Value]:
    """(m, n, n as integer) with e^-(square + square_low) erfcx(z) = m 2^n, where slope is 2 z."""
    t = (z - 4.0) / (z + 4.0)
    p, n, integer = exp_reduced(b, -square, terms)
    if terms == "f32":
        return (p + 1.0) * b.horner(t, c.ERFCX["f32"]) / (slope + 1.0), n, integer
    # numerator and denominator in two parts each, so that their roundings do not add up
    rows = c.ERFCX["f64"]
    one = b.const(1.0, z.kind, z.width)
    e, e_low = fast_two_sum(b, one, p)
    q, q_low = fast_two_sum(b, b.like(z, rows[-1]), b.horner(t, rows[:-1]) * t)
    above = slope > 1.0
    d, d_low = fast_two_sum(b, b.select(above, slope, one), b.select(above, one, slope))
    num, num_low = two_product(b, q, e)
    num_low = num_low + b.fma(q, e_low, b.fma(q_low, e, -(num * square_low)))
    y = num / d
    back, back_low = two_product(b, y, d)
    rest = ((num - back) - back_low) + (num_low - y * d_low)
    return y + rest / d, n, integer


def _near(b: Builder, x: Value, terms: str) -> Value:
    """erf x for |x| <= 1."""
    return b.fma(b.horner(x * x, c.ERF[terms]), x, x)


def _complement(b: Builder, a: Value, terms: str) -> Value:
    """erfc a for a >= 1 (beyond 28 that is zero)."""
    a = b.select(a > 28.0, 28.0, a)
    square, low = two_product(b, a, a)
    m, n, integer = _tail(b, a, square, low, a + a, terms)
    return scale(b, m, n, integer)


def erfc(b: Builder, x: Value, terms: str) -> Value:
    """1 - erf x without cancellation, in float64."""
    a = b.abs(x)
    far = _complement(b, a, terms)
    far = b.select(x < 0.0, 2.0 - far, far)
    # between 1/2 and 1 the exponential form, too, keeps more bits than 1 - erf
    return b.select(x < 0.5, b.select(a < 1.0, 1.0 - _near(b, x, terms), far), far)


def erf64(b: Builder, x: Value, terms: str) -> Value:
    """erf x in float64."""
    a = b.abs(x)
    far = b.copysign(1.0 - _complement(b, a, terms), x)
    return b.select(a < 1.0, _near(b, x, terms), far)


_SMALL = (
    -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1
)  # fmt: skip


def erf32(b: Builder, x: Value) -> Value:
    """erf x in float32: x + x P(x^2) below 0.93, 1 - e^(-a + a Q(a)) above, after N. Juffa."""
    a = b.abs(x)
    a = b.select(a > 4.5, 4.5, a)
    z = a * a
    u = b.fma(a, -3.88396438e-3, 2.42546219e-2)
    r = b.fma(b.fma(a, -1.72853470e-5, 3.83197126e-4), z, u)
    for k in (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1):
        r = b.fma(r, a, k)
    far = b.copysign(1.0 - exp(b, b.fma(r, a, -a), "f32"), x)
    near = b.fma(b.horner(x * x, _SMALL), x, x)
    return b.select(b.abs(x) > 0.927734375, far, near)


def gelu(b: Builder, x: Value, terms: str) -> Value:
    """x Phi(x) in float64, Phi the normal distribution function; Phi(x) = erfc(-x / sqrt 2) / 2 for negative x."""
    a = b.abs(x)
    held = b.select(a > 39.5, 39.5, a)
    square, low = two_product(b, held, held)
    m, n, integer = _tail(b, held * math.sqrt(0.5), square * 0.5, low * 0.5, held * math.sqrt(2), terms)
    m = m * 0.5
    negative = x < 0.0
    y = scale(b, b.select(negative, x * m, m), n, integer)
    y = b.select(a > 39.5, b.select(negative, a * 0.0, 0.0), y)
    far = b.select(negative, b.copysign(y, x), x * (1.0 - y))
    near = x * b.fma(_near(b, x * math.sqrt(0.5), terms), 0.5, 0.5)
    return b.select(a < 0.5, near, far)
