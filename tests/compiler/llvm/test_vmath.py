"""Vector math against references in wider precision, and integer and special values against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from scipy import special

import chainrule.ops  # noqa: F401 - fills the registry
from chainrule.compiler.llvm import vmath
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.values import kind_of
from chainrule.ir.op import REGISTRY
from native_elementwise import ALL_LEVELS, run, target_of, ulps

LONG = np.longdouble
WIDE = np.finfo(LONG).nmant >= 63
needs_wide = pytest.mark.skipif(not WIDE, reason="numpy.longdouble is no wider than float64 here")
CHOOSING = ["maximum", "minimum", "clamp_min", "clamp_max"]
TESTS = ["signbit", "isnan", "isinf", "isfinite"]
EXACT = ["sqrt", "reciprocal", "floor", "ceil", "trunc", "round"]


def _gelu(x):
    # from the side on which nothing cancels
    tail = special.erfc(np.abs(x) * np.sqrt(0.5)) / 2
    return np.where(x < 0, x * tail, x * (1 - tail))


UNARY = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, np.zeros_like(x)), "silu": lambda x: x / (1 + np.exp(-x)),
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
}  # fmt: skip
SINGLE = {"erf": special.erf, "erfc": special.erfc, "gelu": _gelu}
BINARY = {
    "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "div": np.divide, "copysign": np.copysign,
    "xlogy": lambda x, y: np.where((x == 0) & (y == y), 0, x * np.log(y)),
}  # fmt: skip
GAMMA = ["erfinv", "lgamma", "digamma", "polygamma"]  # test_vgamma.py
EDGES = [
    0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 1.5, 2.5, -2.5, 0.49999997, 1e-45, -1e-45, 3e-39,
    5e-324, 1e-310, -1e-310, 88.72, 88.73, -87.4, -103.9, -104.1, 128.0, -149.0, -150.0, 709.78, 709.79, 710.4, 710.5,
    -708.5, -745.1, -745.2, 1024.0, -1075.0, 1e5, 1e6, 3.3e15, 1e22, 6381956970095103.0 * 2.0**797, 3e38, -3e38, 1e300,
]  # fmt: skip


def samples(dtype, n=6000):
    """Dense samples around zero, in every range, around 1, and of every exponent; and the edges."""
    rng = np.random.default_rng(0)
    parts = [rng.uniform(-r, r, n) for r in (1, 10, 100, 750)]
    parts += [rng.standard_normal(n), 1 + rng.standard_normal(n) * 1e-3]
    bits = (
        rng.integers(0, 2**64, n, dtype=np.uint64)
        if dtype == np.float64
        else rng.integers(0, 2**32, n, dtype=np.uint32)
    )
    with np.errstate(over="ignore"):
        return np.concatenate([np.concatenate([*parts, EDGES]).astype(dtype), bits.view(dtype)])


def _worst(name, xs, y, exact, bound=2.0):
    error = ulps(y, exact)
    if name == "sigmoid":  # its tiny values become zero
        error = np.where((y == 0) & (exact < np.finfo(y.dtype).tiny * 1.01), 0, error)
    k = int(np.argmax(error))
    assert error[k] <= bound, f"{name}{tuple(x[k] for x in xs)!r} = {y[k]!r}, exactly {exact[k]!r}: {error[k]:.3g} ulp"


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("name", [*UNARY, *SINGLE])
def test_float32_is_within_two_ulp(name, level):
    x = samples(np.float32)
    with np.errstate(all="ignore"):
        exact = (UNARY | SINGLE)[name](x.astype(np.float64))
    y, _ = run(level, name, x)
    assert y.dtype == np.float32
    _worst(name, [x], y, exact, 0.5 if name in EXACT else 2)


@needs_wide
@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("name", list(UNARY))
def test_float64_is_within_two_ulp(name, level):
    x = samples(np.float64)
    with np.errstate(all="ignore"):
        exact = UNARY[name](x.astype(LONG))
    y, _ = run(level, name, x)
    _worst(name, [x], y, exact, 0.5 if name in EXACT else 2)


@needs_wide
@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("name", list(SINGLE))
def test_float64_error_functions_against_many_digits(name, level):
    mp = pytest.importorskip("mpmath", reason="the reference for float64 is mpmath")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-r, r, 400) for r in (1, 7, 27)] + [np.logspace(-300, 0, 60)])
    rules = {"erf": mp.erf, "erfc": mp.erfc, "gelu": lambda v: v * mp.erfc(-v / mp.sqrt(2)) / 2}
    with mp.workdps(40):
        exact = np.array([LONG(mp.nstr(rules[name](mp.mpf(float(v))), 25)) for v in x])
    _worst(name, [x], run(level, name, x)[0], exact)
    ends = np.array([np.inf, -np.inf, np.nan, 40.0, -40.0, -0.0])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(level, name, ends)[0], REGISTRY[name].kernel(ends))


def pairs(dtype, n=3000):
    rng = np.random.default_rng(1)
    x = [rng.uniform(0, 10, n), rng.uniform(-10, 10, n), np.exp(rng.uniform(-80, 80, n)), 1 + rng.normal(0, 1e-3, n)]
    y = [rng.uniform(-10, 10, n), rng.uniform(-10, 10, n), rng.uniform(-2, 2, n), rng.uniform(-1e5, 1e5, n)]
    whole = rng.integers(-20, 20, (2, n))
    ends = [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, -2, 0.5, -0.5, 3, -3, 1e30, -1e30, 1e-30, 2.5, -2.5]
    u, v = np.meshgrid(ends, ends)
    return np.concatenate([*x, whole[0], u.ravel()]).astype(dtype), np.concatenate([*y, whole[1], v.ravel()]).astype(
        dtype
    )


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=needs_wide)])
@pytest.mark.parametrize("name", list(BINARY))
def test_functions_of_two_numbers(name, dtype, level):
    x, y = pairs(dtype)
    wide = np.float64 if dtype == np.float32 else LONG
    with np.errstate(all="ignore"):
        exact = BINARY[name](x.astype(wide), y.astype(wide))
    z, _ = run(level, name, x, y)
    _worst(name, [x, y], z, exact, 0.5 if name in ("div", "copysign") else 2)
    np.testing.assert_array_equal(np.signbit(z[z == 0]), np.signbit(exact[z == 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logaddexp_has_the_error_of_its_larger_term(dtype):
    x, y = pairs(dtype)
    with np.errstate(all="ignore"):
        exact = np.logaddexp(x.astype(LONG), y.astype(LONG))
        z, _ = run("host", "logaddexp", x, y)
        finite = np.isfinite(x) & np.isfinite(y)
        size = np.maximum(np.abs(exact), np.maximum(np.abs(x), np.abs(y)))[finite]
        assert np.all(np.abs(z - exact)[finite] <= 2 * np.spacing(size.astype(dtype)))
    np.testing.assert_array_equal(z[~finite], exact[~finite].astype(dtype))


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide", "where", *CHOOSING])
def test_these_are_numpys_bit_for_bit(name, dtype, level):
    x, y = pairs(dtype)
    args = (x > 0, x, y) if name == "where" else (x, y)
    with np.errstate(all="ignore"):
        expected = REGISTRY[name].kernel(*args)
    z, _ = run(level, name, *args)
    np.testing.assert_array_equal(z, expected)
    if name not in CHOOSING:  # which zero they give is nobody's promise
        np.testing.assert_array_equal(np.signbit(z[z == 0]), np.signbit(expected[z == 0]))


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sign", "abs", "neg", "relu", *TESTS])
def test_rounding_signs_and_tests_are_numpys(name, dtype, level):
    x = np.concatenate([samples(dtype, 500), np.arange(-8, 8, 0.25, dtype)])
    with np.errstate(all="ignore"):
        expected = REGISTRY[name].kernel(x)
    y, _ = run(level, name, x)
    np.testing.assert_array_equal(y, expected)
    if name not in (*TESTS, "relu"):
        zeros = y == 0
        np.testing.assert_array_equal(np.signbit(y[zeros]), np.signbit(expected[zeros]))


DTYPES = [np.dtype(t) for t in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")]
OF_ALL = sorted(n for n in vmath.EMITTERS if n not in (*UNARY, *SINGLE, *BINARY, *GAMMA, "logaddexp") or n == "pow")


def _operands(dtype, arity):
    rng = np.random.default_rng(2)
    if dtype.kind == "b":
        return [rng.integers(0, 2, 64).astype(bool) for _ in range(arity)]
    if dtype.kind == "f":
        return [rng.uniform(-9, 9, 256).astype(dtype) for _ in range(arity)]
    info = np.iinfo(dtype)
    some = np.array(
        [info.min, info.min + 1, info.max, 0, 1, 2, 3, 7, 8, 63, 64] + ([-1, -2, -7] if info.min else []), dtype
    )
    grid = np.meshgrid(*[some] * arity)
    return [np.concatenate([g.ravel(), rng.integers(info.min, info.max, 999, dtype)]) for g in grid]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OF_ALL)
def test_every_dtype_is_numpys(name, dtype):
    op = REGISTRY[name]
    if not vmath.lowers(name, dtype, has_f16=target_of("host").has_f16):
        b = Module(target_of("host")).function("f")
        with pytest.raises(vmath.NotLoweredError):
            vmath.EMITTERS[name](b, 1, dtype, *[b.zero(kind_of(dtype))] * op.arity)
        return
    args = _operands(dtype, op.arity)
    if dtype.kind in "iu" and name in ("remainder", "fmod", "floor_divide"):
        args[1] = np.where(args[1] == 0, 1, args[1])
    if dtype.kind in "iu" and name == "pow":
        args[1] = np.abs(args[1]) % 11
    if name == "where":
        args[0] = args[0] != 0
    with np.errstate(all="ignore"):
        expected = op.kernel(*args)
    for width in (None, 1, 4):
        y, reported = run("host", name, *args, width=width)
        assert y.dtype == expected.dtype
        assert not reported
        if name == "pow" and dtype.kind == "f":
            np.testing.assert_array_max_ulp(y[~np.isnan(expected)], expected[~np.isnan(expected)], 2)
        else:
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide"])
def test_an_integer_divided_by_zero_is_reported_and_does_not_trap(name):
    x, y = np.arange(40, dtype=np.int32), np.ones(40, np.int32)
    y[17] = 0
    assert run("host", name, x, y)[1]


def test_a_negative_power_of_an_integer_is_reported():
    assert run("host", "pow", np.full(20, 2), np.arange(-1, 19))[1]


def test_ops_that_may_refuse_are_not_lowered_without_a_way_to_report():
    b = Module(target_of("host")).function("f")
    with pytest.raises(vmath.NotLoweredError, match="floor_divide"):
        vmath.EMITTERS["floor_divide"](b, 1, "i32", b.zero("i32"), b.zero("i32"))


def test_every_elementwise_op_is_lowered():
    assert set(vmath.EMITTERS) == {n for n, op in REGISTRY.items() if op.kind == "elementwise"}


@pytest.mark.parametrize("width", [2, 4, 8, 32])
@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "silu", "gelu", "sin", "log"])
def test_vectors_of_any_width(name, width):
    """Widths below and above the register's give the same values within rounding."""
    x = np.random.default_rng(0).uniform(0.1, 9, 100).astype(np.float32)
    y, _ = run("host", name, x, width=width)
    _worst(name, [x], y, (UNARY | SINGLE)[name](x.astype(np.float64)))


def test_lanes_do_not_influence_each_other():
    """A large angle takes another path; its neighbours' values stay what they are alone."""
    x = np.linspace(-3, 3, 67)
    y = x.copy()
    y[::5] = 1e22
    alone, mixed = run("host", "sin", x)[0], run("host", "sin", y)[0]
    keep = np.arange(67) % 5 != 0
    np.testing.assert_array_equal(alone[keep], mixed[keep])
    np.testing.assert_allclose(mixed[~keep], -0.8522008497671888, rtol=4e-16)
