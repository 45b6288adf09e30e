"""The settings of a run, their defaults, and the names that they may take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DATASETS = ("digits", "mnist", "fashion-mnist")

# What the names stand for in chainrule.nn and chainrule.optim.
ACTIVATIONS = {
    "relu": "ReLU",
    "leaky-relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
SCHEDULES = ("constant", "cosine")

# Defaults of a data set where they differ from those below. Digits has few images, so that dropout, soft labels and a
# falling learning rate count there; the values are those of the best cross-validated accuracy on its training images.
RECIPES: dict[str, dict[str, Any]] = {
    "digits": {
        "hidden": (256, 256),
        "epochs": 30,
        "lr": 0.01,
        "batch_size": 64,
        "dropout": 0.3,
        "label_smoothing": 0.1,
        "schedule": "cosine",
    },
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run does."""

    dataset: str
    target: str | None = None
    columns: tuple[str, ...] | None = None
    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    dropout: float = 0.0
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    lr: float = 0.001
    momentum: float = 0.0
    schedule: str = "constant"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    batch_size: int = 128
    epochs: int = 10
    early_stopping: int | None = None
    seed: int = 0
    threads: int = 1
    compile: bool | None = None
    limit: int | None = None
    data_root: Path | None = None
    download: bool = True
    out: Path = Path("runs")
    quiet: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
            for k, v in asdict(self).items()
        }
