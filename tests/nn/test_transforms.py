"""Layers and losses under grad, vmap, jvp and their nestings."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from chainrule.nn import functional as F

RNG = np.random.default_rng(17)
X = cr.tensor(RNG.standard_normal((5, 4)))
W, B = cr.tensor(RNG.standard_normal((3, 4))), cr.tensor(RNG.standard_normal(3))
Y = cr.tensor([0, 2, 1, 1, 0])
P = cr.tensor(RNG.uniform(0.1, 0.9, (5, 4)))

ELEMENTWISE = """relu leaky_relu elu selu celu gelu silu mish sigmoid logsigmoid tanh softplus softsign hardtanh relu6
hardsigmoid hardswish softshrink hardshrink tanhshrink"""


@pytest.mark.parametrize("name", ELEMENTWISE.split())
def test_activations_in_every_mode(name):
    fn = getattr(F, name)
    assert vmap(fn)(X).numpy() == pytest.approx(fn(X).numpy(), rel=1e-14)
    forward, backward = jacfwd(fn)(X[0]).numpy(), jacrev(fn)(X[0]).numpy()
    assert forward == pytest.approx(backward, rel=1e-12, abs=1e-15)

    def total(x):
        return fn(x).sum()

    second = jacfwd(jacrev(total))(X[0]).numpy()
    assert second == pytest.approx(jacrev(jacrev(total))(X[0]).numpy(), rel=1e-12, abs=1e-15)


def test_gradients_per_sample():
    def loss(w, x, y):
        return F.cross_entropy(F.linear(x, w, B), y)

    together = vmap(grad(loss), in_dims=(None, 0, 0))(W, X, Y)
    one_by_one = [grad(loss)(W, X[i], Y[i]).numpy() for i in range(5)]
    assert together.numpy() == pytest.approx(np.stack(one_by_one), rel=1e-12)


def test_ignored_targets_under_vmap():
    logits = X[:, :3]
    targets = cr.tensor([[0, -100, 1, 1, 0], [1, 1, 1, 2, 2]])
    together = vmap(lambda y: F.cross_entropy(logits, y))(targets)
    one_by_one = [F.cross_entropy(logits, targets[i]).item() for i in range(2)]
    assert together.tolist() == pytest.approx(one_by_one, rel=1e-13)


def test_hessian_of_cross_entropy_is_diag_p_minus_p_pt():
    x = X[0, :3]
    p = F.softmax(x, 0).numpy()
    got = hessian(lambda z: F.cross_entropy(z, Y[0]))(x).numpy()
    assert got == pytest.approx(np.diag(p) - np.outer(p, p), rel=1e-11, abs=1e-14)


def test_forward_mode_through_smoothing():
    logits = X[:, :3]
    t = cr.tensor(RNG.standard_normal((5, 3)))

    def loss(x):
        return F.cross_entropy(x, Y, label_smoothing=0.1)

    _, slope = jvp(loss, (logits,), (t,))
    assert slope.item() == pytest.approx((grad(loss)(logits) * t).sum().item(), rel=1e-12)


LOSSES = {
    "mse": lambda x: F.mse_loss(x, P[0]),
    "huber": lambda x: F.huber_loss(x, P[0], delta=0.1),
    "bce": lambda x: F.binary_cross_entropy(x, P[0]),
    "bce_logits": lambda x: F.binary_cross_entropy_with_logits(x, P[0]),
    "gaussian": lambda x: F.gaussian_nll_loss(x, P[0], 1.5),
    "poisson": lambda x: F.poisson_nll_loss(x, P[0]),
    "kl": lambda x: F.kl_div(x, P[0], reduction="sum"),
    "soft_margin": lambda x: F.soft_margin_loss(x, P[0]),
    "normalize": lambda x: F.normalize(x, dim=0).sum(),
    "cosine": lambda x: F.cosine_similarity(x, P[0], dim=0),
    "bilinear": lambda x: F.bilinear(x, x, cr.ones(2, 4, 4, dtype=cr.float64)).sum(),
    "pad": lambda x: (F.pad(x, (1, 2), value=3.0) ** 2).sum(),
    "reflect": lambda x: (F.pad(x, (1, 2), "reflect") ** 2).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_of_grad_is_a_loop(name):
    fn = LOSSES[name]
    together = vmap(grad(fn))(P).numpy()
    one_by_one = np.stack([grad(fn)(P[i]).numpy() for i in range(5)])
    assert together == pytest.approx(one_by_one, rel=1e-12, abs=1e-14)


def test_a_module_closed_over_by_vmap():
    net = nn.Sequential(nn.Linear(4, 3).double(), nn.Tanh())
    assert vmap(net)(X).detach().numpy() == pytest.approx(net(X).detach().numpy(), rel=1e-13)
