"""L-BFGS: convergence to closed forms, the history, errors."""

import numpy as np
import pytest

import chainrule
from chainrule import optim


def minimize(function, start, steps=10, **options):
    """Steps on ``function(x) -> (loss, gradient)``; returns the point and the losses before each step."""
    p = chainrule.nn.Parameter(chainrule.from_numpy(np.array(start)))
    optimizer = optim.LBFGS([p], **options)

    def closure():
        loss, gradient = function(np.array(p.tolist()))
        p.grad = chainrule.from_numpy(gradient)
        return loss

    losses = [optimizer.step(closure) for _ in range(steps)]
    return np.array(p.tolist()), losses, optimizer.state[p]


def rosenbrock(x):
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return a * a + 100 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_ridge_regression_equals_the_direct_solution(search):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)), rng.standard_normal(50)
    a, b = x.T @ x + np.eye(6), x.T @ y
    w, losses, _ = minimize(
        lambda w: (w @ a @ w / 2 - b @ w, a @ w - b), np.zeros(6), tolerance_change=1e-15, line_search_fn=search
    )
    assert w == pytest.approx(np.linalg.solve(a, b), abs=1e-7)
    assert losses[0] == 0.0
    assert losses[-1] <= losses[1]


def test_rosenbrock_with_line_search():
    x, losses, state = minimize(rosenbrock, [-1.2, 1.0], steps=4, tolerance_change=1e-15, line_search_fn="strong_wolfe")
    assert x == pytest.approx([1.0, 1.0], abs=1e-6)
    assert losses == sorted(losses, reverse=True)
    assert state["func_evals"] < 80


def test_history_is_bounded():
    _, _, state = minimize(rosenbrock, [-1.2, 1.0], steps=3, history_size=4, line_search_fn="strong_wolfe")
    assert len(state["old_dirs"]) == len(state["old_stps"]) == len(state["ro"]) == 4


def test_first_step_without_line_search_by_hand():
    """d = -g, t = lr * min(1, 1 / sum|g|): with g = (3, -1) the step is g / 4."""
    x, _, _ = minimize(lambda x: (0.0, np.array([3.0, -1.0])), [1.0, 1.0], steps=1, max_iter=1)
    assert x == pytest.approx([0.25, 1.25])


def test_errors():
    p, q = (chainrule.nn.Parameter(chainrule.tensor([1.0])) for _ in range(2))
    with pytest.raises(ValueError, match="one parameter group only"):
        optim.LBFGS([{"params": [p]}, {"params": [q]}])
    with pytest.raises(ValueError, match="'strong_wolfe', got 'newton'"):
        optim.LBFGS([p], line_search_fn="newton")
    with pytest.raises(ValueError, match="history_size must be above 0"):
        optim.LBFGS([p], history_size=0)
    with pytest.raises(TypeError, match="needs a closure"):
        optim.LBFGS([p]).step()
