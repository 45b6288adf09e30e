"""Function transforms of a small function: its gradient, one gradient per sample, its Hessian.

The function is f(x) = sum(tanh(W x) * x) with x in R^8. PyTorch, like chainrule, runs these in eager mode; JAX is shown
in eager mode and compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers

SIZE, SAMPLES = 8, 32


def function(w: Any, tanh: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function f for the matrix ``w``."""
    return lambda x: (tanh(w @ x) * x).sum()


def transformed(func: Any, f: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """The transforms of f, from a library's ``grad``, ``vmap`` and ``hessian``."""
    return {"grad(f)": func.grad(f), "vmap(grad(f))": func.vmap(func.grad(f)), "hessian(f)": func.hessian(f)}


def cases(torch: Any, jax: Any) -> Iterator[_harness.Case]:
    """One case per transform."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    x = rng.standard_normal((SAMPLES, SIZE)).astype(np.float32)
    libraries = {
        "chainrule": (transformed(chainrule.func, function(chainrule.tensor(w), chainrule.tanh)), chainrule.tensor),
        "torch.func": (transformed(torch.func, function(torch.tensor(w), torch.tanh)), torch.tensor),
    }
    if jax is not None:
        mapped = transformed(jax, function(jax.numpy.asarray(w), jax.numpy.tanh))
        libraries["jax"] = (_blocking(jax, mapped), jax.numpy.asarray)
        jitted = {name: jax.jit(call) for name, call in mapped.items()}
        libraries["jax.jit"] = (_blocking(jax, jitted), jax.numpy.asarray)
    for name in ("grad(f)", "vmap(grad(f))", "hessian(f)"):
        data = x if name == "vmap(grad(f))" else x[0]
        yield _harness.Case(name, {label: _bind(calls[name], make(data)) for label, (calls, make) in libraries.items()})


def _bind(call: Callable[[Any], Any], x: Any) -> Callable[[], Any]:
    return lambda: call(x)


def _blocking(jax: Any, calls: dict[str, Callable[[Any], Any]]) -> dict[str, Callable[[Any], Any]]:
    """The same functions, returning when the result is there (JAX returns before)."""

    def wait(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: jax.block_until_ready(call(x))

    return {name: wait(call) for name, call in calls.items()}


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch, jax = _peers.load_torch(options.threads), _peers.load_jax()
    _harness.compare("transform", cases(torch, jax), options)
