"""Linear, Bilinear, Identity, Flatten, Unflatten, Dropout, distances, one_hot, pad."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

RNG = np.random.default_rng(11)


def test_linear_is_x_wt_plus_b(check_gradient):
    layer = nn.Linear(3, 2, dtype=cr.float64)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    assert w.shape == (2, 3)
    assert b.shape == (2,)
    for shape in ((3,), (5, 3), (2, 4, 3), (0, 3)):
        x = RNG.standard_normal(shape)
        assert layer(cr.tensor(x)).detach().numpy() == pytest.approx(x @ w.T + b, rel=1e-12)
    check_gradient(F.linear, RNG.standard_normal((4, 3)), w, b)
    plain = nn.Linear(3, 2, bias=False)
    assert plain.bias is None
    assert [n for n, _ in plain.named_parameters()] == ["weight"]


def test_linear_gradients_by_hand():
    # y = x W^T + b, L = sum(y): dL/dW = column sums of x in each row, dL/db = rows, dL/dx = column sums of W
    x = cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    layer = nn.Linear(2, 2)
    with cr.no_grad():
        layer.weight.copy_(cr.tensor([[1.0, -1.0], [2.0, 5.0]]))
    layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [[4.0, 6.0], [4.0, 6.0]]
    assert layer.bias.grad.tolist() == [2.0, 2.0]
    assert x.grad.tolist() == [[3.0, 4.0], [3.0, 4.0]]


def test_linear_starts_uniform_within_one_over_root_fan_in():
    layer = nn.Linear(400, 500)
    bound = 1 / 20
    w = layer.weight.detach().numpy()
    assert abs(w).max() <= bound
    assert abs(w).max() > 0.99 * bound
    assert w.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert abs(w.mean()) < 1e-3 * 3
    b = layer.bias.detach().numpy()
    assert abs(b).max() <= bound
    assert b.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_same_seed_same_layer():
    cr.manual_seed(5)
    first = nn.Linear(4, 4).weight.tolist()
    assert nn.Linear(4, 4).weight.tolist() != first
    cr.manual_seed(5)
    assert nn.Linear(4, 4).weight.tolist() == first


def test_linear_of_the_wrong_width_is_an_error_that_shows_both_shapes():
    with pytest.raises(RuntimeError, match=r"5(.|\n)*3|3(.|\n)*5"):
        nn.Linear(3, 2)(cr.ones(4, 5))


def test_bilinear(check_gradient):
    layer = nn.Bilinear(2, 3, 4, dtype=cr.float64)
    x, y = RNG.standard_normal((5, 2)), RNG.standard_normal((5, 3))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = np.einsum("ni,oij,nj->no", x, w, y) + b
    assert layer(cr.tensor(x), cr.tensor(y)).detach().numpy() == pytest.approx(expected, rel=1e-12)
    check_gradient(F.bilinear, x, y, w, b)
    assert abs(w).max() <= 1 / math.sqrt(2)
    assert nn.Bilinear(2, 3, 4, bias=False).bias is None
    with pytest.raises(RuntimeError, match="agree in all dimensions but the last"):
        layer(cr.tensor(x), cr.tensor(y[:2]))
    with pytest.raises(RuntimeError, match="do not match the weight"):
        layer(cr.tensor(y), cr.tensor(y))
    with pytest.raises(ValueError, match="in1_features must be > 0"):
        nn.Bilinear(0, 3, 4)


def test_identity_flatten_unflatten():
    x = cr.tensor(RNG.standard_normal((2, 3, 4)))
    assert nn.Identity(5, anything=True)(x) is x
    assert tuple(nn.Flatten()(x).shape) == (2, 12)
    assert tuple(nn.Flatten(0, 1)(x).shape) == (6, 4)
    assert tuple(nn.Unflatten(1, (3, 1))(x).shape) == (2, 3, 1, 4)
    assert nn.Unflatten(1, (3, 4))(nn.Flatten()(x)).tolist() == x.tolist()
    assert tuple(nn.Unflatten(-1, (-1, 2))(x).shape) == (2, 3, 2, 2)
    with pytest.raises(TypeError, match="tuple of integers"):
        nn.Unflatten(1, 3)
    with pytest.raises(TypeError, match="named dimensions"):
        nn.Unflatten("features", (3, 1))


def test_dropout_keeps_the_mean_and_scales_what_stays():
    x = cr.ones(200, 500)
    y = F.dropout(x, 0.3).numpy()
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1 / 0.7)}
    # 100,000 Bernoulli numbers: the share of zeros has a standard deviation of .0015
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.006)
    assert y.mean() == pytest.approx(1.0, abs=0.01)


def test_dropout_gradient_is_the_mask():
    x = cr.tensor(RNG.standard_normal((20, 20)), requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    assert (x.grad.numpy() == np.where(y.detach().numpy() == 0, 0.0, 2.0)).all()


def test_dropout_off_ends_and_errors():
    layer = nn.Dropout(0.5).eval()
    x = cr.ones(10)
    assert layer(x) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0.0] * 10
    for make in (lambda: nn.Dropout(1.5), lambda: F.dropout(x, -0.1)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            make()


def test_dropout_in_place():
    x = cr.ones(50)
    y = F.dropout(x, 0.5, inplace=True)
    assert y is x
    assert 0.0 in x.tolist()


def test_dropout_draws_from_the_seed_or_from_its_own_generator():
    x = cr.ones(100)
    cr.manual_seed(1)
    first = F.dropout(x).tolist()
    assert F.dropout(x).tolist() != first
    cr.manual_seed(1)
    assert F.dropout(x).tolist() == first

    def own(seed: int) -> cr.Generator:
        g = cr.Generator()
        g.manual_seed(seed)
        return g

    a, b = nn.Dropout(0.5, generator=own(3)), nn.Dropout(0.5, generator=own(3))
    assert a(x).tolist() == b(x).tolist()
    cr.manual_seed(1)
    a(x)
    assert F.dropout(x).tolist() == first


def test_normalize_and_distances(check_gradient):
    a, b = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
    x, y = cr.tensor(a), cr.tensor(b)
    assert F.normalize(x).numpy() == pytest.approx(a / np.linalg.norm(a, axis=1, keepdims=True), rel=1e-12)
    assert F.normalize(x, 1.0, 0).numpy() == pytest.approx(a / abs(a).sum(0), rel=1e-12)
    assert F.normalize(cr.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert F.cosine_similarity(x, y).numpy() == pytest.approx(cosine, rel=1e-12)
    assert nn.CosineSimilarity(0)(x[0], y[0]).item() == pytest.approx(cosine[0], rel=1e-12)
    assert F.cosine_similarity(x, y[:1]).shape == (4,)
    distance = np.linalg.norm(a - b + 1e-6, axis=1)
    assert F.pairwise_distance(x, y).numpy() == pytest.approx(distance, rel=1e-12)
    manhattan = nn.PairwiseDistance(1.0, eps=0.0, keepdim=True)(x, y)
    assert manhattan.numpy() == pytest.approx(abs(a - b).sum(1, keepdims=True), rel=1e-12)
    check_gradient(F.normalize, a)
    check_gradient(F.cosine_similarity, a, b)
    check_gradient(F.pairwise_distance, a, b)


def test_cosine_of_a_vector_with_zero_is_zero_not_nan():
    z = cr.zeros(1, 3)
    z.requires_grad_()
    s = F.cosine_similarity(z, cr.ones(1, 3))
    assert s.tolist() == [0.0]
    s.sum().backward()
    assert np.isfinite(z.grad.numpy()).all()


def test_one_hot():
    assert F.one_hot(cr.tensor([[0, 2]])).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    wide = F.one_hot(cr.tensor([1]), 4)
    assert wide.tolist() == [[0, 1, 0, 0]]
    assert wide.dtype == cr.int64
    with pytest.raises(RuntimeError, match="smaller than num_classes 3, got 3"):
        F.one_hot(cr.tensor([3]), 3)
    with pytest.raises(RuntimeError, match="non-negative, got -1"):
        F.one_hot(cr.tensor([-1]), 3)


@pytest.mark.parametrize(("mode", "numpy_mode"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_padding_modes(mode, numpy_mode, check_gradient):
    x = RNG.standard_normal((2, 1, 3, 4))
    got = F.pad(cr.tensor(x), (3, 1, 0, 2), mode).numpy()
    assert np.array_equal(got, np.pad(x, ((0, 0), (0, 0), (0, 2), (3, 1)), mode=numpy_mode))
    check_gradient(lambda t: F.pad(t, (3, 1, 0, 2), mode), x)


def test_constant_padding_and_cutting(check_gradient):
    x = RNG.standard_normal((2, 3))
    assert np.array_equal(F.pad(cr.tensor(x), (1, 2)).numpy(), np.pad(x, ((0, 0), (1, 2))))
    got = F.pad(cr.tensor(x), (-1, 1, 2, 0), value=7.0).numpy()
    assert np.array_equal(got, np.pad(x[:, 1:], ((2, 0), (0, 1)), constant_values=7.0))
    check_gradient(lambda t: F.pad(t, (-1, 1, 2, 0), value=7.0), x)


def test_padding_errors():
    x = cr.ones(2, 3)
    with pytest.raises(ValueError, match="divisible by 2"):
        F.pad(x, (1,))
    with pytest.raises(ValueError, match="only 2"):
        F.pad(x, (1,) * 6)
    with pytest.raises(ValueError, match="at most 2 at each end of axis 1 of size 3"):
        F.pad(x, (3, 0), "reflect")
    with pytest.raises(NotImplementedError, match="'mirror'"):
        F.pad(x, (1, 0), "mirror")
    with pytest.raises(ValueError, match="doesn't take in value"):
        F.pad(x, (1, 0), "circular", 2.0)
