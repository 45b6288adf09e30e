"""The figure of a run: loss and accuracy per epoch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

_COLORS = {"train": "#2f6fb0", "val": "#7a7a7a", "test": "#d1602b"}
_LABELS = {"train": "training", "val": "held out", "test": "test"}
_INK = "#333333"


def draw_curves(rows: Sequence[dict[str, float]], title: str, accuracy: float, best_epoch: int | None = None) -> bytes:
    """A PNG of 1600 x 640 pixels; ``best_epoch`` is marked where early stopping chose one. Raises ImportError without
    matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise ImportError(
            "the figure is drawn by matplotlib, which is not installed; fix: pip install 'chainrule[cli]'"
        ) from error
    figure = Figure(figsize=(10, 4), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    loss, acc = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, name in ((loss, "loss"), (acc, "acc")):
        for part, color in _COLORS.items():
            key = f"{part}_{name}"
            if any(key in row for row in rows):
                values = [row.get(key, float("nan")) for row in rows]  # an interrupted epoch lacks some
                # A dot where a line would have no length; few epochs get dots as well.
                marker = "o" if len(rows) <= 15 else None
                axes.plot(epochs, values, color=color, lw=1.8, marker=marker, ms=3.5, label=_LABELS[part], zorder=3)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="#999999", lw=1, ls=(0, (3, 3)), zorder=1)
            axes.text(
                best_epoch, 1.0, " best", transform=axes.get_xaxis_transform(), va="top", fontsize=8, color="#777777"
            )
        _plain(axes)
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    loss.set_title("cross-entropy loss", loc="left", fontsize=11, color=_INK)
    acc.set_title("accuracy", loc="left", fontsize=11, color=_INK)
    _limits(loss, acc, rows)
    acc.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    acc.legend(frameon=False, loc="lower right", labelcolor=_INK)
    figure.suptitle(
        f"{title}: {accuracy:.2%} of the test examples right", x=0.01, ha="left", fontsize=12, weight="bold", color=_INK
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#bbbbbb")
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.grid(axis="y", color="#e6e6e6", lw=0.8, zorder=0)
    axes.set_axisbelow(True)


def _limits(loss: Any, acc: Any, rows: Sequence[dict[str, float]]) -> None:
    losses = [v for row in rows for k, v in row.items() if k.endswith("_loss") and v > 0]
    if losses and max(losses) > 30 * min(losses):
        loss.set_yscale("log")
    else:
        loss.set_ylim(bottom=0)
    shares = [v for row in rows for k, v in row.items() if k.endswith("_acc")]
    low = min(shares)
    acc.set_ylim(max(0.0, low - 0.08 * (1 - low) - 0.005), 1.0 + 0.02 * (1 - low) + 0.001)
