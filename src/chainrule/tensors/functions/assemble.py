"""Tensors put together from parts, cut into parts, and parts replaced."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.core.shapes import flatten_sizes, normalize_axis
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.functions.reduce import norm
from chainrule.tensors.functions.shape import (
    atleast_2d,
    cat,
    diag,
    flatten,
    meshgrid,
    movedim,
    pad,
    reshape,
    stack,
    tensor_split,
    unsqueeze,
)  # fmt: skip
from chainrule.tensors.namespace import cast, common_dtype
from chainrule.tensors.tensor import Tensor


def atleast_3d(x: Tensor) -> Tensor:
    """With at least three dimensions: a vector becomes (1, n, 1), a matrix (n, m, 1)."""
    return x if len(x._d.shape) > 2 else unsqueeze(atleast_2d(x), -1)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """One behind another: along dimension 2."""
    return cat([atleast_3d(x) for x in tensors], 2)


def _at_least(x: Tensor, rank: int, name: str) -> None:
    if len(x._d.shape) < rank:
        raise RuntimeError(
            explain(f"{name} needs more dimensions", expected=f"at least {rank}", got=f"shape {tuple(x._d.shape)}")
        )


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """As :func:`tensor_split` along dimension 1, or 0 for vectors."""
    _at_least(input, 1, "hsplit")
    return tensor_split(input, indices_or_sections, 0 if len(input._d.shape) == 1 else 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """As :func:`tensor_split` along dimension 0, for two dimensions or more."""
    _at_least(input, 2, "vsplit")
    return tensor_split(input, indices_or_sections, 0)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """As :func:`tensor_split` along dimension 2, for three dimensions or more."""
    _at_least(input, 3, "dsplit")
    return tensor_split(input, indices_or_sections, 2)


def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of one, zeros elsewhere; vectors are rows."""
    xs = [atleast_2d(x) for x in flatten_sizes(tensors)]
    kind = common_dtype(xs)
    wide = sum(x._d.shape[1] for x in xs)
    rows, at = [], 0
    for x in xs:
        n = x._d.shape[1]
        rows.append(pad(cast(x, kind), (at, wide - at - n)))
        at += n
    return cat(rows, 0)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples with one element of each vector, a row each, the last running fastest."""
    xs = list(flatten_sizes(tensors))
    if len(xs) == 1:
        return xs[0]  # type: ignore[no-any-return]
    return stack([flatten(g) for g in meshgrid(*xs, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to choose ``r`` elements of a vector, a row each, in order of position."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    index = np.array(list(choose(range(input._d.shape[0]), r)), np.int64).reshape(-1, r)
    return T.take(input, constant(index), axis=0)  # type: ignore[no-any-return]


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements of ``input`` on a diagonal."""
    return diag(flatten(input), offset)


def _replaced(input: Tensor, src: Tensor, index: tuple[Any, ...], name: str) -> Tensor:
    want = T.getitem(constant(np.broadcast_to(np.empty((), bool), input._d.shape)), index)._d.shape
    if tuple(src._d.shape) != tuple(want):
        raise ShapeError(
            explain(f"{name}: the source does not fit", expected=str(tuple(want)), got=str(tuple(src.shape)))
        )
    return T.put(input, cast(src, input._d.dtype), view=("getitem", (("index", index),)))  # type: ignore[no-any-return]


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """``input`` with ``src`` in the place of the slice at ``index`` along ``dim``."""
    axis = normalize_axis(dim, len(input._d.shape))
    return _replaced(input, src, (*(slice(None),) * axis, int(index)), "select_scatter")


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """``input`` with ``src`` in the place of ``start:end:step`` along ``dim``."""
    axis = normalize_axis(dim, len(input._d.shape))
    return _replaced(input, src, (*(slice(None),) * axis, slice(start, end, step)), "slice_scatter")


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """``input`` with ``src`` in the place of a diagonal of two dimensions."""
    x = movedim(input, (dim1, dim2), (-2, -1))
    lead, (n, m) = tuple(x._d.shape[:-2]), tuple(x._d.shape[-2:])
    length = max(0, min(n + min(offset, 0), m - max(offset, 0)))
    start = offset if offset >= 0 else -offset * m
    place = (Ellipsis, slice(start, start + (length - 1) * (m + 1) + 1 if length else start, m + 1))
    flat = _replaced(reshape(x, (*lead, n * m)), src, place, "diagonal_scatter")
    return movedim(reshape(flat, tuple(x._d.shape)), (-2, -1), (dim1, dim2))


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of ``size`` along a dimension, ``step`` apart, each in a new last dimension.

    Raises:
        RuntimeError: for windows that do not fit, or a step that is not positive.
    """
    axis = normalize_axis(dimension, len(input._d.shape))
    n = input._d.shape[axis] if input._d.shape else 1
    if not 0 <= size <= n or step <= 0:
        raise RuntimeError(
            explain(
                "unfold: the windows do not fit", expected=f"a size up to {n}, a positive step", got=f"{size}, {step}"
            )
        )
    x = input if input._d.shape else reshape(input, (1,))
    windows = np.arange(0, n - size + 1, step)[:, None] + np.arange(size)
    return movedim(T.take(x, constant(windows), axis=axis), axis + 1, -1)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """The sum over the dimensions along which a tensor of that size would be repeated by broadcasting.

    Raises:
        RuntimeError: if the size does not broadcast to the tensor's shape.
    """
    shape = tuple(int(d) for d in flatten_sizes(size))
    have = tuple(input._d.shape)
    if len(shape) > len(have) or any(d not in (1, n) for d, n in zip(shape[::-1], have[::-1], strict=False)):
        raise ShapeError(
            explain("sum_to_size: the size does not fit", expected=f"sizes that broadcast to {have}", got=str(shape))
        )
    return T.unbroadcast(input, shape)  # type: ignore[no-any-return]


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices along ``dim`` whose p-norm exceeds ``maxnorm`` scaled down to it."""
    axis = normalize_axis(dim, len(input._d.shape))
    size = norm(input, p, [k for k in range(len(input._d.shape)) if k != axis], keepdim=True)
    scale = T.where(T.gt(size, maxnorm), T.div(float(maxnorm), T.add(size, 1e-7)), 1.0)
    return T.mul(input, scale)  # type: ignore[no-any-return]


FUNCTIONS = [
    "atleast_3d",
    "hsplit",
    "vsplit",
    "dsplit",
    "diagflat",
    "select_scatter",
    "slice_scatter",
    "diagonal_scatter",
    "unfold",
    "sum_to_size",
    "renorm",
]
PLAIN = ["dstack", "block_diag", "cartesian_prod", "combinations"]
