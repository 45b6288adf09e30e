"""Elementwise native code for tests: each op as a function of arrays, and errors in units in the last place."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.llvm import vmath
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.target import LEVELS, Target, build, describe
from chainrule.compiler.llvm.values import BYTES, dtype_of, kind_of


def target_of(level: str) -> Target:
    """The host, or the host cut down; skips where the host has less."""
    if level == "host":
        return describe()
    try:
        return describe(level)
    except ValueError as error:
        pytest.skip(str(error).splitlines()[0])


ALL_LEVELS = ("host", *(x for x in LEVELS if x != "avx512"))


@cache
def _compiled(level: str, name: str, kinds: tuple[str, ...], width: int) -> Any:
    """A native loop over contiguous arrays; the last pointer counts what the op reports."""
    target = target_of(level)
    m = Module(target)
    arguments = {f"a{i}": "ptr" for i in range(len(kinds))}
    out: list[str] = []
    with m.function("run", noalias=False, **arguments, y="ptr", bad="ptr", n="i64") as b:
        *sources, y, bad, n = b.args

        def report(mask: Any, what: str) -> None:
            b.store(b.load(bad, "i64") | b.cast(b.any(mask), "i64"), bad)

        b.report = report

        def body(i: Any, w: int) -> None:
            xs = [b.load(b.at(p, i, k), k, w) for p, k in zip(sources, kinds, strict=True)]
            value = vmath.EMITTERS[name](b, w, kinds[-1], *xs)
            out[:] = [value.kind]
            b.store(value, b.at(y, i, value.kind))

        b.for_vectors(n, width, body)
    native = build(m.text, target)
    return native.function("run", *["ptr"] * (len(kinds) + 2), "i64"), dtype_of(out[0])


def run(level: str, name: str, *xs: np.ndarray, width: int | None = None) -> tuple[np.ndarray, bool]:
    """The op's value on arrays of one length, and whether it reported an operand."""
    kinds = tuple(kind_of(x.dtype) for x in xs)
    width = width or target_of(level).width(max(4, BYTES[kinds[-1]]))
    f, dtype = _compiled(level, name, kinds, width)
    xs = tuple(np.ascontiguousarray(x) for x in xs)
    y, bad = np.empty(xs[0].size, dtype), np.zeros(1, np.int64)
    f(*(x.ctypes.data for x in xs), y.ctypes.data, bad.ctypes.data, y.size)
    return y, bool(bad[0])


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in units in the last place of the exact value rounded; infinite where one is finite and one is not."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
        unit = np.spacing(np.abs(rounded)).astype(exact.dtype)
        error = np.abs(y.astype(exact.dtype) - exact) / unit
    finite = np.isfinite(y) & np.isfinite(rounded)
    same = (np.isnan(y) & np.isnan(rounded)) | (y == rounded)
    return np.where(finite, error, np.where(same, 0, np.inf))
