"""Questions about dtypes, and PyTorch's older constructors named by type: ``FloatTensor``, ``LongTensor`` and so on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import did_you_mean, explain
from chainrule.tensors.namespace import Number
from chainrule.tensors.tensor import Tensor, from_data


class _Typed(type):
    """Makes ``isinstance(t, FloatTensor)`` ask for the dtype."""

    dtype: dtypes.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype

    def __repr__(cls) -> str:
        return f"<class 'chainrule.{cls.__name__}'>"


class _TypedTensor:
    """``FloatTensor(data)`` copies data; ``FloatTensor(2, 3)`` is a shape with unspecified values."""

    dtype: ClassVar[dtypes.dtype]

    def __new__(cls, *data: Any) -> Any:
        return from_data(Tensor, data[0] if data else None, data[1:], cls.dtype.numpy)


def _typed(name: str, kind: dtypes.dtype) -> _Typed:
    return _Typed(
        name, (_TypedTensor,), {"dtype": kind, "__doc__": f"Tensors of {kind.name}; prefer ``tensor(..., dtype=)``."}
    )


FloatTensor = _typed("FloatTensor", dtypes.float32)
DoubleTensor = _typed("DoubleTensor", dtypes.float64)
HalfTensor = _typed("HalfTensor", dtypes.float16)
ByteTensor = _typed("ByteTensor", dtypes.uint8)
CharTensor = _typed("CharTensor", dtypes.int8)
ShortTensor = _typed("ShortTensor", dtypes.int16)
IntTensor = _typed("IntTensor", dtypes.int32)
LongTensor = _typed("LongTensor", dtypes.int64)
BoolTensor = _typed("BoolTensor", dtypes.bool_)

TYPES = {
    t.__name__: t
    for t in (
        FloatTensor, DoubleTensor, HalfTensor, ByteTensor, CharTensor, ShortTensor, IntTensor, LongTensor, BoolTensor,
    )
}  # fmt: skip


def type_name(kind: dtypes.dtype) -> str:
    """``chainrule.FloatTensor`` for float32, and so on."""
    return next(f"chainrule.{name}" for name, t in TYPES.items() if t.dtype is kind)


def dtype_of(kind: Any) -> dtypes.dtype:
    """The dtype meant by a dtype, a typed constructor or the name of one.

    Raises:
        TypeError: for a name that is not known.
    """
    if isinstance(kind, _Typed):
        return kind.dtype
    if isinstance(kind, str) and kind.endswith("Tensor"):
        name = kind.rpartition(".")[2]
        if name not in TYPES:
            raise TypeError(explain(f"no type of tensor is called {name!r}{did_you_mean(name, TYPES)}"))
        return TYPES[name].dtype
    return dtypes.from_numpy(dtypes.as_numpy(kind))


def promote_types(type1: Any, type2: Any) -> dtypes.dtype:
    """The smallest dtype that both convert to."""
    return dtypes.from_numpy(dtypes.promote_types(dtypes.as_numpy(type1), dtypes.as_numpy(type2)))


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype of arithmetic with two tensors or numbers: dimensions count most, then 0-d tensors, then numbers."""
    ranks = []
    for x in (tensor1, tensor2):
        if isinstance(x, Tensor):
            ranks.append((x._d.dtype, 2 if x._d.shape else 1))
        elif isinstance(x, Number):
            ranks.append((dtypes.python_dtype(x.item() if isinstance(x, np.generic) else x), 0))
        else:
            raise TypeError(explain("result_type takes tensors and numbers", got=type(x).__name__))
    return dtypes.from_numpy(dtypes.result_type(ranks))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether results of one dtype may be written into tensors of another: never to a lower category."""
    return dtypes.category(dtypes.as_numpy(from_)) <= dtypes.category(dtypes.as_numpy(to))


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return bool(input._d.dtype.kind == "f")


def is_complex(input: Tensor) -> bool:
    """Always False: there are no complex tensors."""
    return False


def is_nonzero(input: Tensor) -> bool:
    """The truth of a tensor of one element."""
    return bool(input)
