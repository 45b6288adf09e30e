"""What share of the processor's own float32 peak a training step reaches, counting nothing but its matrix products.

The images are standardized, so that they have no zeros with which nothing need be multiplied.

The peak is measured, in turn with the contenders: a loop of fused multiply-adds on as many independent vectors as hide
their latency, written with the compiler's own IR writer. Its fastest pass counts.
"""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np

from benchmarks import _harness, _peers, _processes
from benchmarks._processes import Contender, Task
from benchmarks._programs import Work
from benchmarks.compiled_training import QUICK_STEPS, contenders, images

WORK = Work((784, 256, 256, 10), "ReLU", 10_000, 60_000, standardized=True)
CASE = "784-256-256-10, batch 10,000, standardized"
CHAINS = 12  # independent accumulators: latency 4 or 5, up to 2 a cycle; they fit 16 registers with two operands
ROUNDS = 20_000_000
PEAK = "peak"


def flops(work: Work) -> int:
    """Multiplications and additions of a pass in products: forward, weight gradients, input gradients but the first."""
    layers = [i * o for i, o in pairwise(work.sizes)]
    return 2 * work.steps * work.batch * (3 * sum(layers) - layers[0])


def peak(threads: int, rounds: int) -> Task:
    """Passes of multiply-adds on every thread; a pass is ``rounds`` of ``CHAINS`` vectors on each."""
    from chainrule.compiler.llvm.builder import Module
    from chainrule.compiler.llvm.target import build, host

    target = host()
    width = target.width(4)
    module = Module(target)
    with module.function("fma", p="ptr", n="i64") as b:
        p, n = b.args
        rows = [b.load(b.at(p, k * width, "f32"), "f32", width) for k in range(CHAINS + 2)]
        factor, addend = rows[CHAINS:]
        with b.loop_carrying(0, n, 1, rows[:CHAINS]) as k:
            k.next(*(b.fma(v, factor, addend) if target.has_fma else v * factor + addend for v in k.values))
        for at, v in enumerate(k.results):
            b.store(v, b.at(p, at * width, "f32"))
    function = build(module.text, target).function("fma", "ptr", "i64")

    def once() -> None:
        memory = np.full((CHAINS + 2) * width + 16, 0.5, np.float32)
        address = memory.__array_interface__["data"][0]
        function(address + -address % 64, rounds)

    def run(_: object) -> float:
        workers = [threading.Thread(target=once) for _ in range(threads - 1)]
        for worker in workers:
            worker.start()
        once()
        for worker in workers:
            worker.join()
        return float("nan")

    per_round = 2 * CHAINS * width * threads
    return Task(lambda turn: None, run, lambda: run(None), lambda: float("nan"), rounds * per_round)


def run(options: _harness.Options) -> None:
    """Prints the table."""
    _peers.load_torch(options.threads)
    print(f"{images()}\n")
    work = WORK._replace(rows=2 * WORK.batch) if options.quick else WORK
    everybody = [c for c in contenders(work) if c.name not in ("chainrule eager", "torch eager")]
    rounds = ROUNDS // QUICK_STEPS if options.quick else ROUNDS
    everybody.append(Contender(PEAK, "benchmarks.peak:peak", (rounds,)))
    results = _processes.measure(CASE, everybody, options)
    machine = results.pop(PEAK)
    count = machine.start.steps
    best = {key: count / min(getattr(machine, key).seconds) for key in ("wall", "cpu")}
    print(
        f"Peak: {best['wall'] * 1e-9:.0f} GFLOP/s on the wall, {best['cpu'] * 1e-9:.0f} GFLOP per second of processor "
        f"(medians: {count / machine.wall.median * 1e-9:.0f} and {count / machine.cpu.median * 1e-9:.0f}). "
        f"A pass is {flops(work) * 1e-9:.1f} GFLOP of products; the time is that of whole steps.\n"
    )
    rows = []
    for name, r in results.items():
        share = [flops(work) / getattr(r, key).median / best[key] for key in ("wall", "cpu")]
        rows.append([name, r.wall.text(1e-3), r.cpu.text(1e-3), *(f"{s:.0%}" for s in share)])
    head = [CASE, "wall, ms a pass", "processor, ms a pass", "share of the peak, wall", "share, processor"]
    print(_harness.table(head, rows))
