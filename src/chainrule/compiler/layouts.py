"""Layouts of views: where the elements of a reshaped, permuted, repeated or indexed value are, without moving any."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from chainrule.compiler.kernels import Layout, row_major
from chainrule.core.shapes import Shape, size_of
from chainrule.ir.graph import Instruction


def view_layout(i: Instruction, x: Layout) -> Layout | None:
    """The layout of a view op's result over its input's buffer, or None if there is none."""
    name, params, shape = i.op.name, i.params, i.inputs[0].shape
    if name in ("alias", "detach"):
        return x
    if name == "permute":
        return x._replace(strides=tuple(x.strides[p] for p in params["perm"]))
    if name == "broadcast_to":
        lead = len(params["shape"]) - len(shape)
        own = tuple(
            0 if d == 1 and n != 1 else s for s, d, n in zip(x.strides, shape, params["shape"][lead:], strict=True)
        )
        return x._replace(strides=(0,) * lead + own)
    if name == "flip":
        offset = x.offset + sum((shape[a] - 1) * x.strides[a] for a in params["axes"] if shape[a])
        return Layout(x.buffer, offset, tuple(-s if d in params["axes"] else s for d, s in enumerate(x.strides)))
    if name == "getitem":
        return _indexed(params["index"], x, shape)
    strides = _reshaped(shape, x.strides, params["shape"])
    return None if strides is None else x._replace(strides=strides)


def _indexed(index: tuple[Any, ...], x: Layout, shape: Shape) -> Layout:
    used = sum(1 for e in index if e is not None and e is not Ellipsis)
    full: list[Any] = []
    for e in index:
        full += [slice(None)] * (len(shape) - used) if e is Ellipsis else [e]
    full += [slice(None)] * (len(shape) - sum(1 for e in full if e is not None))
    offset, strides, axis = x.offset, [], 0
    for e in full:
        if e is None:
            strides.append(0)
            continue
        n, s = shape[axis], x.strides[axis]
        if isinstance(e, slice):
            start, stop, step = e.indices(n)
            offset += start * s if len(range(start, stop, step)) else 0
            strides.append(step * s)
        else:
            offset += (e + n if e < 0 else e) * s
        axis += 1
    return Layout(x.buffer, offset, tuple(strides))


def _reshaped(old: Shape, strides: tuple[int, ...], new: Shape) -> tuple[int, ...] | None:
    """Strides of a reshape without moving anything, or None: runs of dimensions with one product must be contiguous."""
    if size_of(old) == 0:
        return row_major(new)
    a = [(d, s) for d, s in zip(old, strides, strict=True) if d != 1]
    out: list[int] = []
    i = j = 0
    wanted = [d for d in new if d != 1]
    while i < len(a) or j < len(wanted):
        if i >= len(a) or j >= len(wanted):
            return None
        n, m, first = a[i][0], wanted[j], (i, j)
        while n != m:
            if n < m:
                i += 1
                if i >= len(a):
                    return None
                n *= a[i][0]
            else:
                j += 1
                if j >= len(wanted):
                    return None
                m *= wanted[j]
        run = a[first[0] : i + 1]
        if any(s != d2 * s2 for (_, s), (d2, s2) in pairwise(run)):
            return None
        step = run[-1][1]
        part = []
        for d in reversed(wanted[first[1] : j + 1]):
            part.append(step)
            step *= d
        out += reversed(part)
        i += 1
        j += 1
    rest = iter(out)
    return tuple(0 if d == 1 else next(rest) for d in new)
