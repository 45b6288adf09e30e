"""Epochs of training small networks: eager, and with the whole step compiled. Data as it is, batches shuffled.

chainrule is shown eager and compiled; compiled with the whole epoch as one call (``step.map``), and with a call a step,
both with the rows gathered inside the program and with batches gathered in Python. PyTorch is shown as it comes, tuned
(fused optimizer, denormals flushed), and tuned with ``torch.compile`` over model and loss. JAX is shown with one
compiled step a call, and with the whole epoch as one call (``lax.scan``).
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import _harness, _peers, _processes
from benchmarks._processes import Contender
from benchmarks._programs import Work, real

IMAGES, TABLE = 60_000, 20_000
CASES = {
    "784-32-10 sigmoid, batch 32": Work((784, 32, 10), "Sigmoid", 32, IMAGES),
    "784-256-256-10 ReLU, batch 128": Work((784, 256, 256, 10), "ReLU", 128, IMAGES),
    "784-128-10 ReLU, batch 10,000": Work((784, 128, 10), "ReLU", 10_000, IMAGES),
    "784-256-256-10 ReLU, batch 128, standardized": Work((784, 256, 256, 10), "ReLU", 128, IMAGES, standardized=True),
    "784-128-10 ReLU, batch 10,000, standardized": Work((784, 128, 10), "ReLU", 10_000, IMAGES, standardized=True),
    "13-64-64-1 ReLU, batch 32, 20,000 rows": Work((13, 64, 64, 1), "ReLU", 32, TABLE),
}
QUICK_STEPS = 30


def contenders(work: Work) -> list[Contender]:
    """Everybody, ours first."""
    made = "benchmarks._programs:"
    return [
        Contender("chainrule.compile, map", f"{made}ours", (work, "map"), ours=True),
        Contender("chainrule.compile", f"{made}ours", (work, "gather"), ours=True),
        Contender("chainrule.compile, gathered in Python", f"{made}ours", (work, "step"), ours=True),
        Contender("chainrule eager", f"{made}ours", (work, "eager"), eager=True, ours=True),
        Contender("torch eager", f"{made}torch", (work, "eager"), eager=True),
        Contender("torch eager, tuned", f"{made}torch", (work, "tuned"), eager=True),
        Contender("torch.compile, tuned", f"{made}torch", (work, "compiled")),
        Contender("jax.jit", f"{made}jax", (work, "jit")),
        Contender("jax scan", f"{made}jax", (work, "scan")),
    ]


def images() -> str:
    """What the images are, as a sentence."""
    if real():
        return "Images: MNIST."
    return "Images: made up, in the shape of MNIST (CHAINRULE_DATA does not name a folder with it)."


def run(options: _harness.Options) -> None:
    """Prints a table per case."""
    report(CASES, contenders, f"{images()} Adam, lr 0.001.", options)


def report(
    cases: dict[str, Work], everybody: Callable[[Work], list[Contender]], about: str, options: _harness.Options
) -> None:
    """A table per case, below a line about all of them."""
    _peers.load_torch(options.threads)
    print(f"{about}\n")
    for case, whole in cases.items():
        work = whole._replace(rows=min(whole.rows, QUICK_STEPS * whole.batch)) if options.quick else whole
        found = everybody(work)
        _processes.report(case, found, _processes.measure(case, found, options), options.threads)
