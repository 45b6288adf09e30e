"""Softmax, cross-entropy and layer norm in eager mode on large matrices: machine code, NumPy, PyTorch, jax.jit.

From 32,768 elements on chainrule runs machine code for these (NOTE [native kernels] in ``chainrule.ir.native``); the
column NumPy is held to what it runs below that size, and where llvmlite is absent. "layer_norm and gradients" is the
value and the gradients in input, weight and bias of one more vector of cotangents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers
from chainrule.ir import native

SHAPES = ((10_000, 10), (656, 100), (128, 1000), (1024, 1000), (64, 32_000))
GRADIENTS = "layer_norm and gradients"
FUNCTIONS = ("softmax", "log_softmax", "cross_entropy", "layer_norm", GRADIENTS)


def arrays(shape: tuple[int, int]) -> list[Any]:
    """Numbers and classes; weight and bias; cotangents."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, shape[1], shape[0])
    return [x, y, *(rng.standard_normal(s).astype(np.float32) for s in (shape[1], shape[1], shape))]


def caller(lib: Any, functional: Any, name: str, shape: tuple[int, int]) -> Callable[[], Any]:
    """A call of one of the functions; without history but for the one that asks for gradients."""
    x, y, w, b, g = map(lib.tensor, arrays(shape))
    leaves = (x, w, b)
    if name == GRADIENTS:
        for leaf in leaves:
            leaf.requires_grad_()
        return lambda: lib.autograd.grad(functional.layer_norm(x, shape[1:], w, b), leaves, g)[0]
    f = getattr(functional, name)
    calls = {"cross_entropy": lambda: f(x, y), "layer_norm": lambda: f(x, shape[1:], w, b)}
    return calls.get(name, lambda: f(x, 1))


def held(call: Callable[[], Any], large: int) -> Callable[[], Any]:
    """The call, with machine code from ``large`` elements on."""

    def run() -> Any:
        native.LARGE = large
        return call()

    return run


def with_jax(jax: Any, name: str, shape: tuple[int, int]) -> Callable[[], Any]:
    """The same through ``jax.jit``."""
    np_ = jax.numpy

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        c = x - np_.mean(x, -1, keepdims=True)
        return c * jax.lax.rsqrt(np_.mean(c * c, -1, keepdims=True) + 1e-5) * w + b

    functions = {
        "softmax": lambda x, y, w, b, g: jax.nn.softmax(x, 1),
        "log_softmax": lambda x, y, w, b, g: jax.nn.log_softmax(x, 1),
        "cross_entropy": lambda x, y, w, b, g: -np_.mean(np_.take_along_axis(jax.nn.log_softmax(x, 1), y[:, None], 1)),
        "layer_norm": lambda x, y, w, b, g: layer_norm(x, w, b),
        GRADIENTS: lambda x, y, w, b, g: jax.vjp(layer_norm, x, w, b)[1](g),
    }
    given = [np_.asarray(a) for a in arrays(shape)]
    f = jax.jit(functions[name])

    def run() -> Any:
        out = jax.block_until_ready(f(*given))
        return out[0] if name == GRADIENTS else out

    return run


def case(name: str, shape: tuple[int, int], torch: Any, jax: Any) -> _harness.Case:
    """All contenders on one matrix."""
    ours = caller(chainrule, chainrule.nn.functional, name, shape)
    contenders = {
        _harness.OURS: held(ours, native.LARGE),
        "NumPy": held(ours, shape[0] * shape[1] + 1),
        "torch": caller(torch, torch.nn.functional, name, shape),
    }
    if jax is not None:
        contenders["jax.jit"] = with_jax(jax, name, shape)
    return _harness.Case(f"{name} {shape[0]:,} x {shape[1]:,}", contenders)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch, jax = _peers.load_torch(options.threads), _peers.load_jax()
    _peers.load_ours(options.threads)
    cases = (case(name, shape, torch, jax) for name in FUNCTIONS for shape in SHAPES)
    _harness.compare("along rows", cases, options)
