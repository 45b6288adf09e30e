"""A chain of a million nodes: building it, differentiating it (which frees it), and the memory that a node takes.

Each run is a process of its own, so that memory that one contender gave back does not serve the next. Time per node has
to stay the same from the short chain to the long one, and nothing may recurse.

One run by itself: python -m benchmarks.chain chainrule 1000000
"""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import _harness, _peers

LENGTHS = (100_000, 1_000_000)
QUICK_LENGTHS = (10_000, 100_000)
REPEATS = 5
STATM = Path("/proc/self/statm")
PAGE = 4096


def resident() -> int | None:
    """Bytes of memory that this process holds; None where the system does not tell in this way."""
    return int(STATM.read_text().split()[1]) * PAGE if STATM.exists() else None


def measure(library: str, length: int) -> dict[str, float | None]:
    """Seconds to build and to differentiate a chain, seconds to drop one unused, and bytes per node."""
    lib = importlib.import_module(library)
    x = lib.tensor(1.0, requires_grad=True)

    def build(n: int) -> Any:
        y = x
        for _ in range(n):
            y = y * 1.0000001
        return y

    build(1000).backward()
    gc.collect()
    before, start = resident(), time.perf_counter()
    y = build(length)
    built, after = time.perf_counter(), resident()
    y.backward()
    done = time.perf_counter()
    y = build(length)
    dropping = time.perf_counter()
    del y
    dropped = time.perf_counter()
    return {
        "build": built - start,
        "backward": done - built,
        "drop": dropped - dropping,
        "bytes": None if before is None or after is None else (after - before) / length,
    }


def run(options: _harness.Options) -> None:
    """Prints the table: medians over processes, the contenders in turn."""
    _peers.load_torch(options.threads)
    rows = []
    for length in QUICK_LENGTHS if options.quick else LENGTHS:
        found: dict[str, list[dict[str, Any]]] = {"chainrule": [], "torch": []}
        for _ in range(1 if options.quick else REPEATS):
            for library, results in found.items():
                command = [sys.executable, "-m", "benchmarks.chain", library, str(length)]
                results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        for library, results in found.items():
            median = {
                key: statistics.median(r[key] for r in results) if results[0][key] is not None else None
                for key in results[0]
            }
            times = [f"{median[key] / length * 1e6:.2f}" for key in ("build", "backward", "drop")]
            rows.append([f"{length:,}", library, *times, f"{median['bytes']:.0f}" if median["bytes"] else "-"])
    head = ["nodes", "library", "build, µs a node", "backward, µs a node", "drop unused, µs a node", "bytes a node"]
    print(_harness.table(head, rows))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
