"""Elementwise ops through which no derivative flows, or a zero one: comparisons, logic, bits, rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.ir.op import Elementwise, elementwise
from chainrule.ops.samples import away, binary, booleans, integers, real, sample, unary


def _test(name: str, kernel: Any, doc: str, arity: int = 2) -> Elementwise:
    samples = unary() if arity == 1 else (*binary(), sample(integers(0, 3, 4), integers(0, 3, 4)))
    return elementwise(name, kernel, doc=doc, arity=arity, result="bool", samples=samples)


eq = _test("eq", np.equal, "x = y; NaN equals nothing")
ne = _test("ne", np.not_equal, "not x = y")
lt = _test("lt", np.less, "x < y")
le = _test("le", np.less_equal, "x <= y")
gt = _test("gt", np.greater, "x > y")
ge = _test("ge", np.greater_equal, "x >= y")
isnan = _test("isnan", np.isnan, "whether x is NaN", 1)
isinf = _test("isinf", np.isinf, "whether x is infinite", 1)
isfinite = _test("isfinite", np.isfinite, "whether x is a finite number", 1)
signbit = _test("signbit", np.signbit, "whether the sign bit is set", 1)
logical_and = _test("logical_and", np.logical_and, "both nonzero")
logical_or = _test("logical_or", np.logical_or, "either nonzero")
logical_xor = _test("logical_xor", np.logical_xor, "exactly one nonzero")
logical_not = _test("logical_not", np.logical_not, "zero", 1)


def _bits(name: str, kernel: Any, doc: str, arity: int = 2, logic: bool = True) -> Elementwise:
    samples = [sample(*(integers(0, 8, 3, 4) for _ in range(arity)))]
    if logic:
        samples.append(sample(*(booleans(5) for _ in range(arity))))
    return elementwise(name, kernel, doc=doc, arity=arity, samples=samples)


bitwise_and = _bits("bitwise_and", np.bitwise_and, "bits set in both")
bitwise_or = _bits("bitwise_or", np.bitwise_or, "bits set in either")
bitwise_xor = _bits("bitwise_xor", np.bitwise_xor, "bits set in exactly one")
bitwise_not = _bits("bitwise_not", np.invert, "all bits flipped", 1)
bitwise_left_shift = _bits("bitwise_left_shift", np.left_shift, "x 2^y", logic=False)
bitwise_right_shift = _bits("bitwise_right_shift", np.right_shift, "floor(x / 2^y)", logic=False)


def _step(name: str, kernel: Any, doc: str, special: Any = ()) -> Elementwise:
    """A step function: its derivative is zero wherever it exists, and zero is what flows."""
    zero = lambda m, g, y, x: m.zeros_like(g)  # noqa: E731 - a rule like all others
    samples = unary(lambda *shape: away(0.1, *shape))
    return elementwise(name, kernel, zero, doc=doc, samples=samples, special=special)


floor = _step("floor", np.floor, "the largest integer not above x", [((-0.5,), -1.0)])
ceil = _step("ceil", np.ceil, "the smallest integer not below x")
trunc = _step("trunc", np.trunc, "x without its fraction", [((-1.5,), -1.0)])
round = _step("round", np.round, "the nearest integer, ties to even", [((2.5,), 2.0), ((math.inf,), math.inf)])

# The same values with no history: derivatives of both modes stop here.
detach = elementwise("detach", lambda x: x, doc="x as a constant", arity=1, samples=(sample(real(3, 4)),))
detach.is_view = True
