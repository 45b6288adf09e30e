"""One training step of a small classifier, written as PyTorch's users write it: module, loss, backward, optimizer.

Every contender starts from the same weights and goes through the same batches; the first losses have to agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers

BATCH, BATCHES = 32, 64
NETWORKS = {"784-32-10 sigmoid": ((784, 32, 10), "Sigmoid"), "784-128-128-10 ReLU": ((784, 128, 128, 10), "ReLU")}
RATES = {"SGD": 1e-3, "Adam": 1e-3}

Arrays = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def weights(sizes: tuple[int, ...]) -> Arrays:
    """Weight and bias of each layer, uniform in (-k, k) with k = 1 / sqrt(inputs)."""
    rng = np.random.default_rng(0)
    found = []
    for i, o in itertools.pairwise(sizes):
        w, b = (rng.uniform(-1, 1, shape) / np.sqrt(i) for shape in ((o, i), (o,)))
        found.append((w.astype(np.float32), b.astype(np.float32)))
    return found


def batches(sizes: tuple[int, ...]) -> Arrays:
    """Inputs in [0, 1) and random labels."""
    rng = np.random.default_rng(1)
    return [
        (rng.random((BATCH, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], BATCH)) for _ in range(BATCHES)
    ]


def network(lib: Any, sizes: tuple[int, ...], activation: str) -> Any:
    """A multilayer perceptron as a module of ``lib``."""

    class Net(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = []
            for i, o in itertools.pairwise(sizes):
                layers += [lib.nn.Linear(i, o), getattr(lib.nn, activation)()]
            self.layers = lib.nn.Sequential(*layers[:-1])

        def forward(self, x: Any) -> Any:
            return self.layers(x)

    model = Net()
    with lib.no_grad():
        for layer, (w, b) in zip(model.layers[::2], weights(sizes), strict=True):
            layer.weight.copy_(lib.tensor(w))
            layer.bias.copy_(lib.tensor(b))
    return model


def eager(lib: Any, sizes: tuple[int, ...], activation: str, method: str, **kwargs: Any) -> Callable[[], Any]:
    """A function that performs the next training step and returns its loss."""
    model = network(lib, sizes, activation)
    loss_fn = lib.nn.CrossEntropyLoss()
    optimizer = getattr(lib.optim, method)(model.parameters(), lr=RATES[method], **kwargs)
    data = itertools.cycle([(lib.tensor(x), lib.tensor(y)) for x, y in batches(sizes)])

    def step() -> Any:
        x, y = next(data)
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def jax_weights(jax: Any, sizes: tuple[int, ...]) -> Any:
    """The weights as JAX's users keep them: (inputs, outputs), so that nothing is transposed."""
    return [(jax.numpy.asarray(np.ascontiguousarray(w.T)), jax.numpy.asarray(b)) for w, b in weights(sizes)]


def jax_network(jax: Any, activation: str) -> Callable[[Any, Any], Any]:
    """The network as a function of its weights, a list of pairs, and a batch."""
    act = {"Sigmoid": jax.nn.sigmoid, "ReLU": jax.nn.relu}[activation]

    def forward(params: Any, x: Any) -> Any:
        for w, b in params[:-1]:
            x = act(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    return forward


def jax_step(jax: Any, activation: str, method: str, regression: bool = False) -> Callable[..., Any]:
    """The step ``(params, state, x, y) -> loss, params, state``, not compiled yet."""
    jnp = jax.numpy
    forward = jax_network(jax, activation)
    rate, beta1, beta2, eps = RATES[method], 0.9, 0.999, 1e-8

    def loss(params: Any, x: Any, y: Any) -> Any:
        out = forward(params, x)
        if regression:
            return jnp.square(out - y).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1).mean()

    def sgd(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return value, jax.tree.map(lambda p, g: p - rate * g, params, grads), state

    def adam(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda a, g: beta1 * a + (1 - beta1) * g, m, grads)
        v = jax.tree.map(lambda a, g: beta2 * a + (1 - beta2) * g * g, v, grads)
        root = jnp.sqrt(1 - beta2**t)
        scale = rate * root / (1 - beta1**t)
        new = jax.tree.map(lambda p, a, b: p - scale * a / (jnp.sqrt(b) + eps * root), params, m, v)
        return value, new, (m, v, t)

    return {"SGD": sgd, "Adam": adam}[method]


def compiled(jax: Any, sizes: tuple[int, ...], activation: str, method: str) -> Callable[[], Any]:
    """The whole step as one program of ``jax.jit`` that reuses the memory of the weights."""
    jnp = jax.numpy
    program = jax.jit(jax_step(jax, activation, method), donate_argnums=(0, 1))
    params = jax_weights(jax, sizes)
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    held = [params, (*zeros, jnp.float32(0)) if method == "Adam" else ()]
    data = itertools.cycle([(jnp.asarray(x), jnp.asarray(y)) for x, y in batches(sizes)])

    def step() -> Any:
        value, *held[:] = program(*held, *next(data))
        return jax.block_until_ready(value)

    return step


def cases(torch: Any, jax: Any) -> Iterator[_harness.Case]:
    """Every network with every optimizer; PyTorch with its default optimizer and with the fused one."""
    for name, (sizes, activation) in NETWORKS.items():
        for method in RATES:
            contenders = {
                "chainrule": eager(chainrule, sizes, activation, method),
                "torch": eager(torch, sizes, activation, method),
                "torch fused": eager(torch, sizes, activation, method, fused=True),
            }
            if jax is not None:
                contenders["jax.jit"] = compiled(jax, sizes, activation, method)
            yield _harness.Case(f"{name}, {method}", contenders)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    torch, jax = _peers.load_torch(options.threads), _peers.load_jax()
    _harness.compare(f"batch {BATCH}", cases(torch, jax), options)
