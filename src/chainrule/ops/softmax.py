"""Softmax, log-softmax, and cross-entropy over class indices, each one op and each by the shifted exponentials.

With z = x - max x: log softmax(x)_i = z_i - ln sum_j exp z_j, so logits of any size stay finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.ir import native
from chainrule.ir.op import Aval, General, register
from chainrule.ops.indexing import check_bounds
from chainrule.ops.samples import integers, real, sample


class _AlongAxis(General):
    params = ("axis",)
    keeps_inputs = False
    keeps_output = True
    samples = (
        sample(real(3, 4), axis=1), sample(real(3, 4), axis=0), sample(real(5), axis=0), sample(real(2, 0), axis=1),
    )  # fmt: skip

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """As the input."""
        return avals[0]

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """The axis moves up by one."""
        return getattr(m, self.name)(xs[0], params["axis"] + 1)


class Softmax(_AlongAxis):
    """``exp(x) / sum exp(x)`` along an axis."""

    name = "softmax"
    doc = "exp(x_i) / sum_j exp(x_j)"
    reference = staticmethod(lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True))

    @staticmethod
    def kernel(x: Any, axis: int) -> Any:
        """Shifted by the maximum."""
        if not x.size:
            return np.array(x)
        e = x - np.maximum.reduce(x, axis, keepdims=True)
        np.exp(e, out=e)  # in place: beyond the caches a second array costs as much as the exponentials
        e /= np.add.reduce(e, axis, keepdims=True)
        return e

    @staticmethod
    def eager(x: Any, axis: int) -> Any:
        """As machine code where x is large."""
        run = native.along_rows("softmax", x, axis)
        return Softmax.kernel(x, axis) if run is None else run(x)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """y (g - sum g y): the Jacobian diag(y) - y y^T is symmetric."""
        axes = (params["axis"],)
        return (y * (g - m.sum(g * y, axes, True)),)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """The same map as the VJP."""
        return self.vjp(m, ts[0], y, None, (True,), *xs, **params)[0]


class LogSoftmax(_AlongAxis):
    """``x - ln sum exp(x)`` along an axis."""

    name = "log_softmax"
    doc = "x_i - ln sum_j exp(x_j)"
    reference = staticmethod(lambda x, axis: x - np.log(np.exp(x).sum(axis, keepdims=True)))

    @staticmethod
    def kernel(x: Any, axis: int) -> Any:
        """Shifted by the maximum."""
        if not x.size:
            return np.array(x)
        z = x - np.maximum.reduce(x, axis, keepdims=True)
        z -= np.log(np.add.reduce(np.exp(z), axis, keepdims=True))
        return z

    @staticmethod
    def eager(x: Any, axis: int) -> Any:
        """As machine code where x is large."""
        run = native.along_rows("log_softmax", x, axis)
        return LogSoftmax.kernel(x, axis) if run is None else run(x)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """g - softmax(x) sum g."""
        return (g - m.exp(y) * m.sum(g, (params["axis"],), True),)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """t - sum softmax(x) t."""
        return ts[0] - m.sum(m.exp(y) * ts[0], (params["axis"],), True)


@lru_cache(maxsize=64)
def _row_starts(n: int, k: int) -> Any:
    """Where each of n rows of k elements starts."""
    return np.arange(0, n * k, k)


def _rows_by_numpy(x: Any, places: Any) -> tuple[Any, Any, Any]:
    """The softmax of each row of x; the sum of its shifted exponentials, and its element at a place, shifted."""
    z = np.subtract(x, np.maximum.reduce(x, 1, keepdims=True), order="C")
    picked = z.reshape(-1).take(places)
    np.exp(z, out=z)
    total = np.add.reduce(z, 1, keepdims=True)
    z /= total
    return z, total[:, 0], picked


class SoftmaxNLL(General):
    """Per row, ``-log softmax(x)[target]`` for x (n, k) and integer targets (n,); with ``mean`` the mean over rows.

    The gradient in x is softmax(x) - onehot(target), times g (Bridle, 1990). The eager forward keeps the softmax. The
    mean is part of the op because at small sizes a second op costs as much as the loss.
    """

    name = "softmax_nll"
    arity = 2
    differentiable = (True, False)
    params = ("mean",)
    residual = True
    doc = "-x_t + ln sum_j exp(x_j), per row or averaged"
    samples = (
        sample(real(3, 4), integers(0, 4, 3), mean=False),
        sample(real(3, 4), integers(0, 4, 3), mean=True),
    )

    @staticmethod
    def reference(x: Any, t: Any, mean: bool) -> Any:
        """Without the shift."""
        losses = np.log(np.exp(x).sum(1)) - x[np.arange(len(t)), t]
        return losses.mean() if mean else losses

    @staticmethod
    def kernel(x: Any, target: Any, mean: bool) -> Any:
        """Losses, and as residual the softmax with the places of the targets in it, counted row by row."""
        return SoftmaxNLL._losses(x, target, mean, _rows_by_numpy)

    @staticmethod
    def eager(x: Any, target: Any, mean: bool) -> Any:
        """As machine code where x is large."""
        return SoftmaxNLL._losses(x, target, mean, native.along_rows("softmax_nll", x, 1) or _rows_by_numpy)

    @staticmethod
    def _losses(x: Any, target: Any, mean: bool, rows: Callable[[Any, Any], tuple[Any, Any, Any]]) -> Any:
        n, k = x.shape
        check_bounds(target, k, "cross-entropy", negative=False)
        places = target + _row_starts(n, k)
        z, total, picked = rows(x, places)
        losses = np.log(total)
        losses -= picked
        return (np.add.reduce(losses) / (n or math.nan) if mean else losses), (z, places)

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """(n,), or a scalar."""
        x, target = avals
        if len(x.shape) != 2 or target.shape != x.shape[:1]:
            raise ShapeError(
                explain(
                    "cross-entropy over class indices: the shapes do not fit",
                    expected="logits (n, classes) and indices (n,)",
                    got=f"{x.shape} and {target.shape}",
                )
            )
        return Aval(() if params["mean"] else x.shape[:1], x.dtype)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """g (softmax - onehot), shared by the rows of a mean."""
        x, target = xs
        n, k = x.shape
        if params["mean"]:
            g = g / (n or math.nan)
        if r is not None:
            z, places = r
            d = z * (g if params["mean"] else g[:, None])
            d.reshape(-1)[places] -= g  # a view: the softmax, and so d, lies in memory row by row
            return d, None
        column = g if params["mean"] else m.reshape(g, (n, 1))
        return m.softmax(x, 1) * column - m.cast(m.one_hot(target, k), x.dtype) * column, None

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """sum (softmax - onehot) t."""
        x, target = xs
        d = m.softmax(x, 1) - m.cast(m.one_hot(target, x.shape[1]), x.dtype)
        rows = m.sum(d * ts[0], (1,), False)
        return m.mean(rows, (0,), False) if params["mean"] else rows

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """Rows of all members of the batch, one after another."""
        x, target = (v if b else m.expand_front(v, size) for v, b in zip(xs, batched, strict=True))
        n, k = x.shape[1:]
        rows = m.softmax_nll(m.reshape(x, (size * n, k)), m.reshape(target, (size * n,)), False)
        rows = m.reshape(rows, (size, n))
        return m.mean(rows, (1,), False) if params["mean"] else rows


softmax = register(Softmax())
log_softmax = register(LogSoftmax())
softmax_nll = register(SoftmaxNLL())
