"""Gamma functions and the inverse of erf: against mpmath to many digits, at the edges against the reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule.ops  # noqa: F401 - fills the registry
from chainrule.ir.op import REGISTRY
from native_elementwise import ALL_LEVELS, run, ulps

mp = pytest.importorskip("mpmath", reason="the reference is mpmath")

LONG = np.longdouble
UNARY = {"erfinv": mp.erfinv, "lgamma": lambda x: mp.log(abs(mp.gamma(x))), "digamma": mp.digamma}
ENDS = np.array(
    [0.0, -0.0, 1.0, -1.0, -2.0, np.inf, -np.inf, np.nan, 1e-300, -1e-300, 2.0, 1e300, -1e300, 1.5, -1.5, 0.5]
)


def exact(rule, *xs):
    with mp.workdps(50):
        return np.array([LONG(mp.nstr(rule(*(mp.mpf(float(t)) for t in v)), 25)) for v in zip(*xs, strict=True)])


def points(name, dtype):
    rng = np.random.default_rng(0)
    if name == "erfinv":
        x = np.concatenate([rng.uniform(-1, 1, 200), 1 - 10 ** rng.uniform(-15, 0, 100), 10 ** rng.uniform(-30, 0, 50)])
        x = x.astype(dtype)
        return x[np.abs(x) < 1]
    near = np.concatenate([s * 10 ** rng.uniform(-12, -1, 40) for s in (1, -1)])
    zeros = [1 + near, 2 + near] if name == "lgamma" else [1.4616321449683623 + near]
    parts = [rng.uniform(0.01, 4, 200), rng.uniform(3, 50, 100), 10 ** rng.uniform(-30, 30, 100), *zeros]
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(UNARY))
def test_within_three_ulp(name, dtype, level):
    x = points(name, dtype)
    assert ulps(run(level, name, x)[0], exact(UNARY[name], x)).max() <= (1 if dtype == np.float32 else 3)


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_between_negative_poles_the_error_is_that_of_the_larger_term(name, level):
    x = np.random.default_rng(1).uniform(-30, 0, 300)
    found, wanted = run(level, name, x)[0], exact(UNARY[name], x)
    term = np.array([float(abs(mp.loggamma(1 - t)) if name == "lgamma" else mp.digamma(1 - t)) for t in x]) + 4
    assert (np.abs(found - wanted) <= 2.0**-50 * (term + np.abs(wanted))).all()


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_polygamma_of_small_orders(dtype, level):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(0.01, 4, 80), rng.uniform(4, 100, 40)]).astype(dtype)
    n = rng.integers(0, 6, x.size).astype(dtype)
    wanted = exact(lambda k, t: mp.polygamma(int(k), t), n, x)
    assert ulps(run(level, "polygamma", n, x)[0], wanted).max() <= (1 if dtype == np.float32 else 4)


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(UNARY))
def test_special_values_are_the_reference_kernels(name, dtype, level):
    with np.errstate(all="ignore"):
        x = ENDS.astype(dtype)
        wanted = REGISTRY[name].kernel(x)
    np.testing.assert_allclose(run(level, name, x)[0], wanted, rtol=1e-14 if dtype == np.float64 else 2e-7)


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 20.0, 171.0, np.nan])
def test_special_values_of_polygamma_are_the_reference_kernels(order, level):
    x = ENDS[(ENDS > -100) & (ENDS != -1.5)]  # there the reference kernel's terms cancel
    n = np.full_like(x, order)
    with np.errstate(all="ignore"):
        wanted = REGISTRY["polygamma"].kernel(n, x)
    np.testing.assert_allclose(run(level, "polygamma", n, x)[0], wanted, rtol=1e-13)
