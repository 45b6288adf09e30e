"""Sums, extremes, tests over axes, running sums, and the order of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.shapes import Shape, reduced_shape, size_of
from chainrule.ir.op import Aval, General, Multilinear, multilinear, register
from chainrule.ops.samples import booleans, distinct, real, sample


def _shift(axes: Shape) -> Shape:
    return tuple(a + 1 for a in axes)


def _infer_reduce(a: Aval, axes: Shape, keepdims: bool) -> Aval:
    return Aval(reduced_shape(a.shape, axes, keepdims), a.dtype)


def _spread(m: Any, g: Any, shape: Shape, axes: Shape) -> Any:
    """A reduced value repeated over the axes it was reduced along."""
    return m.broadcast_to(m.reshape(g, reduced_shape(shape, axes, True)), shape)


def _sum(x: Any, axes: Shape, keepdims: bool) -> Any:
    """In the operand's own dtype: public functions widen integers first, as PyTorch does."""
    axis = None if len(axes) == x.ndim else axes  # None is NumPy's quicker way to say "all"
    return np.add.reduce(x, axis, None if x.dtype.kind == "f" else x.dtype, None, keepdims)  # type: ignore[call-overload]


sum = multilinear(
    "sum", _sum,
    lambda m, g, avals, x, axes, keepdims: _spread(m, g, avals[0].shape, axes),
    params=("axes", "keepdims"), infer=_infer_reduce,
    batch=lambda m, size, xs, batched, axes, keepdims: m.sum(xs[0], _shift(axes), keepdims),
    doc="sum over axes",
    samples=(
        sample(real(3, 4), axes=(0,), keepdims=False), sample(real(2, 3, 4), axes=(0, 2), keepdims=True),
        sample(real(3), axes=(0,), keepdims=False), sample(real(0, 3), axes=(0,), keepdims=False),
    ),
    reference=lambda x, axes, keepdims: np.sum(x, axis=axes, keepdims=keepdims),
)  # fmt: skip


def _count(shape: Shape, axes: Shape) -> float:
    """How many elements are averaged; NaN for none, so that their mean is NaN."""
    return float(size_of([shape[a] for a in axes])) or math.nan


mean = multilinear(
    "mean", lambda x, axes, keepdims: _sum(x, axes, keepdims) / _count(x.shape, axes),
    lambda m, g, avals, x, axes, keepdims: _spread(m, g / _count(avals[0].shape, axes), avals[0].shape, axes),
    params=("axes", "keepdims"), infer=_infer_reduce,
    batch=lambda m, size, xs, batched, axes, keepdims: m.mean(xs[0], _shift(axes), keepdims),
    doc="mean over axes",
    samples=(
        sample(real(3, 4), axes=(0,), keepdims=False), sample(real(2, 3, 4), axes=(0, 2), keepdims=True),
        sample(real(3), axes=(0,), keepdims=False),
    ),
    reference=lambda x, axes, keepdims: np.mean(x, axis=axes, keepdims=keepdims),
)  # fmt: skip
cumsum = multilinear(
    "cumsum", lambda x, axis: np.add.accumulate(x, axis, x.dtype),
    lambda m, g, avals, x, axis: m.flip(m.cumsum(m.flip(g, (axis,)), axis), (axis,)),
    params=("axis",), infer=lambda a, axis: a,
    batch=lambda m, size, xs, batched, axis: m.cumsum(xs[0], axis + 1), doc="running sum along an axis",
    samples=(sample(real(3, 4), axis=1), sample(real(5), axis=0)), reference=lambda x, axis: np.cumsum(x, axis),
)  # fmt: skip


