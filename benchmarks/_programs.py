"""The networks of the compiled benchmarks, as each library runs them: factories for ``benchmarks._processes``.

All start from the same weights and go through the same rows in the same shuffled order; the order of a pass is drawn
before its timing starts, gathering the rows is part of it. A last, shorter batch is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _peers
from benchmarks._processes import Task, Unavailable
from benchmarks.training_step import RATES, jax_network, jax_step, jax_weights, network

Array = np.ndarray[Any, Any]
CHECKED = 20  # steps after which the losses are compared once more


class Work(NamedTuple):
    """What is to be done: a network, its data, and how much of it a pass takes.

    Attributes:
        sizes, activation: of the layers; 10 outputs mean classes, 1 a regression.
        batch: rows a step.
        rows: rows a pass.
        standardized: images with mean 0 and deviation 1, which have no zeros, instead of numbers in [0, 1].
    """

    sizes: tuple[int, ...]
    activation: str
    batch: int
    rows: int
    standardized: bool = False

    @property
    def steps(self) -> int:
        """Whole batches in a pass."""
        return self.rows // self.batch

    @property
    def regression(self) -> bool:
        """Whether the loss is the mean squared error."""
        return self.sizes[-1] == 1


@cache
def real() -> bool:
    """Whether MNIST is there (in the folder that CHAINRULE_DATA names)."""
    if not os.environ.get("CHAINRULE_DATA"):
        return False
    from chainrule.data import MNIST

    try:
        MNIST(train=True)
    except RuntimeError as error:
        print(f"({error})\n")
        return False
    return True


def data(work: Work) -> tuple[Array, Array]:
    """Inputs and targets: MNIST where it is there, else numbers of the same shape and, about, as many zeros.

    The regression's are 13 normal columns and a smooth function of them.
    """
    x, y = _raw(work)
    return (x - x.mean()) / x.std() if work.standardized else x, y


def _raw(work: Work) -> tuple[Array, Array]:
    """As :func:`data`, images in [0, 1]."""
    rng = np.random.default_rng(1)
    if work.regression:
        x = rng.standard_normal((work.rows, work.sizes[0])).astype(np.float32)
        y = np.tanh(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + 0.1 * rng.standard_normal((work.rows, 1))
        return x, y.astype(np.float32)
    if real():
        from chainrule.data import MNIST

        found = MNIST(train=True)
        x = found.data.numpy().reshape(-1, work.sizes[0])[: work.rows].astype(np.float32) / np.float32(255)
        return x, found.targets.numpy()[: work.rows].astype(np.int64)
    x = rng.random((work.rows, work.sizes[0]), dtype=np.float32)
    x[rng.random(x.shape, dtype=np.float32) < 0.8] = 0
    return x, rng.integers(0, work.sizes[-1], work.rows)


def order(work: Work, turn: int) -> Array:
    """The rows of each step of a pass, (steps, batch)."""
    return np.random.default_rng(turn).permutation(work.rows)[: work.steps * work.batch].reshape(work.steps, work.batch)


def _task(work: Work, step: Callable[[Any], Any], index: Callable[[Array], list[Any]]) -> Task:
    """Passes of single steps, each called with the rows it takes."""
    start = index(order(work, 0))

    def run(rows: list[Any]) -> float:
        for r in rows:
            loss = step(r)
        return float(loss.item())

    def check() -> float:
        return run([start[n % len(start)] for n in range(1, CHECKED)])

    return Task(lambda turn: index(order(work, turn)), run, lambda: float(step(start[0]).item()), check, work.steps)


def _passes(work: Work, index: Callable[[int], Any], run: Callable[[Any], Any]) -> Task:
    """Whole passes, each one call with the rows of all its steps, which returns their losses."""
    losses: list[float] = []

    def first() -> float:
        losses.extend(np.asarray(run(index(0))).tolist())
        return losses[0]

    def check() -> float:
        while len(losses) < CHECKED:
            first()
        return losses[CHECKED - 1]

    return Task(index, lambda rows: float(np.asarray(run(rows))[-1]), first, check, work.steps, work.steps)


def _modules(lib: Any, work: Work, **kwargs: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Model, loss, optimizer and data in a library with PyTorch's interface."""
    model = network(lib, work.sizes, work.activation)
    loss = lib.nn.MSELoss() if work.regression else lib.nn.CrossEntropyLoss()
    x, y = data(work)
    optimizer = lib.optim.Adam(model.parameters(), lr=RATES["Adam"], **kwargs)
    return model, loss, optimizer, lib.from_numpy(x), lib.from_numpy(y)


