"""The text of tensors, character for character as PyTorch prints them."""

import math

import numpy as np
import pytest

import chainrule

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.crosscheck

NAN, INF = math.nan, math.inf
DATA = [
    [1.0, 2.5],
    [1.0, 2.0, 3.0],
    [-1.0, 2.0, 3.0],
    [1e-3, 1e3, 5.0],
    [1e-5, 1.0],
    [1e8, 1.0],
    [1e9, 1.5],
    [1e-5],
    [1e-4],
    [0.0001234],
    [0.001, 1.5],
    [0.001, 1.0],
    [0.0011, 1.1],
    [999.5, 0.5],
    [1001.5, 1.0],
    [12345.678, 1.0],
    [123456.0, 0.5],
    [NAN, 1.0],
    [NAN, 1.5],
    [INF, -INF, 1.5],
    [NAN, INF],
    [NAN, INF, 1e-9],
    [-INF, 2.0],
    [0.0, -0.0],
    [-0.0, 0.5],
    3.0,
    3.14159265,
    3,
    True,
    NAN,
    1e-10,
    1e10,
    123456789.0,
    -2.5,
    [1, 20, -300],
    [[1, 2], [3, 4]],
    [True, False],
    [[True], [False]],
    [],
    [[]],
    [[[1.5]]],
    [0.1, 0.22, 0.333],
    [1e38, 1.0],
    [1e-38],
]
SHAPES = [
    (0, 3),
    (2, 0),
    (1001,),
    (1000,),
    (40, 50),
    (20, 20, 50),
    (2, 600),
    (600, 2),
    (7, 7, 30),
    (2, 2, 2, 2),
    (40,),
    (2, 30),
    (1, 1),
]
DTYPES = ["float64", "float16", "int32", "int8", "uint8", "int16", "int64", "bool"]


def _same(make):
    assert repr(make(chainrule)) == repr(make(torch)).replace("torch.", "chainrule.")


@pytest.mark.parametrize("data", DATA, ids=str)
def test_data(data):
    _same(lambda T: T.tensor(data))
    _same(lambda T: T.tensor(data, dtype=T.float64))
    _same(lambda T: T.tensor(data, dtype=T.float32, requires_grad=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape):
    count = math.prod(shape)
    numbers = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    _same(lambda T: T.arange(count).reshape(shape))
    _same(lambda T: T.arange(float(count)).reshape(shape))
    _same(lambda T: T.zeros(shape, requires_grad=True))
    _same(lambda T: T.zeros(shape) > 1)
    _same(lambda T: T.from_numpy(numbers))
    _same(lambda T: T.from_numpy(numbers * 1e5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    _same(lambda T: T.ones(2, dtype=getattr(T, dtype)))
    _same(lambda T: T.zeros(0, dtype=getattr(T, dtype)))
    _same(lambda T: T.zeros(0, 3, dtype=getattr(T, dtype)))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"threshold": 5},
        {"edgeitems": 1, "threshold": 5},
        {"linewidth": 40},
        {"profile": "short"},
        {"profile": "full"},
        {"sci_mode": True},
        {"sci_mode": False},
    ],
    ids=str,
)
def test_print_options(options):
    numbers = np.random.default_rng(0).standard_normal((12, 9)).astype(np.float32) * 1e3
    try:
        for library in (chainrule, torch):
            library.set_printoptions(**options)
        _same(lambda T: T.from_numpy(numbers))
        _same(lambda T: T.arange(1200))
        _same(lambda T: T.tensor([1.0, 2.0]))
    finally:
        for library in (chainrule, torch):
            library.set_printoptions(profile="default")


#: results whose node bears PyTorch's name; a and v require gradients
NAMED = [
    "a * a",
    "a + 1",
    "a - 1",
    "a / 2",
    "a**2",
    "a**a",
    "2**a",
    "-a",
    "a.sum()",
    "a.sum(0)",
    "a.mean()",
    "a.mean(1)",
    "a.amax(0)",
    "a.exp()",
    "a.log()",
    "a.sqrt()",
    "a.tanh()",
    "a.sigmoid()",
    "a.relu()",
    "a.abs()",
    "a.sin()",
    "a.cos()",
    "a.square()",
    "a.rsqrt()",
    "a.log1p()",
    "a @ a",
    "a.mm(a)",
    "w.bmm(w)",
    "a.view(4)",
    "a.reshape(4)",
    "a.flatten()",
    "a.T",
    "a.permute(1, 0)",
    "a[0]",
    "a[0:1]",
    "a[0, 1]",
    "a[T.tensor([0])]",
    "a[a > 1]",
    "a.unsqueeze(0)",
    "a[None]",
    "v.expand(2, 2)",
    "T.cat([a, a])",
    "T.where(a > 1, a, a * 2)",
    "a.clone()",
    "a.softmax(1)",
    "a.log_softmax(1)",
    "a.cumsum(0)",
    "a.gather(0, T.tensor([[0, 1]]))",
    "T.nn.functional.linear(a, a)",
    "T.nn.functional.linear(a, a, v)",
    "T.nn.functional.cross_entropy(a, T.tensor([0, 1]))",
    "T.nn.functional.silu(a)",
    "a.double()",
    "T.maximum(a, v)",
    "a.tril()",
    "a.flip(0)",
    "(a * 1).add_(1)",
    "(a * 1).relu_()",
    "a.detach()",
    "a.masked_fill(a > 1, 0.0) * 1",
]


@pytest.mark.parametrize("expression", NAMED)
def test_names_of_nodes(expression):
    def make(T):
        a, v, w = (
            T.tensor(d, requires_grad=True) for d in ([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0], [[[1.0, 2.0], [3.0, 4.0]]])
        )
        return eval(expression, {"T": T, "a": a, "v": v, "w": w})

    _same(make)


def test_writing_a_part_is_called_copy_slices():
    def make(T):
        x = T.ones(2, requires_grad=True) * 1
        x[0] = 2.0
        return x

    _same(make)


def test_parameter():
    _same(lambda T: T.nn.Parameter(T.tensor([[1.0, 2.0]])))
