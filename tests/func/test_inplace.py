"""In-place operations and views inside transforms are functional: same numbers, and nothing outside changes."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vmap

RNG = np.random.default_rng(11)
M0, MS = RNG.standard_normal((3, 3)), RNG.standard_normal((4, 3, 3))


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def program(leaf):
    """Writes through views of several kinds, reads the others afterwards."""
    x = leaf * 1.0
    y, z, r = x[0], x[1:], x.reshape(9)
    y.mul_(3.0)
    y.add_(leaf[1])
    z[0] = leaf[2] * 2.0
    r[0:2] = leaf[0, 0] * leaf[0, 1]
    x.T[2] *= x[1, 1]
    return (x * x).sum() + (z * y).sum() + r.sin().sum() + (x.T @ x).sum()


def reference(a):
    """The same with NumPy, which has no history to get wrong."""
    x = a * 1.0
    y, z, r = x[0], x[1:], x.reshape(9)
    y *= 3.0
    y += a[1]
    z[0] = a[2] * 2.0
    r[0:2] = a[0, 0] * a[0, 1]
    x.T[2] *= x[1, 1].copy()
    return (x * x).sum() + (z * y).sum() + np.sin(r).sum() + (x.T @ x).sum()


def numeric(a, h=1e-6):
    g = np.zeros_like(a)
    for i in np.ndindex(a.shape):
        d = np.zeros_like(a)
        d[i] = h
        g[i] = (reference(a + d) - reference(a - d)) / (2 * h)
    return g


def test_value_and_tape():
    leaf = t(M0, True)
    y = program(leaf)
    assert y.item() == pytest.approx(reference(M0), rel=1e-13)
    y.backward()
    np.testing.assert_allclose(leaf.grad.numpy(), numeric(M0), rtol=1e-6, atol=1e-7)


def test_every_transform_agrees_with_the_tape():
    leaf = t(M0, True)
    program(leaf).backward()
    g = leaf.grad.numpy()
    x = t(M0)
    for derived in (grad(program)(x), jacrev(program)(x), jacfwd(program)(x)):
        np.testing.assert_allclose(derived.numpy(), g, rtol=1e-12, atol=1e-12)
    for tangent in (jvp(program, (x,), (t(MS[0]),))[1], linearize(program, x)[1](t(MS[0]))):
        assert tangent.item() == pytest.approx((g * MS[0]).sum(), rel=1e-12)
    np.testing.assert_array_equal(x.numpy(), M0)


def test_vmap_and_second_order():
    batched = vmap(grad(program))(t(MS)).numpy()
    np.testing.assert_allclose(batched, [grad(program)(t(m)).numpy() for m in MS], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(vmap(program)(t(MS)).numpy(), [reference(m) for m in MS], rtol=1e-12)
    h = hessian(program)(t(M0)).numpy()
    np.testing.assert_allclose(h, jacrev(grad(program))(t(M0)).numpy(), rtol=1e-11, atol=1e-11)
    step = 1e-6
    for i in np.ndindex(3, 3):
        d = np.zeros_like(M0)
        d[i] = step
        column = (grad(program)(t(M0 + d)).numpy() - grad(program)(t(M0 - d)).numpy()) / (2 * step)
        np.testing.assert_allclose(h[..., i[0], i[1]], column, rtol=1e-5, atol=1e-6)


def test_a_write_with_a_neighbour_as_operand_works_where_no_buffer_is_shared():
    def f(x):
        y = x * 1.0
        v = y[1:]
        y[0] = y[1] * y[2]
        v.mul_(y[0])
        return (y * v.sum()).sum()

    xs = MS[0]
    expected = []
    for r in xs:
        g = []
        for i in range(3):
            d = np.zeros(3)
            d[i] = 1e-6
            g.append((f(t(r + d)).item() - f(t(r - d)).item()) / 2e-6)
        expected.append(g)
    np.testing.assert_allclose(vmap(grad(f))(t(xs)).numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="changed in place"):  # eager: the saved operand was overwritten
        f(t(xs[0], True)).backward()


@pytest.mark.parametrize(
    "transform", [lambda f: vmap(f)(t(M0)), lambda f: jvp(f, (t(M0[0]),), (t(M0[0]),))], ids=["vmap", "jvp"]
)
@pytest.mark.parametrize("write", [lambda o, v: o.add_(v), lambda o, v: o[0:1].copy_(v[0:1]), lambda o, v: o.copy_(v)])
def test_a_traced_value_cannot_be_written_outside(transform, write):
    outside = t(np.zeros(3))
    with pytest.raises(RuntimeError, match="from outside"):
        transform(lambda v: write(outside, v))
    assert not outside.numpy().any()


def test_a_tensor_made_inside_can_be_written():
    def f(x):
        out = cr.zeros(3, dtype=cr.float64)
        out[1] = x[0] * x[1]
        out += x
        return out

    np.testing.assert_allclose(vmap(f)(t(M0)).numpy(), M0 + np.outer(M0[:, 0] * M0[:, 1], [0, 1, 0]))
    j = jacfwd(f)(t(M0[0])).numpy()
    expected = np.eye(3)
    expected[1, 0] += M0[0, 1]
    expected[1, 1] += M0[0, 0]
    np.testing.assert_allclose(j, expected)


@pytest.mark.parametrize("transform", [grad, jacrev, hessian, vmap])
@pytest.mark.parametrize("history", [False, True])
def test_the_input_of_a_transform_never_changes(transform, history):
    x = t(M0[0], history) * 1

    def f(v):
        v.mul_(2.0)
        return (v * v).sum()

    if transform is vmap:
        np.testing.assert_array_equal(vmap(f)(x).detach().numpy(), (2 * M0[0]) ** 2)
    else:
        with pytest.raises(RuntimeError, match="written in place"):
            transform(f)(x)
    np.testing.assert_array_equal(x.detach().numpy(), M0[0])
    assert jvp(f, (x,), (x,))[1].item() == pytest.approx(8 * (M0[0] ** 2).sum())
    np.testing.assert_array_equal(x.detach().numpy(), M0[0])
