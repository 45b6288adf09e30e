"""Runs one benchmark in a process whose environment holds the libraries to a number of threads."""

from __future__ import annotations

import argparse
import importlib

from benchmarks import _harness


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    options = _harness.Options(given.rounds, given.seconds, given.threads, given.quick)
    importlib.import_module(f"benchmarks.{given.name}").run(options)


if __name__ == "__main__":
    main()
