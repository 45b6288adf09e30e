"""Gathers that products do for themselves: which, that numbers and errors stay right, with indices of every kind."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler import capture, gathers
from chainrule.compiler.explain import explain_compilation
from chainrule.compiler.kernels import Plan, Product, Routine
from chainrule.compiler.native import NativeProgram
from chainrule.tensors.fastpath import TENSORS
from native_checks import arrays_of, checked, trained


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Matrices of any size are looked up in these tests."""
    monkeypatch.setattr(gathers, "LEAST", 0)


def numbers(*shape: int, seed: int = 0, dtype: str = "f4") -> cr.Tensor:
    return cr.from_numpy(np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype))


def indices(count: int, size: int, dtype: str = "i8", low: int | None = None) -> cr.Tensor:
    return cr.from_numpy(np.random.default_rng(9).integers(-size if low is None else low, size, count).astype(dtype))


def looked_up(plan: Plan) -> list[tuple[bool, bool]]:
    """Per product, whether it looks up rows of A and of B."""
    return [(k.a_rows is not None, k.b_rows is not None) for k in plan.kernels if isinstance(k, Product)]


def written(plan: Plan) -> int:
    """How many gathers are written out."""
    return sum(1 for k in plan.kernels if isinstance(k, Routine) and k.outputs)


take = lambda x, i: TENSORS.take(x, i, axis=0)  # noqa: E731


# ---- what is looked up
@pytest.mark.parametrize(("dtype", "integer"), [("f4", "i8"), ("f8", "i4"), ("f4", "u1")])
def test_rows_of_both_operands(dtype, integer, target):
    x, w, g = numbers(40, 30, dtype=dtype), numbers(20, 30, seed=1, dtype=dtype), numbers(50, 17, seed=2, dtype=dtype)
    i = indices(50, 40, integer, 0 if integer == "u1" else None)

    def run(x, i, w, g):
        rows = take(x, i)
        return (rows @ w.T).relu(), g.T @ rows

    plan = checked(run, x, i, w, g, target=target).plan
    assert looked_up(plan) == [(True, False), (False, True)]
    assert written(plan) == 0
    assert plan.arena == 0


def test_tables_and_indices_that_are_views(target):
    x, w, i = numbers(40, 64), numbers(64, 24, seed=1), indices(60, 40)
    plan = checked(lambda x, i, w: take(x[:, :48], i[::3]) @ w[8:56], x, i, w, target=target).plan
    assert looked_up(plan) == [(True, False)]
    plan = checked(lambda x, i, w: take(x.flip(0), i.flip(0)) @ w, x, i, w, target=target).plan
    assert looked_up(plan) == [(True, False)]


def test_a_blocked_product_looks_up_rows_of_b(target):
    """More steps than a block has, and more bytes than the second-level cache."""
    x, g, i = numbers(300, 200), numbers(1100, 24, seed=1), indices(1100, 300)
    plan = checked(lambda x, i, g: g.T @ take(x, i), x, i, g, target=target).plan
    assert looked_up(plan) == [(False, True)]


# ---- what is not
def test_what_something_else_uses_is_written_out(monkeypatch):
    x, w, i = numbers(40, 30), numbers(30, 20, seed=1), indices(50, 40)
    others = [
        lambda x, i, w: (take(x, i) @ w, take(x, i)),  # returned
        lambda x, i, w: (take(x, i) @ w, take(x, i).exp()),  # read by a loop
        lambda x, i, w: take(x, i).T @ (take(x, i) @ w),  # read down its columns
        lambda x, i, w: take(x, i) @ w[:, :3],  # other code is quicker
        lambda x, i, w: take(x, i)[:20] @ w,  # a part of it
        lambda x, i, w: take(x[:, ::2], i) @ w[:15],  # rows that are not contiguous
        lambda x, i, w: take(x, i.reshape(5, 10)) @ w,  # a batch
        lambda x, i, w: take(x, i) @ take(x, i).T[:, :20],  # down its columns
    ]
    for run in others:
        plan = checked(run, x, i, w).plan
        assert written(plan) >= 1, str(plan)
    monkeypatch.setattr(gathers, "LEAST", 1 << 20)
    assert written(checked(lambda x, i, w: take(x, i) @ w, x, i, w).plan) == 1


# ---- errors, threads, training
@pytest.mark.parametrize("bad", [40, -41, 2**62, -(2**63)])
def test_an_index_out_of_bounds_raises_before_anything_is_read(bad):
    x, w, i = numbers(40, 30), numbers(30, 20, seed=1), indices(50, 40)
    program = capture(lambda x, i, w: take(x, i) @ w, x, i, w)
    native = NativeProgram(program.graph)
    assert looked_up(native.plan) == [(True, False)]
    arrays = arrays_of(program, (x, i, w))
    broken = [np.where(np.arange(50) == 49, bad, a) if a.dtype == np.int64 else a for a in arrays]
    with pytest.raises(IndexError, match="out of"):
        native(broken)
    np.testing.assert_allclose(native(arrays)[0], x.numpy()[i.numpy()] @ w.numpy(), rtol=1e-4, atol=1e-5)


def test_training_looks_up_its_batches_with_any_number_of_threads(monkeypatch):
    before, x = cr.get_num_threads(), numbers(500, 200)
    try:
        one, compiled = trained(x, 150, 4, 1, monkeypatch)
        plan = compiled.bound[-1].native.plan
        assert sum(a + b for a, b in looked_up(plan)) == 2, str(plan)
        assert "checks of" in explain_compilation(compiled)
        for threads in (2, 3):
            several, compiled = trained(x, 150, 4, threads, monkeypatch)
            assert compiled.bound[-1].native.parallel
            assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
        monkeypatch.setenv("CHAINRULE_COMPILE", "0")
        for a, b in zip(one, trained(x, 150, 4, 1, monkeypatch)[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    finally:
        cr.set_num_threads(before)
