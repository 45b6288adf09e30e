"""Progress: a bar on a terminal, one plain line per epoch everywhere else.

Both show the logged values (``prog_bar=True``), samples per second and the time left. Drawing happens in the training
thread, at most ten times a second, so that it costs nothing and never tears.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from chainrule.train.callbacks.base import Callback
from chainrule.train.report import clock, value
from chainrule.train.results import batch_size_of

_REDRAW = 0.1  # seconds between two drawings


class ProgressBar(Callback):
    """What progress displays share: where training is, how fast it is, and how long it will take."""

    def __init__(self) -> None:
        self._began = self._epoch_began = time.perf_counter()
        self._samples = 0  # of this epoch
        self._batches = 0  # of this epoch
        self._train_seconds = 0.0  # of this epoch, without validation
        self._rate = 0.0

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line without disturbing what is shown."""
        print(*args, **kwargs)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start counting."""
        self._epoch_began = time.perf_counter()
        self._samples = self._batches = 0
        self._train_seconds = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch."""
        size = trainer._batch_size
        self._samples += batch_size_of(batch) if size is None else size
        self._batches += 1
        self._train_seconds = time.perf_counter() - self._epoch_began
        self._rate = self._samples / max(self._train_seconds, 1e-9)

    def fraction(self, trainer: Any) -> float | None:
        """The share of the whole training that is done, by steps or by epochs; None where there is no end."""
        parts = []
        if trainer.max_steps > 0:
            parts.append(trainer.global_step / trainer.max_steps)
        if trainer.max_epochs > 0:
            within = self._batches / trainer.num_training_batches if trainer.num_training_batches else 0.0
            parts.append(min((trainer.current_epoch + min(within, 1.0)) / trainer.max_epochs, 1.0))
        return max(parts) if parts else None

    def seconds_left(self, trainer: Any) -> float | None:
        """An estimate from the time used so far, validation included."""
        fraction = self.fraction(trainer)
        if not fraction:
            return None
        return (time.perf_counter() - self._began) * (1 - fraction) / fraction

    def epoch_text(self, trainer: Any) -> str:
        """``epoch  3/10``, counted from 1."""
        text = trainer.epoch_text()
        return f"epoch {text:>{2 * len(str(trainer.max_epochs)) + 1}}" if trainer.max_epochs > 0 else f"epoch {text}"

    def rate_text(self) -> str:
        """``12,345 samples/s``."""
        return f"{self._rate:,.0f} samples/s"


class PlainProgress(ProgressBar):
    """One line per epoch, for log files, pipes and notebooks. ``every_n_epochs``: print only every n-th (and the
    last).
    """

    monitors = True  # printed when the metrics of the epoch are final

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__()
        self.every_n_epochs = every_n_epochs

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print."""
        print(*args, **{"flush": True, **kwargs})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The line of the epoch."""
        last = trainer.should_stop or self.fraction(trainer) == 1.0
        if (trainer.current_epoch + 1) % self.every_n_epochs and not last:
            return
        parts = [self.epoch_text(trainer)]
        parts += [f"{name} {value(number)}" for name, number in shown(trainer).items()]
        parts += [self.rate_text(), clock(time.perf_counter() - self._began)]
        left = self.seconds_left(trainer)
        if left is not None and not last:
            parts.append(f"{clock(left)} left")
        self.print("  ".join(parts))


