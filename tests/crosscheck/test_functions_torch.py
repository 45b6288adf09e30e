"""The public functions against PyTorch: value, dtype, shape, gradient; special values; the promotion of dtypes."""

import itertools
import operator
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import tensors
from function_cases import CALLS, flat_arrays, rebuild

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("ignore::UserWarning:torch")]

INF, NAN = float("inf"), float("nan")


def torch_function(name):
    return getattr(torch, name, None) or getattr(torch.Tensor, name, None) or getattr(torch.nn.functional, name)


def our_function(name):
    return getattr(tensors, name, None) or getattr(cr.Tensor, name)


def flat(value):
    return [v for w in value for v in flat(w)] if isinstance(value, (tuple, list)) else [value]


# calls that PyTorch computes but cannot differentiate
NO_BACKWARD = {"floor_divide", "heaviside", "bincount"}
SCATTERS = {"scatter", "scatter_add"}  # with a source larger than the index, neither


def run(module, case, kind):
    """Results and gradients (of the floating results with fixed cotangents) of a case, as NumPy arrays."""
    arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in flat_arrays(case.args)]
    make = (lambda a: cr.tensor(a)) if module is cr else (lambda a: torch.tensor(a))
    leaves = [make(a) for a in arrays]
    floats = [t for t, a in zip(leaves, arrays, strict=True) if a.dtype.kind == "f"]
    for t in floats:
        t.requires_grad_()
    function = our_function(case.name) if module is cr else torch_function(case.name)
    ys = flat(function(*rebuild(case.args, iter(leaves)), **case.kwargs))
    if not isinstance(ys[0], (cr.Tensor, torch.Tensor)):
        return [np.asarray(y) for y in ys], []
    skipped = case.name in NO_BACKWARD or (
        case.name in SCATTERS and len(arrays) == 3 and arrays[1].shape != arrays[2].shape
    )
    followed = [y for y in ys if y.requires_grad and not skipped]
    if followed:
        seeds = [
            np.asarray(np.random.default_rng(k).standard_normal(tuple(y.shape))).astype(str(y.dtype).rpartition(".")[2])
            for k, y in enumerate(followed)
        ]
        module.autograd.backward(followed, [make(s) for s in seeds])
    return [y.detach().numpy() for y in ys], [
        np.zeros(t.shape, kind) if t.grad is None else t.grad.numpy(force=True) for t in floats
    ]


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
    loose = 1e-8 if case.name == "digamma" else 1000 * eps  # PyTorch's trigamma has nine digits
    for g, w in zip(got_gradients, want_gradients, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=loose, atol=1000 * eps)


# ---- special values
UNARY = [
    "abs",
    "neg",
    "sign",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "sigmoid",
    "relu",
    "floor",
    "ceil",
    "trunc",
    "round",
    "frac",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "nan_to_num",
    "sinc",
    "logit",
    "deg2rad",
    "sgn",
    "silu",
    "gelu",
    "softplus",
]
POINTS = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 100.0, -100.0, 1e-30, -1e-30, 3e38]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "remainder",
    "fmod",
    "floor_divide",
    "maximum",
    "minimum",
    "atan2",
    "hypot",
    "copysign",
    "logaddexp",
    "xlogy",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
]
PAIRS = list(itertools.product([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 0.5], repeat=2))
# (function, points) where chainrule differs on purpose, with the reason
DIFFERS = {
    "sign": ["at (nan,)"],  # NaN stays NaN, as in NumPy; PyTorch gives 0
    "sgn": ["at (nan,)"],
    "abs": ["gradient 0 at (nan,)"],
    "rsqrt": ["gradient 0 at (-0.0,)"],  # d/dx 1/sqrt(x) = y / (-2 x): the sign of -0 counts once, not three times
    "logit": [
        f"gradient 0 at ({x}"
        for x in ("-0.0", "-1.0", "-0.5", "2.0", "-2.0", "100.0", "-100.0", "-1e-30", "3e+38", "inf", "-inf")
    ],  # outside (0, 1)
    "gelu": ["(inf,)", "(3e+38,)"],  # PyTorch's overflows
    "digamma": ["gradient"],  # poles and nine digits in PyTorch's trigamma
    "copysign": [f"at ({x}inf" for x in ("", "-")],  # y / x is NaN for infinite x in PyTorch
    "floor_divide": ["gradient"],
    "remainder": ["gradient 1 at (inf", "gradient 1 at (-inf"],  # the value is NaN there
    "fmod": ["gradient 1 at (inf", "gradient 1 at (-inf", " 0.0):", "-0.0):"],
}


