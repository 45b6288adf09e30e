"""Scaling of columns: fitted once on the training data, remembered, applied to everything else.

Each function returns the scaled data and the object that did it, for the data to come::

    z_train, scaling = standardize(x_train)
    z_test = scaling(x_test)
    x_again = scaling.inverse(z_test)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.data._tensors import Tensor, array_of, from_numpy

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scaling:
    """z = (x - shift) / scale, column by column; computed in float64, returned in the default dtype.

    ``shift`` and ``scale`` have the shape of one row.
    """

    shift: Array
    scale: Array

    def __call__(self, x: Any) -> Tensor:
        return _tensor((self._rows(x) - self.shift) / self.scale)

    def inverse(self, z: Any) -> Tensor:
        """x = z scale + shift."""
        return _tensor(self._rows(z) * self.scale + self.shift)

    def _rows(self, x: Any) -> Array:
        values = np.asarray(array_of(x), dtype=np.float64)
        if values.shape[1:] != self.shift.shape:
            raise ValueError(
                explain(
                    "these data do not have the columns the scaling was fitted on",
                    expected=f"rows of shape {self.shift.shape}",
                    got=f"data of shape {values.shape}",
                    fix="give the same columns in the same order",
                )
            )
        return values


@dataclass(frozen=True)
class OneHot:
    """Category i of ``categories`` becomes the row with 1 in place i and 0 elsewhere, in the default dtype."""

    categories: tuple[Any, ...]

    def __call__(self, values: Any) -> Tensor:
        codes = self.codes(values)
        rows = np.zeros((len(codes), len(self.categories)))
        rows[np.arange(len(codes)), codes] = 1.0
        return _tensor(rows)

    def codes(self, values: Any) -> Array:
        """The place of each value among the categories, int64. Raises ValueError for one that is none of them."""
        place = {category: i for i, category in enumerate(self.categories)}
        items = _items(values)
        for position, item in enumerate(items):
            if item not in place:
                known = ", ".join(map(repr, self.categories[:10])) + (", ..." if len(self.categories) > 10 else "")
                raise ValueError(
                    explain(
                        "one_hot: a value that is not among the categories",
                        expected=f"one of {known}",
                        got=f"{item!r} at position {position}",
                        fix="fit on data that has every category, or name all: one_hot(values, categories=[...])",
                    )
                )
        return np.array([place[item] for item in items], dtype=np.int64)


def standardize(x: Any) -> tuple[Tensor, Scaling]:
    """(x - mean) / std for each column, and the scaling; std divides by n, as scikit-learn's does.

    A column of one value only becomes 0. Raises ValueError for values that are not finite.
    """
    values = _finite(x, "standardize")
    scaling = Scaling(values.mean(0), _nonzero(values.std(0), values))
    return scaling(values), scaling


def rescale(x: Any) -> tuple[Tensor, Scaling]:
    """(x - min) / (max - min) for each column, which lies in [0, 1], and the scaling.

    A column of one value only becomes 0. Raises ValueError for values that are not finite.
    """
    values = _finite(x, "rescale")
    scaling = Scaling(values.min(0), _nonzero(values.max(0) - values.min(0), values))
    return scaling(values), scaling


def one_hot(values: Any, categories: Sequence[Any] | None = None) -> tuple[Tensor, OneHot]:
    """One row per value with a single 1, and the encoder. Categories: the sorted distinct values unless given."""
    encoder = OneHot(tuple(sorted(set(_items(values))) if categories is None else categories))
    return encoder(values), encoder


def _items(values: Any) -> list[Any]:
    array = array_of(values)
    if array.ndim != 1:
        raise ValueError(f"one_hot takes one axis of values, got shape {array.shape}; encode one column at a time")
    return array.tolist()  # type: ignore[no-any-return]


def _finite(x: Any, name: str) -> Array:
    values = np.asarray(array_of(x), dtype=np.float64)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"{name} needs at least one row, got shape {values.shape}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise ValueError(
            explain(
                f"{name}: {len(bad)} of the values are not finite",
                expected="finite numbers",
                got=f"{values[place]} at {place}",
                fix='drop or fill missing values first, for instance read_csv(..., missing="mean")',
            )
        )
    return values


def _nonzero(spread: Array, values: Array) -> Array:
    # A constant column may get a spread of rounding errors; what is below them is as good as zero.
    tiny = np.abs(values).max(0) * np.finfo(np.float64).eps * 10
    return np.where(spread > tiny, spread, 1.0)


def _tensor(values: Array) -> Tensor:
    return from_numpy(np.asarray(values, dtype=dtypes.as_numpy(dtypes.get_default_dtype())))
