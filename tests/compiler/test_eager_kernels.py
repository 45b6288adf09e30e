"""Ops on large tensors as machine code in eager mode: values, NaN, bits, and when it is used."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir import native
from chainrule.nn import functional as F
from chainrule.ops.normalization import LayerNorm
from chainrule.ops.softmax import LogSoftmax, Softmax, SoftmaxNLL

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler import eager
from chainrule.compiler.llvm import normalization
from chainrule.compiler.llvm import softmax as code

SHAPES = [(1, 1), (3, 1), (5, 7), (4, 16), (7, 33), (3, 64), (9, 100), (2, 1000), (1, 4097), (300, 10)]
KERNELS = {"softmax": Softmax.kernel, "log_softmax": LogSoftmax.kernel}


@pytest.fixture
def level(target, monkeypatch):
    """Machine code for the narrowest and the widest vectors of this processor."""
    for module in (code, normalization):
        monkeypatch.setattr(module, "host", lambda: target)
    functions = (code.row_function, normalization.forward, normalization.backward)
    for made in functions:
        made.cache_clear()
    yield target.level
    for made in functions:
        made.cache_clear()


@pytest.fixture
def large(monkeypatch):
    """Every call is large enough."""
    monkeypatch.setattr(native, "LARGE", 1)


def numbers(shape, dtype, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 10).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_values_are_within_rounding(level, name, dtype):
    for shape in SHAPES:
        x = numbers(shape, dtype)
        wide = x.astype(np.longdouble)
        z = wide - wide.max(1, keepdims=True)
        s = np.exp(z).sum(1, keepdims=True)
        y = eager.kernel(name)(x)
        assert y.dtype == x.dtype
        # 2 units for each exponential, those of the sum, and that of x - m, which the exponential enlarges
        eps = np.finfo(dtype).eps
        relative = (4 + np.log2(shape[1] + 1) + abs(z)) * eps
        exact, bound = (np.exp(z) / s, relative * np.exp(z) / s) if name == "softmax" else (z - np.log(s), 8 * eps)
        assert (abs(y - exact) <= bound + abs(exact) * 2 * eps + np.finfo(dtype).smallest_subnormal).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_parts_of_cross_entropy(level, dtype):
    for n, k in SHAPES:
        x = numbers((n, k), dtype)
        target = np.random.default_rng(1).integers(0, k, n)
        loss, (z, places) = SoftmaxNLL.kernel(x, target, True)
        found_z, sums, picked = eager.kernel("softmax_nll")(x, places)
        np.testing.assert_allclose(found_z, z, rtol=40 * np.finfo(dtype).eps)
        np.testing.assert_allclose((np.log(sums) - picked).mean(), loss, rtol=40 * np.finfo(dtype).eps, atol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_nan_and_infinity_as_in_numpy(level, name):
    rows = [
        [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf, 1.0, 2.0], [-np.inf] * 3, [np.inf, -np.inf, np.nan],
        [3e38, -3e38, 0.0], [-0.0, 0.0, -90.0], [0.0, -104.0, -1e4],
    ]  # fmt: skip
    for columns in (3, 40):
        x = np.array([r + [0.5] * (columns - 3) for r in rows], np.float32)
        with np.errstate(all="ignore"):
            expected = KERNELS[name](x, 1)
        np.testing.assert_allclose(eager.kernel(name)(x), expected, rtol=1e-6, atol=3e-45)


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_has_the_same_bits_in_any_matrix(name):
    x = numbers((50, 77), "float32")
    whole = eager.kernel(name)(x)
    for n in (1, 13, 49):
        assert np.array_equal(eager.kernel(name)(x[n : n + 1].copy())[0], whole[n])


def test_large_calls_use_it_and_small_ones_do_not():
    for rows in (native.LARGE // 64 - 1, native.LARGE // 64):
        x = numbers((rows, 64), "float32")
        expected = Softmax.kernel(x, 1) if x.size < native.LARGE else eager.kernel("softmax")(x)
        assert np.array_equal(F.softmax(cr.from_numpy(x), 1).numpy(), expected)


@pytest.mark.parametrize("made", [lambda x: x.T, lambda x: x[:, ::2], lambda x: x.to(cr.float16)])
def test_what_it_does_not_take_goes_to_numpy(large, made):
    x = made(cr.from_numpy(numbers((40, 60), "float32")))
    assert np.array_equal(F.softmax(x, 1).numpy(), Softmax.kernel(x.numpy(), 1))
    assert np.array_equal(F.softmax(x, 0).numpy(), Softmax.kernel(x.numpy(), 0))


def test_compiling_turned_off_and_llvmlite_absent(large, monkeypatch):
    x = cr.from_numpy(numbers((40, 60), "float32"))
    expected = LogSoftmax.kernel(x.numpy(), 1)
    with monkeypatch.context() as m:
        m.setenv("CHAINRULE_COMPILE", "0")
        assert np.array_equal(F.log_softmax(x, 1).numpy(), expected)
    monkeypatch.setattr(eager, "_possible", lambda: False)
    assert np.array_equal(F.log_softmax(x, 1).numpy(), expected)


def test_derivatives_of_both_orders(large):
    x = cr.rand(4, 5, dtype=cr.float64, requires_grad=True)
    y = cr.tensor([0, 4, 2, 2])
    for f in (
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, 1),
        lambda x: F.cross_entropy(x, y),
        lambda x: F.cross_entropy(x, y, reduction="none"),
        lambda x: F.layer_norm(x, (5,), x[0], x[1]),
    ):
        assert cr.autograd.gradcheck(f, (x,))
        assert cr.autograd.gradgradcheck(f, (x,))


def test_cross_entropy_and_its_gradient_agree_with_numpy(monkeypatch):
    x, y = numbers((500, 30), "float32"), np.random.default_rng(2).integers(0, 30, 500)
    results = []
    for least in (1, 1 << 40):
        monkeypatch.setattr(native, "LARGE", least)
        t = cr.tensor(x, requires_grad=True)
        loss = F.cross_entropy(t, cr.from_numpy(y))
        loss.backward()
        results.append((loss.item(), t.grad.numpy()))
    (a, da), (b, db) = results
    assert a == pytest.approx(b, rel=1e-6)
    np.testing.assert_allclose(da, db, rtol=2e-5, atol=1e-9)


def test_a_target_out_of_range_raises_before_anything_runs(large):
    with pytest.raises(IndexError, match="10"):
        F.cross_entropy(cr.rand(4, 10), cr.tensor([0, 10, 2, 2]))


def layer_norm_exactly(x, w, b, g, eps):
    """The value and the three gradients, in long double, each with the sum of the sizes of its terms."""
    x, w, b, g = (a.astype(np.longdouble) for a in (x, w, b, g))
    c = x - x.mean(1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(1, keepdims=True) + eps)
    h, d = c * r, g * w
    dx = (d - d.mean(1, keepdims=True) - h * (d * h).mean(1, keepdims=True)) * r
    terms = abs(d) + abs(d).mean(1, keepdims=True) + abs(h) * abs(d * h).mean(1, keepdims=True)
    size = r * abs(x).max(1, keepdims=True)  # what x - mean has lost, in units of the result
    return (
        (h * w + b, (abs(h) + size) * abs(w) + abs(b)),
        (dx, terms * r * (1 + size)),
        ((g * h).sum(0), (abs(g) * (abs(h) + size)).sum(0)),
        (g.sum(0), abs(g).sum(0)),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm_is_within_rounding(level, dtype):
    for shape in SHAPES:
        x, g = numbers(shape, dtype), numbers(shape, dtype, 1)
        w, b = numbers(shape[1], dtype, 2), numbers(shape[1], dtype, 3)
        y, kept = eager.kernel("layer_norm")(x, w, b, 0.1)
        found = (y, *eager.kernel("layer_norm_backward")(g, x, w, *kept))
        for value, (exact, size) in zip(found, layer_norm_exactly(x, w, b, g, 0.1), strict=True):
            assert value.dtype == x.dtype
            assert (abs(value - exact) <= (8 + np.log2(x.size)) * np.finfo(dtype).eps * size).all()


def test_layer_norm_nan_and_infinity_as_in_numpy(level):
    rows = [[np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf, np.inf, 2.0], [3e38, 1.0, -1e38], [5.0, 5.0, 5.0]]
    w = np.linspace(1, 2, 40, dtype=np.float32)
    x = np.array([r + [0.5] * 37 for r in rows], np.float32)
    with np.errstate(all="ignore"):
        expected, kept = LayerNorm.kernel(x, w, w, 1e-5)
    y, found = eager.kernel("layer_norm")(x, w, w, 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    for a, b in zip(found, kept, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_layer_norm_is_used_in_both_directions_and_agrees_with_numpy(monkeypatch):
    x, w, b = (numbers(s, "float32", i) for i, s in enumerate([(9, 7, 5, 6), (5, 6), (5, 6)]))
    kernels, results = [], []
    monkeypatch.setattr(native, "_source", lambda name: kernels.append(name) or eager.kernel(name))
    for least in (1, 1 << 40):
        monkeypatch.setattr(native, "LARGE", least)
        leaves = [cr.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = F.layer_norm(leaves[0], (5, 6), *leaves[1:])
        y.backward(cr.tensor(np.broadcast_to(numbers((5, 6), "float32", 4), x.shape)))
        results.append([y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)])
    assert kernels == ["layer_norm", "layer_norm_backward"]
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_without_a_bias_and_of_data_uses_it_too(large, monkeypatch):
    kernels = []
    monkeypatch.setattr(native, "_source", lambda name: kernels.append(name) or eager.kernel(name))
    x = numbers((20, 8), "float32")
    for data, affine in ((False, True), (True, True), (False, False)):
        layer = cr.nn.LayerNorm(8, elementwise_affine=affine, bias=False)
        leaf = cr.tensor(x, requires_grad=not data)
        (layer(leaf) ** 3).sum().backward()
        assert (leaf.grad is None) is data
        if affine:
            assert layer.weight.grad.numpy() == pytest.approx((layer(leaf) ** 3 * 3).sum(0).detach().numpy(), rel=1e-5)
    assert kernels.count("layer_norm_backward") == 3


def test_layer_norm_of_weights_that_are_not_dense(large):
    x, w = numbers((6, 8), "float32"), numbers((2, 8), "float32", 1)
    made = cr.from_numpy(w.T.copy()).T  # columns lie in memory one after another
    weight, bias = made[0], made[1]
    expected = LayerNorm.kernel(x, w[0], w[1], 1e-5)[0]
    np.testing.assert_allclose(F.layer_norm(cr.from_numpy(x), (8,), weight, bias).numpy(), expected, rtol=1e-5)
    assert cr.autograd.gradcheck(
        lambda x, w: F.layer_norm(x, (4,), w[:, 0], w[:, 1]),
        (cr.rand(3, 4, dtype=cr.float64, requires_grad=True), cr.rand(4, 2, dtype=cr.float64, requires_grad=True)),
    )
