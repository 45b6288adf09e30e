"""Layer normalization: values, derivatives, dtypes, empty tensors, errors, the layer."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

RNG = np.random.default_rng(5)


def test_two_rows_by_hand():
    # rows (1, 3) and (2, 6): means 2 and 4, variances 1 and 4; with eps 0 both are (-1, 1), times w plus b
    x = cr.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert F.layer_norm(x, (2,), eps=0.0).tolist() == [[-1.0, 1.0], [-1.0, 1.0]]
    w, b = cr.tensor([2.0, 3.0]), cr.tensor([10.0, 20.0])
    assert F.layer_norm(x, [2], w, b, eps=0.0).tolist() == [[8.0, 23.0], [8.0, 23.0]]
    assert F.layer_norm(x, [2], w, eps=3.0).tolist()[0] == [-1.0, 1.5]  # sqrt(1 + 3) = 2
    assert F.layer_norm(x, [2], bias=b, eps=0.0).tolist()[0] == [9.0, 21.0]


@pytest.mark.parametrize(("shape", "over"), [((4, 3), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4), 3), ((5,), 1)])
def test_value_and_gradient(check_gradient, shape, over):
    x, w, b = (RNG.standard_normal(s) for s in (shape, shape[-over:], shape[-over:]))
    axes = tuple(range(-over, 0))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * w + b
    assert F.layer_norm(*map(cr.tensor, (x,)), w.shape, cr.tensor(w), cr.tensor(b)).numpy() == pytest.approx(expected)
    check_gradient(lambda x, w, b: F.layer_norm(x, w.shape, w, b), x, w, b)
    check_gradient(lambda x: F.layer_norm(x, w.shape), x)


def test_each_subset_of_leaves_has_its_gradient():
    x, w, b = (cr.tensor(RNG.standard_normal(s)) for s in ((4, 3), (3,), (3,)))
    whole = cr.func.grad(lambda *v: (F.layer_norm(v[0], (3,), *v[1:]) ** 3).sum(), (0, 1, 2))(x, w, b)
    for chosen in ((0,), (1,), (2,), (0, 2), (1, 2)):
        leaves = [v.clone().requires_grad_(i in chosen) for i, v in enumerate((x, w, b))]
        (F.layer_norm(leaves[0], (3,), *leaves[1:]) ** 3).sum().backward()
        for i, (leaf, expected) in enumerate(zip(leaves, whole, strict=True)):
            if i in chosen:
                np.testing.assert_allclose(leaf.grad.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)
            else:
                assert leaf.grad is None


def test_a_shift_changes_nothing_and_a_large_one_loses_no_digits():
    x = RNG.standard_normal((3, 50))
    expected = F.layer_norm(cr.tensor(x), (50,)).numpy()
    # the mean of squares less the square of the mean would have no digit left: 1e8 ** 2 is 1e16
    assert F.layer_norm(cr.tensor(x + 1e8), (50,)).numpy() == pytest.approx(expected, abs=1e-6)


def test_half_precision_is_computed_in_single():
    x = (RNG.standard_normal((4, 300)) * 100 + 1000).astype(np.float16)  # sums and squares overflow in half precision
    leaf = cr.tensor(x, requires_grad=True)
    layer = nn.LayerNorm(300, dtype=cr.float16)
    y = layer(leaf)
    assert y.dtype is cr.float16
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    assert y.detach().numpy() == pytest.approx(expected, abs=2e-3)
    (y * y).sum().backward()
    assert leaf.grad.dtype is cr.float16
    assert layer.weight.grad.dtype is cr.float16
    assert layer.weight.grad.numpy() == pytest.approx((2 * expected**2).sum(0), rel=5e-3, abs=5e-3)
    for f in (lambda x: cr.func.jvp(lambda v: F.layer_norm(v, (300,)), (x,), (x * 0.5,))[1], cr.compile(layer)):
        assert f(leaf.detach()).dtype is cr.float16
    assert cr.compile(layer)(leaf.detach()).detach().numpy() == pytest.approx(y.detach().numpy(), abs=2e-3)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_no_rows_and_no_columns(shape):
    x = cr.ones(*shape, requires_grad=True)
    layer = nn.LayerNorm(shape[-1])
    y = layer(x)
    assert tuple(y.shape) == shape
    y.sum().backward()
    assert tuple(x.grad.shape) == shape
    assert layer.weight.grad.tolist() == layer.bias.grad.tolist() == [0.0] * shape[-1]


def test_nan_and_infinity_stay_in_their_row():
    x = cr.tensor([[1.0, np.nan, 2.0], [1.0, np.inf, 2.0], [1.0, 2.0, 3.0]])
    y = F.layer_norm(x, (3,)).numpy()
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2]).all()


def test_the_layer():
    layer = nn.LayerNorm((2, 3), eps=0.1)
    assert repr(layer) == "LayerNorm((2, 3), eps=0.1, elementwise_affine=True)"
    assert {k: v.tolist() for k, v in layer.state_dict().items()} == {
        "weight": [[1.0] * 3] * 2,
        "bias": [[0.0] * 3] * 2,
    }
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(4, elementwise_affine=False).state_dict()) == []
    assert nn.LayerNorm(4, elementwise_affine=False).weight is None
    assert nn.LayerNorm(np.int64(4)).normalized_shape == nn.LayerNorm([4]).normalized_shape == (4,)
    x = cr.randn(5, 2, 3)
    assert layer(x).tolist() == layer.eval()(x).tolist()
    with cr.no_grad():
        layer.weight.fill_(7.0)
    layer.reset_parameters()
    assert layer.weight.tolist() == [[1.0] * 3] * 2


def test_in_place_change_of_a_saved_input_is_an_error():
    x = cr.randn(3, 4, requires_grad=True)
    h = x * 2
    y = F.layer_norm(h, (4,))
    h.add_(1.0)
    with pytest.raises(RuntimeError, match="layer_norm"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.layer_norm(cr.ones(3, 4), (3,)), RuntimeError, r"normalized_shape=\[3\](.|\n)*\(3, 4\)"),
        (lambda: F.layer_norm(cr.ones(4), (3, 4)), RuntimeError, r"normalized_shape=\[3, 4\]"),
        (lambda: F.layer_norm(cr.ones(3, 4), ()), RuntimeError, "at least one axis"),
        (lambda: F.layer_norm(cr.ones(3, 4), 4), TypeError, r"\(4,\)"),
        (lambda: F.layer_norm(np.ones((3, 4)), (4,)), TypeError, "input is not a tensor(.|\n)*ndarray"),
        (lambda: F.layer_norm(cr.ones(3, 4), (4,), 2.0), TypeError, "weight is not a tensor"),
        (lambda: F.layer_norm(cr.ones(3, 4), (4,), cr.ones(1)), RuntimeError, "weight has another shape"),
        (lambda: F.layer_norm(cr.ones(3, 4), (4,), None, cr.ones(3, 4)), RuntimeError, "bias has another shape"),
        (lambda: F.layer_norm(cr.ones(3, 4, dtype=cr.int64), (4,)), RuntimeError, "floating-point"),
        (lambda: nn.LayerNorm(4)(cr.ones(3, 4, dtype=cr.float64)), RuntimeError, "weight and input(.|\n)*float64"),
    ],
)
def test_errors_teach(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_under_vmap_and_jacobians():
    x, w, b = (cr.tensor(RNG.standard_normal(s)) for s in ((5, 2, 3), (5, 3), (5, 3)))
    found = cr.func.vmap(lambda x, w, b: F.layer_norm(x, (3,), w, b))(x, w, b)
    for i in range(5):
        assert found[i].numpy() == pytest.approx(F.layer_norm(x[i], (3,), w[i], b[i]).numpy())
    jacobian = cr.func.jacrev(lambda x: F.layer_norm(x, (3,)))(x[0, 0]).numpy()
    assert jacobian == pytest.approx(jacobian.T)  # symmetric
    assert jacobian == pytest.approx(cr.func.jacfwd(lambda x: F.layer_norm(x, (3,)))(x[0, 0]).numpy())
    assert jacobian @ np.ones(3) == pytest.approx(0)  # a shift changes nothing


def test_a_compiled_step_trains_as_the_eager_one():
    losses = []
    for compiled in (False, True):
        cr.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
        opt = cr.optim.Adam(net.parameters(), lr=0.01)
        x, y = cr.randn(32, 6), cr.randint(0, 3, (32,))

        def step(net=net, opt=opt, x=x, y=y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        run = cr.compile(step) if compiled else step
        losses.append([run().item() for _ in range(30)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][-1] < losses[0][0]
