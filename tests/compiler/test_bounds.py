"""Ranges hold every result that a correct implementation may give, and little else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="the ops in question are those of the native backend")

import chainrule as cr  # noqa: F401 - fills the registry
from chainrule.compiler import bounds, sum_bounds
from chainrule.compiler.bounds import EXACT, ULPS, Range
from chainrule.compiler.llvm.vmath import EMITTERS, lowers
from chainrule.ir.graph import Instruction, Value
from chainrule.ir.op import REGISTRY, Elementwise

OPS = sorted(n for n in EMITTERS if isinstance(REGISTRY.get(n), Elementwise) and lowers(n, "float32"))
TINY = np.finfo(np.float32).tiny


def instruction(name, xs) -> Instruction:
    op = REGISTRY[name]
    values = [Value(k, x.shape, x.dtype) for k, x in enumerate(xs)]
    a = op.infer(*(v.aval for v in values))
    return Instruction(op, tuple(values), {}, (Value(9, a.shape, a.dtype),))


def ranges(rng, arity, n, mask_first):
    """Random intervals around points near and far, and points inside them that float32 can hold."""
    xs, inside = [], []
    for k in range(arity):
        if mask_first and k == 0:
            sure = rng.integers(0, 3, n)
            value = sure > 0
            xs.append(Range(value, sure == 1, sure > 0))
            inside.append(np.where(sure == 1, True, np.where(sure == 2, rng.integers(0, 2, n) > 0, False)))
            continue
        middle = rng.standard_normal(n) * rng.choice([1e-3, 0.5, 3.0, 30.0], n)
        half = rng.choice([0.0, 1e-7, 1e-3, 0.7], n) * np.abs(middle) + rng.choice([0.0, 0.0, 0.1], n)
        low, high = (np.asarray(v, np.float32).astype(np.float64) for v in (middle - half, middle + half))
        point = (low + rng.random(n) * (high - low)).astype(np.float32)
        inside.append(np.clip(point, low, high).astype(np.float32))
        xs.append(Range(((low + high) / 2).astype(np.float32), low, high))
    return xs, inside


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", OPS)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_point_of_the_operands_ranges_lands_in_the_results(name, seed):
    rng = np.random.default_rng(seed)
    op = REGISTRY[name]
    xs, inside = ranges(rng, op.arity, 400, name == "where")
    found = bounds.apply(instruction(name, [x.value for x in xs]), xs)
    with np.errstate(all="ignore"):
        exact = op.kernel(*(x.astype(np.float64) if x.dtype.kind == "f" else x for x in inside))
        y = np.asarray(exact).astype(found.value.dtype)
    assert not found.wrong(y).any(), name


@pytest.mark.parametrize("name", [n for n in OPS if n not in EXACT])
def test_ranges_of_exact_operands_are_a_few_units_wide(name):
    rng = np.random.default_rng(0)
    op = REGISTRY[name]
    xs = [np.abs(rng.standard_normal(1000)).astype(np.float32) * 0.9 + np.float32(0.05) for _ in range(op.arity)]
    if name == "acosh":
        xs[0] += 1
    if name in ("asin", "acos", "atanh", "erfinv"):
        xs[0] = np.minimum(xs[0], np.float32(0.9))
    if name == "polygamma":
        xs[0] = np.ceil(xs[0])
    found = bounds.apply(instruction(name, xs), [bounds.read(x) for x in xs])
    assert found.free is None
    width = (found.high - found.low) / np.abs(found.value.astype(np.float64))
    terms = 2 if name == "logaddexp" else 1  # its own rounding, and that of its terms
    assert np.median(width) <= 2.1 * terms * ULPS[name] * 2.0**-23
    # and a result that is off by more is refused
    off = np.nextafter(found.high.astype(np.float32), np.float32(np.inf))
    off = np.where(off.astype(np.float64) <= found.high, np.nextafter(off, np.float32(np.inf)), off)
    assert found.wrong(off).all()


@pytest.mark.parametrize("name", [n for n in OPS if n in EXACT])
def test_exact_ops_on_exact_operands_leave_no_freedom(name):
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal(500).astype(np.float32) for _ in range(REGISTRY[name].arity)]
    if name == "where":
        xs[0] = xs[0] > 0
    found = bounds.apply(instruction(name, xs), [bounds.read(x) for x in xs])
    assert found.exact
    assert not found.wrong(found.value).any()
    if found.value.dtype.kind == "f":
        for other in (np.nextafter(found.value, np.float32(np.inf)), np.full_like(found.value, np.nan)):
            assert found.wrong(other)[np.isfinite(found.value)].all()
    else:
        assert found.wrong(~found.value).all()


def apply(name, *xs):
    return bounds.apply(instruction(name, [x.value for x in xs]), list(xs))


def of(*numbers, dtype=np.float32):
    return bounds.read(np.array(numbers, dtype))


def around(value, low, high):
    return Range(
        *(np.atleast_1d(np.asarray(v, t)) for v, t in ((value, np.float32), (low, np.float64), (high, np.float64)))
    )


def test_the_sign_of_zero_counts_where_it_is_defined():
    found = apply("mul", of(0.0, -0.0, 0.0), of(1.0, 1.0, -1.0))
    assert found.wrong(np.array([-0.0, 0.0, 0.0], np.float32)).all()
    either = apply("maximum", of(0.0), of(-0.0))
    assert not either.wrong(np.array([-0.0], np.float32)).any()
    assert not either.wrong(np.array([0.0], np.float32)).any()
    pole = apply("reciprocal", either)
    assert not pole.wrong(np.array([-np.inf], np.float32)).any()


def test_nan_and_infinities_have_to_be_where_they_are():
    x = of(np.nan, np.inf, -np.inf, 1.0, 200.0)
    for name in ("exp", "add"):
        found = apply(name, x) if name == "exp" else apply(name, x, of(1.0, 1.0, 1.0, 1.0, 1.0))
        assert not found.wrong(found.value).any()
        wrong = np.array([1.0, 1.0, 1.0, np.nan, np.nan], np.float32)
        assert found.wrong(wrong).all()
    assert found.wrong(np.array([np.inf] * 5, np.float32)).tolist() == [True, False, True, True, True]


def test_ties_poles_and_overflow_that_rounding_decides_are_free():
    near = around(1.0, 1 - 1e-6, 1 + 1e-6)
    for answer in (True, False):
        assert not apply("gt", near, of(1.0)).wrong(np.array([answer])).any()
    assert apply("gt", near, of(0.5)).wrong(np.array([False])).all()
    chosen = apply("where", apply("gt", near, of(1.0)), of(3.0), of(-3.0))
    assert not chosen.wrong(np.array([3.0], np.float32)).any()
    assert not chosen.wrong(np.array([-3.0], np.float32)).any()
    assert chosen.wrong(np.array([4.0], np.float32)).all()
    assert apply("div", of(1.0), around(0.0, -1e-6, 1e-6)).free is not None
    most = float(np.finfo(np.float32).max)
    top = apply("mul", around(most, most * (1 - 1e-7), most), around(1.0, 1 - 1e-7, 1 + 1e-7))
    for value in (most, np.inf):
        assert not top.wrong(np.array([value], np.float32)).any()
    assert top.wrong(np.array([1.0], np.float32)).all()
    assert apply("floor", near).wrong(np.array([2.0], np.float32)).all()
    assert not apply("floor", near).wrong(np.array([0.0], np.float32)).any()


def test_denormal_numbers_may_be_taken_for_zero():
    small = of(TINY / 4, -TINY / 4)
    assert not small.wrong(np.zeros(2, np.float32)).any()
    assert not small.wrong(small.value).any()
    assert small.wrong(np.array([TINY, TINY], np.float32)).all()
    assert not apply("mul", of(TINY), of(0.5)).wrong(np.zeros(1, np.float32)).any()
    assert not apply("log", of(TINY / 4)).wrong(np.array([-np.inf], np.float32)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 10**6))
def test_sums_in_any_order_are_within_the_bound(n, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, n)) * 10.0 ** rng.integers(-3, 4, (3, n))).astype(np.float32)
    found = sum_bounds.reduce("sum", bounds.read(x), 1)
    forward = np.add.accumulate(x, 1, np.float32)[:, -1]
    backward = np.add.accumulate(np.sort(x, 1), 1, np.float32)[:, -1]
    for y in (forward, backward, x.sum(1)):
        assert not found.wrong(y).any()
    spread = np.abs(x).astype(np.float64).sum(1)
    off = (found.value + 1.1 * (n + 4) * 2.0**-24 * spread).astype(np.float32)
    assert found.wrong(off).all()


def test_sums_of_special_values():
    x = of(np.inf, 1.0).value, of(np.inf, -np.inf).value, of(np.nan, 1.0).value, of(3e38, 3e38).value
    found = sum_bounds.reduce("sum", bounds.read(np.stack(x)), 1)
    assert not found.wrong(np.array([np.inf, np.nan, np.nan, np.inf], np.float32)).any()
    wrong = found.wrong(np.array([1.0, np.inf, 1.0, np.nan], np.float32))
    assert wrong[:3].all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_products_in_any_order_are_within_the_bound(seed, dtype):
    rng = np.random.default_rng(seed)
    m, k, n = rng.integers(1, 30, 3)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    found = sum_bounds.product(a, b)
    y = np.zeros((m, n), dtype)
    for p in rng.permutation(k):
        y += a[:, p : p + 1] * b[p]
    assert not found.wrong(y).any()
    eps = np.finfo(dtype).eps
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    assert (lengths * (1 + 10 * eps) >= np.abs(a) @ np.abs(b)).all()
    off = found.value + 2 * (k + 3) * eps * lengths
    assert found.wrong(off.astype(dtype)).all()


def test_large_products_are_held_to_their_own_precision(monkeypatch):
    monkeypatch.setattr(sum_bounds, "LARGE", 0)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((40, 40)).astype(np.float32) for _ in range(2))
    found = sum_bounds.product(a, b)
    assert not found.wrong((a.astype(np.float64) @ b).astype(np.float32)).any()
    assert found.wrong(a[:, :-1] @ b[:-1]).mean() > 0.99


def test_products_with_special_values():
    a = np.array([[1.0, np.inf], [0.0, np.inf], [np.nan, 1.0], [TINY / 4, 1.0]], np.float32)
    b = np.array([[1.0, 2.0], [1.0, 0.0]], np.float32)
    found = sum_bounds.product(a, b)
    with np.errstate(invalid="ignore"):
        y = a @ b
    assert not found.wrong(y).any()
    assert found.wrong(np.ones_like(y))[:2].all()


def test_a_sum_that_overflows_in_some_order_may_be_either():
    x = np.array([[3e38, 3e38, -3e38], [1.0, 2.0, 3.0]], np.float32)
    found = sum_bounds.reduce("sum", bounds.read(x), 1)
    for value in (3e38, np.inf, -7.0):
        assert not found.wrong(np.array([value, 6.0], np.float32)).any()
    assert found.wrong(np.array([np.inf, 6.5], np.float32)).tolist() == [False, True]
