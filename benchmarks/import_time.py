"""How long `import chainrule` takes beyond `import numpy`: medians of whole processes, the two run in turn.

Run it as: python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time

RUNS = 10
GOAL = 0.3
STATEMENTS = ("import numpy", "import chainrule")


def seconds(statement: str) -> float:
    """Wall time in seconds of a fresh Python that runs one statement and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    for statement in STATEMENTS:
        seconds(statement)  # writes the byte code and warms the file cache
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(RUNS):
        for statement in STATEMENTS:
            times[statement].append(seconds(statement))
    for statement, values in times.items():
        print(
            f"{statement:<18} median {statistics.median(values):.3f} s  (fastest {min(values):.3f} s, {RUNS} processes)"
        )
    difference = statistics.median(times["import chainrule"]) - statistics.median(times["import numpy"])
    print(f"{'difference':<18}        {difference:.3f} s  (goal: under {GOAL} s)")


if __name__ == "__main__":
    main()
