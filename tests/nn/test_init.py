"""Initial values: bounds, moments, structure, reproducibility."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import init


def empty(*shape: int) -> cr.Tensor:
    return cr.empty(*shape, dtype=cr.float64)


def seeded(n: int) -> cr.Generator:
    g = cr.Generator()
    g.manual_seed(n)
    return g


def test_gains():
    assert init.calculate_gain("linear") == init.calculate_gain("conv2d") == init.calculate_gain("sigmoid") == 1.0
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / 1.0001)
    assert init.calculate_gain("leaky_relu", 0.5) == math.sqrt(2 / 1.25)
    assert init.calculate_gain("selu") == 0.75
    with pytest.raises(ValueError, match="Unsupported nonlinearity 'swish'"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", "x")


def test_constants():
    x = empty(2, 3)
    assert init.constant_(x, 2.5) is x
    assert x.tolist() == [[2.5] * 3] * 2
    assert init.ones_(x).tolist() == [[1.0] * 3] * 2
    assert init.zeros_(x).tolist() == [[0.0] * 3] * 2
    assert init.eye_(x).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match="2 dimensions"):
        init.eye_(empty(2))


def test_a_parameter_stays_a_leaf_without_history():
    p = nn.Parameter(cr.empty(3, 3))
    for fn in (init.uniform_, init.xavier_normal_, init.orthogonal_, init.zeros_):
        assert fn(p) is p
        assert p.is_leaf
        assert p.requires_grad
        assert p.grad is None


# 200,000 numbers: a standard deviation is estimated to within about .16 %, so 1 % is six standard errors.
SHAPE = (500, 400)
BOUNDED = {
    "uniform": (lambda x, g: init.uniform_(x, -0.3, 0.3, generator=g), 0.3),
    "xavier_uniform": (lambda x, g: init.xavier_uniform_(x, 2.0, generator=g), 2 * math.sqrt(6 / 900)),
    "kaiming_uniform": (lambda x, g: init.kaiming_uniform_(x, nonlinearity="relu", generator=g), math.sqrt(6 / 400)),
    "kaiming_uniform_out": (
        lambda x, g: init.kaiming_uniform_(x, a=1.0, mode="fan_out", generator=g),
        math.sqrt(3 / 500),
    ),
}
NORMAL = {
    "normal": (lambda x, g: init.normal_(x, 0.0, 0.7, generator=g), 0.7),
    "xavier_normal": (lambda x, g: init.xavier_normal_(x, generator=g), math.sqrt(2 / 900)),
    "kaiming_normal": (lambda x, g: init.kaiming_normal_(x, generator=g), math.sqrt(2 / 400)),
    "kaiming_normal_out": (lambda x, g: init.kaiming_normal_(x, mode="fan_out", generator=g), math.sqrt(2 / 500)),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_uniform_ones_fill_their_interval(name):
    fn, bound = BOUNDED[name]
    x = fn(empty(*SHAPE), seeded(1)).numpy()
    assert abs(x).max() <= bound
    assert x.max() > 0.999 * bound
    assert x.min() < -0.999 * bound
    assert x.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_ones_have_their_moments(name):
    fn, std = NORMAL[name]
    x = fn(empty(*SHAPE), seeded(1)).numpy()
    assert x.std() == pytest.approx(std, rel=0.01)
    assert abs(x.mean()) < 0.015 * std
    assert ((x / std) ** 4).mean() == pytest.approx(3.0, rel=0.05)


def test_mean_is_added():
    assert init.normal_(empty(*SHAPE), 5.0, 0.1).mean().item() == pytest.approx(5.0, abs=0.01)
    assert init.uniform_(empty(*SHAPE)).mean().item() == pytest.approx(0.5, abs=0.01)


def test_fans_of_a_kernel_count_its_size():
    x = init.xavier_uniform_(empty(8, 4, 3, 5)).numpy()
    bound = math.sqrt(6 / (4 * 15 + 8 * 15))
    assert abs(x).max() <= bound
    assert abs(x).max() > 0.9 * bound
    for fn in (init.xavier_uniform_, init.kaiming_normal_):
        with pytest.raises(ValueError, match="fewer than 2 dimensions"):
            fn(empty(3))
    with pytest.raises(ValueError, match="Mode fan_sum not supported"):
        init.kaiming_normal_(empty(2, 2), mode="fan_sum")


def test_truncated_normal():
    x = init.trunc_normal_(empty(*SHAPE), 0.5, 2.0, -1.5, 1.5, generator=seeded(2)).numpy()
    assert x.min() >= -1.5
    assert x.max() <= 1.5
    lo, hi = (-1.5 - 0.5) / 2, (1.5 - 0.5) / 2
    pdf = [math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) for z in (lo, hi)]
    mass = 0.5 * (math.erf(hi / math.sqrt(2)) - math.erf(lo / math.sqrt(2)))
    shift = (pdf[0] - pdf[1]) / mass
    assert x.mean() == pytest.approx(0.5 + 2 * shift, abs=0.01)
    spread = 1 + (lo * pdf[0] - hi * pdf[1]) / mass - shift**2
    assert x.var() == pytest.approx(4 * spread, rel=0.02)
    with pytest.warns(UserWarning, match="more than 2 std"):
        init.trunc_normal_(empty(3), 10.0, 1.0)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape):
    q = init.orthogonal_(empty(*shape), gain=2.0).numpy().reshape(shape[0], -1)
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    assert product == pytest.approx(4 * np.eye(min(q.shape)), abs=1e-12)


def test_orthogonal_signs_are_random_and_few_axes_are_refused():
    signs = {init.orthogonal_(empty(1, 1)).item() for _ in range(40)}
    assert signs == {1.0, -1.0}
    with pytest.raises(ValueError, match="2 or more dimensions"):
        init.orthogonal_(empty(3))


def test_sparse():
    x = init.sparse_(empty(10, 200), 0.35, std=0.5, generator=seeded(3)).numpy()
    assert ((x == 0).sum(0) == 4).all()
    assert x[x != 0].std() == pytest.approx(0.5, rel=0.1)
    assert len({tuple(column) for column in (x == 0).T}) > 50
    with pytest.raises(ValueError, match="2 dimensions"):
        init.sparse_(empty(3), 0.5)


def test_generator_and_seed_decide():
    makers = [
        init.uniform_,
        init.normal_,
        init.trunc_normal_,
        init.xavier_uniform_,
        init.kaiming_normal_,
        init.orthogonal_,
    ]
    for fn in makers:
        a = fn(empty(4, 4), generator=seeded(8)).tolist()
        assert fn(empty(4, 4), generator=seeded(8)).tolist() == a
        assert fn(empty(4, 4), generator=seeded(9)).tolist() != a
        cr.manual_seed(8)
        b = fn(empty(4, 4)).tolist()
        cr.manual_seed(8)
        assert fn(empty(4, 4)).tolist() == b


def test_empty_tensors_are_left_alone():
    with pytest.warns(UserWarning, match="no-op"):
        assert init.kaiming_uniform_(empty(0, 3)).shape == (0, 3)
    with pytest.warns(UserWarning, match="no-op"):
        init.kaiming_normal_(empty(0, 3))
    assert init.orthogonal_(empty(0, 3)).shape == (0, 3)


def test_glorot_keeps_the_variance_of_tanh_units_and_unit_weights_blow_it_up():
    x = cr.randn(300, 512, dtype=cr.float64)
    wide = x @ init.normal_(empty(512, 512))
    kept = x @ init.xavier_normal_(empty(512, 512))
    assert wide.var().item() == pytest.approx(512, rel=0.05)
    assert kept.var().item() == pytest.approx(1.0, rel=0.05)
