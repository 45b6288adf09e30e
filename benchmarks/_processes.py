"""Contenders that each live in a process of their own and take turns: for passes that last longer than milliseconds.

A process of its own gives every library the threads, the denormal mode and the caches it would have in a program of its
own. The processes wait on a pipe; one runs at a time, in an order that rotates from round to round. A pass is measured
by the wall and by the processor time of the process, all its threads together: on a busy machine the first includes
waiting for a core, the second does not (though it still feels shared caches and memory).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import _cores, _harness
from benchmarks._harness import Timing

#: how far results of the contenders may lie apart, relative and absolute
TOLERANCE = 1e-3
#: rounds asked of the harness for each round of long passes
SHARE = 9
#: processes of each contender, one after the other, that share the rounds
LIVES = 3


class Unavailable(Exception):
    """A contender cannot run on this machine; the message says why."""


class Contender(NamedTuple):
    """Who performs a task.

    Attributes:
        name: as it stands in the table.
        factory: ``module:function``; called in the new process as ``factory(threads, *arguments)`` it returns a Task.
        eager: whether it compiles nothing; the fastest of these is what compile time is set against.
        ours: whether it is chainrule.
    """

    name: str
    factory: str
    arguments: tuple[Any, ...]
    eager: bool = False
    ours: bool = False


class Task(NamedTuple):
    """What a factory returns.

    Attributes:
        prepare: called with the number of the pass before each timing; what it returns is handed to ``run``.
        run: one pass, to the end of all its work; its result is a number to compare.
        first: the first step or call, the one that compiles; its result is a number to compare. Timed as well.
        check: some steps more, not timed; its result is a number to compare.
        steps: how many steps (calls) a pass has.
        first_steps: how many steps ``first`` takes (a whole pass for a scan).
        parts: after the first step, seconds of the parts of compiling by name, where they are known.
    """

    prepare: Callable[[int], Any]
    run: Callable[[Any], float]
    first: Callable[[], float]
    check: Callable[[], float]
    steps: int
    first_steps: int = 1
    parts: Callable[[], dict[str, float]] = dict


class Sample(NamedTuple):
    """One pass: seconds on the wall and of processor, and the result."""

    wall: float
    cpu: float
    value: float


class Start(NamedTuple):
    """What a contender tells when it is ready; names as in :class:`Task`."""

    first: Sample
    check: float
    steps: int
    first_steps: int
    parts: dict[str, float]


class Result(NamedTuple):
    """All passes of one contender, and the median of its starts."""

    wall: Timing
    cpu: Timing
    start: Start


def _processor() -> float:
    """Seconds of processor that this process has had, and compilers that it has run and waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(function: Callable[..., float], *arguments: Any) -> Sample:
    """A call with its wall and processor time."""
    wall, cpu = time.perf_counter(), _processor()
    value = float(function(*arguments))
    return Sample(time.perf_counter() - wall, _processor() - cpu, value)


