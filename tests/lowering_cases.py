"""Native programs for tests: inputs of gathers, scans, sorts and the like, in memory with a fence behind."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.native import NativeProgram

Array = np.ndarray[Any, Any]
Params = dict[str, Any]
Drawn = tuple[list[Array], Params]

#: dtypes; ops with machine code on whole arrays; ops that passes write with others
DTYPES = ("f4", "f8", "i8", "i4", "u1", "i2", "?", "f2")
ROUTINES = {
    "take", "take_add", "gather", "scatter", "scatter_add", "put_rows", "ravel_index", "cumsum", "argmax", "argmin",
    "argsort", "uniform", "random_bits",
}  # fmt: skip
DECOMPOSED = {"any", "all", "tril", "triu"}
#: what moves or orders float16 without computing with it; all else takes a processor that converts it
MOVES = {"take", "gather", "scatter", "put_rows", "argsort"}
#: sums that are rounded at each step; the verifier's bounds for them are those of sums in float32
SUMS = {"take_add", "scatter_add", "cumsum"}


# ---- inputs
class Fences:
    """Arrays that end where a page begins that may not be touched."""

    def __init__(self) -> None:
        self.maps: list[mmap.mmap] = []

    def __call__(self, a: Array) -> Array:
        a = np.array(a, order="C")
        if sys.platform == "win32":
            return a
        page = mmap.PAGESIZE
        size = -(-max(a.nbytes, 1) // page) * page
        block = mmap.mmap(-1, size + page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(page), 0) == 0
        out = np.frombuffer(block, a.dtype, a.size, size - a.nbytes).reshape(a.shape)
        out[...] = a
        self.maps.append(block)
        return out


def numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers with ties; both zeros, infinities and NaN among the floating-point ones."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(rng.random(shape) < 0.6)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        few, all_of_them = rng.integers(0, 5, shape), rng.integers(info.min, info.max, shape, endpoint=True)
        return np.where(rng.random(shape) < 0.5, few, all_of_them).astype(kind)
    x = rng.standard_normal(shape) * 10
    x = np.where(rng.random(shape) < 0.4, np.round(x / 8), x)
    if rng.random() < 0.4:
        special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], shape)
        x = np.where(rng.random(shape) < 0.2, special, x)
    return np.asarray(x).astype(kind)


def sizes(rng: np.random.Generator, rank: int) -> tuple[int, ...]:
    """Small, odd, and beyond a vector; sometimes none at all."""
    found = rng.choice([1, 2, 3, 5, 8, 17, 37], rank, p=[0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1])
    if rank and rng.random() < 0.06:
        found[rng.integers(rank)] = 0
    return tuple(int(n) for n in found)


def indices(rng: np.random.Generator, size: int, shape: tuple[int, ...], negative: bool) -> Array:
    """Places in an axis, which repeat."""
    return rng.integers(-size if negative else 0, max(size, 1), shape)


def draw(name: str, rng: np.random.Generator, dtype: str) -> Drawn:
    """Arrays and parameters of an op."""
    shape = sizes(rng, int(rng.integers(1, 4)))
    axis = int(rng.integers(len(shape)))
    n = shape[axis]
    x = numbers(rng, dtype, shape)
    if name in ("take", "take_add", "put_rows"):
        axis = 0 if name == "put_rows" else axis
        n = shape[axis]
        places = sizes(rng, int(rng.integers(0, 3))) if n else (0, 2)
        index = indices(rng, n, places, negative=True)
        other = (*shape[:axis], *places, *shape[axis + 1 :])
        if name == "take":
            return [x, index], {"axis": axis}
        if name == "take_add":
            return [numbers(rng, dtype, other), index], {"axis": axis, "length": n}
        return [x, index, numbers(rng, dtype, other)], {}
    if name in ("gather", "scatter", "scatter_add"):
        beside = [m if name == "gather" else int(rng.integers(0, m + 1)) for m in shape]
        places = (*beside[:axis], int(rng.integers(0, 40)) if n else 0, *beside[axis + 1 :])
        index = indices(rng, n, places, negative=False)
        return [x, index] + ([] if name == "gather" else [numbers(rng, dtype, places)]), {"axis": axis}
    if name == "ravel_index":
        limits = tuple(int(k) for k in rng.integers(1, 9, int(rng.integers(1, 4))))
        return [indices(rng, k, shape, negative=True) for k in limits], {"sizes": limits}
    if name in ("argmax", "argmin", "argsort"):
        shape = tuple(max(1, k) for k in shape)
        x = numbers(rng, dtype, shape)
        return [x], {"axis": axis, **({"descending": bool(rng.random() < 0.5)} if name == "argsort" else {})}
    if name == "cumsum":
        return [x], {"axis": axis}
    if name in ("any", "all"):
        axes = tuple(sorted(rng.permutation(len(shape))[: int(rng.integers(1, len(shape) + 1))].tolist()))
        flat = np.where(rng.random(shape) < 0.03, ~x.astype(bool), name == "all").astype(x.dtype)
        return [flat], {"axes": axes, "keepdims": bool(rng.random() < 0.5)}
    if name in ("tril", "triu"):
        most = 40 if rng.random() < 0.5 else 3
        return [numbers(rng, dtype, (*shape, *sizes(rng, 1)))], {"k": int(rng.integers(-most, most))}
    assert name == "matmul"
    m, k = sizes(rng, 2)
    left, right = (2, 1), (3,) if rng.random() < 0.5 else ()
    left = left if rng.random() < 0.5 else ()
    return [numbers(rng, dtype, (*left, m, k)), numbers(rng, dtype, (*right, k, n))], {}


def disguised(rng: np.random.Generator, a: Array) -> tuple[Array, Callable[[cr.Tensor], cr.Tensor]]:
    """An array and a view of it that equals ``a``: transposed, flipped, every other element, or the array itself."""
    choice = int(rng.integers(5))
    if choice == 0 and a.ndim > 1:
        order = tuple(int(p) for p in rng.permutation(a.ndim))
        return np.ascontiguousarray(np.transpose(a, np.argsort(order))), lambda t: t.permute(order)
    if choice == 1 and a.ndim:
        axis = int(rng.integers(a.ndim))
        return np.ascontiguousarray(np.flip(a, axis)), lambda t: t.flip(axis)
    if choice == 2 and a.ndim:
        wide = np.repeat(a, 2, axis=-1)
        wide[..., 1::2] = 1
        return wide, lambda t: t[..., ::2]
    if choice == 3 and a.ndim and 0 not in a.shape and (a == a[:1]).all():
        return np.ascontiguousarray(a[:1]), lambda t: t.expand(a.shape)
    return a, lambda t: t


def same(a: Array, b: Array) -> bool:
    """Equal in type, shape and bits; one NaN is as good as another."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        a, b = (np.where(np.isnan(x), np.asarray(np.nan, x.dtype), x) for x in (a, b))
    return a.tobytes() == b.tobytes()


def compiled(function: Callable[..., Any], arrays: list[Array], target: Target) -> NativeProgram:
    program = capture(function, *(cr.from_numpy(a.copy()) for a in arrays))
    assert len(program.graph.inputs) == len(arrays)
    return NativeProgram(program.graph, target)
