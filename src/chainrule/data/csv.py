"""Tables from CSV files: numbers are checked cell by cell, missing values follow a stated policy.

Read with Python's own ``csv`` module, which knows the line of every row, so that an error can name it.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import did_you_mean
from chainrule.data.files import DataFileError
from chainrule.data.table import Table

Array = np.ndarray[Any, Any]

KINDS = ("float", "int", "category")
POLICIES = ("error", "drop", "mean", "median", "most_frequent", "keep")
NA_VALUES = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")


def read_csv(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    missing: str | Mapping[str, str] = "error",
    na_values: Sequence[str] = NA_VALUES,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> Table:
    """Read a CSV file with a header line into a :class:`Table`.

    - ``target``: the column to predict; it is kept apart from the features.
    - ``columns``: which columns to read besides the target, all unless given.
    - ``dtypes``: the kind of a column, "float", "int" or "category" (also float, int, str). A column not named here is
      numeric if all its cells are numbers, and a category if fewer than half are; in between it is taken for a numeric
      column with a mistake in it, and that is an error that names the cell.
    - ``missing``: what to do with missing cells, one policy or one per column (columns not named: "error").
      "error" raises; "drop" leaves the row out; "mean", "median" (numeric columns) and "most_frequent" fill in what the
      other rows of the file have; "keep" leaves NaN in numeric columns and makes "" a category of its own.
    - ``na_values``: cells that count as missing, compared after spaces around them are cut off. Blank lines are passed
      over.

    Raises FileNotFoundError; KeyError for an unknown column; ValueError for an unknown kind or policy; DataFileError,
    with file, line, column and cell, for contents that do not fit.
    """
    path = Path(path)
    text = _read_text(path, delimiter, encoding)
    names = list(text.cells)
    for name in [*(columns or ()), *(dtypes or ()), *([target] if target is not None else ())]:
        _known(path, name, names)
    wanted = [n for n in names if n == target or columns is None or n in columns]
    policies = _policies(path, missing, wanted, names)
    kinds = {name: _kind(name, kind) for name, kind in (dtypes or {}).items()}

    absent = {name: np.isin(text.cells[name], list(na_values)) for name in wanted}
    values = {name: _parse(text, name, absent[name], kinds.get(name)) for name in wanted}
    keep = np.ones(len(text.lines), bool)
    for name in wanted:
        if policies[name] == "error" and absent[name].any():
            raise _missing_error(text, name, absent)
        if policies[name] == "drop":
            keep &= ~absent[name]
    for name in wanted:
        values[name] = _fill(path, name, values[name], absent[name], keep, policies[name])
    return Table({name: column[keep] for name, column in values.items()}, target)


@dataclass(frozen=True)
class _Text:
    """A file as text: the cells of each column, spaces around them cut off, and the line each row begins on."""

    path: Path
    cells: dict[str, Array]
    lines: list[int]


def _read_text(path: Path, delimiter: str, encoding: str) -> _Text:
    try:
        with path.open(encoding=encoding, newline="") as file:
            return _columns(path, delimiter, _rows(csv.reader(file, delimiter=delimiter, strict=True)))
    except UnicodeDecodeError as error:
        raise DataFileError(
            path,
            "the file is not text in this encoding",
            expected=encoding,
            got=f"byte {error.object[error.start]:#04x}, which that encoding does not have there",
            fix='name its encoding, for instance read_csv(..., encoding="latin-1")',
        ) from error
    except csv.Error as error:
        raise DataFileError(
            path,
            "the file cannot be read as a table",
            expected="cells between delimiters; quotes around a cell in pairs, those inside it doubled",
            got=str(error),
            fix="look for a quote that is never closed",
        ) from error


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins on (a quoted cell may hold several lines) and its cells; blank lines are passed over."""
    line = 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1


def _columns(path: Path, delimiter: str, rows: Iterator[tuple[int, list[str]]]) -> _Text:
    _, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise DataFileError(
            path,
            "the first line must name the columns, each by a name of its own",
            expected="a header line such as: age,price,colour",
            got=f"{twice[0]!r} more than once" if twice else "an empty file",
            fix="rename one of the two columns" if twice else "give the file a header line and rows",
        )
    lines, cells = [], []
    for line, row in rows:
        if len(row) != len(names):
            raise DataFileError(
                path,
                f"line {line} does not have one cell per column",
                expected=f"{len(names)} cells ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})",
                got=f"{len(row)} cells: {delimiter.join(row)[:80]!r}",
                fix=f"correct the line; a text with {delimiter!r} inside needs quotes around it; "
                "another separator is named by delimiter=",
            )
        lines.append(line)
        cells.append(row)
    if not cells:
        raise DataFileError(
            path, "the table has no rows", expected="lines of data below the header", got="none", fix="add some"
        )
    columns = (np.array([cell.strip() for cell in column]) for column in zip(*cells, strict=True))
    return _Text(path, dict(zip(names, columns, strict=True)), lines)


def _known(path: Path, name: str, names: list[str]) -> None:
    if name not in names:
        raise UnknownColumnError(
            f"{path} has no column {name!r}{did_you_mean(name, names)}\n  its columns: {', '.join(names)}"
        )


