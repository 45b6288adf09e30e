"""``python -m benchmarks [names]``: measure, print tables, and with ``--write`` put them into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from benchmarks import _peers

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
ROUNDS, SECONDS = 101, 4e-3
QUICK_ROUNDS, QUICK_SECONDS = 5, 1e-3


class Benchmark(NamedTuple):
    """``threaded``: whether it makes sense on more than one thread. A ``script`` prints its own text and takes one
    optional argument, the repeats."""

    about: str
    threaded: bool = False
    script: bool = False


BENCHMARKS = {
    "eager_ops": Benchmark("cost per op on tiny tensors"),
    "scalar_graph": Benchmark("forward and backward through 100 scalar nodes"),
    "training_step": Benchmark("a training step of a small classifier", threaded=True),
    "optimizer_step": Benchmark("optimizer.step() alone, as machine code and as NumPy"),
    "eager_kernels": Benchmark("softmax, cross-entropy, layer norm of large matrices in eager mode, by machine code"),
    "chain": Benchmark("a chain of a million nodes"),
    "transforms": Benchmark("grad, vmap(grad) and hessian"),
    "compiled_training": Benchmark("epochs of training, eager and compiled", threaded=True),
    "compiled_inference": Benchmark("predictions, eager and compiled", threaded=True),
    "compile_time": Benchmark("first call of a compiled step, with empty and with filled caches"),
    "compiled_call": Benchmark("what a call of a compiled step costs beyond its native work"),
    "memory": Benchmark("the peak of a training step by depth and batch, and the time that memory budgets cost"),
    "peak": Benchmark("share of the processor's float32 peak in a training step", threaded=True),
    "loader": Benchmark("an epoch of DataLoader beside slicing by hand", script=True),
    "import_time": Benchmark("how long `import chainrule` takes", script=True),
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    about = "\n".join(f"  {name:<18} {benchmark.about}" for name, benchmark in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measures chainrule beside PyTorch and, where it is installed, JAX.\n\nbenchmarks:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which to run (default: all)")
    parser.add_argument("--threads", default="1", help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument("--repeats", type=int, help=f"rounds per case (default: {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="only check that everything runs; the numbers mean little")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark called {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    try:
        given.threads = [int(n) for n in given.threads.split(",")]
    except ValueError:
        parser.error(f"--threads takes whole numbers separated by commas, got {given.threads!r}")
    if min(given.threads) < 1 or (given.repeats is not None and given.repeats < 1):
        parser.error("--threads and --repeats must be 1 or more")
    if given.quick and given.write:
        parser.error("--quick measures too little to be written down: leave out one of --quick and --write")
    return given


def machine() -> str:
    """The versions that matter, the processor, and how busy the machine is, as a line of Markdown."""
    parts = [f"Python {platform.python_version()}"]
    for name in ("numpy", "llvmlite", "torch", "jax"):
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"without {name}")
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    parts.append(f"{os.cpu_count()} cores {model or platform.processor() or platform.machine()}, {platform.system()}")
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f} at the start")
    return f"{date.today().isoformat()}: {', '.join(parts)}."


def command_for(name: str, threads: int, given: argparse.Namespace) -> list[str]:
    """The command line of the process that runs one benchmark."""
    if BENCHMARKS[name].script:
        repeats = 1 if given.quick else given.repeats
        return [sys.executable, "-m", f"benchmarks.{name}", *([str(repeats)] if repeats else [])]
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if given.quick else (ROUNDS, SECONDS)
    command = [sys.executable, "-m", "benchmarks._worker", name, "--rounds", str(given.repeats or rounds)]
    return [*command, "--seconds", str(seconds), "--threads", str(threads), *(["--quick"] if given.quick else [])]


def run(name: str, threads: int, given: argparse.Namespace) -> str | None:
    """Runs one benchmark, echoes what it prints, and returns that; None if it failed."""
    print(f"\n== {name}: {BENCHMARKS[name].about}; {threads} thread{'s' * (threads > 1)}\n", flush=True)
    process = subprocess.Popen(
        command_for(name, threads, given),
        cwd=ROOT,
        env={**os.environ, **_peers.environment(threads), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines).strip() if process.wait() == 0 else None


def insert(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the markers of a benchmark; ValueError if the page has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{PAGE} has no place for the tables of {name}: write the lines {begin!r} and {end!r} there")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


def main() -> None:
    given = parse(sys.argv[1:])
    names = given.names or list(BENCHMARKS)
    about = machine()
    print(about)
    sections: dict[str, list[str]] = {}
    failed = []
    for name in names:
        for threads in given.threads if BENCHMARKS[name].threaded else given.threads[:1]:
            text = run(name, threads, given)
            if text is None:
                failed.append(name)
                continue
            if BENCHMARKS[name].script:
                text = f"```text\n{text}\n```"
            heading = f"{threads} thread{'s' * (threads > 1)}. {about}"
            sections.setdefault(name, []).append(f"{heading}\n\n{text}")
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        for name, parts in sections.items():
            page = insert(page, name, "\n\n".join(parts))
        PAGE.write_text(page, encoding="utf-8")
        print(f"\nwritten to {PAGE.relative_to(ROOT)}")
    if failed:
        sys.exit(f"\nfailed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
