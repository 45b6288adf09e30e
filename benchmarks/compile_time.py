"""How long the first call of a compiled training step takes, with empty caches and in a second process with full ones.

Everything that the first step does beyond a later one counts, imports made on the way as well; importing the library
and making model and optimizer do not. Every measurement is a process of its own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict

from benchmarks import _harness, _peers
from benchmarks._processes import Contender, Process, Start
from benchmarks._programs import Work

WORK = Work((784, 256, 256, 10), "ReLU", 128, 30 * 128)
REPEATS = 5
MADE = "benchmarks._programs:"
CONTENDERS = [
    Contender("chainrule.compile", f"{MADE}ours", (WORK, "step"), ours=True),
    Contender("torch.compile", f"{MADE}torch", (WORK, "compiled")),
    Contender("jax.jit", f"{MADE}jax", (WORK, "jit")),
]
STATES = ("empty caches", "filled caches")


def first_step(contender: Contender, threads: int, caches: str) -> Start | str:
    """The first step of a fresh process, less the time of a later step; or why there is none."""
    process = Process(contender, threads, caches)
    try:
        start: Start | str = process.receive()
        if isinstance(start, str):
            return start
        later = process.turn(1)
        first = start.first
        return start._replace(
            first=first._replace(
                wall=max(0.0, first.wall - later.wall / start.steps), cpu=max(0.0, first.cpu - later.cpu / start.steps)
            )
        )
    finally:
        process.close()


def run(options: _harness.Options) -> None:
    """Prints the table, and the parts of chainrule's time."""
    _peers.load_torch(options.threads)
    found: dict[tuple[str, str], list[Start]] = defaultdict(list)
    missing: set[str] = set()
    for _ in range(1 if options.quick else REPEATS):
        for contender in CONTENDERS:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
                for state in STATES:
                    if contender.name in missing:
                        continue
                    answer = first_step(contender, options.threads, caches)
                    if isinstance(answer, str):
                        missing.add(contender.name)
                        print(f"({contender.name} is left out: {answer})\n")
                    else:
                        found[contender.name, state].append(answer)
    rows = []
    for (name, state), starts in found.items():
        walls, cpus = (_harness.Timing([getattr(s.first, key) for s in starts]) for key in ("wall", "cpu"))
        rows.append([f"{name}, {state}", walls.text(1e-3), cpus.text(1e-3)])
    print(_harness.table(["784-256-256-10, Adam, one step", "wall, ms", "processor, ms"], rows))
    print("\nParts of chainrule's wall time, medians in ms; the rest is capture, binding and the first call itself:\n")
    parts = []
    for state in STATES:
        starts = found[CONTENDERS[0].name, state]
        names = starts[0].parts
        known = {n: statistics.median(s.parts.get(n, 0.0) for s in starts) for n in names}
        rest = statistics.median(s.first.wall - sum(s.parts.values()) for s in starts)
        text = ", ".join(f"{n} {t * 1e3:.1f}" for n, t in known.items())
        parts.append(f"- {state}: {text}, the rest {rest * 1e3:.1f}")
    print("\n".join(parts))
