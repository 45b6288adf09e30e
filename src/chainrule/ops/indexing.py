"""Ops whose places are data: taking and adding rows, gather and scatter, writing by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.errors import explain
from chainrule.core.shapes import Shape
from chainrule.ir.op import Aval, multilinear
from chainrule.ops.samples import Maker, integers, real, sample
from chainrule.ops.structural import all_batched


def check_bounds(index: Any, size: int, what: str, negative: bool = True) -> None:
    """Raise ``IndexError`` if an entry lies outside ``[-size, size)`` (``[0, size)`` without ``negative``)."""
    a = np.asarray(index)
    if not a.size or (a.dtype == np.int64 and np.maximum.reduce(a.view(np.uint64), None) < size):
        return  # one look tells the usual case: a negative number is a huge unsigned one
    low, high = int(a.min()), int(a.max())
    least = -size if negative else 0
    if low < least or high >= size:
        raise IndexError(
            explain(
                f"{what}: index {high if high >= size else low} is out of range for an axis of size {size}",
                expected=f"values from {least} to {size - 1}",
                got=f"values from {low} to {high}",
                fix="check the labels or indices, and that the axis is the one you mean",
            )
        )


# ---- rows along one axis, by an index of any shape
def _take(x: Any, index: Any, axis: int) -> Any:
    check_bounds(index, x.shape[axis], "take")
    return np.take(x, index, axis)


def _take_add(g: Any, index: Any, axis: int, length: int) -> Any:
    """Zeros with an axis of ``length`` at ``axis``, plus each slice of g at its index: repeated indices add up."""
    rank = np.ndim(index)
    front = np.moveaxis(g, range(axis, axis + rank), range(rank))
    rest = front.shape[rank:]
    out = np.zeros((length, *rest), g.dtype)
    np.add.at(out, index, front)
    return np.moveaxis(out, 0, axis)


def _infer_take(a: Aval, index: Aval, axis: int) -> Aval:
    return Aval((*a.shape[:axis], *index.shape, *a.shape[axis + 1 :]), a.dtype)


def _infer_take_add(a: Aval, index: Aval, axis: int, length: int) -> Aval:
    return Aval((*a.shape[:axis], length, *a.shape[axis + len(index.shape) :]), a.dtype)


def _flat_rows(m: Any, size: int, index: Any, rows: int) -> Any:
    """A batched index into rows, as one index into all rows of all members of the batch."""
    wrapped = m.where(index < 0, index + rows, index)
    start = m.iota(size) * rows
    return wrapped + m.reshape(start, (size,) + (1,) * (len(index.shape) - 1))


def _batch_take(m: Any, size: int, xs: Any, batched: Any, axis: int) -> Any:
    x, index = xs
    if not batched[1]:
        return m.take(x, index, axis=axis + 1)
    if not batched[0]:
        out = m.take(x, index, axis=axis)
        rank = len(out.shape)
        return m.permute(out, (axis, *(i for i in range(rank) if i != axis)))
    moved = m.permute(x, (0, axis + 1, *(i for i in range(1, len(x.shape)) if i != axis + 1)))
    rows, rest = moved.shape[1], moved.shape[2:]
    out = m.take(m.reshape(moved, (size * rows, *rest)), _flat_rows(m, size, index, rows), axis=0)
    k = len(index.shape) - 1
    return m.permute(out, (0, *range(1 + k, 1 + k + axis), *range(1, 1 + k), *range(1 + k + axis, len(out.shape))))


def _batch_take_add(m: Any, size: int, xs: Any, batched: Any, axis: int, length: int) -> Any:
    g, index = xs
    if not batched[1]:
        return m.take_add(g, index, axis=axis + 1, length=length)
    g = g if batched[0] else m.expand_front(g, size)
    k = len(index.shape) - 1
    front = m.permute(g, (0, *range(1 + axis, 1 + axis + k), *range(1, 1 + axis), *range(1 + axis + k, len(g.shape))))
    out = m.take_add(front, _flat_rows(m, size, index, length), axis=0, length=size * length)
    out = m.reshape(out, (size, length, *out.shape[1:]))
    return m.permute(out, (0, *range(2, 2 + axis), 1, *range(2 + axis, len(out.shape))))


take = multilinear(
    "take", _take,
    lambda m, g, avals, x, index, axis: m.take_add(g, index, axis=axis, length=avals[0].shape[axis]), None,
    params=("axis",), infer=_infer_take, batch=_batch_take, doc="the slices of x along an axis at the given indices",
    samples=(
        sample(real(5, 3), integers(0, 5, 4), axis=0), sample(real(3, 5), integers(-5, 5, 2, 2), axis=1),
        sample(real(5), integers(0, 5), axis=0),
    ),
    reference=lambda x, index, axis: x[(slice(None),) * axis + (index,)],
)  # fmt: skip
take_add = multilinear(
    "take_add", _take_add, lambda m, g, avals, x, index, axis, length: m.take(g, index, axis=axis), None,
    params=("axis", "length"), infer=_infer_take_add, batch=_batch_take_add,
    doc="zeros to which slices are added at the given indices",
    samples=(
        sample(real(4, 3), integers(0, 5, 4), axis=0, length=5),
        sample(real(3, 2, 2), integers(0, 5, 2, 2), axis=1, length=5),
    ),
)  # fmt: skip


# ---- one index per element along one axis (shapes equal but along that axis)
def _gather(x: Any, index: Any, axis: int) -> Any:
    check_bounds(index, x.shape[axis], "gather", negative=False)
    return np.take_along_axis(x, index, axis)


def _places(index: Any, axis: int) -> tuple[Any, ...]:
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


def _scatter_add(x: Any, index: Any, v: Any, axis: int) -> Any:
    check_bounds(index, x.shape[axis], "scatter_add", negative=False)
    out = np.array(x)
    np.add.at(out, _places(index, axis), v)
    return out


def _scatter(x: Any, index: Any, v: Any, axis: int) -> Any:
    check_bounds(index, x.shape[axis], "scatter", negative=False)
    out = np.array(x)
    out[_places(index, axis)] = v
    return out


def _batch_along(name: str) -> Any:
    def batch(m: Any, size: int, xs: Any, batched: Any, axis: int) -> Any:
        return getattr(m, name)(*all_batched(m, size, xs, batched), axis=axis + 1)

    return batch


gather = multilinear(
    "gather", _gather,
    lambda m, g, avals, x, index, axis: m.scatter_add(m.zeros(avals[0].shape, g.dtype), index, g, axis=axis), None,
    params=("axis",), infer=lambda a, index, axis: Aval(index.shape, a.dtype), batch=_batch_along("gather"),
    doc="x[i][index[i][j]] along an axis, element by element",
    samples=(sample(real(3, 5), integers(0, 5, 3, 2), axis=1), sample(real(5, 2), integers(0, 5, 3, 2), axis=0)),
)  # fmt: skip
scatter_add = multilinear(
    "scatter_add", _scatter_add, lambda m, g, avals, x, index, v, axis: g, None,
    lambda m, g, avals, x, index, v, axis: m.gather(g, index, axis=axis),
    params=("axis",), infer=lambda a, index, v, axis: a, batch=_batch_along("scatter_add"), joint=True,
    doc="x with each element of v added at its index along an axis",
    samples=(sample(real(3, 5), integers(0, 5, 3, 2), real(3, 2), axis=1),),
)  # fmt: skip


def _each_once(n: int, rows: int, columns: int) -> Maker:
    """Indices of which no two in a row are equal, so that writing is in no doubt."""
    return lambda rng: np.stack([rng.permutation(n)[:columns] for _ in range(rows)])


scatter = multilinear(
    "scatter", _scatter,
    lambda m, g, avals, x, index, v, axis: m.scatter(g, index, m.zeros(avals[2].shape, g.dtype), axis=axis), None,
    lambda m, g, avals, x, index, v, axis: m.gather(g, index, axis=axis),
    params=("axis",), infer=lambda a, index, v, axis: a, batch=_batch_along("scatter"), joint=True,
    doc="x with each element of v written at its index along an axis",
    samples=(sample(real(3, 5), _each_once(5, 3, 2), real(3, 2), axis=1),),
)  # fmt: skip


# ---- rows written by index (x[index] = v along the first axis)
def _put_rows(x: Any, index: Any, v: Any) -> Any:
    check_bounds(index, x.shape[0], "index_put")
    out = np.array(x)
    out[index] = v
    return out


def _batch_put_rows(m: Any, size: int, xs: Any, batched: Any) -> Any:
    x, index, v = all_batched(m, size, xs, batched)
    rows, rest = x.shape[1], x.shape[2:]
    out = m.put_rows(m.reshape(x, (size * rows, *rest)), _flat_rows(m, size, index, rows), v)
    return m.reshape(out, x.shape)


put_rows = multilinear(
    "put_rows", _put_rows,
    lambda m, g, avals, x, index, v: m.put_rows(g, index, m.zeros(avals[2].shape, g.dtype)), None,
    lambda m, g, avals, x, index, v: m.take(g, index, axis=0),
    infer=lambda a, index, v: a, batch=_batch_put_rows, joint=True,
    doc="x with slices written at the given indices of the first axis",
    samples=(sample(real(5, 3), lambda rng: rng.permutation(5)[:2], real(2, 3)),),
)  # fmt: skip


# ---- several indices as one
def _ravel_index(*index: Any, sizes: Shape) -> Any:
    out: Any = 0
    for i, n in zip(index, sizes, strict=True):
        check_bounds(i, n, "index")
        out = out * n + np.where(i < 0, i + n, i)
    return out


ravel_index = multilinear(
    "ravel_index", _ravel_index, None, params=("sizes",), variadic=True, joint=True,
    infer=lambda *avals, sizes: Aval(avals[0].shape, np.dtype(np.int64)),
    batch=lambda m, size, xs, batched, sizes: m.ravel_index(*all_batched(m, size, xs, batched), sizes=sizes),
    doc="one row-major index from an index per axis; negative ones count from the end",
    samples=(sample(integers(-3, 3, 4), integers(0, 5, 4), sizes=(3, 5)),),
    reference=lambda i, j, sizes: np.ravel_multi_index((i % sizes[0], j % sizes[1]), sizes),
)  # fmt: skip


def _one_hot(index: Any, classes: int) -> Any:
    check_bounds(index, classes, "one_hot", negative=False)
    return (np.asarray(index)[..., None] == np.arange(classes)).astype(np.int64)


one_hot = multilinear(
    "one_hot", _one_hot, None, params=("classes",),
    infer=lambda a, classes: Aval((*a.shape, classes), np.dtype(np.int64)),
    batch=lambda m, size, xs, batched, classes: m.one_hot(xs[0], classes), doc="a row of zeros with a one at the index",
    samples=(sample(integers(0, 4, 3), classes=4),), reference=lambda x, classes: np.eye(classes, dtype=np.int64)[x],
)  # fmt: skip