def ours(threads: int, work: Work, how: str) -> Task:
    """chainrule: "eager"; compiled "step" (called with gathered batches), "gather" (gathers by itself), "map" (the
    same, a whole pass a call).
    """
    chainrule = _peers.load_ours(threads)
    model, loss_fn, optimizer, x, y = _modules(chainrule, work)

    def step(a: Any, b: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_fn(model(a), b)
        loss.backward()
        optimizer.step()
        return loss

    def gathering(rows: Any) -> Any:
        return step(x[rows], y[rows])

    index = lambda rows: [chainrule.from_numpy(r) for r in rows]  # noqa: E731
    if how == "eager":
        return _task(work, gathering, index)
    compiled = chainrule.compile(step if how == "step" else gathering)
    parts = lambda: dict(compiled.bound[-1].native.timings)  # noqa: E731
    if how == "map":
        return _passes(work, lambda turn: chainrule.from_numpy(order(work, turn)), compiled.map)._replace(parts=parts)
    call = compiled if how == "gather" else lambda rows: compiled(x[rows], y[rows])
    return _task(work, call, index)._replace(parts=parts)


def torch(threads: int, work: Work, how: str) -> Task:
    """PyTorch: "eager", "tuned" (fused optimizer, denormals flushed), "compiled" (tuned; model and loss compiled)."""
    lib = _torch(threads, how)
    model, loss_fn, optimizer, x, y = _modules(lib, work, **({} if how == "eager" else {"fused": True}))

    def forward(a: Any, b: Any) -> Any:
        return loss_fn(model(a), b)

    if how == "compiled":
        forward = lib.compile(forward)

    def step(rows: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x[rows], y[rows])
        loss.backward()
        optimizer.step()
        return loss

    task = _task(work, step, lambda rows: [lib.from_numpy(r) for r in rows])
    return _attempt(lib, task) if how == "compiled" else task


def _torch(threads: int, how: str) -> Any:
    lib = _peers.load_torch(threads)
    if how != "eager":
        lib.set_flush_denormal(True)  # before there are worker threads, which take it over
    return lib


def _attempt(lib: Any, task: Task) -> Task:
    """The task, or Unavailable if torch.compile does not work here (it needs a C++ compiler)."""

    def first() -> float:
        try:
            return task.first()
        except (lib._dynamo.exc.TorchDynamoException, lib._inductor.exc.InductorError, OSError) as error:
            raise Unavailable(str(error).strip().splitlines()[0]) from error

    return task._replace(first=first)


def jax(threads: int, work: Work, how: str) -> Task:
    """JAX: "jit" (a step a call), "scan" (a whole pass a call). Both gather inside and reuse the memory of weights."""
    lib = _peers.load_jax()
    if lib is None:
        raise Unavailable("JAX is not installed")
    jnp = lib.numpy
    program = jax_step(lib, work.activation, "Adam", work.regression)
    params = jax_weights(lib, work.sizes)
    zeros = [lib.tree.map(jnp.zeros_like, params) for _ in range(2)]
    held = [params, (*zeros, jnp.float32(0))]
    x, y = data(work)
    x, y = jnp.asarray(x), jnp.asarray(y if work.regression else y.astype(np.int32))

    def one(params: Any, state: Any, x: Any, y: Any, rows: Any) -> Any:
        return program(params, state, x[rows], y[rows])

    def many(params: Any, state: Any, x: Any, y: Any, rows: Any) -> Any:
        def body(carry: Any, r: Any) -> Any:
            value, *carry = one(*carry, x, y, r)
            return tuple(carry), value

        carry, losses = lib.lax.scan(body, (params, state), rows)
        return losses, *carry

    call = lib.jit({"jit": one, "scan": many}[how], donate_argnums=(0, 1))

    def step(rows: Any) -> Any:
        value, *held[:] = call(*held, x, y, rows)
        return value

    if how == "jit":
        return _task(work, step, lambda rows: [jnp.asarray(r.astype(np.int32)) for r in rows])
    return _passes(work, lambda turn: jnp.asarray(order(work, turn).astype(np.int32)), step)


# ---- inference
def _calls(
    work: Work, call: Callable[[Any], Any], convert: Callable[[Array], Any], array: Callable[[Any], Any]
) -> Task:
    """Passes over batches that were made beforehand; the result is the sum of the last outputs' absolute values."""
    x, _ = data(work)
    x = x[: work.steps * work.batch].reshape(work.steps, work.batch, -1)
    batches = [convert(batch) for batch in x]

    def run(_: Any) -> float:
        for batch in batches:
            out = call(batch)
        return float(np.abs(np.asarray(array(out))).sum())

    def first() -> float:
        return float(np.abs(np.asarray(array(call(batches[0])))).sum())

    return Task(lambda turn: None, run, first, lambda: run(None), work.steps)


def ours_predict(threads: int, work: Work, how: str) -> Task:
    """chainrule without gradients: "eager" or "compiled"."""
    chainrule = _peers.load_ours(threads)
    model = network(chainrule, work.sizes, work.activation).eval()
    forward = chainrule.compile(model.forward) if how == "compiled" else model

    def call(x: Any) -> Any:
        with chainrule.no_grad():
            return forward(x)

    return _calls(work, call, chainrule.from_numpy, lambda out: out.numpy())


def torch_predict(threads: int, work: Work, how: str) -> Task:
    """PyTorch in inference mode: "eager" or "compiled"."""
    lib = _torch(threads, "tuned")
    model = network(lib, work.sizes, work.activation).eval()
    forward = lib.compile(model) if how == "compiled" else model

    def call(x: Any) -> Any:
        with lib.inference_mode():
            return forward(x)

    task = _calls(work, call, lib.from_numpy, lambda out: out.numpy())
    return _attempt(lib, task) if how == "compiled" else task


def jax_predict(threads: int, work: Work, how: str) -> Task:
    """JAX: "jit". Every call waits for its result, as chainrule's and PyTorch's do."""
    lib = _peers.load_jax()
    if lib is None:
        raise Unavailable("JAX is not installed")
    params = jax_weights(lib, work.sizes)
    call = lib.jit(jax_network(lib, work.activation))
    return _calls(work, lambda x: lib.block_until_ready(call(params, x)), lib.numpy.asarray, np.asarray)
