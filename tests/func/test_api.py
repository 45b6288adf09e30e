"""Arguments of the transforms: argnums, trees, has_aux, in_dims, chunks, randomness, and the errors."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, nn
from chainrule.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

RNG = np.random.default_rng(2)
P, Q = RNG.standard_normal(3), RNG.standard_normal(2)


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


def close(got, expected):
    np.testing.assert_allclose(got.detach().numpy(), np.asarray(expected), rtol=1e-12, atol=1e-12)


def test_names_of_torch_func():
    names = {
        "vmap", "grad", "grad_and_value", "vjp", "jvp", "linearize", "jacrev", "jacfwd", "hessian", "functional_call",
        "stack_module_state",
    }  # fmt: skip
    assert names <= set(func.__all__)
    assert all(callable(getattr(func, n)) for n in names)


# ---- grad, vjp, jvp
def test_argnums_trees_and_aux():
    def f(a, tree):
        return (a * a).sum() * tree["k"][0].sum() + tree["k"][1].sum(), {"a": a * 2, "note": "text"}

    a, tree = t(P), {"k": (t(Q), t(P))}
    (ga, gt), (value, aux) = grad_and_value(f, argnums=(0, 1), has_aux=True)(a, tree)
    close(ga, 2 * P * Q.sum())
    close(gt["k"][0], np.full(2, (P * P).sum()))
    close(gt["k"][1], np.ones(3))
    close(value, (P * P).sum() * Q.sum() + P.sum())
    close(aux["a"], 2 * P)
    assert aux["note"] == "text"
    assert not aux["a"].requires_grad
    g, aux = grad(f, argnums=1, has_aux=True)(a, tree)
    close(g["k"][1], np.ones(3))
    close(grad(f, argnums=-1, has_aux=True)(a, tree)[0]["k"][0], np.full(2, (P * P).sum()))


def test_gradient_of_an_unused_argument_is_zero():
    close(grad(lambda a, b: a.sum(), argnums=1)(t(P), t(Q)), np.zeros(2))
    close(jacrev(lambda a, b: a * 2, argnums=1)(t(P), t(Q)), np.zeros((3, 2)))
    close(jvp(lambda a: t(Q), (t(P),), (t(P),))[1], np.zeros(2))


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: grad(lambda x: x)(t(P)), RuntimeError, "scalar"),
        (lambda: grad(lambda x: 3.0)(t(P)), RuntimeError, "scalar"),
        (lambda: grad(lambda x: x.sum())(cr.tensor([1, 2])), TypeError, "floating"),
        (lambda: grad(lambda x: x.sum(), argnums=3)(t(P)), ValueError, "argnums"),
        (lambda: jvp(lambda x: x, (t(P),), (t(Q),)), RuntimeError, "same shape"),
        (lambda: vjp(lambda x: (x, x), t(P))[1](t(P)), RuntimeError, "one cotangent per result"),
        (lambda: vjp(lambda x: x, t(P))[1](t(Q)), RuntimeError, "another shape"),
        (lambda: linearize(lambda x: x, t(P))[1](t(Q)), RuntimeError, "same shape"),
        (lambda: vmap(lambda x, y: x)(t(P), t(Q)), ValueError, "one size"),
        (lambda: vmap(lambda x: x)(t(1.0)), ValueError, "one size"),
        (lambda: vmap(lambda x: x, in_dims=None)(t(P)), ValueError, "no mapped input"),
        (lambda: vmap(lambda x: 1.0)(t(P)), TypeError, "return tensors"),
        (lambda: vmap(lambda x: x + cr.rand(1))(t(P)), RuntimeError, "randomness"),
        (lambda: vmap(lambda x: x, randomness="sometimes"), ValueError, "sometimes"),
    ],
)
def test_errors(run, error, text):
    with pytest.raises(error, match=text):
        run()


def test_vjp_and_linearize_with_several_inputs_and_outputs():
    def f(a, b):
        return {"s": a.sum() * b, "p": (a * a)}

    value, pull = vjp(f, t(P), t(Q))
    ga, gb = pull({"s": t(Q), "p": t(P)})
    close(value["p"], P * P)
    close(ga, (Q * Q).sum() + 2 * P * P)
    close(gb, P.sum() * Q)
    runs = []

    def counted(a, b):
        runs.append(1)
        return f(a, b)

    _, push = linearize(counted, t(P), t(Q))
    for _ in range(3):
        out = push(t(P), t(Q))
    assert len(runs) == 1
    close(out["s"], P.sum() * Q + P.sum() * Q)
    close(out["p"], 2 * P * P)


# ---- jacobians
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_of_trees(jacobian):
    def f(a, b):
        return {"outer": a[:, None] * b, "sum": a.sum()}, {"aux": b * 2}

    result, aux = jacobian(f, argnums=(0, 1), has_aux=True)(t(P), t(Q))
    close(result["outer"][0], np.einsum("ik,j->ijk", np.eye(3), Q))
    close(result["outer"][1], np.einsum("jk,i->ijk", np.eye(2), P))
    close(result["sum"][0], np.ones(3))
    close(result["sum"][1], np.zeros(2))
    close(aux["aux"], 2 * Q)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, None])
def test_chunks_give_the_same_jacobian(chunk):
    expected = np.diag(np.cos(P))
    close(jacrev(lambda x: x.sin(), chunk_size=chunk)(t(P)), expected)
    close(jacfwd(lambda x: x.sin(), chunk_size=chunk)(t(P)), expected)


def test_hessian_of_two_arguments():
    h = hessian(lambda a, b: (a * a).sum() * b.sum(), argnums=(0, 1))(t(P), t(Q))
    close(h[0][0], 2 * np.eye(3) * Q.sum())
    close(h[0][1], np.outer(2 * P, np.ones(2)))
    close(h[1][0], np.outer(np.ones(2), 2 * P))
    close(h[1][1], np.zeros((2, 2)))


# ---- vmap
def test_in_dims_and_out_dims():
    A, B = RNG.standard_normal((2, 5, 3)), RNG.standard_normal((3, 5))
    expected = np.stack([A[:, i] @ B[:, i] for i in range(5)])
    close(vmap(lambda a, b: a @ b, in_dims=(1, 1))(t(A), t(B)), expected)
    close(vmap(lambda a, b: a @ b, in_dims=(-2, -1), out_dims=1)(t(A), t(B)), expected.T)
    close(vmap(lambda a, b: a @ b, in_dims=(1, None), out_dims=-1)(t(A), t(B[:, 0])),
          np.stack([A[:, i] @ B[:, 0] for i in range(5)], -1))  # fmt: skip
    tree = {"a": (t(A), t(B))}
    got = vmap(lambda d, k: (d["a"][0] @ d["a"][1] * k, d["a"][1]), in_dims=({"a": (1, 1)}, None), out_dims=(0, 1))(
        tree, 2.0
    )
    close(got[0], 2 * expected)
    close(got[1], B)


def test_a_result_that_does_not_depend_on_the_batch_is_repeated():
    close(vmap(lambda x: t(Q))(t(P)), np.tile(Q, (3, 1)))
    assert vmap(lambda x: x > 0)(t(P)).dtype == cr.bool


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunks_of_a_map(chunk):
    A = RNG.standard_normal((3, 5))
    close(vmap(lambda a: a.cumsum(0), in_dims=1, out_dims=1, chunk_size=chunk)(t(A)), np.cumsum(A, 0))


def test_randomness():
    same = vmap(lambda x: x * 0 + cr.rand(4), randomness="same")(t(P)).numpy()
    assert (same == same[0]).all()
    different = vmap(lambda x: x * 0 + cr.rand(4), randomness="different")(t(P)).numpy()
    assert len(np.unique(different)) == 12
    cr.manual_seed(3)
    first = vmap(lambda x: x * 0 + cr.rand(4), randomness="different")(t(P)).numpy()
    cr.manual_seed(3)
    np.testing.assert_array_equal(first, vmap(lambda x: x * 0 + cr.rand(4), randomness="different")(t(P)).numpy())


# ---- functional_call
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("shift", cr.zeros(3))

    def forward(self, x, scale=1.0):
        return self.second(self.first(x)) * scale + self.shift


def test_functional_call_restores_the_module():
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    own = dict(net.named_parameters())
    x = cr.randn(4, 3)
    zeros = {name: cr.zeros_like(p) for name, p in own.items()}
    assert not functional_call(net, zeros, (x,)).numpy().any()
    assert not functional_call(net, zeros, x).numpy().any()
    with pytest.raises(RuntimeError):
        functional_call(net, zeros, (cr.randn(4, 7),))
    assert all(p is own[name] for name, p in net.named_parameters())
    some = functional_call(net, {"0.bias": cr.ones(2)}, (x,))
    close(some, np.tanh(x.numpy() @ own["0.weight"].detach().numpy().T + 1).astype(np.float32))


def test_functional_call_ties_weights_and_takes_buffers_and_keywords():
    net = Tied()
    w, x = cr.randn(3, 3), cr.randn(2, 3)
    for name in ("first.weight", "second.weight"):
        got = functional_call(net, ({name: w}, {"shift": cr.ones(3)}), (x,), {"scale": 2.0})
        np.testing.assert_allclose(got.numpy(), x.numpy() @ w.numpy().T @ w.numpy().T * 2 + 1, rtol=1e-5)
    loose = functional_call(net, {"second.weight": w}, (x,), tie_weights=False).detach().numpy()
    np.testing.assert_allclose(
        loose, x.numpy() @ net.first.weight.detach().numpy().T @ w.numpy().T, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="tied"):
        functional_call(net, {"first.weight": w, "second.weight": w + 1}, (x,))
    with pytest.raises(ValueError, match="more than one dictionary"):
        functional_call(net, ({"shift": x[0]}, {"shift": x[0]}), (x,))
    with pytest.raises(KeyError, match="did you mean 'shift'"):
        functional_call(net, {"shfit": x[0]}, (x,))
    with pytest.raises(KeyError, match="shift"):
        functional_call(net, {"first.weight": w}, (x,), strict=True)


def test_per_sample_gradients_of_a_network():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    params, x = dict(net.named_parameters()), cr.randn(6, 3)

    def loss(p, row):
        return functional_call(net, p, (row,)).pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(params, x)
    for i in range(6):
        net.zero_grad()
        net(x[i]).pow(2).sum().backward()
        for name, p in net.named_parameters():
            np.testing.assert_allclose(found[name][i].detach().numpy(), p.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_an_ensemble_from_stacked_state():
    nets = [nn.Linear(3, 2) for _ in range(4)]
    params, buffers = func.stack_module_state(nets)
    x = cr.randn(5, 3)
    out = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(params, buffers)
    np.testing.assert_allclose(out.detach().numpy(), np.stack([n(x).detach().numpy() for n in nets]), rtol=1e-5)
    out.sum().backward()
    assert params["weight"].grad.shape == (4, 2, 3)
    assert nets[0].weight.grad is None
    with pytest.raises(ValueError, match="differ in class"):
        func.stack_module_state([nets[0], nn.Tanh()])
    with pytest.raises(ValueError, match="at least one"):
        func.stack_module_state([])
