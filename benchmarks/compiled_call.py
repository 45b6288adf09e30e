"""What a call of a compiled step costs beyond its native work: looking at the arguments and the state, and committing.

A round times whole calls, then the machine code alone on the same memory. ``jax.jit`` stands beside the smallest
program as a yardstick: next to all of its time goes into the call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import chainrule
from benchmarks import _harness, _peers
from benchmarks.training_step import RATES, network

BATCH = 32


class Call(NamedTuple):
    """A whole call, and its machine code alone (None where it cannot be taken apart)."""

    name: str
    whole: Callable[[], Any]
    native: Callable[[], Any] | None


def compiled(name: str, function: Callable[..., Any], *arguments: Any) -> Call:
    """A call of a compiled function, taken apart."""
    program = chainrule.compile(function)
    for _ in range(3):
        kept = program(*arguments)  # the machine code writes into it
    bound = program.bound[-1]

    def native() -> Any:
        bound.native.execute(bound.memory)
        return kept

    return Call(name, lambda: program(*arguments), native)


def step(sizes: tuple[int, ...], activation: str) -> tuple[Callable[..., Any], Any, Any]:
    """A training step with Adam, and a batch for it."""
    rng = np.random.default_rng(0)
    model = network(chainrule, sizes, activation)
    loss_fn = chainrule.nn.MSELoss() if sizes[-1] == 1 else chainrule.nn.CrossEntropyLoss()
    optimizer = chainrule.optim.Adam(model.parameters(), lr=RATES["Adam"])

    def train(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = chainrule.from_numpy(rng.random((BATCH, sizes[0]), dtype=np.float32))
    if sizes[-1] == 1:
        return train, x, chainrule.from_numpy(rng.random((BATCH, 1), dtype=np.float32))
    return train, x, chainrule.from_numpy(rng.integers(0, sizes[-1], BATCH))


def calls(jax: Any) -> Iterator[Call]:
    """The programs."""
    if jax is not None:
        add, x = jax.jit(lambda x: x + 1), jax.numpy.zeros(4)
        yield Call("x + 1, 4 numbers: jax.jit", lambda: jax.block_until_ready(add(x)), None)
    yield compiled("x + 1, 4 numbers", lambda x: x + 1, chainrule.zeros(4))
    yield compiled("step 13-64-64-1, batch 32, Adam", *step((13, 64, 64, 1), "ReLU"))
    yield compiled("step 784-32-10, batch 32, Adam", *step((784, 32, 10), "Sigmoid"))


def seconds(function: Callable[[], Any], count: int) -> tuple[float, float]:
    """Wall and processor time of a call, from ``count`` in a row."""
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in range(count):
        function()
    return (time.perf_counter() - wall) / count, (time.thread_time() - cpu) / count


def run(options: _harness.Options) -> None:
    """Prints the table."""
    _peers.load_torch(options.threads)
    _peers.load_ours(options.threads)
    rows = []
    for call in calls(_peers.load_jax()):
        count = max(1, round(options.seconds / min(seconds(call.whole, 3)[0] for _ in range(3))))
        rounds = []
        for _ in range(options.rounds):
            whole = seconds(call.whole, count)
            rounds.append((*whole, *(seconds(call.native, count) if call.native else (0.0, 0.0))))
        wall, cpu, native_wall, native_cpu = (_harness.Timing(list(column)) for column in zip(*rounds, strict=True))
        beyond = [statistics.median(a - b for a, b in zip(*pair, strict=True)) for pair in (
            (wall.seconds, native_wall.seconds), (cpu.seconds, native_cpu.seconds)
        )]  # fmt: skip
        text = native_wall.text(1e-6), native_cpu.text(1e-6), *(f"{b * 1e6:.2f}" for b in beyond)
        rows.append([call.name, wall.text(1e-6), cpu.text(1e-6), *(text if call.native else [""] * 4)])
    columns = ["wall", "processor", "native, wall", "native, processor", "beyond, wall", "beyond, processor"]
    head = ["call, µs", *columns]
    print(_harness.table(head, rows))
