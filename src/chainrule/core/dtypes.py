"""Data types and promotion, written as data and read by eager mode, capture and every backend.

The rules are PyTorch's published ones (``torch.result_type``): operands fall into three classes, tensors with at least
one dimension, zero-dimensional tensors, and Python numbers. A lower class changes the result only when its *category*
(bool < integer < floating) is higher than that of the class above.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.core.errors import did_you_mean, explain

BOOL, INTEGER, FLOATING = 0, 1, 2


class dtype:
    """The type of a tensor's elements.

    Attributes:
        name: PyTorch's name, such as ``"float32"``.
        numpy: the NumPy dtype of the same layout.
        category: 0 for bool, 1 for integers, 2 for floating point.
        itemsize: bytes per element.
    """

    __slots__ = ("category", "is_floating_point", "is_signed", "itemsize", "name", "numpy")

    is_complex = False

    def __init__(self, name: str, numpy: type[np.generic]) -> None:
        self.name = name
        self.numpy: np.dtype[Any] = np.dtype(numpy)
        self.category = {"b": BOOL, "i": INTEGER, "u": INTEGER, "f": FLOATING}[self.numpy.kind]
        self.is_floating_point = self.category == FLOATING
        self.is_signed = self.numpy.kind in "if"
        self.itemsize = self.numpy.itemsize

    def __repr__(self) -> str:
        return f"chainrule.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_name, (self.name,))


bool_ = dtype("bool", np.bool_)
uint8 = dtype("uint8", np.uint8)
int8 = dtype("int8", np.int8)
int16 = dtype("int16", np.int16)
int32 = dtype("int32", np.int32)
int64 = dtype("int64", np.int64)
float16 = dtype("float16", np.float16)
float32 = dtype("float32", np.float32)
float64 = dtype("float64", np.float64)

ALL: tuple[dtype, ...] = (bool_, uint8, int8, int16, int32, int64, float16, float32, float64)
_BY_NAME = {d.name: d for d in ALL} | {"half": float16, "float": float32, "double": float64}
_BY_NAME |= {"short": int16, "int": int32, "long": int64}
NAMES = tuple(_BY_NAME)
_BY_NUMPY: dict[Any, dtype] = {d.numpy: d for d in ALL}
_PYTHON = {bool: bool_, int: int64, float: float64}

#: Rank inside a category; uint8 with a signed type of its own width needs the next wider one.
_ORDER = {d.numpy: i for i, d in enumerate(ALL)}

_default = float32


def from_name(name: str) -> dtype:
    """The dtype called ``name``; raises ``TypeError`` for an unknown one."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise TypeError(f"unknown dtype {name!r}; known: {', '.join(d.name for d in ALL)}") from None


def from_numpy(numpy: Any) -> dtype:
    """The dtype whose layout is that of a NumPy dtype; raises ``TypeError`` if there is none."""
    try:
        return _BY_NUMPY[numpy]
    except KeyError:
        pass
    kind = np.dtype(numpy)
    found = _BY_NUMPY.get(kind.newbyteorder("=")) if kind.kind in "biuf" else None
    if found is None:
        raise TypeError(
            f"no chainrule dtype for NumPy's {kind}; expected one of {', '.join(d.name for d in ALL)}. "
            "Convert the array first, for example with array.astype('float32')."
        )
    return found


def as_numpy(kind: Any) -> np.dtype[Any]:
    """NumPy's dtype for a chainrule dtype, a NumPy dtype, a name, or Python's bool, int (int64) or float (float64)."""
    if isinstance(kind, dtype):
        return kind.numpy
    if isinstance(kind, type) and kind in _PYTHON:
        return _PYTHON[kind].numpy
    if isinstance(kind, str) and kind in _BY_NAME:
        return _BY_NAME[kind].numpy
    try:
        return from_numpy(np.dtype(kind)).numpy
    except TypeError:
        if isinstance(kind, np.dtype):
            raise
        raise TypeError(
            explain(
                f"not a dtype: {kind!r}{did_you_mean(kind, _BY_NAME) if isinstance(kind, str) else ''}",
                expected=", ".join(map(str, ALL)),
                got=type(kind).__name__,
            )
        ) from None


def get_default_dtype() -> dtype:
    """The floating dtype of tensors made from Python floats (float32 unless changed)."""
    return _default


def set_default_dtype(kind: Any) -> None:
    """Make ``kind`` (a floating dtype) the dtype of tensors made from Python floats.

    Raises:
        TypeError: if ``kind`` is not a floating dtype.
    """
    global _default
    found = from_numpy(as_numpy(kind))
    if not found.is_floating_point:
        raise TypeError(f"the default dtype must be a floating one, got {found}; try chainrule.float64")
    _default = found


def promote_types(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest dtype that both convert to, by PyTorch's table (an integer with a float gives that float)."""
    if a is b or a == b:
        return a
    low, high = (a, b) if _ORDER[a] < _ORDER[b] else (b, a)
    if low.kind == "u" and high == int8.numpy:
        return int16.numpy
    return high


def category(kind: np.dtype[Any]) -> int:
    """0 for bool, 1 for integers, 2 for floating point."""
    return _BY_NUMPY[kind].category


def python_dtype(value: bool | int | float) -> np.dtype[Any]:
    """The dtype a Python number stands for when nothing stronger decides."""
    if isinstance(value, (bool, np.bool_)):
        return bool_.numpy
    return int64.numpy if isinstance(value, (int, np.integer)) else _default.numpy


def _combine(high: np.dtype[Any] | None, low: np.dtype[Any] | None) -> np.dtype[Any] | None:
    if high is None or low is None:
        return low if high is None else high
    return promote_types(high, low) if category(low) > category(high) else high


def result_type(operands: Iterable[tuple[np.dtype[Any], int]]) -> np.dtype[Any]:
    """The dtype of an operation from ``(dtype, rank)`` pairs; rank 2: has dimensions, 1: has none, 0: Python number."""
    by_rank: list[np.dtype[Any] | None] = [None, None, None]
    for kind, rank in operands:
        held = by_rank[rank]
        by_rank[rank] = kind if held is None else promote_types(held, kind)
    found = _combine(by_rank[2], _combine(by_rank[1], by_rank[0]))
    if found is None:
        raise TypeError("result_type needs at least one operand")
    return found


class finfo:
    """A floating dtype: ``eps``, ``max``, ``min``, ``tiny``, ``smallest_normal``, ``resolution``, ``bits``."""

    def __init__(self, kind: Any = None) -> None:
        info = np.finfo(as_numpy(kind) if kind is not None else _default.numpy)
        self.bits, self.eps = int(info.bits), float(info.eps)
        self.max, self.min = float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution, self.dtype = float(info.resolution), from_numpy(info.dtype).name


class iinfo:
    """Limits of an integer dtype: ``max``, ``min``, ``bits``."""

    def __init__(self, kind: Any) -> None:
        info = np.iinfo(as_numpy(kind))
        self.bits, self.max, self.min, self.dtype = info.bits, int(info.max), int(info.min), from_numpy(info.dtype).name
