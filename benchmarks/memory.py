"""The memory of reverse mode: proportional to depth x batch, and what a memory budget costs in time.

A training step (SGD) of a network of equal layers of ``WIDTH`` units. The peak is that of the program's scratch memory,
which is known before it runs; parameters and gradients are not in it. Every step under a budget gives the bits of the
step without one, which is checked before anything is timed.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

import chainrule
from benchmarks import _harness
from chainrule import nn
from chainrule.compiler import MemoryBudgetError

WIDTH = 256
DEPTHS, BATCHES = (4, 8, 16, 32), (64, 128, 256, 512)
DEPTH, BATCH = 32, 256
#: what part of the peak is allowed
SHARES = {"none": None, "3/4 of the peak": 0.75, "1/2": 0.5, "1/3": 1 / 3, "1/4": 0.25}


class Step(NamedTuple):
    """A compiled training step with its batch, and its program."""

    function: Any
    batch: tuple[Any, Any]
    model: Any

    @property
    def native(self) -> Any:
        """The program of the last call."""
        return self.function.bound[-1].native

    def __call__(self) -> Any:
        return self.function(*self.batch)


def make(depth: int, batch: int, activation: str = "ReLU", budget: int | None = None) -> Step:
    """A network that has made its first step."""
    chainrule.manual_seed(0)
    layers = [m for _ in range(depth) for m in (nn.Linear(WIDTH, WIDTH), getattr(nn, activation)())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    loss_fn = nn.CrossEntropyLoss()
    optimizer = chainrule.optim.SGD(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    x = chainrule.from_numpy(rng.standard_normal((batch, WIDTH), dtype=np.float32))
    made = Step(
        chainrule.compile(step, memory_budget=budget), (x, chainrule.from_numpy(rng.integers(0, 10, batch))), model
    )
    made()
    return made


def bits(step: Step) -> list[bytes]:
    """A loss, and everything that the steps so far have made of the parameters."""
    return [step().numpy().tobytes(), *(p.detach().numpy().tobytes() for p in step.model.parameters())]


def peaks(quick: bool) -> None:
    """Prints the peak by depth and batch."""
    depths, batches = (DEPTHS[:2], BATCHES[:2]) if quick else (DEPTHS, BATCHES)
    rows = []
    for depth in depths:
        found = [make(depth, batch).native.plan.arena for batch in batches]
        rows.append([f"{depth} layers", *(f"{n / 1e6:.2f}" for n in found)])
    print(_harness.table(["peak, MB", *(f"batch {b}" for b in batches)], rows))


def budgets(activation: str, options: _harness.Options) -> None:
    """Prints peak and time of a step for every budget, measured in turn."""
    depth, batch = (8, 32) if options.quick else (DEPTH, BATCH)
    steps: dict[str, Step | MemoryBudgetError] = {}
    compiling: dict[str, float] = {}
    whole = make(depth, batch, activation)
    peak, expected = whole.native.plan.arena, bits(whole)
    for name, share in SHARES.items():
        start = time.perf_counter()
        try:
            made = steps[name] = make(depth, batch, activation, None if share is None else int(share * peak))
        except MemoryBudgetError as error:
            steps[name] = error
            continue
        finally:
            compiling[name] = time.perf_counter() - start
        if bits(made) != expected:
            raise ValueError(f"{activation}: a step with the budget {name} gives other bits than one without")
    timed = {name: step for name, step in steps.items() if isinstance(step, Step)}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for turn in range(options.rounds + 1):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            taken = _harness.seconds_per_call(timed[name], 1 if options.quick else 2)
            if turn:  # the first round warms up
                seconds[name].append(taken)
    timings = {name: _harness.Timing(values) for name, values in seconds.items()}
    rows = []
    for name, step in steps.items():
        if isinstance(step, MemoryBudgetError):
            rows.append([name, f"not met: {step.reached / 1e6:.2f} at least", "", "", "", f"{compiling[name]:.1f}"])
            continue
        again = step.native.recomputed
        ratio = "" if name == "none" else str(_harness.ratio(timings[name], timings["none"]))
        count = "" if again is None else f"{again.instructions}"
        rows.append([
            name,
            f"{step.native.plan.arena / 1e6:.2f}",
            count,
            timings[name].text(1e-3),
            ratio,
            f"{compiling[name]:.1f}",
        ])  # fmt: skip
    head = ["peak, MB", "instructions run again", "a step, ms", "beside no budget", "first step, s"]
    print(_harness.table([f"{depth} layers, {activation}, batch {batch}: budget", *head], rows))


def run(options: _harness.Options) -> None:
    """Prints the tables."""
    chainrule.set_num_threads(options.threads)
    peaks(options.quick)
    for activation in ("ReLU", "GELU"):
        print()
        budgets(activation, options)
