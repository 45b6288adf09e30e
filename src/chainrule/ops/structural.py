"""Ops that move elements without computing: shapes, axes, slices, joining, casting. All linear; views as in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.shapes import Shape, inverse_permutation
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, multilinear
from chainrule.ops.samples import integers, real, sample

Index = tuple[Any, ...]
View = tuple[str, tuple[tuple[str, Any], ...]]


# ---- shapes and axes
reshape = multilinear(
    "reshape", lambda x, shape: x.reshape(shape),
    lambda m, g, avals, x, shape: m.reshape(g, avals[0].shape),
    params=("shape",), infer=lambda a, shape: Aval(shape, a.dtype), is_view=True,
    batch=lambda m, size, xs, batched, shape: m.reshape(xs[0], (size, *shape)),
    doc="the same elements in row-major order under another shape",
    samples=(sample(real(3, 4), shape=(2, 6)), sample(real(), shape=(1, 1)), sample(real(0, 3), shape=(3, 0))),
)  # fmt: skip
permute = multilinear(
    "permute", lambda x, perm: x.transpose(perm),
    lambda m, g, avals, x, perm: m.permute(g, inverse_permutation(perm)),
    params=("perm",), infer=lambda a, perm: Aval(tuple(a.shape[p] for p in perm), a.dtype), is_view=True,
    batch=lambda m, size, xs, batched, perm: m.permute(xs[0], (0, *(p + 1 for p in perm))),
    doc="axes in another order", samples=(sample(real(2, 3, 4), perm=(2, 0, 1)), sample(real(3), perm=(0,))),
)  # fmt: skip


def _batch_broadcast(m: Any, size: int, xs: Any, batched: Any, shape: Shape) -> Any:
    x = xs[0]
    ones = (1,) * (len(shape) + 1 - len(x.shape))
    return m.broadcast_to(m.reshape(x, (size, *ones, *x.shape[1:])), (size, *shape))


def _broadcast_to(x: Any, shape: Shape) -> Any:
    """A read-only view. One element is spread with strides of zero, several times quicker than NumPy's function."""
    if type(x) is not np.ndarray or x.size != 1 or x.ndim > len(shape):
        return np.broadcast_to(x, shape)
    out: Any = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
    out.flags.writeable = False
    return out


broadcast_to = multilinear(
    "broadcast_to", _broadcast_to,
    lambda m, g, avals, x, shape: m.unbroadcast(g, avals[0].shape),
    params=("shape",), infer=lambda a, shape: Aval(shape, a.dtype), batch=_batch_broadcast, is_view=True,
    doc="x repeated along axes of size 1 and new first axes",
    samples=(sample(real(3, 1), shape=(2, 3, 4)), sample(real(), shape=(2,))),
)  # fmt: skip


def _flip(x: Any, axes: Shape) -> Any:
    return np.flip(x, axes)


flip = multilinear(
    "flip", _flip, lambda m, g, avals, x, axes: m.flip(g, axes), params=("axes",), infer=lambda a, axes: a,
    batch=lambda m, size, xs, batched, axes: m.flip(xs[0], tuple(a + 1 for a in axes)),
    doc="elements along the axes in reverse order",
    samples=(sample(real(3, 4), axes=(1,)), sample(real(3, 4), axes=(0, 1))),
)  # fmt: skip


# ---- slices: the index is a tuple of integers, slices, None and at most one Ellipsis
def _getitem(x: Any, index: Index) -> Any:
    if type(x) is not np.ndarray:
        x = np.asarray(x)
    return x[index] if Ellipsis in index else x[(*index, ...)]  # with an Ellipsis NumPy never makes a scalar copy


def _infer_getitem(a: Aval, index: Index) -> Aval:
    probe = np.broadcast_to(np.empty((), bool), a.shape)
    return Aval(_getitem(probe, index).shape, a.dtype)


def _unslice(g: Any, index: Index, shape: Shape) -> Any:
    out = np.zeros(shape, g.dtype)
    out[index] = g
    return out


def _behind_batch(index: Index) -> Index:
    return (slice(None), *index)


getitem = multilinear(
    "getitem", _getitem, lambda m, g, avals, x, index: m.unslice(g, index, avals[0].shape),
    params=("index",), infer=_infer_getitem, is_view=True,
    batch=lambda m, size, xs, batched, index: m.getitem(xs[0], _behind_batch(index)),
    doc="a part of x by integers, slices, None and Ellipsis",
    samples=(
        sample(real(3, 4), index=(1,)), sample(real(5, 4), index=(slice(4, None, -2), None, slice(1, 3))),
        sample(real(2, 3, 4), index=(Ellipsis, 0)), sample(real(4), index=(2,)),
    ),
)  # fmt: skip
unslice = multilinear(
    "unslice", _unslice, lambda m, g, avals, x, index, shape: m.getitem(g, index),
    params=("index", "shape"), infer=lambda a, index, shape: Aval(shape, a.dtype),
    batch=lambda m, size, xs, batched, index, shape: m.unslice(xs[0], _behind_batch(index), (size, *shape)),
    doc="zeros of a shape, with x in the place of the index",
    samples=(sample(real(2, 4), index=(slice(0, 4, 2),), shape=(5, 4)),),
)  # fmt: skip

