"""Activations: values from their formulas, slopes at corners, derivatives, special values, modules."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

X = np.array([-30.0, -4.0, -3.0, -1.5, -0.5, -0.25, 0.3, 0.5, 1.0, 2.5, 3.0, 7.0, 30.0])


def phi(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


FORMULAS = {
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "elu": (lambda x: F.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    "selu": (F.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "celu": (lambda x: F.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "gelu": (F.gelu, lambda x: x * phi(x)),
    "gelu_tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x * logistic(x)),
    "mish": (F.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "sigmoid": (F.sigmoid, logistic),
    "logsigmoid": (F.logsigmoid, lambda x: -np.log1p(np.exp(-x))),
    "tanh": (F.tanh, np.tanh),
    "softplus": (F.softplus, lambda x: np.log1p(np.exp(x))),
    "softplus_beta": (lambda x: F.softplus(x, 2.0, 500.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "softsign": (F.softsign, lambda x: x / (1 + np.abs(x))),
    "hardtanh": (lambda x: F.hardtanh(x, -2.0, 0.7), lambda x: np.clip(x, -2.0, 0.7)),
    "relu6": (F.relu6, lambda x: np.clip(x, 0, 6)),
    "hardsigmoid": (F.hardsigmoid, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "hardswish": (F.hardswish, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "softshrink": (lambda x: F.softshrink(x, 0.4), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.4, 0)),
    "hardshrink": (lambda x: F.hardshrink(x, 0.4), lambda x: np.where(np.abs(x) > 0.4, x, 0)),
    "tanhshrink": (F.tanhshrink, lambda x: x - np.tanh(x)),
    "threshold": (lambda x: F.threshold(x, 0.4, -7.0), lambda x: np.where(x > 0.4, x, -7.0)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_is_the_formula(name):
    fn, formula = FORMULAS[name]
    assert fn(cr.tensor(X)).numpy() == pytest.approx(formula(X), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", FORMULAS)
def test_derivative_is_that_of_the_value(name, check_gradient):
    smooth = np.array([-5.3, -2.2, -0.9, -0.1, 0.2, 0.9, 2.2, 4.1, 6.5])
    check_gradient(FORMULAS[name][0], smooth)


@pytest.mark.parametrize("name", FORMULAS)
def test_nan_stays_nan_and_infinities_do_not_become_nan_gradients(name):
    fn = FORMULAS[name][0]
    assert math.isnan(fn(cr.tensor([float("nan")], dtype=cr.float64)).item())
    x = cr.tensor([-1e4, 1e4], dtype=cr.float64, requires_grad=True)
    y = fn(x)
    assert np.isfinite(y.detach().numpy()).all()
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_dtype_is_kept(name):
    assert FORMULAS[name][0](cr.tensor([-1.0, 0.5], dtype=cr.float32)).dtype == cr.float32


def slopes(fn, at: list[float]) -> list[float]:
    x = cr.tensor(at, dtype=cr.float64, requires_grad=True)
    fn(x).sum().backward()
    return x.grad.tolist()


def test_slopes_at_the_corners():
    assert slopes(F.relu, [0.0]) == [0.0]
    assert slopes(lambda x: F.leaky_relu(x, 0.25), [0.0]) == [0.25]
    assert slopes(F.hardtanh, [-1.0, 1.0]) == [0.0, 0.0]
    assert slopes(F.relu6, [0.0, 6.0]) == [0.0, 0.0]
    assert slopes(F.hardsigmoid, [-3.0, 3.0]) == [0.0, 0.0]
    assert slopes(F.logsigmoid, [0.0]) == [0.5]
    assert slopes(F.softsign, [0.0]) == [1.0]


def test_softplus_is_linear_beyond_the_threshold():
    y = F.softplus(cr.tensor([1.0, 3.0], dtype=cr.float64), 2.0, 5.0)
    assert y[1].item() == 3.0
    assert y[0].item() == pytest.approx(math.log1p(math.exp(2.0)) / 2, rel=1e-14)


def test_softmax_family():
    x = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4]])
    p = F.softmax(cr.tensor(x), 1).numpy()
    e = np.exp([1.0, 2.0, 3.0])
    assert p[0] == pytest.approx(e / e.sum(), rel=1e-14)
    assert p[1].tolist() == [1.0, 0.0, 0.0]
    assert F.log_softmax(cr.tensor(x), 1).numpy()[1].tolist() == [0.0, -1e4, -2e4]
    assert F.softmin(cr.tensor(x), 1).numpy()[0] == pytest.approx((e / e.sum())[::-1], rel=1e-14)
    assert F.softmax(cr.tensor(x), 0).numpy().sum(0) == pytest.approx([1, 1, 1])
    assert F.softmax(cr.tensor([1, 2]), 0, dtype=cr.float64).dtype == cr.float64
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
        F.softmax(cr.tensor(x))


def test_softmax_jacobian_is_diag_p_minus_p_pt():
    x = cr.tensor([0.3, -1.0, 2.0], dtype=cr.float64, requires_grad=True)
    p = F.softmax(x, 0)
    v = cr.tensor([1.0, 10.0, 100.0], dtype=cr.float64)
    (p * v).sum().backward()
    q = p.detach().numpy()
    assert x.grad.numpy() == pytest.approx((np.diag(q) - np.outer(q, q)) @ v.numpy(), rel=1e-12)


def test_glu():
    x = cr.tensor([[1.0, 2.0, 0.0, -1.0]], dtype=cr.float64)
    assert F.glu(x).numpy()[0] == pytest.approx([0.5, 2 / (1 + math.e)], rel=1e-14)
    with pytest.raises(RuntimeError, match="must be even, but dimension 1 is size 3"):
        F.glu(x[:, :3], 1)


def test_prelu_one_slope_or_one_per_channel(check_gradient):
    x = np.array([[[-1.0, 2.0], [-3.0, 4.0]]])
    one = F.prelu(cr.tensor(x), cr.tensor([0.5], dtype=cr.float64))
    assert one.tolist() == [[[-0.5, 2.0], [-1.5, 4.0]]]
    two = F.prelu(cr.tensor(x), cr.tensor([0.5, 0.1], dtype=cr.float64))
    assert two.numpy() == pytest.approx(np.array([[[-0.5, 2.0], [-0.3, 4.0]]]))
    check_gradient(F.prelu, x, np.array([0.5, 0.1]))
    check_gradient(F.prelu, x, np.array([0.5]))
    with pytest.raises(RuntimeError, match="1 element or one per channel"):
        F.prelu(cr.tensor(x), cr.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    "name",
    ["relu", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "relu6", "hardsigmoid", "hardswish"],
)
def test_in_place_writes_the_input_and_differentiates(name):
    fn = getattr(F, name)
    start = np.array([-2.0, -0.5, 0.5, 4.0])
    leaf = cr.tensor(start, requires_grad=True)
    fn(leaf * 1.0).sum().backward()
    other = cr.tensor(start, requires_grad=True)
    x = other * 1.0
    y = fn(x, inplace=True)
    assert y is x
    assert x.detach().numpy() == pytest.approx(fn(cr.tensor(start)).numpy())
    y.sum().backward()
    assert other.grad.numpy() == pytest.approx(leaf.grad.numpy())


def test_settings_that_make_no_sense():
    x = cr.tensor([1.0])
    with pytest.raises(ZeroDivisionError, match="alpha cannot be 0"):
        F.celu(x, 0.0)
    with pytest.raises(ValueError, match="'none' or 'tanh'"):
        F.gelu(x, approximate="fast")
    with pytest.raises(ValueError, match="min_val"):
        F.hardtanh(x, 2.0, 1.0)
    with pytest.raises(ValueError, match="greater than min_val"):
        nn.Hardtanh(1.0, 1.0)
    with pytest.raises(RuntimeError, match="lambda must be"):
        F.softshrink(x, -1.0)


MODULES = [
    (nn.ReLU(), F.relu),
    (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
    (nn.ELU(2.0), lambda x: F.elu(x, 2.0)),
    (nn.SELU(), F.selu),
    (nn.CELU(2.0), lambda x: F.celu(x, 2.0)),
    (nn.GELU(), F.gelu),
    (nn.GELU("tanh"), lambda x: F.gelu(x, "tanh")),
    (nn.SiLU(), F.silu),
    (nn.Mish(), F.mish),
    (nn.Sigmoid(), F.sigmoid),
    (nn.LogSigmoid(), F.logsigmoid),
    (nn.Tanh(), F.tanh),
    (nn.Softplus(2.0, 3.0), lambda x: F.softplus(x, 2.0, 3.0)),
    (nn.Softsign(), F.softsign),
    (nn.Hardtanh(-0.5, 2.0), lambda x: F.hardtanh(x, -0.5, 2.0)),
    (nn.ReLU6(), F.relu6),
    (nn.Hardsigmoid(), F.hardsigmoid),
    (nn.Hardswish(), F.hardswish),
    (nn.Softshrink(0.3), lambda x: F.softshrink(x, 0.3)),
    (nn.Hardshrink(0.3), lambda x: F.hardshrink(x, 0.3)),
    (nn.Tanhshrink(), F.tanhshrink),
    (nn.Threshold(0.1, 5.0), lambda x: F.threshold(x, 0.1, 5.0)),
    (nn.Softmax(1), lambda x: F.softmax(x, 1)),
    (nn.LogSoftmax(1), lambda x: F.log_softmax(x, 1)),
    (nn.Softmin(1), lambda x: F.softmin(x, 1)),
    (nn.GLU(1), lambda x: F.glu(x, 1)),
]


@pytest.mark.parametrize(("module", "fn"), MODULES, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_module_is_the_function(module, fn):
    x = cr.tensor(np.random.default_rng(1).standard_normal((5, 6)) * 3)
    assert module(x).tolist() == fn(x).tolist()
    assert list(module.parameters()) == []


def test_prelu_module_learns_its_slope():
    m = nn.PReLU()
    assert m.weight.tolist() == [0.25]
    m(cr.tensor([-4.0, 2.0])).sum().backward()
    assert m.weight.grad.tolist() == [-4.0]
    assert tuple(nn.PReLU(3, init=0.5).weight.shape) == (3,)


def test_in_place_modules():
    for module in (nn.ReLU(True), nn.LeakyReLU(inplace=True), nn.Hardtanh(inplace=True), nn.Threshold(0.0, 1.0, True)):
        x = cr.tensor([-3.0, 0.5])
        assert module(x) is x
