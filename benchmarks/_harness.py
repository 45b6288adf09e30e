"""Timing that holds up on a busy machine: many short rounds, all contenders in turn, medians, and paired ratios.

A round times every contender once, for a few milliseconds, in an order that rotates from round to round. What disturbs
the machine then disturbs all alike, and what hits one round of one contender moves no median. Garbage collection stays
on, as it is in people's programs.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

OURS = "chainrule"
#: how far results of the contenders may lie apart, relative and absolute, before the comparison is called off
TOLERANCE = 1e-3, 1e-5
#: quartiles that lie further apart than this, relatively, are reported as unsteady
SPREAD = 0.2


class Options(NamedTuple):
    """How to measure.

    Attributes:
        rounds: how often every contender is timed.
        seconds: how long one timing lasts at least; the number of calls follows from it.
        threads: how many threads the libraries may use.
        quick: whether this is only a check that everything runs.
    """

    rounds: int
    seconds: float
    threads: int
    quick: bool


class Case(NamedTuple):
    """One task, and who performs it: functions without arguments by the name of the contender, ours first.

    Each returns a result (an array or a tensor); before anything is timed the results have to agree.
    """

    name: str
    contenders: dict[str, Callable[[], Any]]


class Timing(NamedTuple):
    """One contender's seconds per call, round by round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile."""
        first, _, third = statistics.quantiles(self.seconds, n=4) if len(self.seconds) > 1 else self.seconds * 3
        return first, third

    @property
    def steady(self) -> bool:
        """Whether the quartiles lie close enough together for the median to be trusted."""
        first, third = self.quartiles
        return third <= (1 + SPREAD) * first

    def text(self, unit: float) -> str:
        """``median (first quartile to third; fastest)`` in units of ``unit`` seconds."""
        values = [f"{x / unit:.2f}" for x in (self.median, *self.quartiles, min(self.seconds))]
        return "{} ({} to {}; {})".format(*values)


class Ratio(NamedTuple):
    """A ratio of medians, and an interval for the median of the ratios within each round."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(ours: Timing, other: Timing) -> Ratio:
    """Our median over the other's, with an interval from the pairs of timings that were taken in the same round.

    The interval holds the median of the paired ratios with a probability of about 95 %: its ends are the order
    statistics n/2 -+ 0.98 sqrt(n) (the sign test, in its normal approximation). Few rounds give the whole range.
    """
    pairs = sorted(a / b for a, b in zip(ours.seconds, other.seconds, strict=True))
    n = len(pairs)
    low = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))
    return Ratio(ours.median / other.median, pairs[low], pairs[n - 1 - low])


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean: the one under which a factor won and the same factor lost cancel out."""
    return statistics.geometric_mean(values)


def seconds_per_call(function: Callable[[], Any], calls: int) -> float:
    """Wall time of one call, from ``calls`` of them in a row."""
    turns = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in turns:
        function()
    return (time.perf_counter() - start) / calls


def as_array(value: Any) -> Any:
    """A result as a NumPy array, whichever library it comes from."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def check_agreement(case: Case) -> None:
    """Raises ValueError if the contenders do not compute the same: then they cannot be compared."""
    names = list(case.contenders)
    results = [as_array(call()) for call in case.contenders.values()]
    for name, result in zip(names[1:], results[1:], strict=True):
        if result.shape != results[0].shape or not np.allclose(result, results[0], *TOLERANCE):
            raise ValueError(f"{case.name}: {names[0]} gives {results[0]}, {name} gives {result}")


def measure(case: Case, options: Options) -> dict[str, Timing]:
    """The timings of all contenders of a case, taken in turn."""
    check_agreement(case)
    calls = {}
    for name, function in case.contenders.items():
        estimate = min(seconds_per_call(function, 3) for _ in range(3))
        calls[name] = max(1, round(options.seconds / estimate))
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    for turn in range(options.rounds + 1):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            seconds = seconds_per_call(case.contenders[name], calls[name])
            if turn:  # the first round warms up
                found[name].append(seconds)
    return {name: Timing(seconds) for name, seconds in found.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for reading as plain text; all but the first to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    out = []
    for line in (lines[0], rule, *lines[1:]):
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def compare(title: str, cases: Iterable[Case], options: Options, unit: float = 1e-6) -> dict[str, dict[str, Ratio]]:
    """Measures the cases and prints one table; returns our ratio to each contender, by case and contender."""
    measured = {case.name: measure(case, options) for case in cases}
    names = list(dict.fromkeys(name for timings in measured.values() for name in timings))
    others = [name for name in names if name != OURS]
    ratios = {
        case: {name: ratio(timings[OURS], timings[name]) for name in others if name in timings}
        for case, timings in measured.items()
    }
    symbol = {1e-6: "µs", 1e-3: "ms"}[unit]
    head = [title, *(f"{name}, {symbol}" for name in names), *(f"{OURS} / {name}" for name in others)]
    rows = []
    for case, timings in measured.items():
        times = [timings[name].text(unit) if name in timings else "" for name in names]
        rows.append([case, *times, *(str(ratios[case].get(name, "")) for name in others)])
    print(table(head, rows))
    unsteady = [case for case, timings in measured.items() if not all(t.steady for t in timings.values())]
    if unsteady:
        print(f"\nUnsteady, quartiles more than {SPREAD:.0%} apart, measure again: {'; '.join(unsteady)}.")
    return ratios
