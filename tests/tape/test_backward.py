"""The reverse engine: what is kept and freed, hooks, leaf rules, and whose memory a gradient is."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr

RNG = np.random.default_rng(12)
X0 = RNG.standard_normal(4)


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def close(got, expected):
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


# ---- graph
def test_a_freed_graph_says_so():
    x = t(X0, True)
    y = (x.exp() * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"(?s)freed by an earlier backward pass.*retain_graph=True"):
        y.backward()


def test_a_graph_shared_with_a_freed_one():
    x = t(X0, True)
    h = x.exp()
    a, b = h.sum(), (h * 2).sum()
    a.backward()
    with pytest.raises(RuntimeError, match="freed"):
        b.backward()


def test_retain_graph_gives_the_same_gradient_again():
    x = t(X0, True)
    y = (x.exp() * x.sin()).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    y.backward(retain_graph=True)
    y.backward()
    close(x.grad, 3 * first)


def test_backward_frees_saved_values_while_the_result_lives():
    x = t(X0, True)
    middle = x.exp()
    ref = weakref.ref(middle._d)
    y = (middle * middle).sum()
    del middle
    assert ref() is not None
    y.backward()
    assert ref() is None


def test_graphs_have_no_cycles():
    gc.collect()
    gc.disable()
    try:
        x = t(X0, True)
        y = (x.exp() * x + x.softmax(0)).reshape(2, 2)[0].sum()
        refs = [weakref.ref(y.grad_fn), weakref.ref(y)]
        del y
        assert [r() for r in refs] == [None, None]
    finally:
        gc.enable()


def test_a_diamond_is_visited_once():
    """2^60 paths: only an engine that waits for all uses of a node finishes."""
    x = t(1.0, True)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_a_value_used_by_a_branch_that_carries_nothing():
    """One use of x ends in a rule that finds that nothing flows; the others still arrive."""
    x = t(X0, True)
    h = x * 2
    _, indices = h.sort()
    assert not indices.requires_grad
    (h * h).sum().backward()
    close(x.grad, 8 * X0)


def test_backward_from_a_leaf_and_with_a_seed():
    x = t(2.0, True)
    x.backward()
    assert x.grad.item() == 1.0
    y = t(X0, True)
    (y * 3).backward(t(X0))
    close(y.grad, 3 * X0)
    (y * 3).backward(gradient=X0.tolist())
    close(y.grad, 6 * X0)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda: t(X0).sum().backward(), "does not require a gradient"),
        (lambda: t(X0, True).exp().backward(), r"reduce it first.*\.sum\(\)"),
        (lambda: t(X0, True).exp().backward(t([1.0])), "another shape"),
        (lambda: t(X0, True).detach().sum().backward(), "does not require a gradient"),
    ],
)
def test_errors(run, text):
    with pytest.raises(RuntimeError, match=text):
        run()


# ---- leaf rules
def test_leaf_rules():
    x = t(X0, True)
    y = x * 2
    assert x.is_leaf
    assert x.grad_fn is None
    assert not y.is_leaf
    assert y.grad_fn is not None
    assert y.grad is None
    assert t(X0).is_leaf
    assert (t(X0) * 2).is_leaf
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad_(False)
    with pytest.raises(RuntimeError, match="floating"):
        cr.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="floating"):
        cr.tensor([1, 2]).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x[0:2].mul_(2)
    with cr.no_grad():
        x.add_(1)
        x[0:2].mul_(1)
    close(x.detach(), X0 + 1)
    with cr.no_grad():
        z = x * 2
    assert not z.requires_grad
    assert z.is_leaf
    assert z.requires_grad_() is z
    z.requires_grad_(False)
    assert not z.requires_grad


def test_integers_and_comparisons_carry_nothing():
    x = t(X0, True)
    for y in (x > 0, x.argmax(), x.long(), x.sort()[1], x.round().int()):
        assert not y.requires_grad


def test_grad_modes():
    x = t(X0, True)
    with cr.no_grad():
        assert not (x * 2).requires_grad
        with cr.enable_grad():
            assert (x * 2).requires_grad
        assert not cr.is_grad_enabled()
    with cr.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with cr.inference_mode():
        assert not (x * 2).requires_grad

    @cr.no_grad()
    def f(v):
        return v * 2

    @cr.enable_grad()
    def g(v):
        return v * 2

    assert not f(x).requires_grad
    with cr.no_grad():
        assert g(x).requires_grad
    with pytest.raises(ZeroDivisionError), cr.no_grad():
        raise ZeroDivisionError
    assert cr.is_grad_enabled()
    cr.set_grad_enabled(False)
    assert not cr.is_grad_enabled()
    cr.set_grad_enabled(True)
    assert (x * 2).requires_grad


# ---- whose memory
def pairs():
    """Computations that hand one cotangent to two leaves, or a seed or saved value straight to a leaf."""
    w = t(np.ones(4))
    return {
        "add": lambda x, y, s: (x + y).backward(s),
        "add_twice": lambda x, y, s: ((x + y) + (x * 1 + y)).backward(s),
        "view": lambda x, y, s: (x.reshape(2, 2) + y.reshape(2, 2)).backward(s.reshape(2, 2)),
        "linear": lambda x, y, s: (x @ w + y @ w).backward(),
        "cat": lambda x, y, s: cr.cat([x, y])[2:6].sum().backward(),
        "stack": lambda x, y, s: cr.stack([x, y]).backward(cr.stack([s, s])),
        "sum": lambda x, y, s: (x.sum() + y.sum()).backward(),
        "mul": lambda x, y, s: (x * y).backward(s),
        "where": lambda x, y, s: cr.where(s > 0, x, y).backward(s),
        "expand": lambda x, y, s: (x.expand(3, 4) + y).backward(s.expand(3, 4)),
        "clone": lambda x, y, s: (x.clone() + y.detach().requires_grad_()).backward(s) or y.sum().backward(),
        "graph": lambda x, y, s: (x + y).backward(s, create_graph=True),
        "roots": lambda x, y, s: cr.autograd.backward([x * 1, y * 1, x + y], [s, s, s]),
    }


@pytest.mark.parametrize("name", pairs())
def test_grad_is_memory_of_its_own(name):
    x, y, seed = t(X0, True), t(X0[::-1].copy(), True), t(np.ones(4))
    pairs()[name](x, y, seed)
    a, b = x.grad.detach().numpy(), y.grad.detach().numpy()
    assert a is not b
    for other in (b, seed.numpy(), x.detach().numpy(), y.detach().numpy()):
        assert not np.shares_memory(a, other)
    for other in (seed.numpy(), x.detach().numpy(), y.detach().numpy()):
        assert not np.shares_memory(b, other)
    assert a.flags.writeable
    assert b.flags.writeable
    before = b.copy()
    a += 100.0
    pairs()[name](x, y, seed)
    np.testing.assert_array_equal(y.grad.detach().numpy(), 2 * before)
    np.testing.assert_array_equal(seed.numpy(), np.ones(4))


def test_accumulation():
    x = t(X0, True)
    for k in range(1, 4):
        (x * x).sum().backward()
        close(x.grad, k * 2 * X0)
    x.grad = None
    (x * 3).sum().backward()
    close(x.grad, np.full(4, 3.0))
    x.grad.zero_()
    (x * 3).sum().backward()
    close(x.grad, np.full(4, 3.0))
    x.grad = cr.ones(4, dtype=cr.float64).expand(4)
    (x * 3).sum().backward()
    close(x.grad, np.full(4, 4.0))
    x.grad = t(1.0).expand(4)  # memory that cannot be written
    (x * 3).sum().backward()
    close(x.grad, np.full(4, 4.0))
    with pytest.raises(RuntimeError, match="shape"):
        x.grad = t([1.0])


def test_what_a_hook_kept_does_not_change_later():
    kept = []
    x = t(X0, True)
    x.register_hook(lambda g: kept.append(g))
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    close(kept[0], np.full(4, 2.0))
    close(kept[1], np.full(4, 3.0))
    close(x.grad, np.full(4, 5.0))


# ---- hooks
def test_hooks_replace_in_order_and_can_be_removed():
    x = t(X0, True)
    y = x * 2
    first = y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    y.sum().backward(retain_graph=True)
    close(x.grad, np.full(4, 22.0))
    first.remove()
    first.remove()
    x.grad = None
    y.sum().backward(retain_graph=True)
    close(x.grad, np.full(4, 4.0))
    x.grad = None
    with x.register_hook(lambda g: g * 0):
        y.sum().backward(retain_graph=True)
    close(x.grad, np.zeros(4))
    y.sum().backward()
    close(x.grad, np.full(4, 4.0))


def test_a_hook_sees_the_complete_gradient_once():
    x = t(X0, True)
    seen = []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.numpy().copy()))
    (y * 3 + y.sin() + y).sum().backward()
    assert len(seen) == 1
    np.testing.assert_allclose(seen[0], 4 + np.cos(2 * X0))


def test_hooks_are_differentiated_with_create_graph():
    x = t(X0, True)
    y = x * x
    handle = y.register_hook(lambda g: g * g * 3)
    (g,) = cr.autograd.grad((y * y).sum(), x, create_graph=True)
    handle.remove()  # the second pass goes through y again
    np.testing.assert_allclose(g.detach().numpy(), 3 * (2 * X0**2) ** 2 * 2 * X0)
    (h,) = cr.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), 120 * X0**4, rtol=1e-6)


def test_hook_errors():
    with pytest.raises(RuntimeError, match="register_hook"):
        t(X0).register_hook(lambda g: g)
    x = t(X0, True)
    x.register_hook(lambda g: 3.0)
    with pytest.raises(TypeError, match="must return a Tensor"):
        (x * 2).sum().backward()


def test_retain_grad():
    x = t(X0, True)
    y = x * 2
    y.retain_grad()
    assert not y.retains_grad or y.grad is None
    (y * y).sum().backward(retain_graph=True)
    close(y.grad, 4 * X0)
    (y * y).sum().backward()
    close(y.grad, 8 * X0)
    y.grad = None
    assert y.grad is None
    x.retain_grad()
    with pytest.raises(RuntimeError, match="retain_grad"):
        t(X0).retain_grad()


# ---- stale values
def line_of(text):
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line and "line_of" not in line)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_stale_saved_value_names_both_lines(create_graph):
    x = t(X0, True)
    y = x * 1.0
    z = y.sin()  # MARK used
    y.add_(1.0)  # MARK changed
    with pytest.raises(RuntimeError) as caught:
        z.sum().backward(create_graph=create_graph)
    text = str(caught.value)
    assert "sin saved" in text
    assert f"test_backward.py:{line_of('MARK used')}" in text
    assert f"test_backward.py:{line_of('MARK changed')}" in text


@pytest.mark.parametrize(
    ("run", "op"),
    [
        (lambda y: (y.exp(), lambda z: z.add_(1.0)), "exp"),
        (lambda y: (y * y, lambda z: y[0:2].mul_(2.0)), "mul"),
        (lambda y: (y[1:] * y[:-1], lambda z: y.zero_()), "mul"),
        (lambda y: (y.reshape(2, 2) @ y.reshape(2, 2), lambda z: y.fill_(0.0)), "m"),
        (lambda y: (y.softmax(0), lambda z: z.mul_(2)), "softmax"),
    ],
)
def test_stale_values_through_views_and_outputs(run, op):
    x = t(X0, True)
    z, write = run(x * 1.0)
    write(z)
    with pytest.raises(RuntimeError, match=f"{op}.* saved"):
        z.sum().backward()


def test_writes_that_do_no_harm_are_allowed():
    x = t(X0, True)
    y = x * 1.0
    z = y + y
    y.add_(1.0)  # add saves nothing
    z.sum().backward()
    close(x.grad, np.full(4, 2.0))
    x.grad = None
    y = x * 1.0
    y.add_(1.0)
    y.mul_(2.0)
    y.exp_()
    y.sum().backward()
    close(x.grad, 2 * np.exp(2 * (X0 + 1)))
    other = t(X0)
    z = (x * 2).sum()
    other.add_(1.0)  # the clock moved, but nothing saved was written
    z.backward()
    close(x.grad, 2 * np.exp(2 * (X0 + 1)) + 2)


def test_memory_written_through_numpy_is_the_users_business_but_detach_is_seen():
    x = t(X0, True)
    y = x * 1.0
    z = y * y
    y.detach().mul_(2.0)
    with pytest.raises(RuntimeError, match="mul saved"):
        z.sum().backward()


# ---- several results
def test_an_op_with_several_results():
    class Split(cr.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x, x.sin(), x.sum()

        @staticmethod
        def backward(ctx, a, b, c):
            (x,) = ctx.saved_tensors
            return 2 * x * a + x.cos() * b + c

    x = t(X0, True)
    a, b, c = Split.apply(x)
    assert {repr(o.grad_fn) for o in (a, b, c)} == {"<SplitBackward0>"}
    b.sum().backward(retain_graph=True)
    close(x.grad, np.cos(X0))
    x.grad = None
    ((a * b).sum() * c + a.sum()).backward()
    s = X0.sum()
    close(x.grad, (2 * X0 * np.sin(X0) + X0**2 * np.cos(X0)) * s + (X0**2 * np.sin(X0)).sum() + 2 * X0)
    a, b, c = Split.apply(x)
    assert cr.autograd.grad([a.sum(), c], [a, c])[1].item() == 1.0
    (g,) = cr.autograd.grad((a * c).sum(), x, create_graph=True)
    (h,) = cr.autograd.grad(g.sum(), x)
    # f = q s with q = sum x^2: the Hessian times the vector of ones
    np.testing.assert_allclose(h.numpy(), 2 * s + 2 * X0 * 4 + 2 * X0.sum(), rtol=1e-12)
