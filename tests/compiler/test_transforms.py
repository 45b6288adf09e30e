"""Transforms inside a capture, captures inside transforms, and programs that are transformed."""

import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture, captured

F8 = np.float64
X = cr.from_numpy(np.random.default_rng(0).standard_normal(4))
BATCH = cr.from_numpy(np.random.default_rng(1).standard_normal((5, 4)))
W = cr.from_numpy(np.random.default_rng(2).standard_normal((4, 4)))
func = cr.func


def energy(x):
    return (cr.sin(x) * (W @ x)).sum() + (x * x).sum().sqrt()


NESTED = {
    "grad": func.grad(energy),
    "hessian": func.hessian(energy),
    "jacfwd of jacrev": func.jacfwd(func.jacrev(cr.tanh)),
    "jacrev of jacfwd": func.jacrev(func.jacfwd(cr.tanh)),
    "jvp": lambda x: func.jvp(energy, (x,), (x * 2,)),
    "jvp of grad": lambda x: func.jvp(func.grad(energy), (x,), (cr.ones_like(x),)),
    "vmap": lambda x: func.vmap(lambda a: energy(a * x))(BATCH),
    "vmap of grad": lambda x: func.vmap(func.grad(lambda a: energy(a * x)))(BATCH),
    "vmap of hessian": lambda x: func.vmap(func.hessian(energy))(BATCH * x),
    "grad of vmap": func.grad(lambda x: func.vmap(energy)(BATCH * x).sum()),
    "vjp": lambda x: func.vjp(cr.tanh, x)[1](x),
    "autograd.grad twice": lambda x: _twice(x),
}


def _twice(x):
    x = x.detach().requires_grad_()
    (g,) = cr.autograd.grad(energy(x), x, create_graph=True)
    return cr.autograd.grad((g * g).sum(), x)


def leaves(result):
    return [t.numpy(force=True) for t in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("function", NESTED.values(), ids=NESTED)
def test_a_transform_inside_a_capture(function):
    program = capture(function, X)
    for x in (X, X + 1.0):
        for a, b in zip(leaves(program(x)), leaves(function(x)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


OUTSIDE = {
    "grad": func.grad,
    "hessian": func.hessian,
    "grad of grad": lambda f: func.grad(lambda x: func.grad(f)(x).sum()),
    "jvp": lambda f: lambda x: func.jvp(f, (x,), (cr.ones_like(x),))[1],
    "vmap": lambda f: lambda x: func.vmap(f)(BATCH * x),
    "vmap of grad": lambda f: lambda x: func.vmap(func.grad(f))(BATCH * x),
    "jacfwd of grad": lambda f: func.jacfwd(func.grad(f)),
    "jvp of vmap of grad": lambda f: (
        lambda x: func.jvp(lambda y: func.vmap(func.grad(f))(BATCH * y), (x,), (cr.ones_like(x),))[1]
    ),
    "capture": lambda f: lambda x: capture(f, x)(x),
    "capture of grad": lambda f: lambda x: capture(func.grad(f), x)(x),
}


@pytest.mark.parametrize("transform", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("made", [capture, lambda f, x: captured(f)], ids=["capture", "captured"])
def test_a_program_under_a_transform(transform, made):
    got, wanted = transform(made(energy, X))(X), transform(energy)(X)
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-12, atol=1e-14)


def test_a_program_on_the_tape_of_eager_mode():
    x, w = X.clone().requires_grad_(), W.clone().requires_grad_()
    program = capture(lambda x: (cr.tanh(w @ x)).sum(), X)
    program(x).backward()
    got = x.grad.tolist(), w.grad.tolist()
    x.grad = w.grad = None
    cr.tanh(w @ x).sum().backward()
    assert got == (x.grad.tolist(), w.grad.tolist())
    with cr.no_grad():
        assert program(x).grad_fn is None


def test_what_was_computed_under_no_grad_is_constant_when_the_program_is_differentiated():
    def f(x):
        with cr.no_grad():
            scale = x.sum()
        return (x * scale * x.detach()).sum()

    assert func.grad(capture(f, X))(X).tolist() == func.grad(f)(X).tolist()
    direction = cr.ones_like(X)
    got, wanted = (func.jvp(g, (X,), (direction,))[1].item() for g in (capture(f, X), f))
    assert got == wanted


def test_a_capture_inside_a_capture_becomes_part_of_it():
    inner, w = captured(lambda x: (x * w).sum()), cr.ones(4, dtype=cr.float64)
    outer = captured(lambda x: inner(x) * inner(x + 1.0))
    assert outer(X).item() == ((X * w).sum() * ((X + 1.0) * w).sum()).item()
    assert inner.captures == 0
    (program,) = outer.programs
    assert sum(s.tensor((X,)) is w for s in program.sources) == 1


def test_a_program_called_inside_a_capture_commits_with_it():
    total = cr.zeros(4, dtype=cr.float64)
    inner = capture(lambda x: total.add_(x), X)
    outer = capture(lambda x: inner(x * 2.0) * 1.0, X)
    assert total.tolist() == [0] * 4
    assert outer(X).tolist() == (X * 2.0).tolist()
    assert total.tolist() == (X * 2.0).tolist()


def test_a_write_from_inside_vmap_is_refused_as_without_capture():
    total = cr.zeros(4, dtype=cr.float64)
    with pytest.raises(cr.core.errors.TracerError, match="from outside"):
        capture(lambda x: func.vmap(lambda a: total.add_(a))(BATCH), X)


def test_trees_in_and_out_and_keywords():
    def f(pair, *, options):
        a, b = pair["a"], pair["b"]
        return {"sum": a + b, "rest": [a * options["scale"], None, "text", 3]}

    given = {"a": X, "b": (X * 2)}
    program = capture(f, given, options={"scale": 3.0})
    out = program({"a": X + 1, "b": X}, options={"scale": 3.0})
    assert out["sum"].tolist() == (X + 1 + X).tolist()
    assert out["rest"][0].tolist() == ((X + 1) * 3.0).tolist()
    assert out["rest"][1:] == [None, "text", 3]
    with pytest.raises(ValueError, match=r"argument 2 is 4.0, captured with 3.0"):
        program(given, options={"scale": 4.0})
    with pytest.raises(ValueError, match="another structure"):
        program([X, X], options={"scale": 3.0})
    with pytest.raises(ValueError, match=r"argument 0 is float64\[5\] now, captured as float64\[4\]"):
        program({"a": cr.ones(5, dtype=cr.float64), "b": X}, options={"scale": 3.0})


def test_captures_in_two_threads_do_not_meet():
    errors = []

    def work(seed):
        try:
            for k in range(20):
                x = X * (seed + k)
                program = capture(func.hessian(energy), x)
                np.testing.assert_allclose(program(x).numpy(), func.hessian(energy)(x).numpy(), rtol=1e-12)
        except Exception as error:  # noqa: BLE001 - reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(s,)) for s in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
