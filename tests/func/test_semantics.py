"""What transforms mean: whose perturbation, whose history, whose thread, and what is left behind."""

import gc
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule import autograd
from chainrule.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from chainrule.ir.state import get_state

RNG = np.random.default_rng(5)
W0, X0, XS = RNG.standard_normal((3, 3)), RNG.standard_normal(3), RNG.standard_normal((5, 3))


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def energy(w):
    """x -> sum z tanh z with z = w x."""

    def f(x):
        z = w @ x
        return (z.tanh() * z).sum()

    return f


def energy_grad(w, x):
    z = w @ x
    s = np.tanh(z) + z * (1 - np.tanh(z) ** 2)
    return w.T @ s, np.outer(s, x)  # with respect to x, and to w


def close(got, expected, tol=1e-12):
    np.testing.assert_allclose(got.detach().numpy(), np.asarray(expected), rtol=tol, atol=tol)


# ---- perturbation confusion (Siskind and Pearlmutter, 2005)
def forward(f):
    return lambda x: jvp(f, (x,), (t(1.0),))[1]


def backward(f):
    def derived(x):
        return vjp(f, x)[1](t(1.0))[0]

    return derived


def linear(f):
    return lambda x: linearize(f, x)[1](t(1.0))


DERIVATIVES = {"jvp": forward, "grad": grad, "vjp": backward, "linearize": linear}


@pytest.mark.parametrize("inner", DERIVATIVES)
@pytest.mark.parametrize("outer", DERIVATIVES)
def test_perturbations_are_not_confused(outer, inner):
    D1, D2 = DERIVATIVES[outer], DERIVATIVES[inner]
    one = t(1.0)
    assert D1(lambda x: x * D2(lambda y: x + y)(one))(one).item() == 1.0
    assert D1(lambda x: x * D2(lambda y: x * y)(t(2.0)))(t(3.0)).item() == 6.0
    assert D1(lambda x: D2(lambda y: D2(lambda z: x * y * y * z)(x))(x))(t(3.0)).item() == 12.0
    assert D1(lambda x: D2(lambda y: x)(x))(t(3.0)).item() == 0.0


@pytest.mark.parametrize("d", DERIVATIVES)
def test_a_derivative_under_vmap_is_taken_per_member(d):
    D = DERIVATIVES[d]
    a = t([2.0, 3.0, 5.0])
    close(vmap(lambda s: D(lambda x: s * x * x)(s))(a), [8.0, 18.0, 50.0])
    close(D(lambda x: vmap(lambda s: s * x * D(lambda y: y * x * s)(x))(a).sum())(t(2.0)), 3 * 38 * 2.0**0 * 4 / 3)


# ---- closed-over parameters
def test_history_of_a_closed_over_parameter_leaves_every_transform():
    transforms = {
        "vmap": (lambda w: vmap(energy(w))(t(XS)).sum(), lambda w, x: energy_grad(w, x)[1]),
        "grad": (lambda w: vmap(grad(energy(w)))(t(XS)).sum(), None),
        "jvp": (
            lambda w: jvp(lambda x: vmap(energy(w))(x), (t(XS),), (t(XS),))[0].sum(),
            lambda w, x: energy_grad(w, x)[1],
        ),
    }
    for run, per_member in transforms.values():
        w = t(W0, True)
        run(w).backward()
        if per_member is not None:
            close(w.grad, sum(per_member(W0, x) for x in XS))
            continue
        step, expected = 1e-6, np.zeros_like(W0)
        for i in np.ndindex(3, 3):
            d = np.zeros_like(W0)
            d[i] = step
            expected[i] = sum((energy_grad(W0 + d, x)[0] - energy_grad(W0 - d, x)[0]).sum() for x in XS) / (2 * step)
        close(w.grad, expected, 1e-6)


def test_per_sample_gradients():
    expected = np.stack([energy_grad(W0, x)[1] for x in XS])
    w = t(W0, True)
    close(vmap(lambda x: grad(lambda w: energy(w)(x))(w))(t(XS)), expected)
    close(vmap(grad(lambda w, x: energy(w)(x)), in_dims=(None, 0))(w, t(XS)), expected)
    close(vmap(lambda x: autograd.grad(energy(w)(x), w)[0])(t(XS)), expected)
    close(vmap(lambda x: vjp(lambda w: energy(w)(x), w)[1](t(1.0))[0])(t(XS)), expected)


