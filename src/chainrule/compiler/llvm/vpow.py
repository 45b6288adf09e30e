"""Vector powers and hypotenuse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chainrule.compiler.llvm import coefficients as c
from chainrule.compiler.llvm.twofold import fast_two_sum, two_product, two_sum
from chainrule.compiler.llvm.values import Value
from chainrule.compiler.llvm.vexp import INF, LN2, NAN, exp, log, log_reduced, log_special

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

_TWO_THIRDS = (2 / 3, 3.700743415417188e-17)


def log_twofold(b: Builder, x: Value) -> tuple[Value, Value]:
    """ln x as a sum of two float64, with about 66 good bits, for positive finite x.

    ln(1 + f) = 2 s + (2/3) s^3 + s^5 T(s^2) with s = f / (2 + f); the first two terms are carried in two parts.
    """
    k, f = log_reduced(b, x)
    u, u_low = fast_two_sum(b, b.const(2.0, "f64", x.width), f)
    s = f / u
    back, back_low = two_product(b, s, u)
    s_low = (((f - back) - back_low) - s * u_low) / u
    z, z_low = two_product(b, s, s)
    z_low = b.fma(s + s, s_low, z_low)
    v, v_low = two_product(b, z, s)
    v_low = v_low + b.fma(z_low, s, z * s_low)
    w, w_low = two_product(b, v, b.like(v, _TWO_THIRDS[0]))
    w_low = w_low + b.fma(v, _TWO_THIRDS[1], v_low * _TWO_THIRDS[0])
    tail = v * z * b.horner(z, c.LOG_TAIL["f64"])
    ln2, ln2_low = LN2["f64"]
    head, e1 = two_sum(b, k * ln2, s + s)
    head, e2 = two_sum(b, head, w)
    low = e1 + e2 + (b.fma(k, ln2_low, s_low + s_low) + w_low + tail)
    return fast_two_sum(b, head, low)


def power(b: Builder, x: Value, y: Value, terms: str) -> Value:
    """x^y in float64 with the special values of C's pow.

    Of single numbers by a call: an optimizer's step has two for each parameter, and 170 instructions each take longer
    to generate than they ever run.
    """
    if x.width > 1:
        return _power(b, x, y, terms)
    name = f"pow_{terms}"
    if not b.module.has(name):
        with b.module.function(name, internal=True, inline=False, returns="f64", x="f64", y="f64") as inner:
            inner.ret(_power(inner, *inner.args, terms))
    found = b.call(name, x, y, returns="f64")
    assert found is not None
    return found


def _power(b: Builder, x: Value, y: Value, terms: str) -> Value:
    w = x.width
    a = b.abs(x)
    if terms == "f32":
        size = exp(b, y * log(b, a, terms), "f32")
    else:
        high, low = log_twofold(b, a)
        high = log_special(b, a, high)
        product, error = two_product(b, y, high)
        usual = b.abs(product) < 1e4
        rest = b.select(usual, b.fma(y, low, error), 0.0)
        size = exp(b, product, terms, rest)
    # parity and wholeness of y
    ay = b.abs(y)
    whole = b.eq(b.floor(y), y)
    half = y * 0.5
    odd = whole & b.ne(b.floor(half), half) & (ay < 2.0**53)
    size = b.select(b.eq(a, 1.0) & b.eq(y, y), 1.0, size)
    negative = b.lt(b.bits(x), 0)
    signed = b.select(negative & odd, -size, size)
    signed = b.select((x < 0.0) & (x > -INF) & ~whole & b.eq(y, y), b.const(NAN, "f64", w), signed)
    return b.select(b.eq(y, 0.0) | b.eq(x, 1.0), 1.0, signed)


def hypot(b: Builder, x: Value, y: Value, terms: str) -> Value:
    """sqrt(x^2 + y^2) without overflow or underflow of the squares; infinite if either is, even beside NaN."""
    a, c_ = b.abs(x), b.abs(y)
    if terms == "f32":
        y_ = b.sqrt(b.fma(a, a, c_ * c_))
    else:
        top, low = b.select(a > c_, a, c_), b.select(a > c_, c_, a)
        # both brought near 1 by a power of two
        big, small = top > 1e150, top < 1e-140
        one = b.const(1.0, "f64", x.width)
        factor = b.select(big, 2.0**-600, b.select(small, 2.0**600, one))
        back = b.select(big, 2.0**600, b.select(small, 2.0**-600, one))
        top, low = top * factor, low * factor
        square, square_low = two_product(b, top, top)
        other, other_low = two_product(b, low, low)
        total, error = fast_two_sum(b, square, other)
        total_low = error + (square_low + other_low)
        h = b.sqrt(total)
        back2, back2_low = two_product(b, h, h)
        fix = (((total - back2) - back2_low) + total_low) / (h + h)
        y_ = b.select(h > 0.0, h + fix, h) * back
    infinite = b.eq(a, INF) | b.eq(c_, INF)
    return b.select(infinite, b.const(math.inf, "f64", x.width), y_)
