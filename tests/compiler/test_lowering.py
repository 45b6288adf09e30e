"""Machine code of gathers, scans, sorts, random numbers, positions and integer products, against the reference kernels.

Equality is bit for bit, in every dtype and at every vector level that the processor has; inputs end where memory that
may not be read begins, and come as flipped, transposed and strided views.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.kernels import Call, Routine
from chainrule.compiler.llvm.target import LEVELS, Target, describe
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.verify import verify_program
from chainrule.ir.op import REGISTRY
from chainrule.tensors.fastpath import TENSORS
from op_cases import Case, cases, kernel

Array = np.ndarray[Any, Any]
Params = dict[str, Any]
Drawn = tuple[list[Array], Params]

#: the ops of this file: what each is drawn from, and the dtypes
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


def targets() -> list[str]:
    """The levels this processor has."""
    found = []
    for level in LEVELS:
        try:
            describe(level)
        except ValueError:
            break
        found.append(level)
    return found


@pytest.fixture(params=targets())
def target(request: pytest.FixtureRequest) -> Target:
    return describe(request.param)


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


@pytest.fixture
def fences() -> Fences:
    return Fences()


# ---- every op on random shapes, several in one program
def _check(name: str, draws: list[tuple[str, Drawn]], rng: np.random.Generator, target: Target, fences: Fences) -> None:
    parts = [(arrays, [disguised(rng, a) for a in arrays], params) for _, (arrays, params) in draws]
    apply = getattr(TENSORS, name)

    def function(*flat: cr.Tensor) -> list[cr.Tensor]:
        rest, out = iter(flat), []
        for arrays, seen, params in parts:
            out.append(apply(*(look(next(rest)) for _, (_, look) in zip(arrays, seen, strict=True)), **params))
        return out

    flat = [a for _, seen, _ in parts for a, _ in seen]
    native = compiled(function, flat, target)
    assert not [str(c) for c in native.plan.calls]
    if name not in SUMS or all(dtype != "f2" for dtype, _ in draws):
        verify_program(native, flat, strict=True)  # and nothing else in memory was written
    for found, (arrays, _, params), (dtype, _) in zip(native([fences(a) for a in flat]), parts, draws, strict=True):
        with np.errstate(all="ignore"):
            wanted = np.asarray(kernel(REGISTRY[name])(*arrays, **params))
        assert same(found, wanted), (name, dtype, params, [a.shape for a in arrays], found, wanted)


@pytest.mark.parametrize("name", sorted((ROUTINES | DECOMPOSED | {"matmul"}) - {"uniform", "random_bits"}))
def test_equals_the_reference_kernel(name: str, target: Target, fences: Fences):
    rng = np.random.default_rng(list(name.encode()))
    kinds = [d for d in DTYPES if d != "f2" or name in MOVES or target.has_f16]
    if name == "ravel_index":
        kinds = ["i8"]
    if name == "matmul":
        kinds = [d for d in kinds if d[0] != "f"]
    _check(name, [(d, draw(name, rng, d)) for d in kinds for _ in range(40 // len(kinds) + 2)], rng, target, fences)


@pytest.mark.parametrize("case", cases(lambda c: c.op.name in ROUTINES | DECOMPOSED), ids=repr)
def test_samples(case: Case, target: Target):
    native = compiled(case.function, case.arrays(), target)
    assert not native.plan.calls
    for again in range(2):
        arrays = case.arrays(again)
        assert same(native(arrays)[0], np.asarray(case.op.kernel(*arrays, **case.params)))


# ---- indices that are out of bounds
def _bad(name: str, target: Target, fences: Fences, value: int) -> tuple[NativeProgram, list[Array], Params]:
    """An op compiled from its sample, and arrays with one index replaced by ``value``."""
    case = next(c for c in cases() if c.op.name == name)
    arrays = case.arrays()
    native = compiled(case.function, arrays, target)
    arrays[0 if name == "one_hot" else 1].reshape(-1)[-1] = value
    return native, [fences(a) for a in arrays], case.params


@pytest.mark.parametrize("value", [5, -6, 2**62, -(2**63), 2**63 - 1])
@pytest.mark.parametrize(
    "name", ["take", "take_add", "gather", "scatter", "scatter_add", "put_rows", "ravel_index", "one_hot"]
)
def test_an_index_out_of_bounds_is_refused_as_in_eager_mode(name: str, value: int, target: Target, fences: Fences):
    native, arrays, params = _bad(name, target, fences, value)
    with pytest.raises(IndexError) as wanted:
        REGISTRY[name].kernel(*arrays, **params)
    before = [a.copy() for a in arrays]
    for _ in range(2):
        with pytest.raises(IndexError) as found:
            native(arrays)
        messages = [[k for k in str(e.value).splitlines() if ".py:" not in k] for e in (found, wanted)]
        assert messages[0] == messages[1]
        assert "out of" in messages[0][0]
    assert all(same(a, b) for a, b in zip(arrays, before, strict=True))
    fine = [np.zeros_like(a) if a.dtype == "i8" else a for a in arrays]
    assert same(native(fine)[0], np.asarray(REGISTRY[name].kernel(*fine, **params)))


@pytest.mark.parametrize("name", ["gather", "scatter", "scatter_add"])
def test_negative_indices_do_not_count_from_the_end_element_by_element(name: str, target: Target, fences: Fences):
    native, arrays, _ = _bad(name, target, fences, -1)
    with pytest.raises(IndexError, match="index -1 is out of range"):
        native(arrays)


def test_every_position_of_an_index_is_checked(target: Target):
    """In vectors and in what is left of a row, dense and strided."""
    x = np.arange(7.0)
    for size, step in ((1, 1), (9, 1), (21, 1), (21, 3)):
        function = lambda x, i, step=step: TENSORS.take(x, i[::step], axis=0)  # noqa: E731
        native = compiled(function, [x, np.zeros(size, np.int64)], target)
        for k in range(0, size, step):
            index = np.full(size, 6)
            assert native([x, index])[0].tolist() == [6.0] * len(range(0, size, step))
            index[k] = 7
            with pytest.raises(IndexError, match="index 7 is out of range"):
                native([x, index])
        if step > 1:
            index = np.zeros(size, np.int64)
            index[1] = 99  # not part of the view
            assert native([x, index])[0].tolist() == [0.0] * len(range(0, size, step))


# ---- what is particular to an op
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


# ---- what is left
#: ops that run as their reference kernels, and why
CALLED = {
    "digamma": "NumPy has none either: SciPy's series, and no program in common use is bound by it",
    "erfinv": "as digamma",
    "lgamma": "as digamma",
    "polygamma": "as digamma",
}


def test_ops_that_run_outside_machine_code_are_known():
    """Every op of the registry, compiled from its samples: those that become calls are the ones listed above."""
    called: dict[str, list[str]] = {}
    routines = set()
    for case in cases():
        kernels = compiled(case.function, case.wide(), describe()).plan.kernels
        for k in kernels:
            if isinstance(k, Call):
                called.setdefault(case.op.name, []).append(str(k))
        routines.update(k.instruction.op.name for k in kernels if isinstance(k, Routine))
    print("\n".join(f"{name}: {CALLED.get(name, '?')}" for name in sorted(called)))
    assert set(called) == set(CALLED), called
    assert routines == ROUTINES


@pytest.mark.parametrize("name", ["take_add", "cumsum", "scatter_add", "argmax"])
def test_float16_is_called_where_the_processor_cannot_convert_it(name: str):
    rng = np.random.default_rng(1)
    arrays, params = draw(name, rng, "f2")
    target = describe("sse2") if describe().is_x86 else replace(describe(), has_f16=False)
    native = compiled(lambda *xs: getattr(TENSORS, name)(*xs, **params), arrays, target)
    assert [c.instruction.op.name for c in native.plan.calls] == [name]
    with np.errstate(all="ignore"):
        assert same(native(arrays)[0], np.asarray(REGISTRY[name].kernel(*arrays, **params)))


@pytest.mark.parametrize("seed", range(3))
def test_float16_products_are_computed_in_float32(seed: int, target: Target):
    """Rounded to float16 once; before, each float32 rounding is at most 2^-24 of the sum of absolute products."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal(s).astype("f2") for s in ((2, 7, 40), (40, 9)))
    found = compiled(lambda x, y: x @ y, [x, y], target)([x, y])[0]
    exact, size = x.astype("f8") @ y.astype("f8"), np.abs(x).astype("f8") @ np.abs(y).astype("f8")
    assert found.dtype == "f2"
    assert (np.abs(found - exact) <= 2.0**-11 * np.abs(exact) + 41 * 2.0**-24 * size + 2.0**-25).all()