class RichProgressBar(ProgressBar):
    """A bar for the whole training with the newest values below it. Not on a terminal it is a :class:`PlainProgress`.

    Args:
        refresh_rate: accepted; the bar is drawn by time, ten times a second. 0: nothing is drawn.
        leave: keep the finished bar on the screen.
        console: the rich console to draw on.
    """

    monitors = True

    def __init__(
        self, refresh_rate: int = 1, leave: bool = True, theme: Any = None, console: Console | None = None
    ) -> None:
        super().__init__()
        self.refresh_rate, self.leave = refresh_rate, leave
        self._console = console
        self._plain: PlainProgress | None = None
        self._live: Live | None = None
        self._drawn = 0.0
        self._stage = ""

    # A plain display has the same hooks, and takes over where there is no terminal.

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show the bar, or leave it to plain lines."""
        super().on_train_start(trainer, pl_module)
        console = self._console or Console()
        self._plain = None
        if self.refresh_rate == 0:
            return
        if not console.is_terminal or console.is_jupyter or console.is_dumb_terminal:
            self._plain = PlainProgress()
            self._plain.on_train_start(trainer, pl_module)
            return
        self._live = Live(
            console=console, auto_refresh=False, transient=not self.leave, redirect_stdout=True, redirect_stderr=True
        )
        self._live.start()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start counting."""
        super().on_train_epoch_start(trainer, pl_module)
        if self._plain is not None:
            self._plain.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the bar."""
        if self._plain is not None:
            self._plain.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._draw(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Say that validation runs."""
        self._stage = "validating"
        self._draw(trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the clock going."""
        self._draw(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Back to training."""
        self._stage = ""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the values of the epoch."""
        if self._plain is not None:
            self._plain.on_train_epoch_end(trainer, pl_module)
        self._draw(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the bar away, or leave it as it ended."""
        self._stop(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back before the error is shown."""
        self._stop(trainer)

    def _stop(self, trainer: Any) -> None:
        if self._live is not None:
            self._draw(trainer, now=True, final=True)
            self._live.stop()
            self._live = None

    def _draw(self, trainer: Any, now: bool = False, final: bool = False) -> None:
        if self._live is None:
            return
        clock_now = time.perf_counter()
        if now or clock_now - self._drawn >= _REDRAW:
            self._drawn = clock_now
            self._live.update(self._picture(trainer, final), refresh=True)

    def _picture(self, trainer: Any, final: bool) -> Group:
        fraction = self.fraction(trainer)
        left = self.seconds_left(trainer)
        used = clock(time.perf_counter() - self._began)
        line = Table.grid(padding=(0, 2))
        line.add_column(no_wrap=True)
        line.add_column(width=28)
        for _ in range(3):
            line.add_column(no_wrap=True)
        share = "" if fraction is None else f"{fraction:4.0%}"
        if final:
            times = f"{used}" + (" (interrupted)" if trainer.interrupted else "")
        else:
            times = used + ("" if left is None else f" < {clock(left)} left")
        bar = Bar(total=1.0, completed=fraction or 0.0, pulse=fraction is None and not final, width=28)
        line.add_row(
            Text(self.epoch_text(trainer), style="bold"),
            bar,
            Text(share, style="magenta"),
            Text(self.rate_text(), style="green"),
            Text(times, style="cyan"),
        )
        values = Text()
        for name, number in shown(trainer, live=not final).items():
            values.append(f"{name} ", style="dim").append(value(number), style="bold").append("   ")
        values.append(self._stage, style="yellow")
        # While training, the cursor waits on a line of its own: what a terminal echoes for Ctrl-C goes there and wraps
        # nothing, as it would at the end of a full line.
        return Group(line, Padding(values, (0, 0, 0, 2)), *([] if final else [Text()]))


def shown(trainer: Any, live: bool = False) -> dict[str, float]:
    """The values to show. What was logged both by step and by epoch is shown once, under its own name: with ``live``
    as it was in the newest step, else as the mean of the newest epoch.
    """
    found = trainer.progress_bar_metrics
    out: dict[str, float] = {}
    for name, number in found.items():
        for tail, other in (("_step", "_epoch"), ("_epoch", "_step")):
            base = name.removesuffix(tail)
            if base != name and base in trainer._values:
                if base + other not in found or (tail == "_step") == live:
                    out[base] = number
                break
        else:
            out[name] = number
    # Training first, whatever was logged first.
    return dict(sorted(out.items(), key=lambda item: item[0].startswith(("val", "test"))))
