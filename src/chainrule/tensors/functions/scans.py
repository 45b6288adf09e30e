"""Running extremes and sums, differences, and integrals and derivatives of sampled functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import explain
from chainrule.core.shapes import normalize_axes, normalize_axis
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.functions.reduce import cumsum, values_indices
from chainrule.tensors.functions.shape import cat, narrow
from chainrule.tensors.tensor import Tensor


def _scan(combine: Callable[..., tuple[Tensor, ...]], xs: tuple[Tensor, ...], axis: int) -> tuple[Tensor, ...]:
    """All prefixes combined by an associative function of two tuples, in log2(n) rounds (Hillis & Steele, 1986)."""
    n, shift = xs[0]._d.shape[axis], 1
    while shift < n:
        earlier = tuple(narrow(x, axis, 0, n - shift) for x in xs)
        later = tuple(narrow(x, axis, shift, n - shift) for x in xs)
        new = combine(earlier, later)
        xs = tuple(cat([narrow(x, axis, 0, shift), y], axis) for x, y in zip(xs, new, strict=True))
        shift *= 2
    return xs


def _running_extreme(input: Tensor, dim: int, wins: Any) -> values_indices:
    if not input._d.shape:
        return values_indices(input, T.full((), 0, np.int64))
    axis = normalize_axis(dim, len(input._d.shape))
    n = input._d.shape[axis]
    line = constant(np.arange(n).reshape([n if k == axis else 1 for k in range(len(input._d.shape))]))
    places = T.broadcast_to(line, tuple(input._d.shape))

    def combine(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        later = T.logical_or(wins(b[0], a[0]), T.isnan(b[0]))
        return T.where(later, b[0], a[0]), T.where(later, b[1], a[1])

    index = _scan(combine, (T.detach(input), places), axis)[1]
    return values_indices(T.gather(input, index, axis=axis), index)


def cummax(input: Tensor, dim: int) -> values_indices:
    """The largest element so far along ``dim``, and where it stands (the last of equal ones)."""
    return _running_extreme(input, dim, T.ge)


def cummin(input: Tensor, dim: int) -> values_indices:
    """The smallest element so far along ``dim``, and where it stands (the last of equal ones)."""
    return _running_extreme(input, dim, T.le)


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``ln`` of the running sums of ``exp(x)`` along ``dim``, without overflow."""
    if not input._d.shape:
        return input
    axis = normalize_axis(dim, len(input._d.shape))
    return _scan(lambda a, b: (T.logaddexp(b[0], a[0]),), (input,), axis)[0]


def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """``n`` times the differences of neighbours along ``dim``, after joining ``prepend`` and ``append`` to the ends.

    Raises:
        RuntimeError: for a tensor of zero dimensions.
    """
    if not input._d.shape:
        raise RuntimeError(explain("diff needs at least one dimension", got="a tensor of zero dimensions"))
    axis = normalize_axis(dim, len(input._d.shape))
    parts = [p for p in (prepend, input, append) if p is not None]
    x = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(n):
        size = max(x._d.shape[axis] - 1, 0)
        ahead, behind = narrow(x, axis, min(1, x._d.shape[axis]), size), narrow(x, axis, 0, size)
        x = T.ne(ahead, behind) if x._d.dtype.kind == "b" else T.sub(ahead, behind)
    return x


def _panels(y: Tensor, x: Any, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The areas of the trapezoids between neighbours, and the axis."""
    axis = normalize_axis(dim, len(y._d.shape))
    n = y._d.shape[axis]
    size = max(n - 1, 0)
    pairs = T.add(narrow(y, axis, min(1, n), size), narrow(y, axis, 0, size))
    if x is None:
        return T.mul(pairs, T.div(constant(1.0 if dx is None else dx), 2.0)), axis
    width = diff(x, dim=-1 if len(x._d.shape) == 1 else dim)
    if len(x._d.shape) == 1:
        width = T.reshape(width, (size,) + (1,) * (len(y._d.shape) - axis - 1))
    return T.mul(T.mul(pairs, width), 0.5), axis


def trapezoid(y: Tensor, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of samples ``y`` along ``dim`` by the trapezoidal rule, at points ``x`` or ``dx`` (1) apart."""
    areas, axis = _panels(y, x, dx, dim)
    return T.sum(areas, (axis,), False)  # type: ignore[no-any-return]


trapz = trapezoid


def cumulative_trapezoid(y: Tensor, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The running integral by the trapezoidal rule; one element fewer than ``y`` along ``dim``."""
    areas, axis = _panels(y, x, dx, dim)
    return cumsum(areas, axis)


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Derivatives of a sampled function along each of ``dim``: central differences inside, one-sided at the edges.

    Args:
        input: samples at evenly spaced points.
        spacing: the distance of neighbours, one number or one per dimension.
        dim: the dimensions (all if None).
        edge_order: 1 or 2, the order of the one-sided differences.

    Raises:
        RuntimeError: for another edge order, or fewer than ``edge_order + 1`` samples along a dimension.
    """
    axes = normalize_axes(dim, len(input._d.shape))
    steps: Sequence[Any] = spacing if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    if edge_order not in (1, 2):
        raise RuntimeError(explain("gradient: unknown edge_order", expected="1 or 2", got=str(edge_order)))
    out = []
    for axis, h in zip(axes, steps, strict=True):
        n = input._d.shape[axis]
        if n <= edge_order:
            raise RuntimeError(
                explain("gradient: too few samples", expected=f"at least {edge_order + 1}", got=f"{n} along {axis}")
            )
        f = [narrow(input, axis, i, 1) for i in (0, 1, n - 2, n - 1)]
        inside = T.mul(T.sub(narrow(input, axis, 2, n - 2), narrow(input, axis, 0, n - 2)), 0.5)
        first, last = T.sub(f[1], f[0]), T.sub(f[3], f[2])
        if edge_order == 2:  # 1.5 times the outer difference less half of the next one
            second, before = (T.sub(narrow(input, axis, i + 1, 1), narrow(input, axis, i, 1)) for i in (1, n - 3))
            first, last = (T.sub(T.mul(a, 1.5), T.mul(b, 0.5)) for a, b in ((first, second), (last, before)))
        out.append(T.div(cat([first, inside, last], axis), h))
    return tuple(out)


FUNCTIONS = ["cummax", "cummin", "logcumsumexp", "diff"]
PLAIN = ["trapezoid", "trapz", "cumulative_trapezoid", "gradient"]
