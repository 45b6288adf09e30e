"""Products that look for zeros in data: which ones do, and that numbers, special values and threads see none of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler.compiled import compile
from chainrule.compiler.explain import explain_compilation
from chainrule.compiler.kernels import Plan, Product
from chainrule.compiler.zeros import operands_with_zeros
from chainrule.tensors.fastpath import TENSORS
from native_checks import checked, trained


def numbers(*shape: int, seed: int = 0, dtype: str = "f4") -> cr.Tensor:
    return cr.from_numpy(np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype))


def images(rows: int, columns: int, seed: int = 0, dtype: str = "f4") -> cr.Tensor:
    """Mostly zeros, some columns nothing but zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.1) * (rng.random(columns) < 0.7)
    return cr.from_numpy(np.asarray(x, dtype))


def looked_at(plan: Plan) -> list[str]:
    """Of each product, the operand whose zeros it leaves out."""
    return [k.zeros for k in plan.kernels if isinstance(k, Product)]


take = lambda x, i: TENSORS.take(x, i, axis=0)  # noqa: E731


# ---- which
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_layer_and_its_gradient_look_at_the_data(dtype, target):
    x, w, g = images(70, 100, dtype=dtype), numbers(50, 100, seed=1, dtype=dtype), numbers(70, 50, seed=2, dtype=dtype)
    native = checked(
        lambda x, w, g: (x @ w.T, g.T @ x, g @ w), x, w, g, target=target, draws=[(numbers(70, 100, dtype=dtype), w, g)]
    )
    assert looked_at(native.plan) == ["a", "b", ""]


def test_gathered_rows_are_data(target):
    x, w, g = images(300, 100), numbers(50, 100, seed=1), numbers(200, 50, seed=2)
    i = cr.from_numpy(np.random.default_rng(0).integers(-300, 300, 200))
    native = checked(lambda x, i, w, g: (take(x, i) @ w.T, g.T @ take(x, i)), x, i, w, g, target=target)
    assert looked_at(native.plan) == ["a", "b"]


def test_batches_of_matrices():
    x, w, several = images(3 * 40, 100), numbers(50, 100, seed=1), numbers(3, 100, 50, seed=2)
    x = x.reshape(3, 40, 100).contiguous()
    native = checked(lambda x, w, s: (x @ w.T, x @ s), x, w, several)
    assert looked_at(native.plan) == ["a", "a"]
    several[1, 99, 3] = np.inf
    spoilt = checked(lambda x, s: x @ s, x, several)
    found = spoilt([x.numpy(), several.numpy()])[0]
    assert np.isnan(found[1, :, 3]).any()
    assert np.isfinite(found[[0, 2]]).all()


def test_what_is_computed_narrow_or_read_down_its_columns_is_not():
    x, w, narrow = images(70, 100), numbers(100, 50, seed=1), numbers(100, 31, seed=2)
    for run in (
        lambda x, w, n: x.relu() @ w,
        lambda x, w, n: x @ n,
        lambda x, w, n: x[:31] @ w,
        lambda x, w, n: x[:, :63] @ w[:63],
        lambda x, w, n: x[:, ::2] @ w[:50],
    ):
        plan = checked(run, x, w, narrow).plan
        assert looked_at(plan) == [""], str(plan)
    assert looked_at(checked(lambda x, w, n: x[:, 10:] @ w[10:], x, w, narrow).plan) == ["a"]


def test_data_without_zeros_is_not_looked_at():
    """Which data has zeros is seen at the call that compiles; the results do not depend on it."""
    w, dense, sparse = numbers(50, 100, seed=1), numbers(70, 100), images(70, 100)
    results = []
    for first, expected in ((dense, ""), (sparse, "a")):
        compiled = compile(lambda x, w: x @ w.T)
        compiled(first, w)
        assert looked_at(compiled.bound[0].native.plan) == [expected]
        results.append([compiled(x, w).numpy() for x in (dense, sparse)])
        assert len(compiled.bound) == 1
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_learnt_or_written_is_no_data():
    """Weights and averages that begin as zeros will not stay so; what a step only reads is data."""
    x, w, average, fixed = numbers(100, 70), cr.zeros(50, 100, requires_grad=True), cr.zeros(50, 100), cr.zeros(50, 100)

    @compile
    def step(x):
        out = w @ x + average @ x
        out.sum().backward()
        average.add_(1.0)
        return out + fixed @ x

    step(x)
    assert looked_at(step.bound[0].native.plan).count("a") == 1


@pytest.mark.parametrize(
    ("shape", "expected"), [((200, 64), "ab"), ((3, 200, 64), "ab"), ((200, 8), "a"), ((3, 64), "b")]
)
def test_zeros_are_found_where_they_are_together(shape, expected):
    assert operands_with_zeros(np.zeros(shape, "f4")) == expected
    assert operands_with_zeros(np.ones(shape, "f4")) == ""
    assert operands_with_zeros(np.where(np.arange(shape[-1]) % 16, np.zeros(shape), 1.0)) == expected.replace("b", "")
    assert operands_with_zeros(np.where(np.arange(shape[-2])[:, None] % 4, np.zeros(shape), 1.0)) == expected.replace(
        "a", ""
    )


def test_only_matrices_of_numbers_have_zeros_to_leave_out():
    for x in (None, np.zeros(200, "f4"), np.zeros((200, 64), "i8"), np.zeros((0, 64), "f4"), np.zeros((), "f4")):
        assert operands_with_zeros(x) == ""
    assert operands_with_zeros(np.zeros((200, 64), "f4")[::2, ::2]) == "ab"


# ---- special values
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_weights_that_are_not_finite_spoil_what_eager_mode_says_they_do(bad):
    x, w = images(70, 100), numbers(50, 100, seed=1)
    compiled = compile(lambda x, w: x @ w.T)
    for place in (None, (3, 4), (49, 99)):
        if place is not None:
            w[place] = bad
        np.testing.assert_allclose(compiled(x, w).numpy(), (x @ w.T).numpy(), rtol=1e-4, atol=1e-5)
    assert np.isnan(compiled(x, w).numpy()).any()


# ---- training
@pytest.mark.parametrize("batch", [150, 4096])
def test_training_gives_the_same_weights_as_without(batch, monkeypatch):
    """Bit for bit, with any number of threads, also chunk by chunk of a large batch."""
    before, x = cr.get_num_threads(), images(5000, 200)
    try:
        one, compiled = trained(x, batch, 3, 1, monkeypatch)
        plan = compiled.bound[-1].native.plan
        assert sorted(z for z in looked_at(plan) if z) == ["a", "b"]
        assert (plan.chunked is not None) == (batch > 1000)
        assert "without zeros of a" in explain_compilation(compiled)
        for threads in (2, 3):
            several, _ = trained(x, batch, 3, threads, monkeypatch)
            assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
        monkeypatch.setattr("chainrule.compiler.plan.leave_out_zeros", lambda kernels, data: list(kernels))
        whole, compiled = trained(x, batch, 3, 1, monkeypatch)
        assert not any(looked_at(compiled.bound[-1].native.plan))
        assert all(np.array_equal(a, b) for a, b in zip(one, whole, strict=True))
    finally:
        cr.set_num_threads(before)