def compare(name, columns, kind):
    ours, theirs = [], []
    for module, out in ((cr, ours), (torch, theirs)):
        xs = [module.tensor(c, dtype=getattr(module, kind), requires_grad=True) for c in columns]
        function = getattr(tensors, name) if module is cr else torch_function(name)
        with np.errstate(all="ignore"):
            y = function(*xs)
            if y.requires_grad and name not in NO_BACKWARD:
                y.sum().backward()
        out.append(y.detach().numpy())
        out += [np.zeros(len(columns[0])) if x.grad is None else x.grad.numpy(force=True) for x in xs]
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


def same(got, want):
    """Equal dtypes and shapes, and values to the precision of float16."""
    if "error" in (got, want):
        return got == want
    return got[:2] == want[:2] and np.allclose(got[2], want[2], rtol=2e-3, atol=2e-3, equal_nan=True)


@pytest.mark.parametrize("symbol", OPERATORS)
def test_promotion_of_operators(symbol):
    function = OPERATORS[symbol]
    wrong = []
    for a, b in COMBINATIONS:
        got, want = outcome(function, OURS[a], OURS[b]), outcome(function, THEIRS[a], THEIRS[b])
        if want == "error" and got != "error":  # more than PyTorch offers: fine, in the dtype of the rules
            want = (str(torch.result_type(THEIRS[a], THEIRS[b])).rpartition(".")[2], *got[1:])
        if not same(got, want):
            wrong.append(f"{a} {symbol} {b}: {got}, torch {want}")
    assert wrong == []


@pytest.mark.parametrize(
    "name", ["maximum", "minimum", "where", "atan2", "fmod", "xlogy", "copysign", "hypot", "logaddexp", "logical_and"]
)
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
        if results[1] != "error" and not same(*results):
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


ANY_DTYPE = (
    *UNARY,
    "clamp_min",
    "sum",
    "prod",
    "cumsum",
    "cumprod",
    "amax",
    "argmax",
    "max",
    "any",
    "all",
    "sort",
    "argsort",
    "unique",
    "tril",
    "diag",
    "flip",
    "nonzero",
    "count_nonzero",
    "mean",
    "var",
    "logsumexp",
    "softmax",
    "median",
    "topk",
    "ones_like",
    "zeros_like",
    "isclose",
    "float_power",
    "bitwise_not",
    "logical_not",
    "norm",
    "atan2",
)
SECOND = {
    "clamp_min": (1,),
    "cumsum": (0,),
    "cumprod": (0,),
    "logsumexp": (0,),
    "softmax": (0,),
    "topk": (2,),
    "float_power": (2,),
}


# booleans stay booleans when squared, and a test is boolean for uint8 too
OTHER_DTYPE = {("square", "bool"), ("any", "uint8"), ("all", "uint8")}


@pytest.mark.parametrize("name", ANY_DTYPE)
def test_dtypes_of_functions_of_one_tensor(name):
    """The result's dtype and values for every dtype of the argument; where PyTorch refuses, chainrule may compute."""
    wrong = []
    for kind in DTYPES:
        results = []
        for module in (cr, torch):
            x = module.tensor(np.array([2, 1, 1]).astype(kind))
            more = (x,) if name in ("isclose", "atan2") else SECOND.get(name, ())
            function = getattr(tensors, name) if module is cr else torch_function(name)
            results.append(outcome(lambda f=function, a=(x, *more): flat(f(*a))[0]))
        if results[1] != "error" and not same(*results) and (name, kind) not in OTHER_DTYPE:
            wrong.append(f"{kind}: {results[0]}, torch {results[1]}")
    assert wrong == []


