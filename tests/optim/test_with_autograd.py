"""Optimizers together with the tape, with views, and under an interpreter."""

import numpy as np
import pytest

import chainrule
from chainrule import optim
from chainrule.ir.interpreter import Interpreter


class PassesThrough(Interpreter):
    """A level to which nothing belongs; it notes which numbers were asked for."""

    what = "a test"

    def __init__(self):
        super().__init__()
        self.reads = []

    def scalar(self, read):
        self.reads.append(read)
        return read()


def test_least_squares_through_backward():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 4)), rng.standard_normal((60, 1))
    w = chainrule.nn.Parameter(chainrule.from_numpy(np.zeros((4, 1))))
    inputs, targets = chainrule.from_numpy(x), chainrule.from_numpy(y)
    optimizer = optim.SGD([w], lr=0.005, momentum=0.9)
    for _ in range(600):
        optimizer.zero_grad()
        loss = ((inputs @ w - targets) ** 2).sum()
        loss.backward()
        optimizer.step()
    assert w.detach().numpy() == pytest.approx(np.linalg.lstsq(x, y, rcond=None)[0], abs=1e-9)


def test_closure_runs_backward():
    w = chainrule.nn.Parameter(chainrule.tensor([3.0, -2.0], dtype=chainrule.float64))
    optimizer = optim.LBFGS([w], line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ((w - 1.0) ** 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(13.0)
    assert w.tolist() == pytest.approx([1.0, 1.0], abs=1e-9)


def test_a_step_between_forward_and_backward_is_caught():
    w = chainrule.nn.Parameter(chainrule.tensor([3.0]))
    loss = (w * w).sum()
    w.grad = chainrule.tensor([1.0])
    optim.Adam([w]).step()
    with pytest.raises(RuntimeError, match=r"in place|written"):
        loss.backward()


def test_views_see_the_step():
    w = chainrule.nn.Parameter(chainrule.tensor([3.0, 4.0]))
    first = w.detach()[:1]
    w.grad = chainrule.tensor([1.0, 1.0])
    optim.SGD([w], lr=0.5).step()
    assert first.tolist() == [2.5]
    assert (first * 1).tolist() == [2.5]


def test_a_view_as_parameter_updates_its_base():
    base = chainrule.tensor([[1.0, 2.0], [3.0, 4.0]])
    row = base[0].requires_grad_()
    row.grad = chainrule.tensor([1.0, 1.0])
    optim.SGD([row], lr=0.5).step()
    assert base.tolist() == [[0.5, 1.5], [3.0, 4.0]]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop", "Adamax", "NAdam", "RAdam"])
def test_under_an_interpreter(name):
    start, g = np.array([1.0, -2.0, 0.5], "float32"), np.array([0.3, 0.1, -0.2], "float32")
    params = [chainrule.nn.Parameter(chainrule.from_numpy(start.copy())) for _ in range(2)]
    eager, traced = (getattr(optim, name)([p], lr=0.1) for p in params)
    for p in params:
        p.grad = chainrule.from_numpy(g.copy())
    level = PassesThrough()
    for _ in range(8):
        eager.step()
        with level:
            traced.step()
    assert np.array_equal(params[0].detach().numpy(), params[1].detach().numpy())
    assert 0.1 in [read() for read in level.reads]
    traced.param_groups[0]["lr"] = 0.7
    assert 0.7 in [read() for read in level.reads]  # what was asked for once is read anew


def test_lbfgs_cannot_be_traced():
    w = chainrule.nn.Parameter(chainrule.tensor([3.0]))
    with PassesThrough(), pytest.raises(RuntimeError, match="cannot be traced"):
        optim.LBFGS([w]).step(lambda: 0.0)
