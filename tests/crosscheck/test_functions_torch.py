"""The public functions against PyTorch: value, dtype, shape and gradient; special values; and the promotion of dtypes."""

import itertools
import operator
import warnings

import numpy as np
import pytest
from function_cases import CALLS, flat_arrays, rebuild

import chainrule as cr
from chainrule import tensors

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("ignore::UserWarning:torch")]

INF, NAN = float("inf"), float("nan")


def torch_function(name):
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


def flat(value):
    return [v for w in value for v in flat(w)] if isinstance(value, (tuple, list)) else [value]


def run(module, case, kind):
    """Results and gradients (of the floating results with fixed cotangents) of a case, as NumPy arrays."""
    arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in flat_arrays(case.args)]
    make = (lambda a: cr.tensor(a)) if module is cr else (lambda a: torch.tensor(a))
    leaves = [make(a) for a in arrays]
    floats = [t for t, a in zip(leaves, arrays, strict=True) if a.dtype.kind == "f"]
    for t in floats:
        t.requires_grad_()
    function = getattr(tensors, case.name) if module is cr else torch_function(case.name)
    ys = flat(function(*rebuild(case.args, iter(leaves)), **case.kwargs))
    if not isinstance(ys[0], (cr.Tensor, torch.Tensor)):
        return [np.asarray(y) for y in ys], []
    followed = [y for y in ys if y.requires_grad]
    if followed:
        seeds = [np.asarray(np.random.default_rng(k).standard_normal(tuple(y.shape))).astype(str(y.dtype).rpartition(".")[2]) for k, y in enumerate(followed)]
        module.autograd.backward(followed, [make(s) for s in seeds])
    return [y.detach().numpy() for y in ys], [None if t.grad is None else t.grad.numpy() for t in floats]


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("case", CALLS, ids=repr)
def test_value_dtype_shape_and_gradient(case, kind):
    got, got_gradients = run(cr, case, kind)
    want, want_gradients = run(torch, case, kind)
    assert len(got) == len(want)
    eps = np.finfo(kind).eps
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=200 * eps, atol=200 * eps)
    for g, w in zip(got_gradients, want_gradients, strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            assert g.dtype == w.dtype
            np.testing.assert_allclose(g, w, rtol=1000 * eps, atol=1000 * eps)


# ---- special values
UNARY = (
    "abs neg sign exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh "
    "asinh acosh atanh erf erfc erfinv lgamma digamma sigmoid relu floor ceil trunc round frac isnan isinf isfinite signbit "
    "nan_to_num sinc logit deg2rad sgn silu gelu softplus"
).split()
POINTS = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 100.0, -100.0, 1e-30, -1e-30, 3e38]
BINARY = "add sub mul div pow remainder fmod floor_divide maximum minimum atan2 hypot copysign logaddexp xlogy eq ne lt le gt ge".split()
PAIRS = list(itertools.product([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 0.5], repeat=2))
# (function, points) where chainrule differs on purpose, with the reason
DIFFERS = {}


def compare(name, columns, kind):
    ours, theirs = [], []
    for module, out in ((cr, ours), (torch, theirs)):
        xs = [module.tensor(c, dtype=getattr(module, kind), requires_grad=True) for c in columns]
        function = getattr(tensors, name) if module is cr else torch_function(name)
        with np.errstate(all="ignore"):
            y = function(*xs)
            if y.requires_grad:
                y.sum().backward()
        out.append(y.detach().numpy())
        out += [np.zeros(len(columns[0])) if x.grad is None else x.grad.numpy() for x in xs]
    return ours, theirs


def differing(columns, ours, theirs, rtol):
    """The points at which a value or gradient differs."""
    found = []
    for k, point in enumerate(zip(*columns, strict=True)):
        for what, a, b in zip(("value", "gradient 0", "gradient 1"), ours, theirs, strict=False):
            if not np.allclose(a[k], b[k], rtol=rtol, atol=1e-35, equal_nan=True):
                found.append(f"{what} at {point}: {a[k]}, torch {b[k]}")
    return found


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", UNARY)
def test_special_values_of_one_argument(name, kind):
    ours, theirs = compare(name, [POINTS], kind)
    found = differing([POINTS], ours, theirs, 100 * np.finfo(kind).eps)
    assert [f for f in found if not any(d in f for d in DIFFERS.get(name, ()))] == []


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_special_values_of_two_arguments(name, kind):
    columns = [[p[i] for p in PAIRS] for i in (0, 1)]
    ours, theirs = compare(name, columns, kind)
    found = differing(columns, ours, theirs, 100 * np.finfo(kind).eps)
    assert [f for f in found if not any(d in f for d in DIFFERS.get(name, ()))] == []


# ---- promotion
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip


def operands(module):
    """Every dtype as a vector and as a scalar tensor, and the three kinds of Python number."""
    made = {}
    for kind in DTYPES:
        numbers = np.array([1, 1, 2]).astype(kind)
        make = (lambda a: cr.tensor(a)) if module is cr else (lambda a: torch.tensor(a))
        made[f"{kind}[3]"], made[f"{kind}[]"] = make(numbers), make(numbers[2])
    return made | {"True": True, "2": 2, "1.5": 1.5}


OURS, THEIRS = operands(cr), operands(torch)
COMBINATIONS = [(a, b) for a in OURS for b in OURS if "[" in a or "[" in b]


def outcome(function, *args):
    """dtype name, shape and values of a result, or the word "error"."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            y = function(*args)
        except (RuntimeError, TypeError, NotImplementedError, ValueError):
            return "error"
    return str(y.dtype).rpartition(".")[2], tuple(y.shape), y.tolist()


@pytest.mark.parametrize("symbol", OPERATORS)
def test_promotion_of_operators(symbol):
    function = OPERATORS[symbol]
    wrong = []
    for a, b in COMBINATIONS:
        got, want = outcome(function, OURS[a], OURS[b]), outcome(function, THEIRS[a], THEIRS[b])
        if got != want:
            wrong.append(f"{a} {symbol} {b}: {got}, torch {want}")
    assert wrong == []


@pytest.mark.parametrize("name", ["maximum", "minimum", "where", "atan2", "fmod", "xlogy", "copysign", "hypot", "logaddexp", "logical_and"])
def test_promotion_of_functions(name):
    wrong = []
    for a, b in COMBINATIONS:
        results = []
        for module, made in ((cr, OURS), (torch, THEIRS)):
            args = (made[a], made[b])
            if name == "where":
                args = (module.tensor([True, False, True]), *args)
            function = getattr(tensors, name) if module is cr else getattr(torch, name)
            results.append(outcome(function, *args))
        if results[0] != results[1] and results[1] != "error":
            wrong.append(f"{name} {a} {b}: {results[0]}, torch {results[1]}")
    assert wrong == []


def test_result_type():
    from chainrule.core.dtypes import python_dtype, result_type

    for a, b in COMBINATIONS:
        pairs = [
            (v._d.dtype, 2 if v.ndim else 1) if isinstance(v, cr.Tensor) else (python_dtype(v), 0)
            for v in (OURS[a], OURS[b])
        ]
        assert result_type(pairs).name == str(torch.result_type(THEIRS[a], THEIRS[b])).rpartition(".")[2], (a, b)