class UnknownColumnError(KeyError):
    """A column that is not in the file."""

    def __str__(self) -> str:  # KeyError would show the text in quotes
        return str(self.args[0])


def _policies(path: Path, missing: str | Mapping[str, str], wanted: list[str], names: list[str]) -> dict[str, str]:
    given = dict.fromkeys(wanted, missing) if isinstance(missing, str) else dict(missing)
    for name, policy in given.items():
        _known(path, name, names)
        if policy not in POLICIES:
            raise ValueError(f"missing={policy!r} is no policy for missing cells; use one of {', '.join(POLICIES)}")
    return {name: given.get(name, "error") for name in wanted}


def _kind(name: str, kind: Any) -> str:
    by_type = {float: "float", int: "int", str: "category"}
    found = kind if isinstance(kind, str) else by_type.get(kind)
    if found not in KINDS:
        raise ValueError(f"dtypes[{name!r}]={kind!r} is no kind of column; use one of {', '.join(KINDS)}")
    return found


def _parse(text: _Text, name: str, absent: Array, kind: str | None) -> Array:
    """A column's values: float64, int64 (if whole numbers, none missing), or text. Missing: NaN, or an empty text."""
    cells = text.cells[name]
    if kind == "category":
        return np.where(absent, "", cells)
    numbers, bad = _numbers(cells, absent)
    good = int((~absent).sum()) - len(bad)
    if kind is None and 2 * good < good + len(bad):
        return np.where(absent, "", cells)
    if len(bad):
        raise _bad_cell(text, name, int(bad[0]), len(bad), good, "a number", kind)
    present = numbers[~absent]
    whole = present == np.rint(present)
    if kind == "int" and not whole.all():
        bad = np.flatnonzero(~absent & (numbers != np.rint(numbers)))
        raise _bad_cell(text, name, int(bad[0]), len(bad), good - len(bad), "a whole number", kind)
    looks_whole = not any("." in c or "e" in c.lower() for c in cells[~absent].tolist())
    if len(present) == len(cells) and whole.all() and (kind == "int" or (kind is None and looks_whole)):
        return numbers.astype(np.int64)
    return numbers


def _numbers(cells: Array, absent: Array) -> tuple[Array, Array]:
    """The cells as float64, NaN where absent or not a finite number, and the rows of the latter."""
    numbers = np.full(len(cells), np.nan)
    try:
        numbers[~absent] = cells[~absent].astype(np.float64)
    except ValueError:
        for row in np.flatnonzero(~absent):
            numbers[row] = _number(str(cells[row]))
    return numbers, np.flatnonzero(~absent & ~np.isfinite(numbers))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _bad_cell(text: _Text, name: str, row: int, bad: int, good: int, what: str, kind: str | None) -> DataFileError:
    cell = str(text.cells[name][row])
    why = (
        f"dtypes says {kind!r}" if kind else f"{good} of its {good + bad} cells are numbers, so it is taken for numeric"
    )
    more = f" (and {bad - 1} more like it)" if bad > 1 else ""
    ways = [
        "correct the cell",
        f"if it stands for a missing value: na_values=[*NA_VALUES, {cell!r}] and a missing= policy",
        f"if the column holds text: dtypes={{{name!r}: 'category'}}, or leave it out with columns=[...]",
    ]
    return DataFileError(
        text.path,
        f"line {text.lines[row]}, column {name!r}: the cell {cell!r} is not {what}{more}",
        expected=f"{what} ({why})",
        got=repr(cell),
        fix=";\n            ".join(ways),
    )


def _missing_error(text: _Text, first: str, absent: dict[str, Array]) -> DataFileError:
    counts = ", ".join(f"{name} {int(a.sum())}" for name, a in absent.items() if a.any())
    row = int(np.flatnonzero(absent[first])[0])
    return DataFileError(
        text.path,
        f"line {text.lines[row]}, column {first!r}: the cell is missing",
        expected="no missing cells, as missing= is 'error' for this column",
        got=f"missing cells per column: {counts}",
        fix=f"choose what to do: missing='drop', or missing={{{first!r}: 'drop', ...}} column by column,\n"
        f"            with {', '.join(POLICIES[1:])}; or leave columns out with columns=[...]",
    )


def _fill(path: Path, name: str, values: Array, absent: Array, keep: Array, policy: str) -> Array:
    """The column with its missing cells filled in by ``policy``, from the rows that are kept."""
    if policy in ("error", "drop", "keep") or not absent.any():
        return values
    present = values[keep & ~absent]
    if not len(present):
        raise DataFileError(
            path,
            f"column {name!r} has nothing to fill its missing cells from",
            expected=f"at least one value for missing={policy!r}",
            got="none",
            fix="leave the column out with columns=[...]",
        )
    if policy == "most_frequent":
        distinct, counts = np.unique(present, return_counts=True)
        return np.where(absent, distinct[counts.argmax()], values)
    if values.dtype.kind == "U":
        raise ValueError(
            f"column {name!r} of {path} is text, which has no {policy}; "
            f'use missing={{{name!r}: "most_frequent"}}, "drop" or "keep"'
        )
    return np.where(absent, present.mean() if policy == "mean" else np.median(present), values)
