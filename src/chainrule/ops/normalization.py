"""Layer normalization, one op: to compose it costs several passes over the input in eager mode, and as many nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import ShapeError, explain
from chainrule.core.shapes import Shape
from chainrule.ir import native
from chainrule.ir.op import Aval, General, register
from chainrule.ops.samples import real, sample


def _cast(m: Any, x: Any, dtype: Any) -> Any:
    """x itself if it has the dtype."""
    return x if dtypes.as_numpy(x.dtype) == dtype else m.cast(x, dtype)


def _wide(dtype: Any) -> Any:
    """What is computed in: half precision as single, for its sums, and those of its squares, soon overflow."""
    found = dtypes.as_numpy(dtype)
    return np.dtype(np.float32) if found == np.float16 else found


def _axes(x: Any, w: Any) -> Shape:
    """The last axes, as many as the weight has."""
    rank = len(x.shape)
    return tuple(range(rank - len(w.shape), rank))


def _standardized(m: Any, x: Any, axes: Shape, eps: float) -> tuple[Any, Any]:
    """h = (x - mean) r and r = 1 / sqrt(var + eps)."""
    c = x - m.mean(x, axes, True)
    r = m.rsqrt(m.mean(m.square(c), axes, True) + eps)
    return c * r, r


def _derivative(m: Any, t: Any, h: Any, r: Any, axes: Shape) -> Any:
    """The Jacobian of h applied to t. It is symmetric, so this is the JVP and the VJP."""
    return (t - m.mean(t, axes, True) - h * m.mean(t * h, axes, True)) * r


class LayerNorm(General):
    """``(x - mean) / sqrt(var + eps) * w + b``, for x (..., *shape), w and b (*shape).

    Mean and variance (the sum of squares over n, not n - 1) are over the last axes, as many as w has, anew for every
    index of the axes in front (Ba, Kiros and Hinton, 2016). In two passes: the variance is that of the differences from
    the mean, which do not cancel. Eager calls keep the mean and 1 / sqrt(var + eps), one number for each row.
    """

    name = "layer_norm"
    arity = 3
    differentiable = (True, True, True)
    params = ("eps",)
    keeps_inputs = (True, True, False)
    residual = True
    doc = "(x - mean) / sqrt(var + eps) * w + b over the last axes"
    samples = (
        sample(real(3, 4), real(4), real(4), eps=1e-5),
        sample(real(2, 3, 4), real(3, 4), real(3, 4), eps=0.1),
        sample(real(5), real(5), real(5), eps=1e-5),
        sample(real(2, 2, 3), real(3), real(3), eps=1e-5),
    )

    @staticmethod
    def reference(x: Any, w: Any, b: Any, eps: float) -> Any:
        """By NumPy's own mean and variance."""
        axes = _axes(x, w)
        return (x - np.mean(x, axes, keepdims=True)) / np.sqrt(np.var(x, axes, keepdims=True) + eps) * w + b

    @staticmethod
    def kernel(x: Any, w: Any, b: Any, eps: float) -> Any:
        """The value, and as residual the mean and 1 / sqrt(var + eps)."""
        axes, count = _axes(x, w), w.size or math.nan
        wide = x.astype(_wide(x.dtype), copy=False)
        mean = np.add.reduce(wide, axes, keepdims=True) / count
        y = wide - mean
        r = 1 / np.sqrt(np.add.reduce(np.square(y), axes, keepdims=True) / count + eps)
        y *= r
        y *= w
        y += b
        return y.astype(x.dtype, copy=False), (mean, r)

    @staticmethod
    def eager(x: Any, w: Any, b: Any, eps: float) -> Any:
        """As machine code where x is large."""
        run = native.along_rows("layer_norm", x, x.ndim - 1)
        return LayerNorm.kernel(x, w, b, eps) if run is None else run(x, w, b, eps)

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """As x."""
        x, w, b = avals
        rank = len(w.shape)
        if not rank or x.shape[-rank:] != w.shape or b.shape != w.shape:
            raise ShapeError(
                explain(
                    "layer_norm: the shapes do not fit",
                    expected="weight and bias of the shape of the input's last axes",
                    got=f"input {x.shape}, weight {w.shape}, bias {b.shape}",
                )
            )
        return x

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """With d = g w: (d - mean d - h mean(d h)) r, and the sums of g h and of g over the axes in front."""
        x, w, _ = xs
        run = None if r is None else native.along_rows("layer_norm_backward", x, x.ndim - 1)
        if run is not None:
            return tuple(v if need else None for v, need in zip(run(g, x, w, *r), needs, strict=True))
        axes, lead = _axes(x, w), tuple(range(len(x.shape) - len(w.shape)))
        dtype, wide = dtypes.as_numpy(x.dtype), _wide(x.dtype)
        g, x, w = (_cast(m, v, wide) for v in (g, x, w))
        if r is None:
            h, scale = _standardized(m, x, axes, params["eps"])
        else:
            mean, scale = r
            h = (x - mean) * scale
        found = (
            _derivative(m, g * w, h, scale, axes) if needs[0] else None,
            m.sum(g * h, lead, False) if needs[1] else None,
            m.sum(g, lead, False) if needs[2] else None,
        )
        return tuple(None if v is None else _cast(m, v, dtype) for v in found)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """(t - mean t - h mean(t h)) r w, plus h times the tangent of w, plus the tangent of b."""
        dtype, wide = dtypes.as_numpy(y.dtype), _wide(y.dtype)
        x, w = (_cast(m, v, wide) for v in xs[:2])
        tx, tw, tb = (None if t is None else _cast(m, t, wide) for t in ts)
        axes = _axes(x, w)
        h, r = _standardized(m, x, axes, params["eps"])
        terms = (
            None if tx is None else _derivative(m, tx, h, r, axes) * w,
            None if tw is None else h * tw,
            None if tb is None else m.broadcast_to(tb, x.shape),
        )
        first, *rest = (t for t in terms if t is not None)
        return _cast(m, sum(rest, first), dtype)

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """A batched x alone has one more axis in front; batched weights act on what was made without weights."""
        x, w, b = xs
        if not batched[1] and not batched[2]:
            return m.layer_norm(x, w, b, params["eps"])
        shape = w.shape[1:] if batched[1] else w.shape
        one, zero = (m.full(shape, v, x.dtype) for v in (1, 0))
        between = (1,) * (len(x.shape) - batched[0] - len(shape))
        w, b = (m.reshape(v, (size, *between, *shape)) if f else v for v, f in zip((w, b), batched[1:], strict=True))
        return m.layer_norm(x, one, zero, params["eps"]) * w + b


layer_norm = register(LayerNorm())
