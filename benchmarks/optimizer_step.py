"""``optimizer.step()`` alone, in eager mode: as machine code, as NumPy, and PyTorch's, also with ``fused=True``.

A run begins with NumPy and changes over when that pays (NOTE [native updates] in ``chainrule.optim.native``); here each
contender is held to its way from the start. All begin with the same weights and gradients, and the weights after the
first step have to agree.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers
from benchmarks.training_step import weights
from chainrule.optim import native

NETWORKS = ((784, 32, 10), (784, 128, 128, 10), (784, 512, 512, 10))
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 1e-3}),
    "SGD, momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "Adam": ("Adam", {"lr": 1e-3}),
    "AdamW": ("AdamW", {"lr": 1e-3}),
}


def stepper(lib: Any, sizes: tuple[int, ...], method: str, **kwargs: Any) -> Callable[[], Any]:
    """A function that makes a step and returns the first weight matrix."""
    name, options = METHODS[method]
    rng = np.random.default_rng(2)
    parameters = []
    for array in itertools.chain.from_iterable(weights(sizes)):
        p = lib.tensor(array.copy()).requires_grad_()
        p.grad = lib.tensor(rng.standard_normal(array.shape).astype(np.float32))
        parameters.append(p)
    optimizer = getattr(lib.optim, name)(parameters, **options, **kwargs)

    def step() -> Any:
        optimizer.step()
        return parameters[0].detach()

    return step


def held(step: Callable[[], Any], steps: int) -> Callable[[], Any]:
    """The step, with machine code from its ``steps``-th call on."""

    def run() -> Any:
        native.STEPS, native.WORTH = steps, 0.0
        return step()

    return run


def case(sizes: tuple[int, ...], method: str, torch: Any) -> _harness.Case:
    """All contenders on one network's parameters."""
    contenders = {
        _harness.OURS: held(stepper(chainrule, sizes, method), 1),
        "NumPy": held(stepper(chainrule, sizes, method), sys.maxsize),
        "torch": stepper(torch, sizes, method),
        "torch fused": stepper(torch, sizes, method, fused=True),
    }
    return _harness.Case(f"{'-'.join(map(str, sizes))} {method}", contenders)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch = _peers.load_torch(options.threads)
    _peers.load_ours(options.threads)
    cases = (case(sizes, method, torch) for sizes in NETWORKS for method in METHODS)
    _harness.compare("optimizer.step()", cases, options)
