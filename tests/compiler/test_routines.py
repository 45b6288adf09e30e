"""What is particular to a gather, a sort, argmax, integer division and random numbers in machine code."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler.llvm.target import Target, describe
from chainrule.ir.op import REGISTRY
from chainrule.tensors.fastpath import TENSORS
from lowering_cases import DTYPES, Fences, compiled, numbers, same


@pytest.fixture
def fences() -> Fences:
    return Fences()


# ---- places
@pytest.mark.parametrize("width", [1, 2, 7, 16, 33, 100])
def test_an_index_repeated_along_a_slice(width: int, target: Target, fences: Fences):
    """One index for a whole slice is read once; places of the slice are moved as vectors, also added to."""
    rng = np.random.default_rng(width)
    x, v = rng.standard_normal((6, width)).astype("f4"), rng.standard_normal((9, width)).astype("f4")
    index = rng.integers(0, 6, (9, 1))

    def function(x: cr.Tensor, i: cr.Tensor, v: cr.Tensor) -> list[cr.Tensor]:
        rows, same = i.expand(9, width), i[:1].expand(9, width)
        one = TENSORS.reshape(x, (6 * width,))
        return [
            TENSORS.gather(x, rows, axis=0), TENSORS.scatter(x, rows, v, axis=0),
            TENSORS.scatter_add(x, rows, v, axis=0), TENSORS.scatter_add(x, same, v, axis=0),
            TENSORS.scatter_add(one, TENSORS.reshape(same, (9 * width,)), TENSORS.reshape(v, (9 * width,)), axis=0),
            TENSORS.take(x, i[:1, 0].expand(5), axis=0), TENSORS.take_add(v, i[:1, 0].expand(9), axis=0, length=6),
        ]  # fmt: skip

    native = compiled(function, [x, index, v], target)
    full, same_index = np.repeat(index, width, 1), np.full((9, width), index[0, 0])
    added, taken = np.zeros_like(x), x[[index[0, 0]] * 5]
    for row in v:
        added[index[0, 0]] += row
    call = lambda name, *xs: REGISTRY[name].kernel(*xs, axis=0)  # noqa: E731
    wanted = [
        call("gather", x, full), call("scatter", x, full, v), call("scatter_add", x, full, v),
        call("scatter_add", x, same_index, v), call("scatter_add", x.ravel(), same_index.ravel(), v.ravel()),
        taken, added,
    ]  # fmt: skip
    for found, right in zip(native([fences(a) for a in (x, index, v)]), wanted, strict=True):
        assert same(found, right)


@pytest.mark.parametrize("integer", ["i8", "i4", "u1"])
@pytest.mark.parametrize(("dtype", "width", "count"), [("f4", 64, 1), ("f4", 77, 5), ("f8", 1500, 3), ("i1", 300, 60)])
def test_long_rows_are_fetched_ahead(dtype: str, width: int, count: int, integer: str, target: Target, fences: Fences):
    """Rows of more than a few lines of the cache, dense or between others, indices also from the end or strided."""
    rng = np.random.default_rng(width)
    x = rng.integers(-99, 99, (7, 2, width)).astype(dtype)
    index = rng.integers(0 if integer == "u1" else -7, 7, 2 * count).astype(integer)

    def function(x: cr.Tensor, i: cr.Tensor) -> list[cr.Tensor]:
        return [TENSORS.take(x, i, axis=0), TENSORS.take(x[:, 1], i[::2], axis=0)]

    found = compiled(function, [x, index], target)([fences(x), fences(index)])
    assert same(found[0], x[index])
    assert same(found[1], x[:, 1][index[::2]])


def test_writes_leave_the_operand_alone(target: Target):
    x, index, v = np.arange(12.0).reshape(4, 3), np.array([1, 1, -1]), np.ones((3, 3))

    def function(a: cr.Tensor, i: cr.Tensor, b: cr.Tensor) -> list[cr.Tensor]:
        y = a * 2.0
        return [TENSORS.put_rows(y, i, b), y, TENSORS.put_rows(a, i, b + 1.0), a + y]

    native = compiled(function, [x, index, v], target)
    first, second = (np.copy(s) for s in (x * 2.0, x))
    first[index], second[index] = v, v + 1.0
    for found, wanted in zip(native([x, index, v]), (first, x * 2.0, second, x * 3.0), strict=True):
        assert same(found, wanted)
    assert same(x, np.arange(12.0).reshape(4, 3))


def test_sums_at_one_place_are_added_in_order(target: Target):
    """A different order would round differently."""
    rng = np.random.default_rng(0)
    g = (rng.standard_normal((500, 3)) * 10.0 ** rng.integers(-6, 6, (500, 1))).astype("f4")
    index = rng.integers(0, 4, 500)
    native = compiled(lambda g, i: TENSORS.take_add(g, i, axis=0, length=4), [g, index], target)
    wanted = np.zeros((4, 3), "f4")
    for row, k in zip(g, index, strict=True):
        wanted[k] += row
    assert same(native([g, index])[0], wanted)


@pytest.mark.parametrize("dtype", [*DTYPES, "i1"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 1000])
def test_sorting_is_stable_with_nan_last(n: int, descending: bool, dtype: str):
    rng = np.random.default_rng(n)
    x = numbers(rng, dtype, (3, n)) if n > 1 else np.ones((3, 1), dtype)
    if x.dtype.kind == "f":
        x[0, rng.integers(0, n, n // 5)] = np.nan
        x[1, rng.integers(0, n, n // 3)] = -0.0
        x[2, rng.integers(0, n, n // 5)] = np.finfo(dtype).smallest_subnormal
    params = {"axis": 1, "descending": descending}
    native = compiled(lambda a: TENSORS.argsort(a, **params), [x], describe())
    order = native([x])[0]
    assert same(order, REGISTRY["argsort"].kernel(x, **params))
    for row, place in zip(x.tolist(), order.tolist(), strict=True):  # and by definition, not by the kernel alone
        ranks = [(v != v, 0 if v != v else v) for v in row]
        assert place == [
            k for _, k in sorted(((r, k) for k, r in enumerate(ranks)), key=lambda p: p[0], reverse=descending)
        ]


@pytest.mark.parametrize("test", ["argmax", "argmin"])
def test_the_first_of_ties_and_the_first_nan(test: str, target: Target):
    inf, nan = np.inf, np.nan
    rows = [[1, 3, 3, 1], [0.0, -0.0, 0.0, -0.0], [2, nan, 9, nan], [inf, -inf, inf, -inf], [nan, nan, nan, nan]]
    rows = np.array(rows, "f4")
    native = compiled(lambda a: getattr(TENSORS, test)(a, axis=1), [rows], target)
    assert native([rows])[0].tolist() == ([1, 0, 1, 0, 0] if test == "argmax" else [0, 0, 1, 1, 0])


def test_the_first_of_no_elements_is_refused():
    empty = np.zeros((0, 3))
    native = compiled(lambda a: TENSORS.argmax(a, axis=0), [empty], describe())
    with pytest.raises(ValueError, match="attempt to get argmax of an empty sequence"):
        native([empty])


# ---- integer division and powers
@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide", "pow"])
@pytest.mark.parametrize("dtype", ["i8", "i4", "i2", "i1", "u1"])
def test_integers_that_eager_mode_may_refuse(name: str, dtype: str, target: Target, fences: Fences):
    rng = np.random.default_rng(5)
    kind = np.dtype(dtype)
    x, y = (numbers(rng, dtype, (4, 37)) for _ in range(2))
    y = np.where(y == 0, 3, y).astype(kind)
    if name == "pow":
        y = (y & 15).astype(kind)
    else:
        y[0, ::3] = np.array(-1).astype(kind)
        x[0, ::2] = np.iinfo(kind).min
    apply, call = getattr(TENSORS, name), REGISTRY[name].kernel

    def function(x: cr.Tensor, y: cr.Tensor) -> list[cr.Tensor]:
        return [apply(x, y), apply(x[:, ::2], y[:, ::2]), apply(x, y[:, :1].expand(4, 37)), apply(x[0, 0], y[1, 1])]

    native = compiled(function, [x, y], target)
    assert not [str(c) for c in native.plan.calls]
    with np.errstate(all="ignore"):
        column = np.broadcast_to(y[:, :1], y.shape)
        wanted = [call(x, y), call(x[:, ::2], y[:, ::2]), call(x, column), np.asarray(call(x[0, 0], y[1, 1]))]
    for found, right in zip(native([fences(x), fences(y)]), wanted, strict=True):
        assert same(found, right)
    if kind.kind == "u" and name == "pow":
        return
    for k in (0, 36, 100, 147):
        bad = y.copy()
        bad.reshape(-1)[k] = -1 if name == "pow" else 0
        with pytest.raises((ZeroDivisionError, ValueError)) as expected:
            call(x, bad)
        with pytest.raises(expected.type, match=str(expected.value).splitlines()[0]):
            native([x, bad])


# ---- random numbers
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 1000])
def test_random_numbers_are_those_of_the_reference(count: int, target: Target):
    shape = (count,)
    kinds = ["f4", "f8", "f2"] if target.has_f16 else ["f4", "f8"]

    def function(seed: cr.Tensor, offset: cr.Tensor) -> list[cr.Tensor]:
        uniform = [TENSORS.uniform(seed, offset, shape=shape, dtype=np.dtype(d)) for d in kinds]
        return [*uniform, TENSORS.random_bits(seed, offset, shape=shape)]

    native = compiled(function, [np.array(0), np.array(0)], target)
    assert not native.plan.calls
    names = [*(("uniform", {"dtype": np.dtype(d)}) for d in kinds), ("random_bits", {})]
    for seed in (0, 1, -1, 2**63 - 1, -(2**63), 987654321987654321):
        for offset in (0, 1, 2**32 - 1, 2**63 - 3, -2, -(2**63)):
            found = native([np.array(seed), np.array(offset)])
            for got, (name, params) in zip(found, names, strict=True):
                assert same(got, REGISTRY[name].kernel(seed, offset, shape=shape, **params)), (seed, offset, name)
