"""Function transforms and autograd against PyTorch: values, structures, and which tensors carry history."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import func

torch = pytest.importorskip("torch")
TF = torch.func
pytestmark = [
    pytest.mark.crosscheck,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),  # torch.func.linearize
]

RNG = np.random.default_rng(31)
X0, T0, U0, W0, XS = *RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3)), RNG.standard_normal((5, 3))


def ours(a, grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=grad)


def theirs(a, grad=False):
    return torch.tensor(a, dtype=torch.float64, requires_grad=grad)


def same(a, b, tol=1e-12):
    """The same structure of the same numbers, and history on the same tensors."""
    if isinstance(b, (tuple, list, dict)):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for k in b if isinstance(b, dict) else range(len(b)):
            same(a[k], b[k], tol)
        return
    assert tuple(a.shape) == tuple(b.shape)
    assert a.requires_grad == b.requires_grad
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


def f(x):
    return (x * x.sin()).sum() + (x * x * x).exp().tanh().sum()


def energy(w):
    return lambda x: ((w @ x.reshape(3, 1)).tanh() * (w @ x.reshape(3, 1))).sum()


# each program is written once: F is a namespace of transforms, t makes tensors
PROGRAMS = {
    "grad": lambda F, t: F.grad(f)(t(X0)),
    "grad_grad": lambda F, t: F.grad(lambda x: (F.grad(f)(x) * x.cos()).sum())(t(X0)),
    "grad_and_value": lambda F, t: F.grad_and_value(lambda x: (f(x), {"aux": x * 2}), has_aux=True)(t(X0)),
    "argnums": lambda F, t: F.grad(lambda a, b: (a * b * b).sum(), argnums=(0, 1))(t(X0), t(T0)),
    "tree": lambda F, t: F.grad(lambda d: (d["a"] * d["b"][0]).sum())({"a": t(X0), "b": [t(T0)]}),
    "jvp_grad": lambda F, t: F.jvp(F.grad(f), (t(X0),), (t(T0),)),
    "grad_jvp": lambda F, t: F.grad(lambda x: F.jvp(f, (x,), (t(T0),))[1])(t(X0)),
    "jvp_jvp": lambda F, t: F.jvp(lambda x: F.jvp(f, (x,), (t(T0),))[1], (t(X0),), (t(U0),)),
    "jvp_aux": lambda F, t: F.jvp(lambda x: (x.sin(), x * 3), (t(X0),), (t(T0),), has_aux=True),
    "vmap_grad": lambda F, t: F.vmap(F.grad(energy(t(W0))))(t(XS)),
    "grad_vmap": lambda F, t: F.grad(lambda x: F.vmap(energy(t(W0)))(x).sum())(t(XS)),
    "grad_vmap_grad": lambda F, t: F.grad(lambda x: F.vmap(F.grad(energy(t(W0))))(x).sin().sum())(t(XS)),
    "jvp_vmap_grad": lambda F, t: F.jvp(F.vmap(F.grad(energy(t(W0)))), (t(XS),), (t(XS[::-1].copy()),)),
    "vmap_vmap": lambda F, t: F.vmap(F.vmap(lambda a, b: a * b.sum(), (0, None)), (1, 0))(t(W0), t(XS[:3])),
    "vmap_dims": lambda F, t: F.vmap(lambda a, b: (a @ b, a), (1, None), (0, -1))(t(W0), t(X0)),
    "hessian": lambda F, t: F.hessian(energy(t(W0)))(t(X0)),
    "jacrev_jacrev": lambda F, t: F.jacrev(F.jacrev(energy(t(W0))))(t(X0)),
    "jacfwd_jacfwd": lambda F, t: F.jacfwd(F.jacfwd(energy(t(W0))))(t(X0)),
    "jacrev_jacfwd": lambda F, t: F.jacrev(F.jacfwd(energy(t(W0))))(t(X0)),
    "third": lambda F, t: F.jacfwd(F.hessian(energy(t(W0))))(t(X0)),
    "vmap_third": lambda F, t: F.vmap(F.jacrev(F.hessian(energy(t(W0)))))(t(XS)),
    "jacobian_tree": lambda F, t: F.jacrev(lambda a, b: {"p": a[:, None] * b, "s": b.sum()}, (0, 1))(t(X0), t(T0)),
    "jacobian_forward_tree": lambda F, t: F.jacfwd(lambda a, b: {"p": a[:, None] * b, "s": b.sum()}, (0, 1))(
        t(X0), t(T0)
    ),
    "vjp": lambda F, t: (lambda y, pull: (y, pull({"a": t(T0), "b": t(2.0)})))(
        *F.vjp(lambda x, z: {"a": x * z, "b": x.sum()}, t(X0), t(U0))
    ),
    "vjp_one": lambda F, t: F.vjp(lambda x: x.sin(), t(X0))[1](t(T0)),
    "vmap_of_pull": lambda F, t: F.vmap(F.vjp(lambda x: x.sin() * x.sum(), t(X0))[1])(t(W0)),
    "linearize": lambda F, t: (lambda y, push: (y, push(t(T0)), F.vmap(push)(t(W0))))(
        *F.linearize(lambda x: x.sin() * x.sum(), t(X0))
    ),
    "detach": lambda F, t: F.grad(lambda x: (x.detach() * x).sum())(t(X0)),
    "indexing": lambda F, t: F.vmap(F.grad(lambda x: (x[1:] * x[:-1]).sum() + x[0] ** 3))(t(XS)),
    "reductions": lambda F, t: F.jacrev(lambda x: x.softmax(0) * x.max() + x.prod() + x.cumsum(0) + x.std())(t(X0)),
    "closed_over_leaf": lambda F, t: F.grad(energy(t(W0, True)))(t(X0)),
    "argument_leaf": lambda F, t: F.vmap(F.grad(energy(t(W0))))(t(XS, True)),
    "jvp_leaf": lambda F, t: F.jvp(energy(t(W0, True)), (t(X0),), (t(T0),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    same(PROGRAMS[name](func, ours), PROGRAMS[name](TF, theirs))


def history(name, F, t):
    """The gradients of a parameter and an argument through a transform."""
    w, x = t(W0, True), t(XS, True)
    programs = {
        "closed_over": lambda: F.grad(energy(w))(x[0]).sum(),
        "vmap": lambda: F.vmap(energy(w))(x).sum(),
        "vmap_grad": lambda: F.vmap(F.grad(energy(w)))(x).sum(),
        "jvp": lambda: F.jvp(energy(w), (x[0],), (x[1],))[1],
        "hessian": lambda: F.hessian(energy(w))(x[0]).sum(),
    }
    programs[name]().backward()
    return w.grad, x.grad


@pytest.mark.parametrize("name", ["closed_over", "vmap", "vmap_grad", "jvp", "hessian"])
def test_history_that_leaves_a_transform(name):
    same(history(name, func, ours), history(name, TF, theirs))


def test_no_grad_semantics():
    results = []
    for F, t, mode in ((func, ours, cr.no_grad), (TF, theirs, torch.no_grad)):

        def cut(x, mode=mode):
            with mode():
                c = x * x
            return (x - c).sum()

        w = t(W0, True)
        with mode():
            outside = F.grad(f)(t(X0, True)), F.vmap(F.grad(energy(w)))(t(XS))
        results.append((F.grad(cut)(t(X0)), F.jvp(cut, (t(X0),), (t(T0),)), outside))
    same(*results)


def test_functional_call():
    net, reference = cr.nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    w, b = RNG.standard_normal((2, 3)), RNG.standard_normal(2)

    def run(F, module, t):
        def loss(p, x):
            return F.functional_call(module, p, (x,)).pow(2).sum()

        return F.vmap(F.grad(loss), in_dims=(None, 0))({"weight": t(w), "bias": t(b)}, t(XS))

    same(run(func, net, ours), run(TF, reference, theirs))


def test_autograd_functional():
    def run(af, t):
        def g(x, y):
            return (x * y.sin()).sum() ** 2

        def h(x, y):
            return x * y, y.sum()

        xy, v = (t(X0), t(T0)), (t(U0), t(X0))
        return (
            af.jacobian(h, xy), af.hessian(g, xy), af.vjp(h, xy, (t(U0), t(2.0))), af.jvp(h, xy, v), af.vhp(g, xy, v),
            af.hvp(g, xy, v), af.jacobian(lambda x: x * 2, t(X0)), af.hessian(f, t(X0)), af.hvp(f, t(X0), t(T0)),
            af.jacobian(f, t(X0, True), create_graph=True),
        )  # fmt: skip

    same(run(cr.autograd.functional, ours), run(torch.autograd.functional, theirs), 1e-11)


def function(base):
    """x, y, k -> (k x y, sum x), with a derivative by hand."""

    class Op(base):
        @staticmethod
        def forward(ctx, x, k, y):
            ctx.save_for_backward(x, y)
            ctx.k = k
            return x * y * k, x.sum()

        @staticmethod
        def backward(ctx, g, h):
            x, y = ctx.saved_tensors
            return ctx.k * y * g + h, None, ctx.k * x * g if ctx.needs_input_grad[2] else None

    return Op.apply


@pytest.mark.parametrize("both", [False, True])
def test_function(both):
    results = []
    for lib, t in ((cr, ours), (torch, theirs)):
        x, y = t(X0, True), t(T0, both)
        a, b = function(lib.autograd.Function)(x, 2.0, y)
        (g,) = lib.autograd.grad((a * a).sum() * b, x, create_graph=True)
        g.sin().sum().backward()
        results.append((a, b, g, x.grad, *([y.grad] if both else [])))
    same(*results)


def test_reverse_mode_odds_and_ends():
    """Hooks, retain_grad, several outputs, inner inputs, in-place history, accumulation."""
    results = []
    for lib, t in ((cr, ours), (torch, theirs)):
        x = t(X0, True)
        y = x * 2
        y.retain_grad()
        y.register_hook(lambda g: g * g)
        z = y.sin()
        z[0] = y[1] * 3
        z[1:].mul_(x[:2])
        found = lib.autograd.grad([z.sum(), (y * y).sum()], [x], [None, t(2.0)], retain_graph=True)
        z.backward(t(T0), retain_graph=True)
        z.sum().backward(inputs=[x])
        results.append((*found, x.grad, y.grad))
    same(*results)
