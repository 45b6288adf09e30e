"""Checks of the arguments of Trainer."""

from __future__ import annotations

from typing import Any

from chainrule.core.errors import did_you_mean, explain
from chainrule.train.errors import MisconfigurationException


def whole(name: str, value: Any, lowest: int) -> int:
    """A whole number of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise MisconfigurationException(
            f"Trainer({name}=...) must be a whole number of at least {lowest}, got {value!r}"
        )
    return value


def limit(name: str, value: Any) -> int | float:
    """A number of batches (int) or a share of them (float)."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value < 0
        or (isinstance(value, float) and value > 1)
    ):
        raise MisconfigurationException(
            f"Trainer({name}=...) must be a number of batches (int) or a share of them (float from 0 "
            f"to 1), got {value!r}"
        )
    return value


def clipping(value: Any, algorithm: str | None) -> tuple[float | None, str | None]:
    """Value and algorithm of gradient clipping; 0 means none."""
    if value is not None and (not isinstance(value, int | float) or not value >= 0):
        raise MisconfigurationException(f"Trainer(gradient_clip_val=...) must be a number of at least 0, got {value!r}")
    if algorithm not in (None, "norm", "value"):
        raise MisconfigurationException(
            f"Trainer(gradient_clip_algorithm=...) must be 'norm' or 'value', got {algorithm!r}"
        )
    # As in Lightning, 0 means no clipping.
    return value or None, algorithm


def check_hardware(accelerator: Any, strategy: Any, devices: Any, num_nodes: Any, precision: Any) -> None:
    """Raise for hardware, strategies and precisions that chainrule does not train with."""
    if accelerator not in ("auto", "cpu"):
        known = ("gpu", "cuda", "mps", "tpu", "hpu", "cpu", "auto")
        raise MisconfigurationException(
            explain(
                f"Trainer(accelerator={accelerator!r}): chainrule trains on the CPU"
                + ("" if accelerator in known else did_you_mean(str(accelerator), known)),
                expected="'cpu' or 'auto'",
                got=repr(accelerator),
                fix="leave accelerator out",
            )
        )
    if devices not in ("auto", 1, "1", -1, "-1") or num_nodes != 1:
        raise MisconfigurationException(
            explain(
                "Trainer: chainrule trains in one process",
                expected="devices=1 (or 'auto') and num_nodes=1",
                got=f"devices={devices!r}, num_nodes={num_nodes!r}",
                fix="leave devices out; matrix products use all cores by themselves",
            )
        )
    if strategy != "auto":
        raise MisconfigurationException(f"Trainer(strategy={strategy!r}): there is one process; leave strategy out")
    if precision not in (None, 32, "32", "32-true", 64, "64", "64-true"):
        raise MisconfigurationException(
            f"Trainer(precision={precision!r}): training runs in the dtype of the parameters; use "
            "precision=32, or model.double()"
        )
    if str(precision).startswith("64"):
        raise MisconfigurationException(
            "Trainer(precision=64): convert the model and the data instead: model.double(), x.double()"
        )
