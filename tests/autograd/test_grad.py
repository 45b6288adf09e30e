"""autograd.grad and autograd.backward: arguments, errors, higher orders, one pass for several outputs."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import autograd
from chainrule.autograd import backward, grad

RNG = np.random.default_rng(4)
X0 = RNG.standard_normal(4)


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def test_names():
    for name in ("grad", "backward", "Function", "gradcheck", "gradgradcheck", "functional", "no_grad", "enable_grad",
                 "set_grad_enabled", "inference_mode", "detect_anomaly", "set_detect_anomaly"):  # fmt: skip
        assert hasattr(autograd, name)
    assert autograd.no_grad is cr.no_grad


def test_grad_returns_a_tuple_and_leaves_grad_alone():
    x = t(X0, True)
    (g,) = grad((x**3).sum(), x)
    np.testing.assert_allclose(g.numpy(), 3 * X0**2)
    assert x.grad is None
    assert g.is_leaf


def test_inner_nodes_and_repeated_inputs():
    x = t(X0, True)
    y = x * 2
    gy, gx, again = grad((y * y).sum(), [y, x, y])
    np.testing.assert_allclose(gy.numpy(), 4 * X0)
    np.testing.assert_allclose(gx.numpy(), 8 * X0)
    np.testing.assert_allclose(again.numpy(), 4 * X0)


def test_an_output_may_be_an_input():
    x = t(2.0, True)
    assert grad(x, x)[0].item() == 1.0
    y = x * 3
    assert [g.item() for g in grad([y, y * x], [y, x])] == [3.0, 15.0]


def test_several_outputs_in_one_pass():
    x = t(X0, True)
    y = x * 2
    calls = []
    y.register_hook(lambda g: calls.append(g.numpy().copy()))
    y.retain_grad()
    (g,) = grad([y.sum(), (y * y).sum(), y], [x], [None, t(3.0), t(X0)])
    expected = 2 * (1 + 3 * 4 * X0 + X0)
    np.testing.assert_allclose(g.numpy(), expected)
    assert len(calls) == 1  # the hook sees the complete cotangent, once
    np.testing.assert_allclose(calls[0], expected / 2)
    np.testing.assert_allclose(y.grad.numpy(), expected / 2)


def test_seeds_are_never_written_or_kept():
    a, b, c = t(X0, True), t(X0, True), t(X0, True)
    seed = t(np.ones(4))
    backward([a + b, c], [seed, seed])
    for leaf in (a, b, c):
        leaf.grad.add_(5.0)
    backward([a + b, a + c, a * 1], [seed] * 3)
    np.testing.assert_array_equal(seed.numpy(), np.ones(4))
    np.testing.assert_array_equal(a.grad.numpy(), np.full(4, 9.0))
    np.testing.assert_array_equal(b.grad.numpy(), np.full(4, 7.0))


def test_unused_inputs():
    x, z = t(X0, True), t(X0, True)
    y = (x * x).sum()
    with pytest.raises(RuntimeError, match="input 1 was not used"):
        grad(y, [x, z], retain_graph=True)
    g, none = grad(y, [x, z], retain_graph=True, allow_unused=True)
    assert none is None
    g, zeros = grad(y, [x, z], materialize_grads=True)
    np.testing.assert_array_equal(zeros.numpy(), np.zeros(4))
    np.testing.assert_allclose(g.numpy(), 2 * X0)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda x: grad(x.sum(), t(X0)), "does not require a gradient"),
        (lambda x: grad(t(X0).sum(), x), "no history"),
        (lambda x: grad(x * 2, x), "scalar"),
        (lambda x: grad(x * 2, x, t(np.ones(3))), "another shape"),
        (lambda x: grad([x.sum(), x.sum()], x, [t(1.0)]), "one grad_output per output"),
        (lambda x: backward(x.sum(), inputs=[t(X0)]), "does not require a gradient"),
        (lambda x: grad([], [x]), "no outputs"),
        (lambda x: grad(x.sum(), []), "no inputs"),
    ],
)
def test_errors(run, text):
    with pytest.raises(RuntimeError, match=text):
        run(t(X0, True))


def test_create_graph_to_fifth_order():
    x = t(0.7, True)
    y = x.sin() * x.exp()
    expected = np.imag((1 + 1j) ** np.arange(6) * np.exp((1 + 1j) * 0.7))  # e^x sin x = Im e^((1+i)x)
    for k in range(6):
        assert y.item() == pytest.approx(expected[k], rel=1e-12)
        if k < 5:
            (y,) = grad(y, x, create_graph=True)


def test_create_graph_keeps_the_graph_and_retain_graph_may_not_be_needed_again():
    x = t(X0, True)
    y = (x**3).sum()
    (g,) = grad(y, x, create_graph=True)
    (h,) = grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), 6 * X0)
    with pytest.raises(RuntimeError, match="freed"):
        grad(g.sum(), x)


def test_backward_through_a_gradient_penalty():
    x = t(X0, True)
    w = t(1.5, True)
    (g,) = grad((w * x.sin()).sum(), x, create_graph=True)
    (g * g).sum().backward()
    assert w.grad.item() == pytest.approx(2 * 1.5 * (np.cos(X0) ** 2).sum())
    np.testing.assert_allclose(x.grad.numpy(), -2 * 1.5**2 * np.cos(X0) * np.sin(X0))


def test_grad_inside_no_grad_still_computes():
    x = t(X0, True)
    y = (x * x).sum()
    with cr.no_grad():
        (g,) = grad(y, x)
    np.testing.assert_allclose(g.numpy(), 2 * X0)
    assert not g.requires_grad


def test_backward_with_inputs():
    x, w = t(X0, True), t(2.0, True)
    y = x * w
    y.sum().backward(inputs=[w], retain_graph=True)
    assert x.grad is None
    assert w.grad.item() == pytest.approx(X0.sum())
    backward([y.sum(), (y * y).sum()], inputs=[w, y])
    assert w.grad.item() == pytest.approx(2 * X0.sum() + 4 * (X0**2).sum())
    assert y.is_leaf is False


def test_view_of_a_leaf_written_through_no_grad_is_seen():
    x = t(X0, True)
    v = x[1:]
    with cr.no_grad():
        x.mul_(2.0)
    (v * v).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.r_[0, 4 * X0[1:]])


@pytest.mark.parametrize("create_graph", [False, True])
def test_only_what_leads_to_the_inputs_is_visited(create_graph):
    """Neither the hooks nor the saved values of the rest are touched, and the rest is not freed."""
    x, w = t(X0, True), t(X0, True)
    calls = []
    a = x * 2
    b = w * 2
    b.register_hook(lambda g: calls.append("b"))
    a.register_hook(lambda g: calls.append("a"))
    other = (b * b).sum()
    y = (a * a).sum() * other
    stale = w * 1.0
    y = y + (stale * stale).sum()
    stale.add_(1.0)
    (ga,) = grad(y, a, retain_graph=False, create_graph=create_graph)
    np.testing.assert_allclose(ga.detach().numpy(), 4 * X0 * 4 * (X0**2).sum())
    assert calls == ["a"]
    a.sum().backward()
    other.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(4, 2.0))
    np.testing.assert_allclose(w.grad.numpy(), 8 * X0)
    assert calls == ["a", "a", "b"]
