"""Long graphs and long runs: no recursion, linear time, flat memory."""

import gc
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.func import grad, hessian, jvp, vmap

STATM = Path("/proc/self/statm")


def resident():
    """Bytes of memory in use by this process."""
    return int(STATM.read_text().split()[1]) * 4096


needs_statm = pytest.mark.skipif(not STATM.exists(), reason="reads the resident size from /proc/self/statm")


def chain(n):
    """Seconds to build, differentiate and free a chain of ``n`` nodes."""
    x = cr.tensor(1.0, requires_grad=True)
    started = time.perf_counter()
    y = x
    for _ in range(n):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0
    del y
    return time.perf_counter() - started


@pytest.mark.parametrize("free_first", [False, True], ids=["differentiated", "never_differentiated"])
def test_a_chain_far_deeper_than_the_recursion_limit(free_first):
    x = cr.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(50 * sys.getrecursionlimit()):
        y = y.sin() if free_first else y * 1.0
    if not free_first:
        y.backward(retain_graph=True)
        assert x.grad.item() == 1.0
    del y  # frees the whole chain


def test_a_long_chain_under_create_graph_and_under_transforms():
    n = 3 * sys.getrecursionlimit()

    def f(x):
        for _ in range(n):
            x = x * 1.0
        return x * x

    x = cr.tensor(3.0, requires_grad=True)
    (g,) = cr.autograd.grad(f(x), x, create_graph=True)
    assert g.item() == 6.0
    assert cr.autograd.grad(g, x)[0].item() == 2.0
    assert jvp(f, (x.detach(),), (cr.tensor(1.0),))[1].item() == 6.0
    np.testing.assert_array_equal(vmap(grad(f))(cr.tensor([1.0, 2.0])).numpy(), [2.0, 4.0])


def test_a_long_chain_of_writes_through_views():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    view = y
    for _ in range(3 * sys.getrecursionlimit()):
        view = view[:]
    view.mul_(2.0)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 2.0])


@pytest.mark.slow
def test_a_chain_of_a_million_nodes():
    assert chain(1_000_000) < 60


@pytest.mark.slow
def test_time_is_linear_in_the_length():
    chain(10_000)
    short, long = (min(chain(n) for _ in range(3)) for n in (50_000, 500_000))
    assert long / short < 30  # 10 if linear, 100 if quadratic


def train(steps):
    """Training steps of a small network with everything a step does; returns the loss."""
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, y = cr.randn(32, 8), cr.randint(0, 3, (32,))
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


@needs_statm
def test_ten_thousand_training_steps_with_the_collector_off_leave_memory_flat():
    """A step that left one parameter-sized array behind would show as more than 10 MB."""
    train(2000)  # with all that is loaded late, such as the compiler for the optimizer's steps
    gc.collect()
    gc.disable()
    try:
        before = resident()
        train(10_000)
        grown = resident() - before
    finally:
        gc.enable()
    assert grown < 4e6, f"grew by {grown / 1e6:.1f} MB"


class Square(cr.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def _uncached():
    x = cr.tensor(np.ones(500), requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 1)
    v = y[1:]
    v.mul_(2.0)
    Square.apply(y).sum().backward()


@needs_statm
@pytest.mark.parametrize(
    "run",
    [
        _uncached,
        lambda: grad(lambda x: Square.apply(x).sum())(cr.ones(500)),
        lambda: vmap(grad(lambda x: (x.sin() * x).sum()))(cr.ones(20, 25)),
        lambda: hessian(lambda x: (x.sin() * x).sum())(cr.ones(20)),
        lambda: jvp(lambda x: x.exp(), (cr.ones(500),), (cr.ones(500),)),
        lambda: cr.autograd.functional.hvp(lambda x: (x**3).sum(), cr.ones(500), cr.ones(500)),
    ],
    ids=["hooks_views_function", "grad_function", "vmap_grad", "hessian", "jvp", "hvp"],
)
def test_repeated_derivatives_with_the_collector_off_leave_memory_flat(run):
    for _ in range(100):
        run()
    gc.collect()
    gc.disable()
    try:
        before = resident()
        for _ in range(1000):
            run()
        grown = resident() - before
    finally:
        gc.enable()
    assert grown < 2e6, f"grew by {grown / 1e6:.1f} MB"
