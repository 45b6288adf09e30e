"""Put computed numbers beside the expected ones: the table at the end of every example.

A `Report` collects rows; `show` prints them aligned and returns them; `exit_code` turns them into 0 (every row within
its tolerance) or 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_FEW = 6  # longer arrays are shown by shape and Euclidean norm


def as_array(value: object) -> np.ndarray:
    """A NumPy array of a number, a nested list, an array, or a tensor (detached from its graph)."""
    detach = getattr(value, "detach", None)
    return np.asarray(value if detach is None else detach().numpy())


@dataclass(frozen=True)
class Row:
    """One comparison: `value` against `expected` under `relation` ("=", "<=" or ">="), within `tolerance`."""

    quantity: str
    value: object
    expected: object
    tolerance: float = 0.0
    relation: str = "="
    digits: int = 6

    @property
    def difference(self) -> float:
        """Largest absolute difference (0 for equal texts); infinite where shapes or texts differ or one side is NaN."""
        if isinstance(self.value, str) or isinstance(self.expected, str):
            return 0.0 if self.value == self.expected else np.inf
        value, expected = as_array(self.value), as_array(self.expected)
        if value.shape != expected.shape:
            return np.inf
        with np.errstate(invalid="ignore"):
            gap = np.abs(value.astype(float) - expected.astype(float))
        gap = np.where(value == expected, 0.0, gap)  # equal infinities
        return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))

    @property
    def ok(self) -> bool:
        if self.relation == "=":
            return self.difference <= self.tolerance
        value, bound = float(as_array(self.value)), float(as_array(self.expected))
        return value <= bound + self.tolerance if self.relation == "<=" else value >= bound - self.tolerance


def _text(value: object, digits: int) -> str:
    if isinstance(value, (str, bool)):
        return str(value)
    array = as_array(value)
    if array.dtype == bool:
        array = array.astype(int)
    if array.size > _FEW:
        return f"{'x'.join(map(str, array.shape))}, norm {np.linalg.norm(array):.{digits}g}"
    if array.ndim == 0 and array.dtype.kind in "iu":
        return f"{array.item():,}"
    if array.ndim == 0:
        return f"{array.item() + 0.0:.{digits}g}"  # adding zero takes the sign off a minus zero
    return "[" + ", ".join(_text(part, digits) for part in array) + "]"


class Report:
    """Rows under one title."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []

    def equal(self, quantity: str, value: object, expected: object, tolerance: float = 0.0, digits: int = 6) -> None:
        """`value` is `expected` within `tolerance` (absolute, largest entry). Texts must be the same."""
        self.rows.append(Row(quantity, value, expected, tolerance, "=", digits))

    def at_most(self, quantity: str, value: object, bound: float, digits: int = 4) -> None:
        self.rows.append(Row(quantity, value, bound, 0.0, "<=", digits))

    def at_least(self, quantity: str, value: object, bound: float, digits: int = 4) -> None:
        self.rows.append(Row(quantity, value, bound, 0.0, ">=", digits))

    def show(self) -> list[Row]:
        """Print the table and return its rows."""
        head = ("quantity", "chainrule", "expected", "difference", "")
        lines = []
        for row in self.rows:
            bound = "" if row.relation == "=" else row.relation + " "
            gap = f"{row.difference:.1e}" if row.relation == "=" else "-"
            expected = bound + _text(row.expected, row.digits)
            lines.append((row.quantity, _text(row.value, row.digits), expected, gap, "" if row.ok else "  <- outside"))
        print(f"\n{self.title}\n")
        print_table(head, lines)
        return self.rows


def print_table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    """Print `lines` under `head`, columns aligned and separated by " | "."""
    table = [tuple(head), *map(tuple, lines)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for index, line in enumerate(table):
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(" |"))
        if index == 0:
            print("-+-".join("-" * width for width in widths if width))
    print()


def exit_code(rows: Iterable[Row]) -> int:
    """0 if every row is within its tolerance, else 1."""
    return 0 if all(row.ok for row in rows) else 1
