"""Predictions of a network that is done learning: one row a call, and batches."""

from __future__ import annotations

from benchmarks import _harness
from benchmarks._processes import Contender
from benchmarks._programs import Work
from benchmarks.compiled_training import images, report

SIZES = (784, 256, 256, 10)
CASES = {
    "784-256-256-10, 2,000 calls of 1 row": Work(SIZES, "ReLU", 1, 2_000),
    "784-256-256-10, 39 calls of 256 rows": Work(SIZES, "ReLU", 256, 39 * 256),
    "784-256-256-10, 39 calls of 256 rows, standardized": Work(SIZES, "ReLU", 256, 39 * 256, standardized=True),
}


def contenders(work: Work) -> list[Contender]:
    """Everybody, ours first."""
    made = "benchmarks._programs:"
    return [
        Contender("chainrule.compile", f"{made}ours_predict", (work, "compiled"), ours=True),
        Contender("chainrule eager", f"{made}ours_predict", (work, "eager"), eager=True, ours=True),
        Contender("torch eager", f"{made}torch_predict", (work, "eager"), eager=True),
        Contender("torch.compile", f"{made}torch_predict", (work, "compiled")),
        Contender("jax.jit", f"{made}jax_predict", (work, "jit")),
    ]


def run(options: _harness.Options) -> None:
    """Prints a table per case."""
    report(CASES, contenders, images(), options)