# ---- reductions over data that is not plain
ROWS = np.array(
    [
        [1.0, NAN, 3.0, 2.0],
        [INF, 1.0, INF, 0.0],
        [-INF, -INF, -INF, -INF],
        [0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 2.0, -INF],
        [1.0, 2.0, 2.0, 1.0],
    ]
)
REDUCTIONS = {
    "sum": {"dim": 1}, "mean": {"dim": 1}, "prod": {"dim": 1}, "var": {"dim": 1}, "std": {"dim": 1}, "amax": {"dim": 1},
    "amin": {"dim": 1}, "max": {"dim": 1}, "min": {"dim": 1}, "logsumexp": {"dim": 1}, "softmax": {"dim": 1},
    "log_softmax": {"dim": 1}, "cumsum": {"dim": 1}, "cumprod": {"dim": 1}, "norm": {"dim": 1}, "sort": {"dim": 1},
    "argmax": {"dim": 1}, "argmin": {"dim": 1}, "median": {"dim": 1}, "any": {"dim": 1}, "all": {"dim": 1},
    "count_nonzero": {"dim": 1}, "nan_to_num": {}, "quantile": {"q": 0.4, "dim": 1},
}  # fmt: skip
# With infinite factors PyTorch divides the product by them; chainrule multiplies the others.
OTHER_GRADIENT = {("prod", 2), ("prod", 4), ("cumprod", 1), ("cumprod", 2), ("cumprod", 4)}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_reductions_of_awkward_rows(name, row):
    results = []
    for module in (cr, torch):
        x = module.tensor(ROWS[row : row + 1], requires_grad=True)
        function = getattr(tensors, name) if module is cr else torch_function(name)
        with np.errstate(all="ignore"):
            ys = flat(function(x, **REDUCTIONS[name]))
            if ys[0].requires_grad:
                module.autograd.backward([ys[0]], [module.ones_like(ys[0])])
        results.append([y.detach().numpy() for y in ys] + [np.zeros(x.shape) if x.grad is None else x.grad.numpy()])
    *got, gradient = results[0]
    *want, expected = results[1]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-12, equal_nan=True)
    if (name, row) not in OTHER_GRADIENT and not np.isnan(want[0]).any():
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, equal_nan=True)


# ---- creation
CREATION = [
    ("arange", (5,)),
    ("arange", (1, 4)),
    ("arange", (4, 0, -2)),
    ("arange", (0.0, 1.0, 0.3)),
    ("arange", (3, 3)),
    ("arange", (0, 1, 0.1)),
    ("linspace", (0, 1, 7)),
    ("linspace", (-3, 5, 1)),
    ("linspace", (0, 10, 4)),
    ("logspace", (-1, 2, 5)),
    ("logspace", (0, 3, 4, 2)),
    ("eye", (3,)),
    ("eye", (2, 4)),
    ("full", ((2, 2), 7)),
    ("full", ((2,), 2.5)),
    ("full", ((), False)),
    ("zeros", (2, 0, 3)),
    ("ones", ((2, 3),)),
    ("tril_indices", (3, 4, -1)),
    ("triu_indices", (3, 4, 1)),
    ("scalar_tensor", (3,)),
    ("tensor", ([1, 2.5],)),
    ("tensor", ([True, 2],)),
    ("tensor", ([[]],)),
    ("tensor", (True,)),
    ("tensor", (np.float64(1.5),)),
    ("tensor", (np.arange(3, dtype=np.int8),)),
]


@pytest.mark.parametrize("kind", [None, "int64", "float64"])
@pytest.mark.parametrize(("name", "args"), CREATION, ids=str)
def test_creation(name, args, kind):
    results = []
    for module in (cr, torch):
        more = {} if kind is None or name.endswith("indices") else {"dtype": getattr(module, kind)}
        function = getattr(module, name)
        results.append(outcome(lambda f=function, k=more: f(*args, **k)))
    if results[1] == "error":  # PyTorch rounds the step to an integer first
        assert name == "arange"
        return
    assert results[0][:2] == results[1][:2]
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-6, atol=1e-7)