# ---- views and writing through them
alias = multilinear(
    "alias", lambda x: x, lambda m, g, avals, x: g, infer=lambda a: a, is_view=True,
    batch=lambda m, size, xs, batched: xs[0], doc="x itself, as another value", samples=(sample(real(3)),),
)  # fmt: skip

copy = multilinear(
    "copy", lambda x: np.array(x, order="C"), lambda m, g, avals, x: g, infer=lambda a: a,
    batch=lambda m, size, xs, batched: m.copy(xs[0]), doc="x in memory of its own", samples=(sample(real(3, 4)),),
)  # fmt: skip


def _put(x: Any, v: Any, view: View) -> Any:
    out = np.array(x)
    look(NUMPY, out, view)[...] = v
    return out


def look(m: Any, x: Any, view: View) -> Any:
    """``x`` seen through a view: the name of a view op and its parameters."""
    return getattr(m, view[0])(x, **dict(view[1]))


def _batch_view(view: View, size: int) -> View:
    name, params = view[0], dict(view[1])
    if name == "getitem":
        params = {"index": _behind_batch(params["index"])}
    elif name == "permute":
        params = {"perm": (0, *(p + 1 for p in params["perm"]))}
    elif name in ("reshape", "broadcast_to"):
        params = {"shape": (size, *params["shape"])}
    return name, tuple(params.items())


def all_batched(m: Any, size: int, xs: Any, batched: Any) -> list[Any]:
    """Every input with a batch axis in front."""
    return [x if b else m.expand_front(x, size) for x, b in zip(xs, batched, strict=True)]


put = multilinear(
    "put", _put,
    lambda m, g, avals, x, v, view: m.put(g, m.zeros(avals[1].shape, g.dtype), view),
    lambda m, g, avals, x, v, view: look(m, g, view),
    params=("view",), infer=lambda a, v, view: a, joint=True,
    batch=lambda m, size, xs, batched, view: m.put(*all_batched(m, size, xs, batched), _batch_view(view, size)),
    doc="x with v written through a view of it",
    samples=(
        sample(real(3, 4), real(4), view=("getitem", (("index", (1,)),))),
        sample(real(3, 4), real(4, 3), view=("permute", (("perm", (1, 0)),))),
    ),
)  # fmt: skip
cast = multilinear(
    "cast", lambda x, dtype: np.asarray(x).astype(dtype), lambda m, g, avals, x, dtype: m.cast(g, avals[0].dtype),
    params=("dtype",), infer=lambda a, dtype: Aval(a.shape, np.dtype(dtype)),
    batch=lambda m, size, xs, batched, dtype: m.cast(xs[0], dtype), doc="x converted to a dtype",
    samples=(sample(real(3), dtype=np.dtype("f8")), sample(integers(0, 3, 4), dtype=np.dtype("f8"))),
)  # fmt: skip


# ---- joining
def _cat(*xs: Any, axis: int) -> Any:
    return np.concatenate(xs, axis)


def _infer_cat(*avals: Aval, axis: int) -> Aval:
    shape = list(avals[0].shape)
    shape[axis] = sum(a.shape[axis] for a in avals)
    return Aval(tuple(shape), avals[0].dtype)


def _uncat(m: Any, g: Any, avals: Any, *xs: Any, axis: int, position: int) -> Any:
    start = sum(a.shape[axis] for a in avals[:position])
    part = slice(start, start + avals[position].shape[axis])
    return m.getitem(g, (*(slice(None),) * axis, part))


cat = multilinear(
    "cat", _cat, _uncat, params=("axis",), infer=_infer_cat, variadic=True, joint=True,
    batch=lambda m, size, xs, batched, axis: m.cat(*all_batched(m, size, xs, batched), axis=axis + 1),
    doc="tensors one after another along an axis",
    samples=(sample(real(2, 3), real(2, 1), axis=1), sample(real(2), real(3), real(1), axis=0)),
)  # fmt: skip


# ---- triangles
def _triangle(name: str, kernel: Any, doc: str) -> Any:
    return multilinear(
        name, kernel, lambda m, g, avals, x, k: getattr(m, name)(g, k), params=("k",), infer=lambda a, k: a,
        batch=lambda m, size, xs, batched, k: getattr(m, name)(xs[0], k), doc=doc,
        samples=(sample(real(3, 4), k=0), sample(real(2, 3, 3), k=-1), sample(real(3, 3), k=1)),
    )  # fmt: skip


tril = _triangle("tril", lambda x, k: np.tril(x, k), "elements on and below the k-th diagonal, else 0")
triu = _triangle("triu", lambda x, k: np.triu(x, k), "elements on and above the k-th diagonal, else 0")
