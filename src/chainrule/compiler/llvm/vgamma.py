"""Vector gamma functions and the inverse error function in float64 (float32 goes through float64).

Near their zeros at 1, 1.4616... and 2 the functions are a factor that vanishes there times a polynomial; from 2 or 3
on they are Stirling's series, with a polynomial of our own in 1 / x^2 in place of its tail; negative arguments are
reflected (Abramowitz and Stegun 6.1.17, 6.1.40, 6.3.7, 6.3.18). Between two negative poles the reflection is a
difference: there the error is that of its larger term. Derivatives of digamma are Hurwitz zeta functions by Euler and
Maclaurin's formula.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chainrule.compiler.llvm import gamma_coefficients as c
from chainrule.compiler.llvm.twofold import two_product, two_sum
from chainrule.compiler.llvm.values import Value
from chainrule.compiler.llvm.vexp import INF, NAN, log
from chainrule.compiler.llvm.vpow import log_twofold, power
from chainrule.compiler.llvm.vtrig import sin_cos

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

_PI_LOW = 1.2246467991473532e-16
#: ln(2 pi) / 2 in two parts
_HALF_LOG_2PI, _HALF_LOG_2PI_LOW = 0.9189385332046728, -3.8782941580672414e-17
#: n! up to the largest that is finite
_FACTORIALS = np.array([float(math.factorial(n)) for n in range(171)])


def _sin_cos_pi(b: Builder, x: Value) -> tuple[Value, Value]:
    """|sin pi x|, and cos pi x with the sign that makes their quotient cot pi x; finite x."""
    f = x - b.round_even(x)
    a = b.abs(f)
    swap = a > 0.25
    a = b.select(swap, 0.5 - a, a)
    r, low = two_product(b, a, b.like(a, math.pi))
    s, co = sin_cos(b, r, b.fma(a, _PI_LOW, low), "f64")
    return b.select(swap, co, s), b.copysign(b.select(swap, s, co), f)


# ---- ln |Gamma|
def _stirling(b: Builder, x: Value) -> Value:
    """ln Gamma(x) = (x - 1/2) ln x - x + ln(2 pi) / 2 + q(1 / x^2) / x for x >= 3, the sum in two parts."""
    held = b.select(x < 1e17, x, 1e17)
    high, low = log_twofold(b, held)
    inverse = 1.0 / held
    rest = b.horner(inverse * inverse, c.LGAMMA_FAR) * inverse + _HALF_LOG_2PI_LOW
    m, m_low = two_sum(b, held, b.const(-0.5, "f64", x.width))
    p, p_low = two_product(b, m, high)
    y, e1 = two_sum(b, p, -held)
    y, e2 = two_sum(b, y, b.const(_HALF_LOG_2PI, "f64", x.width))
    near = y + (e1 + e2 + (b.fma(m, low, b.fma(m_low, high, p_low)) + rest))
    return b.select(x < 1e17, near, x * (log(b, x, "f64") - 1.0))


def _lgamma_positive(b: Builder, x: Value) -> Value:
    """ln Gamma(x) for positive x."""
    below, two = x < 1.0, x >= 2.0
    y = b.select(below, x, x - 1.0)
    near = y * (y - 1.0) * b.horner(y - 0.5, c.LGAMMA)
    near = b.select(below, near - log(b, x, "f64"), near)
    middle = (x - 2.0) * b.horner(x - 2.5, c.LGAMMA_2)
    return b.select(x < 3.0, b.select(two, middle, near), _stirling(b, b.select(x < 3.0, 3.0, x)))


def lgamma(b: Builder, x: Value, terms: str) -> Value:
    """ln |Gamma(x)|, infinite at 0, -1, ...; ln |Gamma(-x)| = ln(pi / |x sin pi x|) - ln Gamma(x)."""
    a = b.abs(x)
    y = _lgamma_positive(b, a)
    s, _ = _sin_cos_pi(b, a)
    # the tiniest a has sin(pi a) = pi a and Gamma(a) = 1 / a
    reflected = math.log(math.pi) - log(b, s, "f64") - log(b, a, "f64") - y
    reflected = b.select(a < 1e-20, y, reflected)
    y = b.select(x < 0.0, reflected, y)
    return b.select(((x <= 0.0) & b.eq(b.floor(x), x)) | b.eq(a, INF), INF, y)


# ---- digamma
def digamma(b: Builder, x: Value, terms: str) -> Value:
    """psi(x) = d/dx ln Gamma(x); -1 / x at the zeros, NaN at -1, -2, ...; psi(x) = psi(1 - x) - pi cot pi x."""
    a = b.abs(x)
    below = x < 1.0
    y = b.select(below, a, x - 1.0)
    argument = b.select(below, a + 1.0, x)
    root, root_low = c.DIGAMMA_ROOT
    near = ((y - root) - root_low) * b.horner(y - 0.5, c.DIGAMMA)
    inverse = 1.0 / argument
    far = log(b, argument, "f64") - inverse * b.fma(-inverse, b.horner(inverse * inverse, c.DIGAMMA_FAR), 0.5)
    value = b.select(y < 1.0, near, far)
    s, co = _sin_cos_pi(b, x)
    reflected = value - math.pi * (co / s)
    reflected = b.select(b.eq(b.floor(x), x), NAN, b.select(a < 1e-20, -1.0 / x, reflected))
    small = b.select(x < 0.0, reflected, value - 1.0 / x)
    return b.select(below, small, value)


# ---- its derivatives
_TERMS = 10


def _hurwitz(b: Builder, s: Value, q: Value) -> Value:
    """zeta(s, q) = sum of (q + k)^-s for s >= 2 and positive q: ten terms, the rest by Euler and Maclaurin's formula.

    With w = q + 10 that is w^(1 - s) (1 / (s - 1) + 1 / (2 w) + sum over j of B_2j / (2 j)! s (s + 1) ... (s + 2 j - 2)
    w^-2j), Abramowitz and Stegun 23.1.30; what q + k loses by rounding is made good to first order.
    """

    def shifted(k: Value, e: Value) -> Value:
        w, lost = two_sum(b, q, k)
        lost = b.select(w < INF, e * lost / w, 0.0)
        p = power(b, w, e, "f64")
        return b.select(p < INF, b.fma(p, lost, p), p)

    zero = b.zero("f64", q.width)
    with b.loop_carrying(0, _TERMS, 1, [zero, zero, zero]) as loop:
        total, rest, k = loop.values
        term = shifted(k, -s)
        y, e = two_sum(b, total, term)
        loop.next(y, rest + b.select(y < INF, e, 0.0), k + 1.0)
    total, rest, k = loop.results
    w, _ = two_sum(b, q, k)
    inverse = 1.0 / w
    z = inverse * inverse
    # nested: c1 s z (1 + (c2 / c1) (s + 1)(s + 2) z (1 + ...))
    tail = b.const(1.0, "f64", q.width)
    for j in range(len(c.BERNOULLI) - 1, 0, -1):
        ratio = c.BERNOULLI[-j - 1] / c.BERNOULLI[-j]
        tail = b.fma((s + (2.0 * j - 1)) * (s + 2.0 * j) * z * ratio, tail, 1.0)
    p = shifted(k, 1.0 - s)
    tail = b.fma(s * z * c.BERNOULLI[-1], tail, 0.5 * inverse) + 1.0 / (s - 1.0)
    return total + (rest + b.select(p > 0.0, p * tail, 0.0))


def _factorial(b: Builder, n: Value) -> Value:
    """n! for whole n >= 0, infinite beyond 170."""
    inside = n <= 170.0
    at = b.cast(b.select(inside, n, 0.0), "i64")
    table = b.data(_FACTORIALS)
    lanes = [b.load(b.at(table, b.extract(at, i), "f64"), "f64") for i in range(n.width)]
    return b.select(inside, b.vector(lanes), INF)


def polygamma(b: Builder, n: Value, x: Value, terms: str) -> Value:
    """The n-th derivative of digamma, (-1)^(n+1) n! zeta(n + 1, x); NaN unless n is 0, 1, 2, ...

    For negative x with fraction f, zeta(s, x) = zeta(s, f) + (-1)^s (zeta(s, 1 - f) - zeta(s, 1 - x)).
    """
    whole = (n >= 0.0) & b.eq(b.floor(n), n)
    order = b.select(whole & (n >= 1.0), n, 1.0)
    # the reference kernel's sign for an infinite order is that of odd ones
    order = b.select(order < INF, order, 2.0**52 - 1)
    s = order + 1.0
    half = s * 0.5
    even = b.eq(b.floor(half), half)
    pole = (x <= 0.0) & b.eq(b.floor(x), x)
    negative = (x < 0.0) & ~pole
    y = _hurwitz(b, s, b.select(negative, x - b.floor(x), x))

    def reflected() -> list[Value]:
        left = _hurwitz(b, s, b.select(negative, b.ceil(x) - x, 1.0))
        far = _hurwitz(b, s, b.select(negative, 1.0 - x, 2.0))
        # in this order nothing is lost halfway between poles, where the first two are equal
        return [b.select(negative, b.select(even, y + (left - far), (y - left) + far), y)]

    (y,) = b.if_else(b.any(negative), reflected, lambda: [y])
    y = b.select(pole, INF, y) * _factorial(b, order)
    y = b.select(even, y, -y)
    y = b.select(b.eq(n, 0.0), digamma(b, x, terms), y)
    return b.select(whole & b.eq(x, x), y, NAN)


# ---- the inverse of erf
def erfinv(b: Builder, x: Value, terms: str) -> Value:
    """x p(w) with w = -ln(1 - x^2), in sqrt(w) far out (Giles, 2012), with polynomials of our own; NaN beyond 1."""
    a = b.abs(x)
    w = -log(b, (1.0 - a) * (1.0 + a), "f64")
    root = b.sqrt(b.select(w > 6.25, w, 6.25))
    far = b.select(w < 16.0, b.horner(root - 3.25, c.ERFINV_MIDDLE), b.horner(root - 5.0, c.ERFINV_FAR))
    y = x * b.select(w < 6.25, b.horner(w - 3.125, c.ERFINV), far)
    return b.select(a < 1.0, y, b.select(b.eq(a, 1.0), b.copysign(b.const(INF, "f64", x.width), x), NAN))
