"""Functions with loops and branches: what the tests of them run in every mode."""

from __future__ import annotations

import numpy as np

import chainrule as cr


def array(*shape, seed=0):
    return cr.from_numpy(np.random.default_rng(seed).standard_normal(shape))


W = array(3, 3, seed=1) * 0.7
XS = array(4, 3, seed=2)
X = array(3, seed=3)


def rnn(h):
    """Outputs and the final carry both count; the matrix comes from outside."""

    def cell(h, x):
        h = cr.tanh(h @ W + x * h)
        return h, h * x

    last, ys = cr.scan(cell, h, XS * h)
    return (last * last).sum() + (ys * ys * XS).sum()


def backwards(h):
    last, ys = cr.scan(lambda c, x: (cr.sin(c) * x, c + x), h, XS, reverse=True)
    return last.sum() + (ys * ys).sum()


def counting(h):
    """A tree as the carry, an integer in it, no slices, no outputs."""

    def step(carry, _):
        c, n = carry["c"], carry["n"]
        return {"c": c * h + cr.sin(c) * (n + 1), "n": n + 1}, None

    out, none = cr.scan(step, {"c": h, "n": 0}, length=3)
    assert none is None
    return (out["c"] * out["n"]).sum()


def nested(h):
    def row(c, x):
        inner, _ = cr.scan(lambda d, y: (d * cr.cos(y) + c.mean(), None), c.sum(), x)
        return c * 0.5 + inner * x, inner

    last, ys = cr.scan(row, h, XS)
    return (last * last).sum() + ys.sum()


def branching(h):
    """Some steps go one way, some the other."""

    def step(c, x):
        c = cr.cond(x[0] > 0, lambda a: cr.sin(a) * x, lambda a: a * a * h, c)
        return c, c.sum()

    last, ys = cr.scan(step, h, XS)
    return last.sum() + (ys * ys).sum()


def branch(h):
    return cr.cond((h * h).sum() > 1.0, lambda a, b: cr.sin(a * b) @ W, lambda a, b: a + b, h, h * 2).sum()


def other_branch(h):
    return cr.cond((h * h).sum() < 1e-3, lambda: h * 2, lambda: cr.exp(h) * h).sum()


def unused(h):
    """A carry and outputs that nobody reads, slices that no step reads."""
    (a, _), _ = cr.scan(lambda c, x: ((c[0] * c[0] * 0.5, c[1] + x), c[1] * 2), (h, h), XS)
    return a.sum()


def single(h):
    last, ys = cr.scan(lambda c, x: (cr.sin(c) * x, c * c), h, XS[:1])
    return (last * h).sum() + ys.sum()


def empty(h):
    last, ys = cr.scan(lambda c, x: (cr.sin(c) * x, c * c), h, XS[:0])
    assert tuple(ys.shape) == (0, 3)
    return (last * h * h).sum() + ys.sum()


def no_carry(h):
    _, ys = cr.scan(lambda c, x: (c, cr.sin(x) * h), (), XS * h)
    return (ys * ys).sum()


def learning(h):
    """Steps of gradient descent as the loop: derivatives inside what is differentiated."""

    def step(c, x):
        g = cr.func.grad(lambda p: ((p * x * h).tanh() ** 2).sum())(c)
        return c - 0.3 * g, (g * g).sum()

    last, sizes = cr.scan(step, h, XS)
    return (last * last).sum() + sizes.sum()


FUNCTIONS = [
    rnn, backwards, counting, nested, branching, branch, other_branch, unused, single, empty, no_carry, learning,
]  # fmt: skip


def agree(got, wanted):
    np.testing.assert_allclose(got.numpy(force=True), wanted.numpy(force=True), rtol=1e-11, atol=1e-13)
