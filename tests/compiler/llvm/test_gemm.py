"""Generated matrix products against float64 NumPy, at every vector level, with guarded memory and split rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm import ProductCode, ProductSpec, emit_product
from chainrule.compiler.llvm.gemm_plan import Index, Plan, make_plan
from chainrule.compiler.llvm.target import Target, build, describe
from chainrule.compiler.llvm.values import Value
from vector_levels import each_level

Array = np.ndarray[Any, Any]
NUMPY = {"f32": np.float32, "f64": np.float64}


@dataclass
class Compiled:
    """Products in one module, callable by position."""

    codes: list[ProductCode]
    functions: list[Any]

    def __call__(self, i: int, a: Array, b: Array, c: Array, *extras: Array, splits: tuple[int, ...] = ()) -> None:
        """Run product i; ``splits`` are the rows (or columns) where one call ends and the next begins."""
        size, code = self.functions[i][1], self.codes[i]
        scratch = np.full(code.scratch + 128, 0xA5, np.uint8)
        place = -scratch.ctypes.data % 64
        addresses = [x.ctypes.data for x in (a, b, c)] + [scratch.ctypes.data + place]
        edges = (0, *splits, size)
        for low, high in pairwise(edges):
            self.functions[i][0](*addresses, *(x.ctypes.data for x in extras), low, high)
        assert (scratch[:place] == 0xA5).all()
        assert (scratch[place + code.scratch :] == 0xA5).all()


def compiled(
    specs: list[ProductSpec], target: Target, plans: list[Plan | None] | None = None, columns: bool = False
) -> Compiled:
    module = Module(target)
    plans = plans or [None] * len(specs)
    codes = [emit_product(module, f"f{i}", s, p, columns) for i, (s, p) in enumerate(zip(specs, plans, strict=True))]
    native = build(module.text, target)
    functions = []
    for code, spec in zip(codes, specs, strict=True):
        pointers = 4 + len(spec.extras) + (spec.a_index is not None) + (spec.b_index is not None)
        types = ["ptr"] * pointers + ["i64", "i64"]
        functions.append((native.function(code.name, *types), spec.N if columns else spec.M * spec.batches))
    return Compiled(codes, functions)


def check(c: Array, a: Array, b: Array, K: int, before: Array | float = 0.0) -> None:
    """|error| <= (K + 4) u |A||B| element by element (u: half the machine epsilon), whatever the order of the sum."""
    exact = np.float64 if c.dtype == np.float32 else np.longdouble
    wide_a, wide_b = a.astype(exact), b.astype(exact)
    reference = wide_a @ wide_b + before
    bound = (K + 4) * np.finfo(c.dtype).eps / 2 * (np.abs(wide_a) @ np.abs(wide_b) + np.abs(before))
    excess = np.abs(c - reference) - bound
    assert not np.isnan(c).any()
    assert excess.max(initial=-1.0) <= 0, f"error exceeds its bound at {np.unravel_index(excess.argmax(), c.shape)}"


def stored(rng: np.random.Generator, rows: int, columns: int, turned: bool, dtype: str) -> tuple[Array, Array]:
    """What lies in memory, and the matrix it is."""
    x = rng.standard_normal((columns, rows) if turned else (rows, columns)).astype(NUMPY[dtype])
    return x, x.T if turned else x


SHAPES = [
    (1, 1, 1), (1, 1, 50), (1, 17, 1), (1, 40, 33), (1, 300, 5), (2, 3, 4), (3, 1, 7), (5, 1, 64), (37, 1, 29),
    (200, 1, 3), (7, 10, 13), (4, 4, 0), (13, 7, 31), (8, 8, 16), (16, 16, 16), (17, 31, 19), (23, 47, 2), (29, 67, 16),
    (32, 10, 41), (64, 33, 61), (97, 129, 53), (6, 64, 128), (50, 100, 34), (3, 2, 500), (31, 15, 900), (11, 70, 1201),
    (128, 1, 1000),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("ta", "tb"), list(product((False, True), repeat=2)))
def test_values_are_within_the_bound_of_rounding(target: Target, dtype: str, ta: bool, tb: bool) -> None:
    rng = np.random.default_rng(0)
    specs = [ProductSpec.contiguous(M, N, K, dtype, ta=ta, tb=tb) for M, N, K in SHAPES]
    run = compiled(specs, target)
    for i, (M, N, K) in enumerate(SHAPES):
        (a, A), (b, B) = stored(rng, M, K, ta, dtype), stored(rng, K, N, tb, dtype)
        c = np.full((M, N), np.nan, NUMPY[dtype])
        run(i, a, b, c)
        check(c, A, B, K)


def bias_relu(b: Builder, x: Value, row: Value, column: Value, width: int, mask: Value | None, extras: Any) -> Value:
    """max(x + bias[column], 0), and row * 1000 + column of the first lane into the map of places."""
    bias = b.load(b.at(extras[0], column, x.kind), x.kind, width, mask=mask)
    place = b.splat(b.cast(row * 1000 + column, x.kind), width) + b.cast(b.iota("i64", width), x.kind)
    b.store(place, b.at(b.offset(extras[1], row * 512 * 8), column, x.kind), mask=mask)
    return b.maximum(x + bias, 0.0)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("ta", "tb"), list(product((False, True), repeat=2)))
@pytest.mark.parametrize("accumulate", [False, True])
def test_epilogue_sees_each_element_once_at_its_place(
    target: Target, dtype: str, ta: bool, tb: bool, accumulate: bool
) -> None:
    rng = np.random.default_rng(1)
    shapes = SHAPES[::2] if accumulate else SHAPES[1::2]
    specs = [
        ProductSpec.contiguous(M, N, K, dtype, ta=ta, tb=tb, epilogue=bias_relu, extras=((), ()), accumulate=accumulate)
        for M, N, K in shapes
    ]
    run = compiled(specs, target)
    for i, (M, N, K) in enumerate(shapes):
        (a, A), (b, B) = stored(rng, M, K, ta, dtype), stored(rng, K, N, tb, dtype)
        c = rng.standard_normal((M, N)).astype(NUMPY[dtype])
        before = c.astype(np.float64) if accumulate else 0.0
        bias = rng.standard_normal(N).astype(NUMPY[dtype])
        places = np.full((M, 512 * 8 // c.itemsize), -1, NUMPY[dtype])
        run(i, a, b, c, bias, places)
        full = A.astype(np.float64) @ B.astype(np.float64) + before + bias
        size = np.abs(A).astype(np.float64) @ np.abs(B) + np.abs(before) + np.abs(bias)
        bound = (K + 6) * np.finfo(c.dtype).eps / 2 * size * (1 if dtype == "f32" else 2)
        assert (np.abs(c - np.maximum(full, 0)) <= bound).all()
        np.testing.assert_array_equal(places[:, :N], np.arange(M)[:, None] * 1000 + np.arange(N))
        assert (places[:, N:] == -1).all()


def step(b: Builder, x: Value, row: Value, column: Value, width: int, mask: Value | None, extras: Any) -> Value:
    """Gradient descent with momentum in place: C is the parameter, extras[0] too, extras[1] the momentum."""
    at = row * 70 + column
    m = b.at(extras[1], at, x.kind)
    new = b.fma(b.load(m, x.kind, width, mask=mask), b.const(0.5, x.kind, width), x)
    b.store(new, m, mask=mask)
    old = b.load(b.at(extras[0], at, x.kind), x.kind, width, mask=mask)
    return old - new * 0.25


@pytest.mark.parametrize("K", [40, 2000])
def test_epilogue_updates_what_it_reads(target: Target, K: int) -> None:
    rng = np.random.default_rng(2)
    spec = ProductSpec.contiguous(45, 70, K, ta=True, epilogue=step, extras=((), ()))
    run = compiled([spec], target)
    (a, A), (b, B) = stored(rng, 45, K, True, "f32"), stored(rng, K, 70, False, "f32")
    w, m = (rng.standard_normal((45, 70)).astype(np.float32) for _ in range(2))
    new = m * 0.5 + A.astype(np.float64) @ B
    expected = w - 0.25 * new
    run(0, a, b, w, w, m)
    bound = (K + 8) * np.finfo(np.float32).eps * (np.abs(A) @ np.abs(B) + 10)
    assert (np.abs(m - new) <= bound).all()
    assert (np.abs(w - expected) <= bound).all()


@pytest.mark.parametrize("accumulate", [False, True])
def test_results_do_not_depend_on_how_rows_are_split(target: Target, accumulate: bool) -> None:
    rng = np.random.default_rng(3)
    cases = list(product(SHAPES[int(accumulate) :: 2], (False, True), (False, True)))
    specs = [ProductSpec.contiguous(*s, ta=ta, tb=tb, accumulate=accumulate) for s, ta, tb in cases]
    run = compiled(specs, target)
    for i, ((M, N, K), ta, tb) in enumerate(cases):
        (a, _), (b, _) = stored(rng, M, K, ta, "f32"), stored(rng, K, N, tb, "f32")
        first = rng.standard_normal((M, N)).astype(np.float32)
        whole = first.copy()
        run(i, a, b, whole)
        ways = [(M // 2,), (M // 3, M // 2), sorted((min(M, 1), M - min(M, 1))), sorted(rng.integers(0, M + 1, 4))]
        for splits in ways:
            c = first.copy()
            run(i, a, b, c, splits=tuple(int(s) for s in splits))
            np.testing.assert_array_equal(c, whole, err_msg=f"{cases[i]} split at {splits}")


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_columns_give_the_same_bits_as_rows(target: Target, indexed: bool, ended: bool) -> None:
    """However they are split, also where B is packed and where K is cut into blocks."""
    rng = np.random.default_rng(8)
    more: dict[str, Any] = {"epilogue": step, "extras": ((), ())} if ended else {}
    specs = []
    for M, N, K in [(45, 70, 40), (128, 70, 31), (20, 70, 2000), (7, 70, 900), *([] if ended else SHAPES[10::3])]:
        for ta, tb in product((False, not indexed), repeat=2):
            indices = {"a_index": Index("i64", 1, M), "b_index": Index("i64", 1, K)} if indexed else {}
            specs.append(ProductSpec.contiguous(M, N, K, ta=ta, tb=tb, **more, **indices))
    plans = [make_plan(s, target) for s in specs]
    if indexed:  # and where B is packed
        specs, plans = specs * 2, plans + [replace(p, pack="rows") for p in plans]
    specs, plans = zip(*((s, p) for s, p in zip(specs, plans, strict=True) if p.by_columns), strict=True)
    by_rows, by_columns = (compiled(specs, target, plans, columns) for columns in (False, True))
    assert len(specs) >= 4
    for i, spec in enumerate(specs):
        M, N, K = spec.M, spec.N, spec.K
        a, b = (rng.standard_normal(n).astype(np.float32) for n in (M * K, K * N))
        beside = [rng.permutation(n).astype(np.int64) for n in (M, K)] if indexed else []
        state = [rng.standard_normal((M, N)).astype(np.float32) for _ in range(2)] if ended else []

        results = []
        for code, splits in ((by_rows, ()), *((by_columns, w) for w in ((), (N // 2,), (1, N // 3, N - 1), (0, N)))):
            own = [x.copy() for x in state]
            c = own[0] if ended else np.full((M, N), np.nan, np.float32)
            code(i, a, b, c, *beside, *own, splits=splits)
            results.append([c, *own])
        for found in results[1:]:
            for x, y in zip(results[0], found, strict=True):
                np.testing.assert_array_equal(y, x, err_msg=f"{spec} {plans[i]}")


def test_by_columns_there_is_no_code_for_heights_that_do_not_occur(target: Target) -> None:
    spec = ProductSpec.contiguous(128, 256, 64)
    plan = replace(make_plan(spec, target), rows=6, smaller=True)  # 18 tiles of 6 rows, 4 of 5: no single rows
    tiles = []
    for columns in (False, True):
        module = Module(target)
        emit_product(module, "product", spec, plan, columns=columns)
        tiles.append(module.text.count("define internal void @product_tile"))
    assert plan.by_columns
    assert tiles[1] < tiles[0]


def test_rows_outside_the_range_are_left_alone(target: Target) -> None:
    rng = np.random.default_rng(4)
    shapes = [(40, 50, 30), (40, 1, 30), (40, 7, 100)]
    for ta, tb in product((False, True), repeat=2):
        run = compiled([ProductSpec.contiguous(*s, ta=ta, tb=tb) for s in shapes], target)
        for i, (M, N, K) in enumerate(shapes):
            (a, A), (b, B) = stored(rng, M, K, ta, "f32"), stored(rng, K, N, tb, "f32")
            c = np.full((M, N), 7.0, np.float32)
            scratch = np.zeros(run.codes[i].scratch, np.uint8)
            run.functions[i][0](*(x.ctypes.data for x in (a, b, c, scratch)), 11, 26)
            assert (c[:11] == 7).all()
            assert (c[26:] == 7).all()
            check(c[11:26], A[11:26], B, K)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_any_strides(target: Target, dtype: str) -> None:
    """Gaps, reversed and repeated operands, and a C that is not contiguous."""
    rng = np.random.default_rng(5)
    M, N, K = 19, 21, 33
    size = np.dtype(NUMPY[dtype]).itemsize
    pool = rng.standard_normal((200, 200)).astype(NUMPY[dtype])
    lefts = [pool[:M, :K], pool[: 2 * M : 2, : 3 * K : 3], pool[:K, :M].T, pool[:M, K - 1 :: -1][:, :K],
             np.broadcast_to(pool[0, :K], (M, K)), np.broadcast_to(pool[:M, :1], (M, K))]  # fmt: skip
    rights = [pool[:K, :N], pool[: 2 * K : 2, : 4 * N : 4], pool[: 2 * N : 2, :K].T, pool[K - 1 :: -1, :N][:K],
              np.broadcast_to(pool[3, :N], (K, N)), np.broadcast_to(pool[:K, 5:6], (K, N))]  # fmt: skip
    outs = [(N, 1), (N + 9, 1), (1, M), (3 * N + 1, 3)]
    cases = [(a[:m], b[:, :n], o) for a, b, o, (m, n) in product(lefts, rights, outs, [(M, N), (2, N), (M, 1)])][::5]
    specs = [ProductSpec(*a.shape[:1], b.shape[1], K, dtype, _strides(a), _strides(b), o) for a, b, o in cases]
    run = compiled(specs, target)
    for i, (a, b, o) in enumerate(cases):
        m, n = a.shape[0], b.shape[1]
        raw = np.full((m - 1) * o[0] + (n - 1) * o[1] + 1, np.nan, NUMPY[dtype])
        c = np.lib.stride_tricks.as_strided(raw, (m, n), (o[0] * size, o[1] * size))
        run(i, a, b, c)
        check(c, a, b, K)
        assert np.isnan(raw).sum() == raw.size - m * n


def _strides(x: Array) -> tuple[int, int]:
    return x.strides[0] // x.itemsize, x.strides[1] // x.itemsize


def add_row(b: Builder, x: Value, row: Value, column: Value, width: int, mask: Value | None, extras: Any) -> Value:
    """x + extra[row], an extra vector for each matrix."""
    return x + b.splat(b.load(b.at(extras[0], row, x.kind), x.kind), width)


@pytest.mark.parametrize("epilogue", [None, add_row])
@pytest.mark.parametrize(("kind", "step"), [("i64", 1), ("i32", 3), ("u8", 2)])
def test_rows_by_index(target: Target, kind: str, step: int, epilogue: Any) -> None:
    """A gather of rows of A, of B or of both, in one block of k and in several, B where it is and packed.

    Bits do not depend on the split.
    """
    rng = np.random.default_rng(5)
    shapes = [(50, 40, 33, False), (9, 10, 70, True), (61, 130, 300, False), (3, 5, 2, True), (1, 20, 8, False)]
    numpy_kind = {"i64": "i8", "i32": "i4", "u8": "u1"}[kind]
    specs, plans, data = [], [], []
    for (M, N, K, tb), (by_a, by_b) in product(shapes, [(True, False), (False, True), (True, True)]):
        if tb and by_b:
            continue
        tables = [rng.standard_normal((20, n + 3)).astype(np.float32) for n in (K, N)]
        chosen = [rng.integers(0 if kind == "u8" else -20, 20, (n, step)).astype(numpy_kind) for n in (M, K)]
        index = Index(kind, step, 20)
        spec = ProductSpec.contiguous(M, N, K, tb=tb, epilogue=epilogue, extras=((),) if epilogue else ())
        if by_a:
            spec = replace(spec, a_index=index, a_strides=(K + 3, 1))
        if by_b:
            spec = replace(spec, b_index=index, b_strides=(N + 3, 1))
        a, A = (tables[0], tables[0][chosen[0][:, 0]][:, :K]) if by_a else stored(rng, M, K, False, "f32")
        b, B = (tables[1], tables[1][chosen[1][:, 0]][:, :N]) if by_b else stored(rng, K, N, tb, "f32")
        plan = make_plan(spec, target)
        for depth, packs in product(dict.fromkeys((plan.depth, max(1, K // 3))), {by_b, False}):
            specs.append(spec)
            plans.append(replace(plan, depth=depth, pack="rows" if packs else plan.pack))
            data.append((a, b, A, B, [c for c, used in zip(chosen, (by_a, by_b), strict=True) if used]))
    run = compiled(specs, target, plans)
    for i, (spec, (a, b, A, B, indices)) in enumerate(zip(specs, data, strict=True)):
        extra = rng.standard_normal(spec.M).astype(np.float32) if epilogue else np.zeros(spec.M, np.float32)
        c, split = (np.full((spec.M, spec.N), np.nan, np.float32) for _ in range(2))
        more = [*indices, *([extra] if epilogue else [])]
        run(i, a, b, c, *more)
        run(i, a, b, split, *more, splits=tuple(s for s in (2, 7) if s < spec.M))
        check(c, A, B, spec.K, extra[:, None])
        assert (split == c).all()


@pytest.mark.parametrize(("M", "N", "K", "ta", "tb"), [
    (700, 70, 201, False, True), (701, 24, 1000, False, False), (90, 170, 1700, True, False),
    (9, 784, 900, True, False), (1503, 10, 130, False, True),
])  # fmt: skip
def test_operands_fetched_ahead(target: Target, M: int, N: int, K: int, ta: bool, tb: bool) -> None:
    """Operands larger than a level-2 cache: what tiles ask for changes nothing, wherever the rows are divided."""
    rng = np.random.default_rng(6)
    spec = ProductSpec.contiguous(M, N, K, ta=ta, tb=tb)
    run = compiled([spec], target)
    (a, A), (b, B) = stored(rng, M, K, ta, "f32"), stored(rng, K, N, tb, "f32")
    c, split = (np.full((M, N), np.nan, np.float32) for _ in range(2))
    run(0, a, b, c)
    run(0, a, b, split, splits=(1, M // 2, M - 1))
    check(c, A, B, K)
    assert (split == c).all()


def test_rows_by_index_have_limits() -> None:
    index = Index("i64", 1, 5)
    with pytest.raises(ValueError, match="rows by index are contiguous"):
        ProductSpec.contiguous(3, 4, 5, ta=True, a_index=index)
    batch = {"batch": (2,), "a_batch": (15,), "c_batch": (12,)}
    with pytest.raises(ValueError, match="rows of one table"):
        ProductSpec.contiguous(3, 4, 5, b_index=replace(index, batch=(5,)), **batch, b_batch=(20,))
    with pytest.raises(ValueError, match="a stride for each of the 1 batch dimensions"):
        ProductSpec.contiguous(3, 4, 5, b_index=index, **batch, b_batch=(0,))


def test_blocks_have_limits() -> None:
    for more in ({"block": 3}, {"block": 2, "accumulate": True}, {"block": 2, "epilogue": add_row, "extras": ((),)}):
        with pytest.raises(ValueError, match="need K divisible by them and no epilogue"):
            ProductSpec.contiguous(4, 5, 10 if more["block"] == 3 else 8, **more)


@pytest.mark.parametrize("epilogue", [None, add_row])
def test_batches(target: Target, epilogue: Any) -> None:
    rng = np.random.default_rng(6)
    shapes = [(3, 5, 7), (9, 1, 20), (1, 33, 20), (6, 16, 8)]
    # which of the two batch dimensions (4 x 3) each operand has
    has = list(product([(True, True), (False, True), (True, False), (False, False)], repeat=2))
    specs, operands = [], []
    for (M, N, K), (in_a, in_b) in product(shapes, has):
        a = rng.standard_normal((4 if in_a[0] else 1, 3 if in_a[1] else 1, M, K)).astype(np.float32)
        b = rng.standard_normal((4 if in_b[0] else 1, 3 if in_b[1] else 1, K, N)).astype(np.float32)
        wide = [np.broadcast_to(x, (4, 3, *x.shape[2:])) for x in (a, b)]
        a_batch, b_batch = (tuple(s // 4 for s in x.strides[:2]) for x in wide)
        extras = ((3 * M * 4, M * 4),) if epilogue else ()
        specs.append(
            ProductSpec(
                M,
                N,
                K,
                "f32",
                (K, 1),
                (N, 1),
                (N, 1),
                (4, 3),
                a_batch,
                b_batch,
                (3 * M * N, M * N),
                epilogue=epilogue,
                extras=extras,
            )
        )
        operands.append((a, b))
    run = compiled(specs, target)
    for i, (spec, (a, b)) in enumerate(zip(specs, operands, strict=True)):
        e = rng.standard_normal((4, 3, spec.M)).astype(np.float32) if epilogue else np.zeros((4, 3, spec.M))
        results = []
        for splits in ((), (spec.M + 1,), (1, 5 * spec.M, 5 * spec.M + 1)):
            c = np.full((4, 3, spec.M, spec.N), np.nan, np.float32)
            run(i, a, b, c, *([e] if epilogue else []), splits=splits)
            results.append(c)
        reference = a.astype(np.float64) @ b + e[..., None]
        np.testing.assert_allclose(results[0], reference, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


def plans_for(spec: ProductSpec, target: Target) -> Iterator[Plan]:
    """The chosen plan and others that the table of costs might choose on another processor."""
    plan = make_plan(spec, target)
    yield plan
    if plan.family == "outer":
        yield replace(plan, depth=7)
        yield replace(plan, depth=50, chains=4)
        if plan.pack == "turn":
            yield replace(plan, pack="any")


@pytest.mark.parametrize("epilogue", [None, add_row])
def test_every_way_of_blocking(target: Target, epilogue: Any) -> None:
    rng = np.random.default_rng(7)
    shapes = [(40, 70, 150), (5, 200, 101)]
    cases = [
        (spec, plan)
        for s, ta, tb, accumulate in product(shapes, (False, True), (False, True), (False, True))
        for spec in [
            ProductSpec.contiguous(
                *s, ta=ta, tb=tb, accumulate=accumulate, epilogue=epilogue, extras=((),) if epilogue else ()
            )
        ]
        for plan in plans_for(spec, target)
    ]
    run = compiled([s for s, _ in cases], target, [p for _, p in cases])
    assert len(cases) > 40
    for i, (spec, plan) in enumerate(cases):
        (a, A) = stored(rng, spec.M, spec.K, spec.a_strides[0] == 1, "f32")
        (b, B) = stored(rng, spec.K, spec.N, spec.b_strides[0] == 1, "f32")
        first = rng.standard_normal((spec.M, spec.N)).astype(np.float32)
        e = rng.standard_normal(spec.M).astype(np.float32) if epilogue else np.zeros(spec.M, np.float32)
        c = first.copy()
        run(i, a, b, c, *([e] if epilogue else []))
        check(c, A, B, spec.K + 1, (first.astype(np.float64) if spec.accumulate else 0.0) + e[:, None])
        split = first.copy()
        run(i, a, b, split, *([e] if epilogue else []), splits=(3, 4, spec.M - 1))
        np.testing.assert_array_equal(c, split, err_msg=str(plan))


def test_zero_steps_of_k_and_empty_results(target: Target) -> None:
    specs = [
        ProductSpec.contiguous(3, 20, 0),
        ProductSpec.contiguous(3, 20, 0, accumulate=True),
        ProductSpec.contiguous(3, 20, 0, tb=True, epilogue=add_row, extras=((),)),
        ProductSpec.contiguous(0, 20, 5),
        ProductSpec.contiguous(3, 0, 5),
        replace(ProductSpec.contiguous(3, 4, 5), batch=(0,), a_batch=(15,), b_batch=(20,), c_batch=(12,)),
    ]
    run = compiled(specs, target)
    nothing, e = np.zeros(1, np.float32), np.arange(3, dtype=np.float32)
    for i, expected in enumerate([0.0, 5.0, np.repeat(e[:, None], 20, 1), 5.0, 5.0, 5.0]):
        c = np.full((3, 20), 5.0, np.float32)
        run(i, nothing, nothing, c, *([e] if i == 2 else []))
        np.testing.assert_array_equal(c, np.broadcast_to(np.asarray(expected, np.float32), (3, 20)))


def test_special_values_pass(target: Target) -> None:
    """Zeros do not hide NaN and infinity, and lanes beyond the last column do not leak into others."""
    M, N, K = 9, 21, 40
    specs = [ProductSpec.contiguous(M, N, K, ta=ta, tb=tb) for ta, tb in product((False, True), repeat=2)]
    run = compiled(specs, target)
    for i, (ta, tb) in enumerate(product((False, True), repeat=2)):
        A, B = np.zeros((M, K), np.float32), np.zeros((K, N), np.float32)
        A[2, 3], B[5, 20], B[6, 0] = np.nan, np.inf, -np.inf
        A[4, 6] = 1
        c = np.empty((M, N), np.float32)
        run(i, np.ascontiguousarray(A.T) if ta else A, np.ascontiguousarray(B.T) if tb else B, c)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(c, A @ B)


def test_equal_tiles_are_shared() -> None:
    module = Module(describe(None))
    emit_product(module, "one", ProductSpec.contiguous(48, 64, 80))
    before = module.text.count("define internal")
    emit_product(module, "two", ProductSpec.contiguous(48, 64, 80))
    assert before > 0
    assert module.text.count("define internal") == before


def test_specification_errors() -> None:
    with pytest.raises(ValueError, match="dtype 'i32'"):
        ProductSpec.contiguous(1, 1, 1, "i32")
    with pytest.raises(ValueError, match="not negative"):
        ProductSpec.contiguous(-1, 1, 1)
    with pytest.raises(ValueError, match="a_batch"):
        ProductSpec.contiguous(1, 1, 1, batch=(2,))
    with pytest.raises(ValueError, match="extra pointer"):
        ProductSpec.contiguous(1, 1, 1, extras=((1,),))


_GUARDED = '''
import ctypes, mmap, sys
import numpy as np
from itertools import pairwise, product
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.gemm import ProductSpec, emit_product
from chainrule.compiler.llvm.target import build, describe

libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
keep = []

def guarded(x, at_end):
    """x in memory whose neighbours on one side may not be touched."""
    inside = -(-max(x.nbytes, 1) // page) * page
    m = mmap.mmap(-1, inside + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(m))
    for place in (base, base + page + inside):
        assert libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0) == 0
    start = page + (inside - x.nbytes if at_end else 0)
    y = np.frombuffer(m, x.dtype, x.size, start).reshape(x.shape)
    y[...] = x
    keep.append((m, y))
    return y

target = describe(sys.argv[1] or None)
rng = np.random.default_rng(0)
shapes = [(1, 1, 1), (1, 19, 37), (37, 1, 19), (5, 10, 3), (13, 7, 31), (16, 16, 16), (33, 47, 65), (30, 100, 70)]
cases = [(s, ta, tb, d) for s in shapes for ta, tb in product((0, 1), repeat=2) for d in ("f32", "f64")]
module = Module(target)
specs = [ProductSpec.contiguous(*s, d, ta=ta, tb=tb) for s, ta, tb, d in cases]
codes = [emit_product(module, f"f{i}", s) for i, s in enumerate(specs)]
native = build(module.text, target)
for i, ((M, N, K), ta, tb, d) in enumerate(cases):
    dtype = {"f32": "f4", "f64": "f8"}[d]
    A, B = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    f = native.function(f"f{i}", *["ptr"] * 4, "i64", "i64")
    for at_end in (False, True):
        a = guarded(np.ascontiguousarray(A.T) if ta else A, at_end)
        b = guarded(np.ascontiguousarray(B.T) if tb else B, at_end)
        c = guarded(np.zeros((M, N), dtype), at_end)
        s = guarded(np.zeros(-(-codes[i].scratch // 64) * 64, "u1"), at_end)
        f(a.ctypes.data, b.ctypes.data, c.ctypes.data, s.ctypes.data, 0, M)
        assert np.allclose(c, A @ B, rtol=1e-4, atol=1e-4), cases[i]
        keep.clear()
        del a, b, c, s
print("done", len(cases))
'''


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is a POSIX call")
@pytest.mark.parametrize("level", each_level())
def test_nothing_beyond_the_operands_is_touched(level: str | None) -> None:
    """Each array lies against pages without access, at its start or its end; a stray access kills the process."""
    done = subprocess.run([sys.executable, "-c", _GUARDED, level or ""], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("done")
