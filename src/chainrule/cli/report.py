"""What ``chainrule fit`` prints: the start, the scores, the confusion matrix, where things are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chainrule.cli.settings import Settings
from chainrule.train.report import clock

_LONGEST = 14  # characters of a class name
_MOST = 20  # classes that a matrix is shown for


def print_start(console: Console, settings: Settings, bundle: Any) -> None:
    """One paragraph: the data and how it is learned."""
    console.print(
        f"[bold]{Path(settings.dataset).name}[/]  {len(bundle.train):,} training and "
        f"{len(bundle.test):,} test examples, "
        f"{bundle.features} inputs, {len(bundle.classes)} classes"
    )
    for note in bundle.notes:
        console.print(f"  [dim]{note}[/]")
    details = [
        f"{settings.optimizer}, learning rate {settings.lr:g} ({settings.schedule})",
        f"batches of {settings.batch_size}",
    ]
    details += [f"dropout {settings.dropout:g}"] if settings.dropout else []
    details += [f"label smoothing {settings.label_smoothing:g}"] if settings.label_smoothing else []
    details += [f"weight decay {settings.weight_decay:g}"] if settings.weight_decay else []
    details += [f"gradients clipped at {settings.clip_norm:g}"] if settings.clip_norm else []
    details += [f"seed {settings.seed}"]
    console.print(f"[dim]{', '.join(details)}[/]")


def print_scores(console: Console, scores: dict[str, Any], seconds: float, trainer: Any) -> None:
    """Loss and accuracy on training and test examples, and the time it took."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 2))
    table.add_column("")
    table.add_column("loss", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("wrong", justify="right")
    for part, label in (("train", "training"), ("test", "test")):
        s = scores[part]
        total = int(s.confusion.sum())
        wrong = total - int(s.confusion.trace())
        style = "bold green" if part == "test" else ""
        table.add_row(label, f"{s.loss:.4f}", f"{s.accuracy:.2%}", f"{wrong:,} of {total:,}", style=style)
    console.print(table)
    epochs = trainer.current_epoch
    stopped = ", stopped early" if trainer.should_stop else ", interrupted" if trainer.interrupted else ""
    console.print(f"  trained in [bold]{clock(seconds)}[/] ({epochs} epoch{'' if epochs == 1 else 's'}{stopped})\n")


def print_confusion(console: Console, counts: Any, classes: Sequence[str]) -> None:
    """The confusion matrix of the test examples: true classes down, predicted classes across."""
    n = len(classes)
    if n > _MOST:
        console.print(f"[dim]The confusion matrix of {n} classes is too wide to show.[/]")
        return
    names = [_short(name) for name in classes]
    cell = max(3, *(len(f"{int(v):,}") for v in counts.ravel()))
    wide = max(len(name) for name in names)
    # Names across the top where they fit, else the numbers of the classes, which then stand before the names as well.
    fits = wide + n * (max(cell, wide) + 2) + 14 <= console.width
    numbered = not fits
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column("", style="bold", no_wrap=True)
    for j, name in enumerate(names):
        table.add_column(str(j) if numbered else name, justify="right", no_wrap=True)
    table.add_column("right", justify="right", style="green", no_wrap=True)
    for i, name in enumerate(names):
        row = counts[i]
        total = int(row.sum())
        cells = [_cell(int(value), total, i == j) for j, value in enumerate(row)]
        share = f"{int(row[i]) / total:.1%}" if total else "-"
        table.add_row(f"{i} {name}" if numbered and name != str(i) else name, *cells, share)
    console.print("Test examples: true class down, predicted class across", style="italic")
    console.print(table)


def _cell(value: int, total: int, right: bool) -> Text:
    if value == 0:
        return Text("·", style="dim")
    share = value / total
    # Mistakes stand out as they are frequent.
    mistake = "bold red" if share >= 0.08 else "red" if share >= 0.02 else "dim"
    return Text(f"{value:,}", style="green" if right else mistake)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def print_saved(console: Console, folder: Path) -> None:
    """Where the results are."""
    console.print(f"Saved in [bold]{folder}[/]", soft_wrap=True)
    console.print(f"  [dim]{', '.join(sorted(path.name for path in folder.iterdir()))}[/]")
