"""Products that leave out zeros of one operand: the same bits as those that do not, whatever the other one holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm import ProductSpec, emit_product
from chainrule.compiler.llvm.gemm_layout import Layout
from chainrule.compiler.llvm.gemm_plan import Index, Plan, make_plan
from chainrule.compiler.llvm.target import Target, build
from chainrule.compiler.llvm.values import Value

Array = np.ndarray[Any, Any]
NUMPY = {"f32": np.float32, "f64": np.float64}
SIZES = [(40, 48, 100), (33, 35, 67), (36, 70, 130), (50, 16, 65), (96, 70, 801)]


class Product:
    """A product, callable with arrays and ranges of rows (and steps); its scratch memory starts as rubbish."""

    def __init__(
        self, spec: ProductSpec, plan: Plan, target: Target, columns: bool = False, keep: bool = False
    ) -> None:
        module = Module(target)
        self.code = emit_product(module, "f", spec, plan, columns=columns, keep=keep)
        pointers = 4 + len(spec.extras) + (spec.a_index is not None) + (spec.b_index is not None)
        numbers = 2 + 2 * bool(spec.block) + self.code.keeps
        self.function = build(module.text, target).function("f", *["ptr"] * pointers, *["i64"] * numbers)
        self.memory = np.full(self.code.scratch + 256, 0xA5, np.uint8)
        self.start = -self.memory.ctypes.data % 64 + 64
        self.flag = Layout(spec, plan, target, keep).flag + self.start

    @property
    def takes_all(self) -> bool:
        """Whether the last call found that nothing may be left out."""
        flag = self.memory[self.flag : self.flag + 8].view(np.int64).item()
        assert flag in (0, 1)
        return bool(flag)

    def __call__(self, operands: tuple[Array, Array, Array], more: list[Array], *ranges: tuple[int, ...]) -> Array:
        scratch = self.memory[self.start : self.start + self.code.scratch]
        for part in ranges:
            self.function(*(x.ctypes.data for x in (*operands, scratch, *more)), *part)
        assert (self.memory[: self.start] == 0xA5).all()
        assert (self.memory[self.start + self.code.scratch :] == 0xA5).all()
        return operands[2]


def left_out(spec: ProductSpec, target: Target) -> tuple[Plan, Plan]:
    """The plan that leaves out zeros, and the same without that."""
    plans = [make_plan(replace(spec, zeros=which), target) for which in (spec.zeros, "")]
    assert plans[0].zeros == spec.zeros
    return plans[0], replace(plans[0], zeros="")


def sparse(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Array:
    """Mostly zeros of either sign: single numbers, and blocks; some rows and columns of nothing but zeros."""
    x = rng.standard_normal((rows, columns)).astype(NUMPY[dtype])
    keep = rng.random((rows, columns)) < 0.03
    keep[: rows // 2, columns // 3 : columns // 2] = True
    keep[:, rng.random(columns) < 0.3] = False
    keep[rng.random(rows) < 0.3] = False
    x[~keep] = rng.choice([0.0, -0.0], (~keep).sum())
    return x


def same_bits(x: Array, y: Array) -> None:
    bits = f"u{x.itemsize}"
    np.testing.assert_array_equal(x.view(bits), y.view(bits))


def add_row(b: Builder, x: Value, row: Value, column: Value, width: int, mask: Value | None, extras: Any) -> Value:
    return b.add(x, b.load(b.at(extras[0], column, x.kind), x.kind, width, mask=mask))


def forward(M: int, N: int, K: int, dtype: str, tb: bool = True, **more: Any) -> ProductSpec:
    return ProductSpec.contiguous(M, N, K, dtype, tb=tb, zeros="a", **more)


def gradient(M: int, N: int, K: int, dtype: str, **more: Any) -> ProductSpec:
    return ProductSpec.contiguous(M, N, K, dtype, ta=True, zeros="b", **more)


def run_both(spec: ProductSpec, target: Target, data: Array, other: Array, more: list[Array], **how: Any) -> Array:
    """The result, after a check that it has the bits of one that leaves nothing out."""
    results = []
    for plan in left_out(spec, target):
        operands = (data, other) if spec.zeros == "a" else (other, data)
        c = np.full((spec.M, spec.N), np.nan, data.dtype)
        size = spec.N if how.get("columns") else spec.M
        edges = sorted({0, size // 3, size // 2, size})
        run = Product(spec, plan, target, **how)
        results.append(run((*operands, c), more, *pairwise(edges)))
        if plan.zeros and not how.get("columns"):
            assert run.takes_all == (not np.isfinite(other).all())
    same_bits(*results)
    return results[0]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("epilogue", [None, add_row])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize(("M", "N", "K"), SIZES)
def test_zeros_of_a(target: Target, dtype: str, M: int, N: int, K: int, tb: bool, epilogue: Any, columns: bool) -> None:
    rng = np.random.default_rng(M)
    spec = forward(M, N, K, dtype, tb, epilogue=epilogue, extras=((),) if epilogue else ())
    a, w = sparse(rng, M, K, dtype), rng.standard_normal((N, K) if tb else (K, N)).astype(NUMPY[dtype])
    bias = rng.standard_normal(N).astype(NUMPY[dtype])
    c = run_both(spec, target, a, w, [bias] if epilogue else [], columns=columns)
    expected = a.astype(float) @ (w.T if tb else w) + (bias if epilogue else 0)
    np.testing.assert_allclose(c, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(("M", "N", "K"), SIZES)
def test_zeros_of_b(target: Target, dtype: str, M: int, N: int, K: int, indexed: bool, columns: bool) -> None:
    rng = np.random.default_rng(N)
    table, g = sparse(rng, 90 if indexed else K, N, dtype), rng.standard_normal((K, M)).astype(NUMPY[dtype])
    rows = rng.integers(-90, 90, K) if indexed else np.arange(K)
    spec = gradient(M, N, K, dtype, b_index=Index("i64", 1, 90) if indexed else None)
    c = run_both(spec, target, table, g, [rows] if indexed else [], columns=columns)
    np.testing.assert_allclose(c, g.T.astype(float) @ table[rows], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("M", "N", "K"), SIZES)
def test_rows_of_a_by_index(target: Target, M: int, N: int, K: int) -> None:
    rng = np.random.default_rng(K)
    table, w, rows = sparse(rng, 300, K, "f32"), rng.standard_normal((N, K)).astype("f4"), rng.integers(-300, 300, M)
    spec = forward(M, N, K, "f32", a_index=Index("i64", 1, 300))
    c = run_both(spec, target, table, w, [rows])
    np.testing.assert_allclose(c, table[rows].astype(float) @ w.T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("columns", [False, True])
def test_zero_times_infinity_is_not_left_out(target: Target, which: str, bad: float, columns: bool) -> None:
    """At any place of the other operand: NaN comes out wherever it meets a zero."""
    rng = np.random.default_rng(4)
    M, N, K = 40, 50, 70
    spec = (forward if which == "a" else gradient)(M, N, K, "f32")
    data = sparse(rng, *((M, K) if which == "a" else (K, N)), "f32")
    data[:, :8], data[:9] = 0, 0
    for _ in range(12):
        other = rng.standard_normal((N, K) if which == "a" else (K, M)).astype("f4")
        at = tuple(rng.integers(0, n) for n in other.shape)
        other[at] = bad
        c = run_both(spec, target, data, other, [], columns=columns)
        line = c[:, at[0]] if which == "a" else c[at[1]]
        assert np.isnan(line).any()
        assert np.isnan(c).sum() <= line.size


@pytest.mark.parametrize("tb", [False, True])
def test_infinities_in_the_last_short_block_of_steps(target: Target, tb: bool) -> None:
    rng = np.random.default_rng(8)
    M, N, K = 40, 50, 65
    spec = forward(M, N, K, "f32", tb)
    plan = replace(left_out(spec, target)[0], depth=62)
    data, w = sparse(rng, M, K, "f32"), rng.standard_normal((N, K)).astype("f4")
    data[:10] = 0
    for k in (0, 61, 62, 64):
        bad = w.copy()
        bad[7, k] = np.inf
        operands = (data, bad if tb else bad.T.copy(), np.full((M, N), np.nan, "f4"))
        c = Product(spec, plan, target)(operands, [], (0, M))
        assert np.isnan(c[:10, 7]).all()
        assert np.isfinite(np.delete(c, 7, 1)).all()


@pytest.mark.parametrize("which", ["a", "b"])
def test_what_is_not_zero_is_never_left_out(target: Target, which: str) -> None:
    """NaN, infinity and numbers next to nothing in the data, alone among zeros; and data without any zeros."""
    rng = np.random.default_rng(5)
    M, N, K = 40, 50, 70
    spec = (forward if which == "a" else gradient)(M, N, K, "f32")
    shape = (M, K) if which == "a" else (K, N)
    other = rng.standard_normal((N, K) if which == "a" else (K, M)).astype("f4")
    for number in (np.nan, np.inf, 1e-30, -1.0):
        for _ in range(6):
            data = np.zeros(shape, "f4")
            data[tuple(rng.integers(0, n) for n in shape)] = number
            assert run_both(spec, target, data, other, []).any()
    run_both(spec, target, rng.standard_normal(shape).astype("f4"), other, [])
    assert not run_both(spec, target, np.zeros(shape, "f4"), other, []).any()


@pytest.mark.parametrize("indexed", [False, True])
def test_blocks_of_steps(target: Target, indexed: bool) -> None:
    """Call by call, as for the chunks of a large batch; an infinity counts in its own block alone."""
    rng = np.random.default_rng(6)
    M, N, block, blocks = 40, 70, 64, 3
    K = block * blocks
    spec = gradient(M, N, K, "f32", b_index=Index("i64", 1, 90) if indexed else None, block=block)
    table, g = sparse(rng, 90 if indexed else K, N, "f32"), rng.standard_normal((K, M)).astype("f4")
    rows = rng.integers(-90, 90, K)
    more = [rows] if indexed else []
    for bad in (1.0, np.inf):
        g[block + 3, 5] = bad
        results = []
        for plan in left_out(spec, target):
            for parts in ([(0, K)], list(pairwise(range(0, K + 1, block)))):
                run, c = Product(spec, plan, target), np.full((M, N), np.nan, "f4")
                results.append(run((g, table, c), more, *((0, M, *p) for p in parts)))
                if plan.zeros:  # the last block has none
                    assert run.takes_all == (len(parts) == 1 and bad != 1)
        for c in results[1:]:
            same_bits(c, results[0])
        assert np.isfinite(np.delete(results[0], 5, 0)).all()
        assert np.isfinite(results[0][5]).all() == (bad == 1)


def test_what_is_known_of_packed_operands_is_kept(target: Target) -> None:
    """Calls that find B packed do not look at it again, and still know whether it has infinities."""
    rng = np.random.default_rng(7)
    M, N, K = 60, 64, 70
    spec = forward(M, N, K, "f32")
    data, w = sparse(rng, M, K, "f32"), rng.standard_normal((N, K)).astype("f4")
    for bad in (1.0, np.inf):
        w[3, 4] = bad
        plan, plain = left_out(spec, target)
        kept = Product(spec, plan, target, keep=True)
        assert kept.code.keeps
        ranges = [(0, 24, 1), (24, 25, 0), (25, M, 0)]
        c = kept((data, w, np.full((M, N), np.nan, "f4")), [], *ranges)
        assert kept.takes_all == (bad != 1)
        expected = Product(spec, plain, target)((data, w, np.full((M, N), np.nan, "f4")), [], (0, M))
        same_bits(c, expected)


def test_a_specification_names_an_operand() -> None:
    with pytest.raises(ValueError, match=r"zeros of 'a' or 'b'.*got 'c'"):
        ProductSpec.contiguous(2, 3, 4, zeros="c")


def test_operands_that_cannot_be_looked_through_are_taken_whole(target: Target) -> None:
    """Data down its columns, or another operand without contiguous rows or columns."""
    spec = forward(40, 48, 100, "f32")
    assert make_plan(spec, target).zeros == "a"
    assert not make_plan(replace(spec, a_strides=(1, 40)), target).zeros
    assert not make_plan(replace(spec, b_strides=(2, 200)), target).zeros
    spec = gradient(40, 48, 100, "f32")
    assert make_plan(spec, target).zeros == "b"
    assert not make_plan(replace(spec, b_strides=(1, 100)), target).zeros
    assert not make_plan(replace(spec, a_strides=(2, 80)), target).zeros
