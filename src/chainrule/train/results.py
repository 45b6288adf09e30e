"""What ``self.log`` collects: the value of each step, and the mean (or sum, minimum, maximum) over the epoch.

A value logged with on_step and on_epoch becomes two, ``name_step`` and ``name_epoch``, as in Lightning; callbacks
also find the newest of the two under ``name``. Means over an epoch weigh each batch by its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chainrule import tensors as ct
from chainrule.core.errors import explain
from chainrule.train.errors import MisconfigurationException

REDUCTIONS = ("mean", "sum", "min", "max")


@dataclass(slots=True)
class Entry:
    """One logged name: how it was logged, the newest value, and the running reduction over the epoch."""

    name: str
    on_step: bool
    on_epoch: bool
    prog_bar: bool
    logger: bool
    reduce: str
    value: float = 0.0
    total: float = 0.0
    weight: float = 0.0
    fresh: bool = False  # logged since the last step was published
    metric: Any = None  # an object with compute() and reset(), which then does the reduction itself

    def add(self, value: float, weight: float) -> None:
        """Take in the value of one batch."""
        self.value, self.fresh = value, True
        if self.reduce == "mean":
            self.total += value * weight
            self.weight += weight
        elif self.weight == 0:
            self.total, self.weight = value, 1.0
        elif self.reduce == "sum":
            self.total += value
        else:
            self.total = min(self.total, value) if self.reduce == "min" else max(self.total, value)

    def reduced(self) -> float:
        """The value of the epoch so far."""
        if self.metric is not None:
            return as_number(self.name, self.metric.compute())
        return self.total / self.weight if self.reduce == "mean" else self.total

    @property
    def step_name(self) -> str:
        return f"{self.name}_step" if self.on_epoch else self.name

    @property
    def epoch_name(self) -> str:
        return f"{self.name}_epoch" if self.on_step else self.name


@dataclass(slots=True)
class Published:
    """Values ready to be read: for callbacks, for loggers, for the progress bar."""

    callback: dict[str, float]
    logged: dict[str, float]
    progress: dict[str, float]


class Results:
    """Everything logged during one epoch of training, or one run over evaluation data."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def log(
        self,
        name: str,
        value: Any,
        *,
        on_step: bool,
        on_epoch: bool,
        prog_bar: bool,
        logger: bool,
        reduce: Any,
        weight: float,
    ) -> None:
        """Take in one value under ``name``. Raises where it is not one number or was logged in another way before."""
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = Entry(name, on_step, on_epoch, prog_bar, logger, _reduction(reduce))
        elif (entry.on_step, entry.on_epoch) != (on_step, on_epoch):
            raise MisconfigurationException(
                f"self.log({name!r}, ...) was called before with on_step={entry.on_step}, "
                f"on_epoch={entry.on_epoch} and now "
                f"with on_step={on_step}, on_epoch={on_epoch}; use another name, or the same arguments"
            )
        if is_metric(value):
            entry.metric, entry.fresh = value, True
            if on_step:
                batch_value = getattr(value, "_forward_cache", None)
                entry.value = as_number(name, value.compute() if batch_value is None else batch_value)
        else:
            entry.add(value if type(value) is float else as_number(name, value), weight)

    def step(self) -> Published:
        """The values logged with on_step since the last call."""
        out = Published({}, {}, {})
        for entry in self.entries.values():
            if entry.fresh and entry.on_step:
                entry.fresh = False
                out.callback[entry.name] = out.callback[entry.step_name] = entry.value
                if entry.logger:
                    out.logged[entry.step_name] = entry.value
                if entry.prog_bar:
                    out.progress[entry.step_name] = entry.value
        return out

    def epoch(self) -> Published:
        """The reductions over the epoch of the values logged with on_epoch."""
        out = Published({}, {}, {})
        for entry in self.entries.values():
            if entry.on_epoch:
                value = entry.reduced()
                out.callback[entry.name] = out.callback[entry.epoch_name] = value
                if entry.logger:
                    out.logged[entry.epoch_name] = value
                if entry.prog_bar:
                    out.progress[entry.epoch_name] = value
        return out

    def reset_metrics(self) -> None:
        """Reset the metric objects that were logged with on_epoch: their epoch is over."""
        for entry in self.entries.values():
            if entry.metric is not None and entry.on_epoch:
                entry.metric.reset()


def is_metric(value: Any) -> bool:
    """Whether a logged value is a metric object, by what it can do."""
    return not isinstance(value, ct.Tensor) and all(hasattr(value, name) for name in ("compute", "reset", "update"))


def as_number(name: str, value: Any) -> float:
    """A logged value as a float; raises MisconfigurationException where it is not one number."""
    if isinstance(value, ct.Tensor) and value.numel() == 1:
        return float(value.detach().item())
    if not isinstance(value, ct.Tensor | str | dict | list | tuple):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass  # said below, in words that fit
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, ct.Tensor) else f"{type(value).__name__}"
    raise MisconfigurationException(
        explain(
            f"self.log({name!r}, value) takes one number",
            expected="a Python number, a tensor of one element, or a metric",
            got=got,
            fix="use self.log_dict(...) for several values"
            if isinstance(value, dict)
            else "reduce it first, as by .mean()",
        )
    )


def _reduction(reduce: Any) -> str:
    name = reduce if isinstance(reduce, str) else getattr(reduce, "__name__", repr(reduce))
    if name not in REDUCTIONS:
        raise MisconfigurationException(f"self.log: reduce_fx must be one of {REDUCTIONS}, got {reduce!r}")
    return name


def batch_size_of(batch: Any) -> int:
    """The first size of the first tensor (or array) in a batch, however nested; 1 where there is none."""
    todo = [batch]
    while todo:
        item = todo.pop()
        shape = getattr(item, "shape", None)
        if shape is not None:
            return int(shape[0]) if len(shape) else 1
        if isinstance(item, dict):
            todo.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple):
            todo.extend(reversed(item))
    return 1
