"""autograd.functional against closed forms."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import functional as AF

RNG = np.random.default_rng(8)
A0, P0, Q0, V0 = RNG.standard_normal((3, 3)), *RNG.standard_normal((3, 3))


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def quartic(x):
    return (t(A0) @ x).pow(4).sum()


H = 12 * A0.T @ np.diag((A0 @ P0) ** 2) @ A0


def close(got, expected):
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_jacobian(strategy):
    close(AF.jacobian(lambda x: x.sin(), t(P0), strategy=strategy), np.diag(np.cos(P0)))
    jac = AF.jacobian(lambda x, y: (x * y, y.sum()), (t(P0), t(Q0)), strategy=strategy, vectorize=True)
    close(jac[0][0], np.diag(Q0))
    close(jac[0][1], np.diag(P0))
    close(jac[1][0], np.zeros(3))
    close(jac[1][1], np.ones(3))
    one = AF.jacobian(lambda x: x * 2, (t(P0),), strategy=strategy)
    assert isinstance(one, tuple)
    close(one[0], 2 * np.eye(3))


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_hessian(strategy):
    close(AF.hessian(quartic, t(P0), outer_jacobian_strategy=strategy), H)
    both = AF.hessian(lambda x, y: (x * x * y).sum(), (t(P0), t(Q0)), outer_jacobian_strategy=strategy)
    close(both[0][0], np.diag(2 * Q0))
    close(both[0][1], np.diag(2 * P0))
    close(both[1][1], np.zeros((3, 3)))
    close(AF.hessian(lambda x: x.pow(3).sum().reshape(1), t(P0)), np.diag(6 * P0))


def test_products():
    value, g = AF.vjp(lambda x: x.sin(), t(P0), t(V0))
    close(value, np.sin(P0))
    close(g, np.cos(P0) * V0)
    value, (gx, gy) = AF.vjp(lambda x, y: (x * y, x.sum()), (t(P0), t(Q0)), (t(V0), t(2.0)))
    close(gx, Q0 * V0 + 2)
    close(gy, P0 * V0)
    value, tangent = AF.jvp(lambda x, y: x * y, (t(P0), t(Q0)), (t(V0), t(P0)))
    close(tangent, Q0 * V0 + P0 * P0)
    for product in (AF.hvp, AF.vhp):
        value, hv = product(quartic, t(P0), t(V0))
        close(value, ((A0 @ P0) ** 4).sum())
        close(hv, H @ V0)
        _, (hx, hy) = product(lambda x, y: (x * x * y).sum(), (t(P0), t(Q0)), (t(V0), t(V0)))
        close(hx, 2 * Q0 * V0 + 2 * P0 * V0)
        close(hy, 2 * P0 * V0)


def test_v_may_be_left_out_for_single_numbers():
    close(AF.vjp(quartic, t(P0))[1], 4 * A0.T @ (A0 @ P0) ** 3)
    close(AF.jvp(lambda x: x * t(P0), t(2.0))[1], P0)
    close(AF.hvp(lambda x: x**3, t(2.0))[1], 12.0)
    with pytest.raises(RuntimeError, match="pass v"):
        AF.vjp(lambda x: x * 2, t(P0))


def test_create_graph_or_no_history():
    x, w = t(P0, True), t(2.0, True)

    def f(x):
        return w * (x**3).sum()

    for run in (AF.jacobian, AF.hessian):
        assert not run(f, x).requires_grad
    for run in (AF.vjp, AF.jvp, AF.hvp, AF.vhp):
        value, product = run(f, x, None if run is AF.vjp else t(V0))
        assert not value.requires_grad
        assert not product.requires_grad
    h = AF.hessian(f, x, create_graph=True)
    h.sum().backward()
    close(x.grad, np.full(3, 12.0))
    assert w.grad.item() == pytest.approx((6 * P0).sum())
    x.grad = None
    AF.hvp(f, x, t(V0), create_graph=True)[1].sum().backward()
    close(x.grad, 12 * V0)


@pytest.mark.parametrize(
    "run",
    [
        lambda: AF.jacobian(lambda x, y: x * 2, (t(P0), t(Q0)), strict=True),
        lambda: AF.jacobian(lambda x: (x, t(Q0)), t(P0), strict=True),
        lambda: AF.hessian(lambda x: x.sum(), t(P0), strict=True),
        lambda: AF.vjp(lambda x: t(Q0), t(P0), t(Q0), strict=True),
        lambda: AF.jvp(lambda x: t(Q0), t(P0), t(Q0), strict=True),
        lambda: AF.hvp(lambda x: x.sum(), t(P0), t(Q0), strict=True),
        lambda: AF.vhp(lambda x: x.sum(), t(P0), t(Q0), strict=True),
    ],
)
def test_strict(run):
    with pytest.raises(RuntimeError, match="strict=True"):
        run()


def test_errors():
    with pytest.raises(RuntimeError, match="one number"):
        AF.hessian(lambda x: x, t(P0))
    with pytest.raises(RuntimeError, match="other shapes"):
        AF.jvp(lambda x: x, t(P0), t(A0))
    with pytest.raises(TypeError, match="input 1 is no tensor"):
        AF.jacobian(lambda x, y: x, (t(P0), 3.0))
    with pytest.raises(ValueError, match="strategy"):
        AF.jacobian(lambda x: x, t(P0), strategy="sideways")
    with pytest.raises(ValueError, match="strategy"):
        AF.hessian(lambda x: x.sum(), t(P0), outer_jacobian_strategy="sideways")
