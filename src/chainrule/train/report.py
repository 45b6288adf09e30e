"""How training looks in words: counts, durations, numbers, and the tables that are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table

_TITLES = {"validate": "Validate metric", "test": "Test metric"}


def count(number: int) -> str:
    """A count of parameters as Lightning writes it: 0, 999, 1.5 K, 101 K, 2.4 M; rounded down."""
    if number < 1000:
        return str(number)
    power = min(int(math.log10(number)) // 3, 4)
    scaled = number / 1000**power
    text = str(int(scaled)) if scaled >= 100 else f"{math.floor(scaled * 10) / 10:.1f}"
    return f"{text} {' KMBT'[power]}"


def value(number: float) -> str:
    """A metric: four decimals where they say something, else an exponent."""
    if number == 0 or 1e-3 <= abs(number) < 1e4:
        return f"{number:.4f}"
    return f"{number:.2e}" if math.isfinite(number) else str(number)


def clock(seconds: float) -> str:
    """A duration as h:mm:ss, or with a tenth of a second where it is short."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}"


def print_metrics(stage: str, each: Sequence[dict[str, float]], console: Any = None) -> None:
    """The metrics of ``validate`` or ``test`` as a table with one column per loader."""
    table = Table(box=HEAVY_HEAD)
    table.add_column(_TITLES[stage], style="cyan", no_wrap=True)
    for i in range(len(each)):
        table.add_column(f"DataLoader {i}", justify="right", style="magenta")
    names = dict.fromkeys(name.partition("/dataloader_idx_")[0] for metrics in each for name in metrics)
    for name in names:
        row = [metrics.get(name, metrics.get(f"{name}/dataloader_idx_{i}")) for i, metrics in enumerate(each)]
        table.add_row(name, *("" if number is None else value(number) for number in row))
    (console or Console()).print(table)