def test_history_flows_to_both_a_parameter_and_an_argument():
    w, x = t(W0, True), t(XS, True)
    vmap(grad(energy(w)))(x).sum().backward()
    assert w.grad.shape == (3, 3)
    assert x.grad.shape == (5, 3)
    h = np.stack([hessian(energy(t(W0)))(t(r)).numpy().sum(0) for r in XS])
    close(x.grad, h)


def test_no_spurious_history():
    w, x = t(W0), t(X0)
    results = [
        grad(energy(w))(x), vmap(grad(energy(w)))(t(XS)), hessian(energy(w))(x), jacrev(grad(energy(w)))(x),
        jvp(grad(energy(w)), (x,), (x,))[1], vjp(energy(w), x)[0], vjp(energy(w), x)[1](t(1.0))[0],
        linearize(energy(w), x)[1](x), vmap(vjp(lambda x: x.sin() * x.sum(), x)[1])(w)[0],
        vmap(linearize(lambda x: x.sin() * x.sum(), x)[1])(w),
        vmap(lambda a: grad(lambda y: (y * y * a).sum())(x))(t(X0)),
    ]  # fmt: skip
    for r in results:
        assert not r.requires_grad
        assert r.is_leaf


def test_a_pullback_has_history_from_its_cotangent_only():
    _, pull = vjp(lambda x: x * x, t(X0))
    v = t(X0, True)
    pull(v)[0].sum().backward()
    close(v.grad, 2 * X0)
    close(grad(lambda v: pull(v)[0].sum())(t(X0)), 2 * X0)
    assert not grad(lambda v: (pull(v)[0] ** 2).sum())(t(X0)).requires_grad


def test_gradients_of_aux_survive_the_transform():
    w = t(2.0, True)
    g, (value, aux) = grad_and_value(lambda x: (x * x, x * x * w), has_aux=True)(t(3.0))
    assert not g.requires_grad
    assert not value.requires_grad
    aux.backward()
    assert w.grad.item() == 9.0


# ---- grad mode
def test_no_grad_inside_cuts_reverse_mode_only():
    def f(x):
        with cr.no_grad():
            c = x * x
        return (x - c).sum()

    close(grad(f)(t(X0)), np.ones(3))
    close(jvp(f, (t(X0),), (t(X0),))[1], (X0 - 2 * X0 * X0).sum())  # PyTorch: forward mode does not look at grad mode
    close(jvp(lambda x: (x.detach() * x).sum(), (t(X0),), (t(X0),))[1], (X0 * X0).sum())  # detach cuts both


def test_no_grad_outside_does_not_stop_grad_but_drops_history():
    w = t(W0, True)
    with cr.no_grad():
        results = [grad(energy(w))(t(X0)), vmap(grad(energy(w)))(t(XS)), hessian(energy(w))(t(X0))]
        value, pull = vjp(energy(w), t(X0))
        results += [value, pull(t(1.0))[0]]
    close(results[0], energy_grad(W0, X0)[0])
    assert not any(r.requires_grad for r in results)


def test_no_grad_inside_vmap_cuts_the_outer_tape_too():
    w = t(X0, True)

    def f(x):
        with cr.no_grad():
            c = x * w
        return (c * w).sum()

    vmap(f)(t(XS)).sum().backward()
    close(w.grad, (XS * X0).sum(0))


def test_enable_grad_inside_vmap_under_no_grad_leaks_no_history():
    w = t(X0, True)

    def f(a):
        with cr.enable_grad():
            return (a * w).sum()

    with cr.no_grad():
        r = vmap(f)(t(X0))
    assert not r.requires_grad


# ---- escape and restoration
def test_an_escaped_tracer_says_where_it_came_from():
    box = []
    vmap(lambda x: box.append(x) or x)(t(X0))
    vmap_uses = [
        lambda: box[0] + 1.0, lambda: box[0].sin(), lambda: vmap(lambda y: y * box[0])(t(X0)), lambda: box[0].item(),
        lambda: grad(lambda y: y * box[0])(t(1.0)),
    ]  # fmt: skip
    for use in vmap_uses:
        with pytest.raises(RuntimeError, match="vmap"):
            use()
    jvp(lambda x: box.append(x) or x, (t(X0),), (t(X0),))
    with pytest.raises(RuntimeError, match="jvp"):
        box[1] * 2.0


