"""The networks that the benchmarks train: a hundred steps compiled, eagerly, in one call, on several threads and in
other processes.
"""

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")
pytestmark = pytest.mark.slow

STEPS = 100
WORK = {
    "784-32-10 sigmoid, batch 32": ((784, 32, 10), nn.Sigmoid, 32),
    "784-256-256-10 ReLU, batch 128": ((784, 256, 256, 10), nn.ReLU, 128),
    "784-128-10 ReLU, batch 10,000": ((784, 128, 10), nn.ReLU, 10_000),
    "13-64-64-1 ReLU, batch 32": ((13, 64, 64, 1), nn.ReLU, 32),
}


def training(sizes, activation, batch, optimizer="Adam", dtype=cr.float32):
    """A step that gathers its rows, its model, and the rows of a hundred steps."""
    rng = np.random.default_rng(0)
    rows = max(2000, 2 * batch)
    x = cr.from_numpy(rng.random((rows, sizes[0]), dtype=np.float32))
    classes = sizes[-1] > 1
    y = rng.integers(0, 10, rows) if classes else rng.random((rows, 1), dtype=np.float32)
    x = x.to(dtype)
    y, order = cr.from_numpy(y), cr.from_numpy(rng.integers(0, rows, (STEPS, batch)))
    cr.manual_seed(0)
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), activation())]
    model, loss_fn = nn.Sequential(*layers[:-1]).to(dtype), nn.CrossEntropyLoss() if classes else nn.MSELoss()
    made = getattr(cr.optim, optimizer)(model.parameters(), lr=1e-3)

    def step(rows):
        made.zero_grad()
        loss = loss_fn(model(x[rows]), y[rows].to(dtype) if sizes[-1] == 1 else y[rows])
        loss.backward()
        made.step()
        return loss.detach()

    return step, model, order


def weights(model):
    return [p.detach().numpy() for p in model.parameters()]


def digest(name, threads):
    """Losses and weights after a hundred compiled steps, as a text."""
    cr.set_num_threads(threads)
    step, model, order = training(*WORK[name])
    losses = cr.compile(step).map(order).numpy()
    return hashlib.sha256(b"".join(a.tobytes() for a in (losses, *weights(model)))).hexdigest()


def distance(one, other):
    """Root of the mean square of the differences."""
    squares = [np.square(a.astype(np.float64) - b).ravel() for a, b in zip(one, other, strict=True)]
    return float(np.sqrt(np.concatenate(squares).mean()))


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_hundred_steps_are_those_of_eager_mode_within_rounding(name, optimizer):
    """Adam turns the rounding errors of gradients near 0 into shares of the learning rate, so two ways to compute the
    same in float32 drift apart. So both are held against float64, from which compiled steps are no farther than eager
    ones.
    """
    ways = {}
    for way, dtype in (("exact", cr.float64), ("eager", cr.float32), ("compiled", cr.float32)):
        step, model, order = training(*WORK[name], optimizer, dtype)
        losses = cr.compile(step).map(order).numpy() if way == "compiled" else np.array([step(r).item() for r in order])
        ways[way] = losses, weights(model)
    for part in (0, 1):
        exact, eager, compiled = ([w[part]] if part == 0 else w[part] for w in ways.values())
        assert distance(compiled, exact) < 1.5 * distance(eager, exact) + 1e-8
    if optimizer == "SGD":
        np.testing.assert_allclose(ways["compiled"][0], ways["eager"][0], rtol=1e-5)


@pytest.mark.parametrize("name", WORK)
def test_the_bits_do_not_depend_on_threads_calls_or_the_process(name):
    wanted = digest(name, 1)
    assert digest(name, 2) == wanted
    step, model, order = training(*WORK[name])
    call = cr.compile(step)
    losses = np.array([call(rows).item() for rows in order], np.float32)
    assert hashlib.sha256(b"".join(a.tobytes() for a in (losses, *weights(model)))).hexdigest() == wanted
    code = f"import test_workloads as t; print(t.digest({name!r}, 2))"
    here = Path(__file__).parent
    found = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted
