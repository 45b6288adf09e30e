"""Every nesting of the derivative operators to third order, against closed forms.

The function is f(x) = (a.x)^6 + sum_i exp(b_i x_i), whose k-th derivative is
6!/(6-k)! (a.x)^(6-k) a (x) ... (x) a + diag_k(b_i^k exp(b_i x_i)). Each operator turns a function that is a constant
linear map L of the k-th derivative into another of that kind, so the expected value of any nesting follows by carrying
L along.
"""

import itertools
import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import autograd, func

N = 3
RNG = np.random.default_rng(3)
A, B, X, V = RNG.uniform(0.3, 0.9, N), RNG.uniform(-1, 1, N), RNG.uniform(0.2, 0.8, N), RNG.standard_normal(N)
EYE = np.eye(N)


def t(a):
    return cr.tensor(a, dtype=cr.float64)


def f(x):
    return (t(A) * x).sum() ** 6 + (t(B) * x).exp().sum()


def derivative(k):
    """The k-th derivative of f at X."""
    power = np.array(math.factorial(6) / math.factorial(6 - k) * (A @ X) ** (6 - k))
    for _ in range(k):
        power = np.multiply.outer(power, A)
    if not k:
        return power + np.exp(B * X).sum()
    diagonal = np.zeros((N,) * k)
    for i in range(N):
        diagonal[(i,) * k] = B[i] ** k * np.exp(B[i] * X[i])
    return power + diagonal


def weights(shape):
    """Fixed weights that make a number of a tensor."""
    return np.cos(np.arange(math.prod(shape))).reshape(shape)


def jacobian_map(L, rank):
    return np.multiply.outer(L, EYE).transpose(
        *range(rank), L.ndim, *range(rank, L.ndim), L.ndim + 1
    )  # out, new output axis, old slots, new slot


def through_jacrev(g, L, rank):
    return func.jacrev(g), jacobian_map(L, rank), rank + 1


def through_jacfwd(g, L, rank):
    return func.jacfwd(g), jacobian_map(L, rank), rank + 1


def through_jvp(g, L, rank):
    return lambda x: func.jvp(g, (x,), (t(V),))[1], np.multiply.outer(L, V), rank


def through_linearize(g, L, rank):
    return lambda x: func.linearize(g, x)[1](t(V)), np.multiply.outer(L, V), rank


def _number(g, L, rank):
    c = weights((N,) * rank)
    return (lambda x: (g(x) * t(c)).sum()), np.tensordot(c, L, rank)


def through_grad(g, L, rank):
    h, M = _number(g, L, rank)
    return func.grad(h), jacobian_map(M, 0), 1


def through_vjp(g, L, rank):
    c = weights((N,) * rank)
    return lambda x: func.vjp(g, x)[1](t(c))[0], jacobian_map(np.tensordot(c, L, rank), 0), 1


def through_tape(g, L, rank):
    """The ordinary tape inside whatever is current."""
    h, M = _number(g, L, rank)

    def derived(x):
        y = (x * 1).requires_grad_()
        return autograd.grad(h(y), y, create_graph=True)[0]

    return derived, jacobian_map(M, 0), 1


def through_vmap(g, L, rank):
    """Member 0 of a batch whose members are computed from x."""
    return lambda x: func.vmap(g)(cr.stack([x, x * 0.5 + 0.1]))[0], L, rank


def through_vmap_closure(g, L, rank):
    """The mapped function closes over x."""
    return lambda x: func.vmap(lambda s: g(x) * s)(t([1.0, 3.0]))[0], L, rank


OPERATORS = {
    "grad": through_grad,
    "vjp": through_vjp,
    "jacrev": through_jacrev,
    "jacfwd": through_jacfwd,
    "jvp": through_jvp,
    "linearize": through_linearize,
    "tape": through_tape,
    "vmap": through_vmap,
    "vmap_closure": through_vmap_closure,
}


def check(names, operators=OPERATORS):
    g, L, rank = f, np.array(1.0), 0
    for name in names:
        g, L, rank = operators[name](g, L, rank)
    order = L.ndim - rank
    expected = np.tensordot(L, derivative(order), order) if order else L * derivative(0)
    got = g(t(X))
    assert "tape" in names or not got.requires_grad, names  # the tape's leaf is the user's, so history may stay
    np.testing.assert_allclose(
        got.detach().numpy(), expected, rtol=1e-10, atol=1e-10, err_msg=" of ".join(reversed(names))
    )


@pytest.mark.parametrize("last", OPERATORS)
def test_three_operators(last):
    for first, second in itertools.product(OPERATORS, repeat=2):
        check((first, second, last))


@pytest.mark.parametrize("outer", [n for n in OPERATORS if n != "vjp"])
def test_hessian_inside_and_outside(outer):
    hessian = {"hessian": lambda g, L, r: (func.hessian(g), jacobian_map(jacobian_map(L, r), r + 1), r + 2)}
    check(("hessian", outer), OPERATORS | hessian)
    check((outer, "hessian"), OPERATORS | hessian)


@pytest.mark.parametrize("names", [("jvp", "jvp", "jvp", "jvp"), ("grad", "jacrev", "jacfwd", "vmap", "jacrev"),
                                   ("vmap", "jvp", "vmap_closure", "grad", "vmap", "jacfwd", "jvp")])  # fmt: skip
def test_fourth_order_and_long_nestings(names):
    check(names)


@pytest.mark.parametrize("inner", OPERATORS)
def test_the_tape_differentiates_transforms(inner):
    """x requires a gradient outside; autograd.grad takes two more derivatives of what a transform computed."""
    for second in ("grad", "jvp", "vmap"):
        g, L, rank = f, np.array(1.0), 0
        for name in (inner, second):
            g, L, rank = OPERATORS[name](g, L, rank)
        h, M = _number(g, L, rank)
        x = t(X).requires_grad_()
        (first,) = autograd.grad(h(x), x, create_graph=True)
        M = jacobian_map(M, 0)
        order = M.ndim - 1
        np.testing.assert_allclose(first.detach().numpy(), np.tensordot(M, derivative(order), order), rtol=1e-10)
        c = weights((N,))
        (first * t(c)).sum().backward()
        M = jacobian_map(np.tensordot(c, M, 1), 0)
        np.testing.assert_allclose(x.grad.numpy(), np.tensordot(M, derivative(order + 1), order + 1), rtol=1e-10)
