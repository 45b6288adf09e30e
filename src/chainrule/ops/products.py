"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.core.shapes import broadcast_shapes
from chainrule.ir.op import Aval, General, multilinear, register
from chainrule.ops.samples import real, sample


def mismatch(what: str, left: Any, right: Any, inner: tuple[int, int]) -> ShapeError:
    """The error of two operands whose inner sizes differ."""
    return ShapeError(
        explain(
            f"{what}: the inner sizes differ, {inner[0]} and {inner[1]}",
            expected="the last size of the left operand equal to the size it meets in the right one",
            got=f"shapes {tuple(left)} and {tuple(right)}",
            fix="transpose one operand, or check the layer sizes",
        )
    )


def _matmul(x: Any, y: Any) -> Any:
    """For matrices the method ``dot``, the same product: ``np.matmul`` takes half a microsecond more to start."""
    if x.ndim == 2 == y.ndim and x.shape[1] == y.shape[0]:
        return x.dot(y)
    return np.matmul(x, y)


def _infer_matmul(a: Aval, b: Aval) -> Aval:
    if a.shape[-1] != b.shape[-2]:
        raise mismatch("matmul", a.shape, b.shape, (a.shape[-1], b.shape[-2]))
    return Aval((*broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)


def _batch_matmul(m: Any, size: int, xs: Any, batched: Any) -> Any:
    x, y = xs
    if batched[0] and not batched[1] and len(x.shape) == 3 and len(y.shape) == 2:  # one flat product
        return m.reshape(m.matmul(m.reshape(x, (size * x.shape[1], x.shape[2])), y), (size, x.shape[1], y.shape[1]))
    rank = max(len(x.shape) - batched[0], len(y.shape) - batched[1])
    x, y = (
        m.reshape(v, (v.shape[0],) + (1,) * (rank + 1 - len(v.shape)) + v.shape[1:]) if b else v
        for v, b in zip((x, y), batched, strict=True)
    )
    return m.matmul(x, y)


def _left(m: Any, g: Any, avals: Any, x: Any, y: Any) -> Any:
    g = m.matmul(g, m.swap_last(y))
    return g if avals is None else m.unbroadcast(g, avals[0].shape)


def _right(m: Any, g: Any, avals: Any, x: Any, y: Any) -> Any:
    g = m.matmul(m.swap_last(x), g)
    return g if avals is None else m.unbroadcast(g, avals[1].shape)


matmul = multilinear(
    "matmul", _matmul, _left, _right,
    infer=_infer_matmul, batch=_batch_matmul, doc="matrix product of the last two axes, the leading ones broadcast",
    samples=(
        sample(real(3, 4), real(4, 2)), sample(real(2, 3, 4), real(2, 4, 2)), sample(real(2, 3, 4), real(4, 2)),
        sample(real(3, 4), real(5, 4, 2)), sample(real(2, 0), real(0, 3)),
    ),
    reference=lambda x, y: np.einsum("...ij,...jk->...ik", x, y),
)  # fmt: skip


class Linear(General):
    """``x w^T + b`` for x (..., i), w (o, i), b (o): one op, because composing it costs 2.5 times in eager mode."""

    name = "linear"
    arity = 3
    differentiable = (True, True, True)
    doc = "x w^T + b"
    samples = (sample(real(3, 4), real(2, 4), real(2)), sample(real(2, 3, 4), real(5, 4), real(5)))
    reference = staticmethod(lambda x, w, b: np.einsum("...i,oi->...o", x, w) + b)

    @staticmethod
    def kernel(x: Any, w: Any, b: Any) -> Any:
        """One product, then the bias in place."""
        y = _matmul(x, w.T)
        y += b
        return y

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """(..., o)."""
        x, w, _ = avals
        if x.shape[-1] != w.shape[-1]:
            raise mismatch("linear", x.shape, w.shape, (x.shape[-1], w.shape[-1]))
        return Aval((*x.shape[:-1], w.shape[0]), x.dtype)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """g w, g^T x and the sum of g: the weight's gradient is an outer product, its Jacobian is never built."""
        x, w, _ = xs
        lead = tuple(range(len(g.shape) - 1))
        count = math.prod(g.shape[:-1])
        rows = g if len(lead) == 1 else m.reshape(g, (count, g.shape[-1]))
        flat = x if len(lead) == 1 else m.reshape(x, (count, x.shape[-1]))
        return (
            m.matmul(g, w) if needs[0] else None,
            m.matmul(m.swap_last(rows), flat) if needs[1] else None,
            m.sum(g, lead, False) if needs[2] else None,
        )

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """The sum of the three partial tangents."""
        x, w, _ = xs
        tx, tw, tb = ts
        out = None if tx is None else m.matmul(tx, m.swap_last(w))
        if tw is not None:
            t = m.matmul(x, m.swap_last(tw))
            out = t if out is None else out + t
        if tb is not None:
            out = m.broadcast_to(tb, y.shape) if out is None else out + tb
        return out

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """A batched x alone stays one product; batched weights make a batched product."""
        x, w, b = xs
        if not batched[1] and not batched[2]:
            return m.linear(x, w, b)
        w = m.swap_last(w)
        rank = len(x.shape) - batched[0]
        if batched[1]:
            w = m.reshape(w, (size,) + (1,) * (rank - 2) + w.shape[1:])
        if batched[2]:
            b = m.reshape(b, (size,) + (1,) * (rank - 1) + b.shape[1:])
        if rank == 1:
            x = m.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))
            y = m.matmul(x, w)
            y = m.reshape(y, (*y.shape[:-2], y.shape[-1]))
            b = m.reshape(b, (b.shape[0], b.shape[-1])) if batched[2] else b
            return y + b
        return m.matmul(x, w) + b


linear = register(Linear())
