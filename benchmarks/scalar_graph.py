"""Forward and backward through a graph of 100 scalar nodes: nothing but the cost of recording and of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import chainrule
from benchmarks import _harness, _peers

ROUNDS = 25
X, W = 0.5, 1.1


def graph(x: Any, w: Any, sin: Callable[[Any], Any]) -> Any:
    """Four nodes a round: product, sum, sine, product."""
    y = x
    for _ in range(ROUNDS):
        y = sin(y * w + x) * w
    return y


def eager(lib: Any) -> Callable[[], Any]:
    """A function that builds the graph, differentiates it and returns the gradient with respect to w."""
    x, w = lib.tensor(X, requires_grad=True), lib.tensor(W, requires_grad=True)
    sin = lib.sin

    def call() -> Any:
        x.grad = w.grad = None
        graph(x, w, sin).backward()
        return w.grad

    return call


def compiled(jax: Any) -> Callable[[], Any]:
    """The same gradient, compiled once by ``jax.jit``; every call still goes from Python to the program and back."""
    gradient = jax.jit(jax.grad(lambda x, w: graph(x, w, jax.numpy.sin), argnums=(0, 1)))
    x, w = jax.numpy.float32(X), jax.numpy.float32(W)
    return lambda: jax.block_until_ready(gradient(x, w))[1]


def cases(torch: Any, jax: Any) -> Iterator[_harness.Case]:
    """The only case."""
    contenders = {"chainrule": eager(chainrule), "torch": eager(torch)}
    if jax is not None:
        contenders["jax.jit"] = compiled(jax)
    yield _harness.Case(f"{4 * ROUNDS} nodes, forward and backward", contenders)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch, jax = _peers.load_torch(options.threads), _peers.load_jax()
    _harness.compare("scalar graph", cases(torch, jax), options)
