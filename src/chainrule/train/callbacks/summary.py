"""ModelSummary: the layers of a model and their parameters, as a table before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table

from chainrule import nn
from chainrule.train.callbacks.base import Callback
from chainrule.train.errors import MisconfigurationException
from chainrule.train.report import count


@dataclass(frozen=True)
class Row:
    """One module: its name, type, number of parameters and mode."""

    name: str
    type: str
    params: int
    mode: str


@dataclass(frozen=True)
class Summary:
    """Rows and totals; ``megabytes`` is the size of the parameters (1 MB = 1,000,000 bytes)."""

    rows: list[Row]
    trainable: int
    total: int
    megabytes: float


def summarize(module: nn.Module, max_depth: int = 1) -> Summary:
    """The modules down to ``max_depth`` levels (-1: all), and totals. Shared parameters count once in the totals."""
    rows = [
        Row(name, type(m).__name__, sum(p.numel() for p in m.parameters()), "train" if m.training else "eval")
        for name, m in module.named_modules()
        if name and (max_depth == -1 or name.count(".") < max_depth)
    ]
    params = list(module.parameters())
    return Summary(
        rows,
        trainable=sum(p.numel() for p in params if p.requires_grad),
        total=sum(p.numel() for p in params),
        megabytes=sum(p.numel() * p.element_size() for p in params) / 1e6,
    )


class ModelSummary(Callback):
    """Prints the summary when ``fit`` begins. ``max_depth``: levels of modules to show; 0: none, -1: all."""

    def __init__(self, max_depth: int = 1) -> None:
        if max_depth < -1:
            raise MisconfigurationException(f"ModelSummary: max_depth must be at least -1, got {max_depth}")
        self.max_depth = max_depth

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Print."""
        if self.max_depth:
            print_summary(summarize(pl_module, self.max_depth))


def print_summary(summary: Summary, console: Any = None) -> None:
    """The table, in the layout Lightning prints."""
    console = console or Console()
    table = Table(box=HEAVY_HEAD, header_style="bold magenta")
    table.add_column("", style="dim", justify="right")
    table.add_column("Name", style="bold", no_wrap=True)
    table.add_column("Type")
    table.add_column("Params", justify="right", style="cyan")
    table.add_column("Mode")
    for i, row in enumerate(summary.rows):
        table.add_row(str(i), row.name, row.type, count(row.params), row.mode)
    console.print(table)
    for label, text in (
        ("Trainable params", count(summary.trainable)),
        ("Non-trainable params", count(summary.total - summary.trainable)),
        ("Total params", count(summary.total)),
        ("Total estimated model params size (MB)", f"{summary.megabytes:.3f}"),
    ):
        console.print(f"[bold]{label}[/]: {text}", highlight=False)
    console.print()
