"""Predictions of a network that is done learning: one row a call, and batches."""

from __future__ import annotations

from benchmarks import _harness, _peers, _processes
from benchmarks._processes import Contender
from benchmarks._programs import Work
from benchmarks.compiled_training import QUICK_STEPS, images

SIZES = (784, 256, 256, 10)
CASES = {
    "784-256-256-10, 2,000 calls of 1 row": Work(SIZES, "ReLU", 1, 2_000),
    "784-256-256-10, 39 calls of 256 rows": Work(SIZES, "ReLU", 256, 39 * 256),
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
    _peers.load_torch(options.threads)
    print(f"{images()}\n")
    for case, whole in CASES.items():
        work = whole._replace(rows=min(whole.rows, QUICK_STEPS * whole.batch)) if options.quick else whole
        everybody = contenders(work)
        _processes.report(case, everybody, _processes.measure(case, everybody, options), options.threads)