class Extreme(General):
    """The largest or smallest element over axes; the gradient is shared equally among ties (as in torch.amax)."""

    params = ("axes", "keepdims")
    keeps_output = True

    def __init__(self, name: str, reduce: Any) -> None:
        self.name, self.doc = name, f"{name[1:]}imum over axes; NaN if any is"
        self.kernel = lambda x, axes, keepdims: reduce(x, axes, None, None, keepdims)
        self.samples = (
            sample(distinct(3, 4), axes=(0,), keepdims=False),
            sample(distinct(2, 3, 4), axes=(0, 2), keepdims=True),
        )
        numpy = getattr(np, name)
        self.reference = lambda x, axes, keepdims: numpy(x, axis=axes, keepdims=keepdims)
        register(self)

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """As a sum."""
        return _infer_reduce(avals[0], **params)

    def _hits(self, m: Any, y: Any, x: Any, axes: Shape) -> tuple[Any, Any]:
        """Where x is extreme (a NaN is, if there is one), and 1 there."""
        hit = m.logical_or(m.eq(x, _spread(m, y, x.shape, axes)), m.isnan(x))
        return hit, m.where(hit, m.full(x.shape, 1, x.dtype), m.zeros_like(x))

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """g / ties at every extreme element, 0 elsewhere."""
        x, axes = xs[0], params["axes"]
        hit, ones = self._hits(m, y, x, axes)
        share = m.reshape(g, reduced_shape(x.shape, axes, True)) / m.sum(ones, axes, True)
        return (m.where(hit, m.broadcast_to(share, x.shape), m.zeros_like(x)),)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """The mean of the tangents at the extreme elements."""
        x, axes = xs[0], params["axes"]
        hit, ones = self._hits(m, y, x, axes)
        picked = m.where(hit, ts[0], m.zeros_like(x))
        return m.sum(picked, axes, params["keepdims"]) / m.sum(ones, axes, params["keepdims"])

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """Axes move up by one."""
        return getattr(m, self.name)(xs[0], _shift(params["axes"]), params["keepdims"])


amax = Extreme("amax", np.maximum.reduce)
amin = Extreme("amin", np.minimum.reduce)


def _constant(name: str, kernel: Any, dtype: Any, doc: str, params: tuple[str, ...], samples: Any) -> Multilinear:
    """An op over axes through which no derivative flows."""

    def infer(a: Aval, **given: Any) -> Aval:
        if "axes" in given:
            return Aval(reduced_shape(a.shape, given["axes"], given["keepdims"]), np.dtype(dtype))
        return Aval(a.shape if name == "argsort" else reduced_shape(a.shape, (given["axis"],), False), np.dtype(dtype))

    def batch(m: Any, size: int, xs: Any, batched: Any, **given: Any) -> Any:
        moved = {k: _shift(v) if k == "axes" else v + 1 if k == "axis" else v for k, v in given.items()}
        return getattr(m, name)(xs[0], **moved)

    return multilinear(name, kernel, None, infer=infer, batch=batch, doc=doc, params=params, samples=samples)


_logic = (sample(booleans(3, 4), axes=(0,), keepdims=False), sample(booleans(2, 3, 4), axes=(0, 2), keepdims=True))
_order = (sample(distinct(3, 4), axis=1), sample(distinct(5), axis=0))
any = _constant(
    "any", lambda x, axes, keepdims: np.any(x, axes, keepdims=keepdims), bool, "whether any is nonzero",
    ("axes", "keepdims"), _logic,
)  # fmt: skip
all = _constant(
    "all", lambda x, axes, keepdims: np.all(x, axes, keepdims=keepdims), bool, "whether all are nonzero",
    ("axes", "keepdims"), _logic,
)  # fmt: skip
argmax = _constant(
    "argmax", lambda x, axis: np.argmax(x, axis), np.int64, "index of the first largest; of the first NaN if any",
    ("axis",), _order,
)  # fmt: skip
argmin = _constant(
    "argmin", lambda x, axis: np.argmin(x, axis), np.int64, "index of the first smallest; of the first NaN if any",
    ("axis",), _order,
)  # fmt: skip


def _argsort(x: Any, axis: int, descending: bool) -> Any:
    """Stable in both directions; NaN counts as the largest."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    n = x.shape[axis]
    back = np.argsort(np.flip(x, axis), axis, kind="stable")
    return np.flip(n - 1 - back, axis)


argsort = _constant(
    "argsort", _argsort, np.int64, "the indices that sort, ties in order of position", ("axis", "descending"),
    (sample(distinct(3, 4), axis=1, descending=False), sample(distinct(5), axis=0, descending=True)),
)  # fmt: skip
