"""Arithmetic on shapes and axes, shared by every layer."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

from chainrule.core.errors import ShapeError, explain

Shape = tuple[int, ...]


def size_of(shape: Sequence[int]) -> int:
    """The number of elements."""
    return math.prod(shape)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all broadcast to, aligning last axes; raises ``ShapeError`` naming the axis that does not fit."""
    rank = max((len(s) for s in shapes), default=0)
    out = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            if d != 1 and out[i] != d:
                if out[i] != 1:
                    raise ShapeError(
                        explain(
                            "the shapes do not broadcast together",
                            expected="sizes that are equal or 1, axis by axis from the last",
                            got=f"{' and '.join(map(str, shapes))}: axis {i - rank} has {out[i]} and {d}",
                            fix="reshape or unsqueeze one of them, or check the order of its axes",
                        )
                    )
                out[i] = d
    return tuple(out)


def normalize_axis(axis: SupportsIndex, rank: int) -> int:
    """``axis`` counted from the front; raises ``IndexError`` outside ``[-rank, rank)`` (a scalar takes 0 and -1)."""
    a = operator.index(axis)
    n = rank or 1
    if not -n <= a < n:
        raise IndexError(explain("dimension out of range", expected=f"a value from {-n} to {n - 1}", got=str(a)))
    return a % n if rank else 0


def normalize_axes(axes: Any, rank: int) -> Shape:
    """All axes for None, else one or several axes counted from the front, each once."""
    if axes is None:
        return tuple(range(rank))
    if not isinstance(axes, Iterable):
        return (normalize_axis(axes, rank),) if rank else ()
    found = tuple(normalize_axis(a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise RuntimeError(explain("a dimension appears twice", expected="each dimension once", got=str(tuple(axes))))
    if not found:
        return tuple(range(rank))
    return found if rank else ()


def reduced_shape(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """The shape after reducing ``axes``."""
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def infer_reshape(shape: Sequence[SupportsIndex], size: int, old: Shape) -> Shape:
    """``shape`` with at most one -1 filled in; raises ``ShapeError`` if the element counts differ."""
    new = [operator.index(d) for d in shape]
    holes = [i for i, d in enumerate(new) if d == -1]
    rest = math.prod(d for d in new if d != -1)
    if len(holes) == 1 and rest and size % rest == 0:
        new[holes[0]] = size // rest
    elif holes or rest != size or any(d < -1 for d in new):
        raise ShapeError(
            explain(
                f"shape {tuple(new)} is invalid for a tensor of {size} elements",
                expected="sizes whose product is the number of elements, at most one of them -1",
                got=f"input shape {old}",
                fix="check the product of the sizes, or let one of them be -1",
            )
        )
    return tuple(new)


def inverse_permutation(perm: Sequence[int]) -> Shape:
    """The permutation that undoes ``perm``."""
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def flatten_sizes(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same: the sizes as one tuple."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        return tuple(args[0])
    return args
