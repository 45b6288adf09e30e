"""Softmax, log-softmax and cross-entropy in eager mode on large matrices: machine code, NumPy, PyTorch, jax.jit.

From 32,768 elements on chainrule runs machine code for these (NOTE [native kernels] in ``chainrule.ir.native``); the
column NumPy is held to what it runs below that size, and where llvmlite is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers
from chainrule.ir import native

SHAPES = ((10_000, 10), (656, 100), (128, 1000), (1024, 1000), (64, 32_000))
FUNCTIONS = ("softmax", "log_softmax", "cross_entropy")


def caller(lib: Any, functional: Any, name: str, x: Any, y: Any) -> Callable[[], Any]:
    """A call of one of the functions, without history."""
    x, y = lib.tensor(x), lib.tensor(y)
    f = getattr(functional, name)
    return (lambda: f(x, y)) if name == "cross_entropy" else (lambda: f(x, 1))


def held(call: Callable[[], Any], large: int) -> Callable[[], Any]:
    """The call, with machine code from ``large`` elements on."""

    def run() -> Any:
        native.LARGE = large
        return call()

    return run


def with_jax(jax: Any, name: str, x: Any, y: Any) -> Callable[[], Any]:
    """The same through ``jax.jit``."""
    functions = {
        "softmax": lambda x, y: jax.nn.softmax(x, 1),
        "log_softmax": lambda x, y: jax.nn.log_softmax(x, 1),
        "cross_entropy": lambda x, y: (
            -jax.numpy.mean(jax.numpy.take_along_axis(jax.nn.log_softmax(x, 1), y[:, None], 1))
        ),
    }
    x, y = jax.numpy.asarray(x), jax.numpy.asarray(y)
    f = jax.jit(functions[name])
    return lambda: f(x, y).block_until_ready()


def case(name: str, shape: tuple[int, int], torch: Any, jax: Any) -> _harness.Case:
    """All contenders on one matrix."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, shape[1], shape[0])
    ours = caller(chainrule, chainrule.nn.functional, name, x, y)
    contenders = {
        _harness.OURS: held(ours, native.LARGE),
        "NumPy": held(ours, x.size + 1),
        "torch": caller(torch, torch.nn.functional, name, x, y),
    }
    if jax is not None:
        contenders["jax.jit"] = with_jax(jax, name, x, y)
    return _harness.Case(f"{name} {shape[0]:,} x {shape[1]:,}", contenders)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch, jax = _peers.load_torch(options.threads), _peers.load_jax()
    _peers.load_ours(options.threads)
    cases = (case(name, shape, torch, jax) for name in FUNCTIONS for shape in SHAPES)
    _harness.compare("softmax along rows", cases, options)
