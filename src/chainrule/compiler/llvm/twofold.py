"""Sums and products with their rounding errors: the pair (result, error) is exact (Dekker, 1971; Knuth)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule.compiler.llvm.values import FRACTION, Value

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder


def two_sum(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """x + y and its error."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def fast_two_sum(b: Builder, x: Value, y: Value | float) -> tuple[Value, Value]:
    """x + y and its error, for |x| >= |y|."""
    s = x + y
    return s, y - (s - x)


def two_product(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """x y and its error, by a fused multiply-add or by splitting the factors."""
    p = x * y
    if b.target.has_fma:
        return p, b.fma(x, y, -p)
    xh, xl = split(b, x)
    yh, yl = split(b, y)
    return p, ((xh * yh - p) + xh * yl + xl * yh) + xl * yl


def split(b: Builder, x: Value) -> tuple[Value, Value]:
    """x as a sum of two numbers of half as many bits; overflows near the largest numbers."""
    c = x * float(2 ** ((FRACTION[x.kind] + 2) // 2) + 1)
    high = c - (c - x)
    return high, x - high