@pytest.mark.parametrize(
    "question", [bool, float, lambda v: v.item(), lambda v: v.tolist(), lambda v: v.detach().numpy()]
)
@pytest.mark.parametrize("transform", [lambda f: vmap(f)(t(X0)), lambda f: jvp(f, (t(1.0),), (t(1.0),))])
def test_a_traced_value_has_no_number(transform, question):
    with pytest.raises(RuntimeError, match=r"vmap|jvp"):
        transform(lambda v: (question(v), v)[1])


def test_exceptions_restore_interpreter_and_mode():
    before = get_state()

    def fail(*_):
        with cr.no_grad():
            raise ZeroDivisionError

    nested = [
        lambda: vmap(fail)(t(X0)), lambda: grad(fail)(t(1.0)), lambda: jvp(fail, (t(1.0),), (t(1.0),)),
        lambda: jacrev(fail)(t(X0)), lambda: jacfwd(fail)(t(X0)), lambda: hessian(fail)(t(X0)),
        lambda: vmap(grad(lambda x: jvp(fail, (x,), (x,))))(t(X0)), lambda: vjp(lambda x: vmap(fail)(x), t(X0)),
    ]  # fmt: skip
    for run in nested:
        with pytest.raises(ZeroDivisionError):
            run()
        assert get_state() == before
    with pytest.raises(RuntimeError, match="scalar"):
        grad(lambda x: x)(t(X0))
    assert get_state() == before


def test_backward_inside_a_transform_may_not_touch_leaves_outside():
    w = t(W0, True)
    for transform in (lambda f: vmap(f)(t(XS)), lambda f: jvp(f, (t(X0),), (t(X0),))):
        with pytest.raises(RuntimeError, match="outside"):
            transform(lambda x: energy(w)(x).backward())
    assert w.grad is None


def test_backward_inside_vmap_to_a_leaf_of_that_level():
    def f(x):
        x = (x * 1).requires_grad_()
        (x.sin() * x).sum().backward()
        return x.grad

    close(vmap(f)(t(XS)), np.sin(XS) + XS * np.cos(XS))


# ---- threads
def test_threads_do_not_see_each_others_interpreter():
    wrong, stop = [], threading.Event()

    def plain():
        while not stop.is_set():
            y = t(1.0) * t(2.0)
            if (
                not isinstance(y._d, (np.ndarray, np.generic))
                or get_state().interpreter is not None
                or not get_state().grad
            ):
                wrong.append(y)

    thread = threading.Thread(target=plain)
    thread.start()
    try:
        for _ in range(30):
            vmap(grad(energy(t(W0))))(t(XS))
            with cr.no_grad():
                hessian(energy(t(W0)))(t(X0))
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_the_same_transforms_in_many_threads():
    expected = hessian(energy(t(W0)))(t(X0)).numpy()
    results, errors = [], []

    def work():
        try:
            results.extend(hessian(energy(t(W0)))(t(X0)).numpy() for _ in range(5))
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    assert not errors
    assert len(results) == 20
    assert all(np.array_equal(r, expected) for r in results)


# ---- what is left behind
@pytest.mark.parametrize(
    "run",
    [
        lambda: grad(energy(t(W0)))(t(X0)),
        lambda: vmap(grad(energy(t(W0, True))))(t(XS)),
        lambda: jvp(grad(energy(t(W0))), (t(X0),), (t(X0),)),
        lambda: hessian(energy(t(W0)))(t(X0)),
        lambda: vjp(energy(t(W0)), t(X0))[1](t(1.0)),
        lambda: linearize(energy(t(W0)), t(X0))[1](t(X0)),
    ],
    ids=["grad", "vmap_grad", "jvp_grad", "hessian", "vjp", "linearize"],
)
def test_transforms_leave_no_cycles(run):
    run()
    gc.collect()
    gc.disable()
    try:
        run()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [o for o in gc.garbage if type(o).__module__.startswith("chainrule") or isinstance(o, np.ndarray)]
        assert not ours
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
