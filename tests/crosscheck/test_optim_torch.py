"""Optimizers against PyTorch: the same gradients for 100 steps give the same parameters."""

import numpy as np
import pytest

import chainrule
from chainrule import optim

torch = pytest.importorskip("torch")

CASES = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.001, "momentum": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("Adagrad", {"lr": 0.1, "eps": 1e-2, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    ("Adadelta", {"maximize": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True, "alpha": 0.9, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "maximize": True, "eps": 1e-3}),
    ("Adamax", {"lr": 0.01}),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    ("Adamax", {"lr": 0.01, "maximize": True}),
    ("NAdam", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.01, "betas": (0.9, 0.6)}),
]
IDS = [name + "".join(f"-{k}" for k in kw if k != "lr") for name, kw in CASES]
SHAPES = [(4, 3), (3,), ()]


def quadratic(dtype):
    """Starting points and the gradient of a bowl that is no parabola, computed with NumPy for both sides."""
    rng = np.random.default_rng(5)
    starts = [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]
    scales = [np.asarray(rng.uniform(1.2, 3.0, s), dtype) for s in SHAPES]
    return starts, [lambda x, a=a: np.asarray(a * x + np.sin(2 * x) / 2, dtype) for a in scales]


def trajectory(optimizer, params, gradients, to_tensor, count=100):
    points = []
    for _ in range(count):
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = to_tensor(gradient(np.array(p.detach().numpy())))
        optimizer.step()
        points.append([np.array(p.detach().numpy()) for p in params])
    return points


def ours(array):
    return chainrule.tensor(array)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-6), ("float32", 2e-5)])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_trajectory(name, options, dtype, bound):
    starts, gradients = quadratic(dtype)
    mine = [chainrule.nn.Parameter(ours(x)) for x in starts]
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    got = trajectory(getattr(optim, name)(mine, **options), mine, gradients, ours)
    want = trajectory(getattr(torch.optim, name)(theirs, **options), theirs, gradients, torch.tensor)
    for step, (a, b) in enumerate(zip(got, want, strict=True)):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=bound, atol=bound, err_msg=f"step {step + 1}")
    again = [chainrule.nn.Parameter(ours(x)) for x in starts]
    repeated = trajectory(getattr(optim, name)(again, **options), again, gradients, ours)
    assert all(np.array_equal(x, y) for a, b in zip(got, repeated, strict=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_names_and_options(name, options):
    starts, gradients = quadratic("float64")
    mine = [chainrule.nn.Parameter(ours(x)) for x in starts]
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    a, b = getattr(optim, name)(mine, **options), getattr(torch.optim, name)(theirs, **options)
    trajectory(a, mine, gradients, ours, 2)
    trajectory(b, theirs, gradients, torch.tensor, 2)
    assert repr(a) == repr(b)
    one, other = a.state_dict(), b.state_dict()
    assert one["param_groups"] == other["param_groups"]
    extra = {"step"} if "dampening" in options else set()  # kept to know which step is the first
    assert {k: set(v) - extra for k, v in one["state"].items()} == {k: set(v) for k, v in other["state"].items()}


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_continues_from_a_state_that_torch_saved(name, options):
    starts, gradients = quadratic("float64")
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    b = getattr(torch.optim, name)(theirs, **options)
    trajectory(b, theirs, gradients, torch.tensor, 10)
    mine = [chainrule.nn.Parameter(ours(p.detach().numpy().copy())) for p in theirs]
    a = getattr(optim, name)(mine, **options)
    a.load_state_dict(b.state_dict())
    got = trajectory(a, mine, gradients, ours, 20)
    want = trajectory(b, theirs, gradients, torch.tensor, 20)
    for x, y in zip(got[-1], want[-1], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


def rosenbrock(x):
    """Loss and gradient of the sum of 100 (x_(i+1) - x_i**2)**2 + (1 - x_i)**2."""
    b = x[1:] - x[:-1] ** 2
    gradient = np.zeros_like(x)
    gradient[:-1] += -400 * x[:-1] * b - 2 * (1 - x[:-1])
    gradient[1:] += 200 * b
    return float((100 * b * b + (1 - x[:-1]) ** 2).sum()), gradient


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"line_search_fn": "strong_wolfe"}, 3),
        ({"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 5, "lr": 0.5}, 12),
        ({"lr": 1e-3, "max_iter": 4}, 25),
    ],
)
def test_lbfgs(options, steps):
    paths = []
    for module, library, to_tensor in ((optim, chainrule, ours), (torch.optim, torch, torch.tensor)):
        p = library.nn.Parameter(to_tensor(np.array([-1.2, 1.0, -0.5, 0.8, 1.3])))
        optimizer = module.LBFGS([p], **options)

        def closure(p=p, to_tensor=to_tensor):
            loss, gradient = rosenbrock(np.array(p.detach().numpy()))
            p.grad = to_tensor(gradient)
            return loss

        path = []
        for _ in range(steps):
            loss = optimizer.step(closure)
            path.append([loss, *p.detach().numpy().tolist(), optimizer.state[p]["func_evals"]])
        paths.append(path)
    np.testing.assert_allclose(*paths, rtol=1e-6, atol=1e-6)
