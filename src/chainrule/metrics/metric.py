"""The base class of metrics: state that batches are added to, and a value computed from it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from chainrule import nn
from chainrule import tensors as ct
from chainrule.ir.state import no_grad

_REDUCTIONS = ("sum", "mean", "max", "min", "cat", None)


class Metric(nn.Module):
    """A number (or table) computed from all batches since the last :meth:`reset`.

    A subclass calls :meth:`add_state` in ``__init__`` and writes ``update(...)``, which adds a batch to the state, and
    ``compute()``, which returns the value for all batches so far::

        class Hits(Metric):
            def __init__(self):
                super().__init__()
                self.add_state("hits", chainrule.tensor(0), dist_reduce_fx="sum")

            def update(self, preds, target):
                self.hits += (preds == target).sum()

            def compute(self):
                return self.hits

    Calling the metric, ``metric(preds, target)``, adds the batch and returns the value for that batch alone. Neither
    records a gradient. State is no part of ``state_dict`` and moves with no parameter; a metric is a module, so it
    may be an attribute of a model. Source of the interface: torchmetrics.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        if kwargs:
            raise TypeError(f"{type(self).__name__}() got unexpected keyword arguments: {', '.join(sorted(kwargs))}")
        self._defaults: dict[str, Any] = {}
        self._reductions: dict[str, str | None] = {}
        self._update_count = 0
        self._computed: Any = None
        self._forward_cache: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, wrap in (("update", _counted), ("compute", _cached)):
            if name in vars(cls):
                setattr(cls, name, wrap(vars(cls)[name]))

    def add_state(self, name: str, default: Any, dist_reduce_fx: str | None = None) -> None:
        """Declare the attribute ``name``: a tensor, or an empty list that tensors are appended to.

        ``dist_reduce_fx`` says how states of two sets of batches are combined: "sum", "mean", "max", "min", "cat",
        None.
        """
        if not name.isidentifier():
            raise ValueError(f"add_state: the name must be an identifier, got {name!r}")
        if not isinstance(default, ct.Tensor) and default != []:
            raise ValueError(f"add_state: the default of {name!r} must be a tensor or an empty list, got {default!r}")
        if dist_reduce_fx not in _REDUCTIONS:
            raise ValueError(f"add_state: dist_reduce_fx must be one of {_REDUCTIONS}, got {dist_reduce_fx!r}")
        self._defaults[name] = default.detach().clone() if isinstance(default, ct.Tensor) else []
        self._reductions[name] = dist_reduce_fx
        setattr(self, name, self._fresh(name))

    def _fresh(self, name: str) -> Any:
        default = self._defaults[name]
        return default.clone() if isinstance(default, ct.Tensor) else []

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch to the state."""
        raise NotImplementedError(
            f"{type(self).__name__} must define update(self, ...), which adds a batch to its state"
        )

    def compute(self) -> Any:
        """The value for all batches since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(self), which returns its value")

    def reset(self) -> None:
        """Forget all batches."""
        for name in self._defaults:
            setattr(self, name, self._fresh(name))
        self._update_count = 0
        self._computed = self._forward_cache = None

    @property
    def update_called(self) -> bool:
        """Whether there was a batch since the last reset."""
        return self._update_count > 0

    @property
    def update_count(self) -> int:
        """The number of batches since the last reset."""
        return self._update_count

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch to the state and return the value for that batch alone."""
        before = {name: getattr(self, name) for name in self._defaults}
        count = self._update_count
        try:
            for name in self._defaults:
                setattr(self, name, self._fresh(name))
            self.update(*args, **kwargs)
            value = self.compute()
        except BaseException:  # a bad batch leaves the earlier ones as they were
            self._restore(before, count)
            raise
        if count == 0:  # what was just computed is the state
            self._update_count = 1
        elif all(self._reductions[name] == "sum" for name in before):
            batch = {name: getattr(self, name) for name in before}
            with no_grad():
                self._restore({name: before[name] + batch[name] for name in before}, count + 1)
        else:
            self._restore(before, count)
            self.update(*args, **kwargs)
        self._computed = None
        self._forward_cache = value
        return value

    def _restore(self, state: dict[str, Any], count: int) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._update_count = count
        self._computed = None

    def extra_repr(self) -> str:
        return ""


def _counted(update: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(update)
    def counted(self: Metric, *args: Any, **kwargs: Any) -> None:
        with no_grad():
            update(self, *args, **kwargs)
        self._computed = None
        self._update_count += 1

    return counted


def _cached(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(compute)
    def cached(self: Metric) -> Any:
        if self._update_count == 0:
            warnings.warn(
                f"{type(self).__name__}.compute() was called before update(): there are no batches to compute it from",
                UserWarning,
                stacklevel=2,
            )
        if self._computed is None:
            with no_grad():
                self._computed = compute(self)
        return self._computed

    return cached
