"""Matrix products for large batches that come chunk by chunk: blocks of k call by call, and B packed once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.gemm import ProductCode, ProductSpec, emit_product
from chainrule.compiler.llvm.gemm_plan import Index, make_plan
from chainrule.compiler.llvm.target import Target, build

Array = np.ndarray[Any, Any]


def emitted(spec: ProductSpec, target: Target, pointers: int, numbers: int, **more: Any) -> tuple[ProductCode, Any]:
    """The code of a product, and a function of arrays and numbers whose scratch memory stays."""
    module = Module(target)
    code = emit_product(module, "f", spec, **more)
    native = build(module.text, target)
    run = native.function("f", *["ptr"] * (4 + pointers), *["i64"] * numbers)
    memory = np.full(code.scratch + 256, 0xA5, np.uint8)
    start = -memory.ctypes.data % 64 + 64
    scratch = memory[start : start + code.scratch]

    def call(a: Array, b: Array, c: Array, *rest: Any) -> None:
        run(*(x.ctypes.data if isinstance(x, np.ndarray) else x for x in (a, b, c, scratch, *rest)))
        assert (memory[:start] == 0xA5).all()
        assert (memory[start + code.scratch :] == 0xA5).all()

    return code, call


@pytest.mark.parametrize("pack", [None, "rows"])
@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize(("M", "N", "block"), [(10, 100, 6), (33, 70, 1), (1, 40, 9), (25, 1, 4), (24, 784, 30)])
def test_blocks_add_up(target: Target, M: int, N: int, block: int, by_index: bool, pack: str | None) -> None:
    """Three matrices of sums over parts of the rows of x and y: x^T y, in blocks, however calls divide them."""
    rng, parts, blocks = np.random.default_rng(3), 3, 4
    K = block * blocks
    x, table = (rng.standard_normal((n, d)).astype(np.float32) for n, d in ((parts * K, M), (50, N)))
    rows = rng.integers(-50, 50, parts * K) if by_index else np.arange(parts * K)
    y = table[rows] if by_index else rng.standard_normal((parts * K, N)).astype(np.float32)
    index = Index("i64", 1, 50, (K,)) if by_index else None
    spec = ProductSpec(
        M, N, K, "f32", (1, M), (N, 1), (N, 1), batch=(parts,), a_batch=(K * M,),
        b_batch=(0 if by_index else K * N,), c_batch=(M * N,), b_index=index, block=block,
    )  # fmt: skip
    plan = make_plan(spec, target)
    _, run = emitted(spec, target, int(by_index), 4, plan=replace(plan, pack=plan.pack or pack))
    more = [rows] if by_index else []

    def result(order: list[tuple[int, int, int, int]]) -> Array:
        c = np.full((parts, M, N), np.nan, np.float32)
        for part in order:
            run(x, table if by_index else y, c, *more, *part)
        return c

    whole = result([(0, parts * M, 0, K)])
    expected = np.stack([x[p * K : (p + 1) * K].T.astype(np.float64) @ y[p * K : (p + 1) * K] for p in range(parts)])
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)
    edges = list(pairwise(range(0, K + 1, block)))
    by_part = result([(p * M, (p + 1) * M, *e) for p in (2, 0, 1) for e in edges])
    by_block = result([(low, high, *e) for e in edges for low, high in pairwise((0, M // 2, 2 * M + 1, parts * M))])
    np.testing.assert_array_equal(whole, by_part)
    np.testing.assert_array_equal(whole, by_block)


def test_one_block_is_the_whole(target: Target) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((8, n)).astype(np.float32) for n in (5, 20))
    spec = ProductSpec(5, 20, 8, "f32", (1, 5), (20, 1), (20, 1), block=8)
    _, run = emitted(spec, target, 0, 4)
    c = np.full((5, 20), np.nan, np.float32)
    run(x, y, c, 0, 5, 0, 8)
    np.testing.assert_allclose(c, x.T @ y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("N", "K", "tb"), [(128, 60, True), (70, 33, True), (10, 40, True), (300, 20, True)])
def test_b_stays_packed(target: Target, N: int, K: int, tb: bool) -> None:
    """Calls that find B in scratch give the bits of those that pack it, though B has changed since."""
    rng, M = np.random.default_rng(2), 50
    a, b = rng.standard_normal((M, K)).astype(np.float32), rng.standard_normal((N, K)).astype(np.float32)
    spec = ProductSpec.contiguous(M, N, K, tb=tb)
    code, run = emitted(spec, target, 0, 3, keep=True)
    _, plain = emitted(spec, target, 0, 2)
    assert code.keeps == (code.plan.pack is not None)
    if not code.keeps:
        return
    expected, c = (np.full((M, N), np.nan, np.float32) for _ in range(2))
    plain(a, b, expected, 0, M)
    changed = np.zeros_like(b)
    for low, high in pairwise((0, 20, 21, M)):
        run(a, b if low == 0 else changed, c, low, high, int(low == 0))
    np.testing.assert_array_equal(c, expected)


def test_what_is_not_packed_at_once_is_not_kept(target: Target) -> None:
    big = ProductSpec.contiguous(300, 700, 700, tb=True)
    several = ProductSpec(9, 40, 30, "f32", (30, 1), (1, 30), (40, 1), (2,), (270,), (1200,), (360,))
    for spec, code in product((big, several), (None,)):
        code, _ = emitted(spec, target, 0, 2, keep=True)
        assert not code.keeps
    small = replace(several, batch=(), a_batch=(), b_batch=(), c_batch=())
    assert emit_product(Module(target), "g", small, keep=True).keeps
