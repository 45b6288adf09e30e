"""Machine code of gathers, scans, sorts, positions and integer products, against the reference kernels.

Equality is bit for bit, in every dtype and at every vector level that the processor has; inputs end where memory that
may not be read begins, and come as flipped, transposed and strided views.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler.kernels import Call, Routine
from chainrule.compiler.llvm.target import Target, describe
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.verify import verify_program
from chainrule.ir.op import REGISTRY
from chainrule.tensors.fastpath import TENSORS
from lowering_cases import (
    DECOMPOSED,
    DTYPES,
    MOVES,
    ROUTINES,
    SUMS,
    Array,
    Drawn,
    Fences,
    Params,
    compiled,
    disguised,
    draw,
    same,
)  # fmt: skip
from op_cases import Case, cases, kernel


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
    _check(name, [(d, draw(name, rng, d)) for d in kinds for _ in range(24 // len(kinds) + 2)], rng, target, fences)


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


# ---- what is left
def test_no_op_runs_outside_machine_code():
    """Every op of the registry, compiled from its samples: none becomes a call."""
    called: dict[str, list[str]] = {}
    routines = set()
    for case in cases():
        kernels = compiled(case.function, case.wide(), describe()).plan.kernels
        for k in kernels:
            if isinstance(k, Call):
                called.setdefault(case.op.name, []).append(str(k))
        routines.update(k.instruction.op.name for k in kernels if isinstance(k, Routine))
    assert not called
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
