"""Searching sorted tensors, and placing elements by position or mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.errors import explain
from chainrule.core.shapes import size_of
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.functions.reduce import sort
from chainrule.tensors.indexing import index_put
from chainrule.tensors.namespace import broadcast, cast
from chainrule.tensors.tensor import Tensor

_INT64 = np.dtype(np.int64)


def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
) -> Tensor:
    """Where values would be inserted into a sorted last dimension: before equal elements, or after them if ``right``.

    Raises:
        RuntimeError: if leading dimensions differ, or ``side`` is not "left" or "right".
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(explain("searchsorted: unknown side", expected="'left' or 'right'", got=repr(side)))
    a = sorted_sequence.numpy(force=True)
    v = input.numpy(force=True) if isinstance(input, Tensor) else np.asarray(input)
    where: Any = "right" if right or side == "right" else "left"
    if a.ndim == 1:
        found = np.searchsorted(a, v, where)
    elif a.shape[:-1] == v.shape[:-1]:
        rows = zip(a.reshape(-1, a.shape[-1]), v.reshape(-1, v.shape[-1]), strict=True)
        found = np.array([np.searchsorted(r, w, where) for r, w in rows]).reshape(v.shape)
    else:
        raise RuntimeError(
            explain("searchsorted: the leading dimensions differ", expected=str(a.shape[:-1]), got=str(v.shape[:-1]))
        )
    return constant(np.asarray(found).astype(np.int32 if out_int32 else np.int64))


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket of each value: i where boundaries[i-1] < value <= boundaries[i]; if ``right``, where
    boundaries[i-1] <= value < boundaries[i]."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The first of each run of equal elements (or slices along ``dim``); if asked, the run of each, and run lengths."""
    a = input.numpy(force=True)
    rows = a.reshape(-1) if dim is None else np.moveaxis(a, dim, 0)
    flat = rows.reshape(len(rows), -1)
    starts = np.ones(len(rows), bool)
    starts[1:] = (flat[1:] != flat[:-1]).any(1)
    values = rows[starts] if dim is None else np.moveaxis(rows[starts], 0, dim)
    out = [constant(values)]
    if return_inverse:
        inverse = np.cumsum(starts) - 1
        out.append(constant(inverse.reshape(a.shape) if dim is None else inverse))
    if return_counts:
        out.append(constant(np.diff(np.append(np.flatnonzero(starts), len(rows)))))
    return out[0] if len(out) == 1 else tuple(out)


def msort(input: Tensor) -> Tensor:
    """Sorted along the first dimension."""
    return sort(input, 0, stable=True).values  # type: ignore[no-any-return]


def fill(input: Tensor, value: Any) -> Tensor:
    """``value`` in the shape and dtype of ``input``."""
    return T.copy(T.broadcast_to(cast(value, input._d.dtype), tuple(input._d.shape)))  # type: ignore[no-any-return]


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``input`` with ``source`` written (or added) at positions in the flattened tensor."""
    flat = T.reshape(input, (size_of(input._d.shape),))
    new = index_put(flat, (index,), T.reshape(source, tuple(index._d.shape)), accumulate)
    return T.reshape(new, tuple(input._d.shape))  # type: ignore[no-any-return]


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with the elements of ``source``, in order, where the mask holds."""
    x, m = broadcast([input, mask])
    n = size_of(x._d.shape)
    flat = cast(T.reshape(m, (n,)), _INT64)
    order = T.clamp_min(T.sub(T.cumsum(flat, axis=0), 1), 0)
    values = T.reshape(cast(source, x._d.dtype), (size_of(source._d.shape),))
    order = T.clamp_max(order, max(size_of(source._d.shape) - 1, 0))
    taken = T.reshape(T.take(values, order, axis=0), tuple(x._d.shape))
    return T.where(m, taken, x)  # type: ignore[no-any-return]


FUNCTIONS = ["unique_consecutive", "msort", "put", "masked_scatter"]
PLAIN = ["searchsorted", "bucketize", "fill"]
