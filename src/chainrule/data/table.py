"""A table: named columns of numbers and of categories, one of them perhaps the target, made into tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import did_you_mean, explain
from chainrule.data._tensors import Tensor, array_of, from_numpy
from chainrule.data.scaling import OneHot

Array = np.ndarray[Any, Any]


class Table:
    """Columns of equal length by name. Numeric columns are int64 or float64 arrays, categories arrays of text.

    ``table[name]`` is a column, ``table[rows]`` (a slice, a mask, an array or tensor of indices) a table of these rows,
    which keeps the categories of the whole, so that parts of one table are encoded alike.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        target: str | None = None,
        categories: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.columns: dict[str, Array] = {name: np.asarray(column) for name, column in columns.items()}
        if len({c.shape for c in self.columns.values()}) != 1 or next(iter(self.columns.values())).ndim != 1:
            shapes = ", ".join(f"{name} {c.shape}" for name, c in self.columns.items()) or "no columns"
            raise ValueError(f"Table: columns must have one axis and the same length, got {shapes}")
        self.target_name = target
        if target is not None:
            self._check(target)
        self.categories: dict[str, tuple[str, ...]] = dict(categories or {}) or {
            name: tuple(np.unique(c).tolist()) for name, c in self.columns.items() if c.dtype.kind == "U"
        }

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            self._check(key)
            return self.columns[key]
        rows = key if isinstance(key, slice) else array_of(key)
        return Table({name: c[rows] for name, c in self.columns.items()}, self.target_name, self.categories)

    @property
    def number_names(self) -> list[str]:
        """The numeric columns, without the target."""
        return [n for n, c in self.columns.items() if c.dtype.kind != "U" and n != self.target_name]

    @property
    def category_names(self) -> list[str]:
        """The columns of categories, without the target."""
        return [n for n in self.categories if n != self.target_name]

    @property
    def feature_names(self) -> list[str]:
        """The names of the columns of :meth:`features`; a category's are ``column=value``."""
        hot = [f"{name}={value}" for name in self.category_names for value in self.categories[name]]
        return [*self.number_names, *hot]

    def numbers(self, names: Sequence[str] | None = None) -> Tensor:
        """Numeric columns side by side, shape (n, k), in the default dtype; all but the target unless named."""
        names = self.number_names if names is None else names
        for name in names:
            self._check(name)
            if name in self.categories:
                raise TypeError(
                    explain(
                        f"column {name!r} is text, not numbers",
                        expected=f"one of {', '.join(self.number_names)}",
                        got=f"text such as {self.categories[name][0]!r}",
                        fix=f'one_hot([{name!r}]); or read_csv(..., dtypes={{{name!r}: "float"}}) to find bad cells',
                    )
                )
        kind = dtypes.as_numpy(dtypes.get_default_dtype())
        return from_numpy(
            np.stack([self.columns[n] for n in names], 1).astype(kind) if names else np.empty((len(self), 0), kind)
        )

    def one_hot(self, names: Sequence[str] | None = None) -> Tensor:
        """Columns of categories as zeros and ones, shape (n, sum of categories); all but the target unless named."""
        names = self.category_names if names is None else names
        for name in names:
            self._check(name)
            if name not in self.categories:
                raise TypeError(
                    f'column {name!r} is numeric; read_csv(..., dtypes={{{name!r}: "category"}}) reads it as text'
                )
        kind = dtypes.as_numpy(dtypes.get_default_dtype())
        parts = [array_of(OneHot(self.categories[n])(self.columns[n])) for n in names]
        return from_numpy(np.concatenate(parts, 1) if parts else np.empty((len(self), 0), kind))

    def features(self) -> Tensor:
        """Everything but the target: :meth:`numbers`, then :meth:`one_hot`; shape (n, len(feature_names))."""
        return from_numpy(np.concatenate([array_of(self.numbers()), array_of(self.one_hot())], 1))

    def target(self) -> Tensor:
        """The target, shape (n,): int64 class indices of a category, int64 whole numbers, else the default dtype."""
        if self.target_name is None:
            raise ValueError("this table has no target; name one: read_csv(path, target=...)")
        column = self.columns[self.target_name]
        if self.target_name in self.categories:
            return from_numpy(OneHot(self.categories[self.target_name]).codes(column))
        return from_numpy(
            column.astype(dtypes.as_numpy(dtypes.get_default_dtype())) if column.dtype.kind == "f" else column
        )

    def _check(self, name: str) -> None:
        if name not in self.columns:
            raise ValueError(
                f"the table has no column {name!r}{did_you_mean(name, self.columns)}\n"
                f"  its columns: {', '.join(self.columns)}"
            )

    def __repr__(self) -> str:
        lines = [f"Table of {len(self)} rows"]
        for name, column in self.columns.items():
            kind = f"{len(self.categories[name])} categories" if name in self.categories else str(column.dtype)
            lines.append(f"    {name}: {kind}{' (target)' if name == self.target_name else ''}")
        return "\n".join(lines)