def cached_in(folder: str) -> dict[str, str]:
    """Environment variables that keep every library's compiled code below a folder."""
    return {
        "CHAINRULE_CACHE_DIR": os.path.join(folder, "chainrule"),
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
        "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _serve(pipe: Any, contender: Contender, threads: int, caches: str | None) -> None:
    """The life of a contender's process: the first step, then a pass for every number it is sent."""
    with contextlib.ExitStack() as stack:
        folder = caches or stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        os.environ.update(cached_in(folder), TORCHINDUCTOR_COMPILE_THREADS=str(threads))
        module, _, name = contender.factory.partition(":")
        stack.enter_context(contextlib.suppress(EOFError, BrokenPipeError))  # whoever measures is gone
        try:
            task = getattr(importlib.import_module(module), name)(threads, *contender.arguments)
            first = timed(task.first)
        except Unavailable as reason:
            pipe.send(str(reason))
            return
        pipe.send(Start(first, task.check(), task.steps, task.first_steps, task.parts()))
        while (turn := pipe.recv()) is not None:
            held = task.prepare(turn)
            gc.collect()
            pipe.send(timed(task.run, held))


class Process:
    """The other end of the pipe: a running contender.

    Its caches of compiled code are in ``caches``, or else in a folder of its own that is empty at first.
    """

    def __init__(self, contender: Contender, threads: int, caches: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, contender, threads, caches), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """What it sends next: at first a Start or, as text, the reason why there is none, then Samples."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(f"a contender ended with status {code}; its error stands above") from None

    def turn(self, number: int) -> Sample:
        """One pass."""
        self.pipe.send(number)
        sample: Sample = self.receive()
        return sample

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(None)
        self.process.join(10)
        self.process.kill()


def _agree(case: str, what: str, values: dict[str, float]) -> None:
    values = {name: v for name, v in values.items() if not math.isnan(v)}
    names = list(values)
    want = values[names[0]]
    for name in names[1:]:
        if not math.isclose(values[name], want, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ValueError(f"{case}: {what} is {want} for {names[0]} and {values[name]} for {name}")


def _life(
    case: str, contenders: Sequence[Contender], threads: int, rounds: int, missing: set[str], trips: list[float]
) -> dict[str, tuple[Start, list[Sample]]]:
    """Rounds with one process per contender; who cannot run is named, once, and entered in ``missing``.

    On several threads, ``trips`` gets the nanoseconds from core to core and back, before each round.
    """
    found: dict[str, Start] = {}
    passes: dict[str, list[Sample]] = {}
    running: dict[str, Process] = {}
    try:
        for c in contenders:
            if c.name in missing:
                continue
            process = running[c.name] = Process(c, threads)
            answer = process.receive()
            if isinstance(answer, str):
                print(f"({c.name} is left out: {answer})\n")
                missing.add(c.name)
                running.pop(c.name).close()
                continue
            found[c.name], passes[c.name] = answer, []
        _agree(case, "the first result", {n: s.first.value for n, s in found.items()})
        _agree(case, "the result after some steps", {n: s.check for n, s in found.items()})
        names = list(running)
        for turn in range(1, rounds + 2):
            at = turn % len(names)
            trip = _cores.round_trip() if threads > 1 else None
            trips += [] if trip is None else [trip]
            samples = {name: running[name].turn(turn) for name in names[at:] + names[:at]}
            if turn > 1:  # the first round warms up
                for name, sample in samples.items():
                    passes[name].append(sample)
    finally:
        for process in running.values():
            process.close()
    return {name: (start, passes[name]) for name, start in found.items()}


def measure(case: str, contenders: Sequence[Contender], options: _harness.Options) -> dict[str, Result]:
    """All contenders in turn, in ``LIVES`` processes each; those that cannot run are named with the reason.

    A process keeps the addresses and threads it happened to get, and with them a speed that may be far from that of the
    next one. The results of the first step, and of some more, have to agree. (Later on, rounding takes them apart.)
    """
    lives = 1 if options.quick else LIVES
    rounds = 1 if options.quick else math.ceil(options.rounds / SHARE / lives)
    missing: set[str] = set()
    trips: list[float] = []
    parts = [_life(case, contenders, options.threads, rounds, missing, trips) for _ in range(lives)]
    if trips:
        low, middle, high = min(trips), statistics.median(trips), max(trips)
        print(f"{case}: a word went to the other core and back in {middle:.0f} ns ({low:.0f} to {high:.0f}).\n")
    results = {}
    for name in parts[0]:
        samples = [s for part in parts for s in part[name][1]]
        starts = sorted((part[name][0] for part in parts), key=lambda start: start.first.wall)
        wall, cpu = (Timing([getattr(s, key) for s in samples]) for key in ("wall", "cpu"))
        results[name] = Result(wall, cpu, starts[len(starts) // 2])
    return results


def _break_even(result: Result, best_eager: float) -> str:
    """After how many steps the time of the first one is won back against the fastest eager contender."""
    saved = best_eager - result.wall.median / result.start.steps
    extra = result.start.first.wall - best_eager * result.start.first_steps
    if saved <= 0:
        return "never"
    return f"{max(0, math.ceil(extra / saved)):,}"


def report(case: str, contenders: Sequence[Contender], results: dict[str, Result], threads: int) -> None:
    """Prints the table of one case: a row per contender, times per pass in milliseconds.

    "beside the fastest peer" is the peer's median divided by this one's: 2 means half the fastest peer's time.
    """
    kinds = {c.name: c for c in contenders}
    peers = [n for n in results if not kinds[n].ours]
    eager = [r.wall.median / r.start.steps for n, r in results.items() if kinds[n].eager]
    best = {key: min((getattr(results[n], key).median for n in peers), default=math.nan) for key in ("wall", "cpu")}
    rows = []
    for name, r in results.items():
        speed = [best[key] / getattr(r, key).median for key in ("wall", "cpu")]
        compiled = not kinds[name].eager
        rows.append(
            [
                name,
                r.wall.text(1e-3),
                r.cpu.text(1e-3),
                f"{speed[0]:.2f}",
                f"{speed[1]:.2f}",
                f"{r.start.first.wall:.2f} / {r.start.first.cpu:.2f}" if compiled else "",
                _break_even(r, min(eager)) if compiled and eager else "",
            ]
        )
    head = [
        case,
        "wall, ms a pass",
        "processor, ms a pass",
        "speed beside the fastest peer, wall",
        "the same, processor",
        "first step, s: wall / processor",
        "steps to break even",
    ]
    print(_harness.table(head, rows))
    unsteady = [n for n, r in results.items() if not r.wall.steady]
    if unsteady:
        print(f"\nUnsteady on the wall, quartiles more than {_harness.SPREAD:.0%} apart: {', '.join(unsteady)}.")
    if threads == 1:
        waited = statistics.median(1 - r.cpu.median / r.wall.median for r in results.values())
        print(f"\nShare of the wall time in which a process had no core, median: {max(0.0, waited):.0%}.")
    print()
