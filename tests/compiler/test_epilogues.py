"""Loops that become epilogues of matrix products: which do, that numbers stay right, updates in place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn
from chainrule.compiler import capture
from chainrule.compiler.compiled import compile
from chainrule.compiler.epilogues import MOST_STEPS
from chainrule.compiler.explain import explain_compilation
from chainrule.compiler.kernels import Loop, Plan, Product
from chainrule.compiler.llvm import points
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.threads import Choice
from chainrule.compiler.verify import VerificationError, verify_program
from native_checks import arrays_of, checked


def numbers(*shape: int, seed: int = 0, dtype: str = "f4") -> cr.Tensor:
    return cr.from_numpy(np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype))


def kernels(plan: Plan, kind: type) -> list:
    return [k for k in plan.kernels if isinstance(k, kind)]


def fused(plan: Plan) -> list[list[str]]:
    """The instructions in the epilogue of each product."""
    return [[i.op.name for i in k.epilogue.body] if k.epilogue else [] for k in kernels(plan, Product)]


# ---- what fuses
def test_bias_and_activation_join_the_product(target):
    x, w, c = numbers(19, 7), numbers(7, 35, seed=1), numbers(35, seed=2)
    plan = checked(lambda x, w, c: (x @ w + c).relu(), x, w, c, target=target).plan
    assert fused(plan) == [["add", "relu"]]
    assert len(plan.kernels) == 1
    assert plan.arena == 0  # the product itself is nowhere in memory


def test_a_mask_is_stored_beside_the_result(target):
    x, w, c = numbers(19, 7), numbers(7, 35, seed=1), numbers(35, seed=2)

    def run(x, w, c):
        y = (x @ w + c).relu()
        return y, y <= 0.0

    plan = checked(run, x, w, c, target=target).plan
    assert fused(plan) == [["add", "relu", "le"]]
    assert not kernels(plan, Loop)


def test_a_product_that_is_used_elsewhere_is_stored_too(target):
    x, w = numbers(9, 7), numbers(7, 20, seed=1)
    for run in (lambda x, w: (x @ w, (x @ w) * 2.0), lambda x, w: ((x @ w) * 2.0, (x @ w).T @ x)):
        plan = checked(run, x, w, target=target).plan
        first = kernels(plan, Product)[0]
        assert [i.op.name for i in first.epilogue.body] == ["mul"]
        assert len(first.writes) == 2


def test_sums_stay_loops_over_what_was_stored(target):
    g, w, mask = numbers(30, 6), numbers(6, 21, seed=1), numbers(30, 21, seed=2) > 0.0
    zero = cr.zeros(())

    def run(g, w, mask):
        d = cr.where(mask, g @ w, zero)
        return d, d.sum(0)

    plan = checked(run, g, w, mask, target=target).plan
    assert fused(plan) == [["where"]]
    (loop,) = kernels(plan, Loop)
    assert not loop.body
    assert [r.kind for r in loop.reductions] == ["sum"]


def test_a_batch_of_products_has_an_epilogue(target):
    x, w, c = numbers(3, 5, 8, 6), numbers(5, 6, 17, seed=1), numbers(3, 1, 8, 1, seed=2)
    plan = checked(lambda x, w, c: ((x @ w) * c).tanh(), x, w, c, target=target).plan
    assert fused(plan) == [["mul", "tanh"]]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shapes", [
    ((40, 30), (30, 1)), ((1, 30), (30, 40)), ((7, 300), (300, 9)), ((64, 3), (3, 64)), ((33, 130), (130, 50)),
    ((5, 1), (1, 6)),
])  # fmt: skip
def test_every_family_of_code_applies_it(shapes, dtype, target):
    a, b = numbers(*shapes[0], dtype=dtype), numbers(*shapes[1], seed=1, dtype=dtype)
    for turn_a in (False, True):
        x = a.T.contiguous().T if turn_a else a
        for turn_b in (False, True):
            y = b.T.contiguous().T if turn_b else b
            run = lambda x, y: (x @ y).abs() + 1.0  # noqa: E731
            assert fused(checked(run, x, y, target=target).plan) == [["abs", "add"]]


def test_special_values_pass_through(target):
    x, w, c = numbers(12, 5), numbers(5, 20, seed=1), numbers(20, seed=2)
    x[0, 0], x[1, 1], x[2, 2], c[3], c[4], c[5] = np.nan, np.inf, -np.inf, np.nan, np.inf, -np.inf
    x[3] = 0.0
    c[6:9] = cr.tensor([-0.0, 0.0, 1e-42])

    def run(x, w, c):
        y = (x @ w + c).relu()
        return y, y <= 0.0, cr.where(y > 0.5, y, -y)

    native = checked(run, x, w, c, target=target)
    assert fused(native.plan)[0]
    y = native(arrays_of(capture(run, x, w, c), (x, w, c)))[0]
    assert np.isnan(y[0]).all()
    assert np.isnan(y[:, 3]).all()


# ---- what does not
def _unfused(run, *args) -> None:
    plan = checked(run, *args).plan
    assert not any(fused(plan)), str(plan)


def test_what_does_not_fit_stays_a_loop():
    x, w = numbers(8, 6), numbers(6, 8, seed=1)
    _unfused(lambda x, w: (x @ w).T + (x @ w), x, w)  # two elements of the product at a point
    _unfused(lambda x, w: (x @ w).reshape(4, 16) * 2.0, x, w)  # another space
    _unfused(lambda x, w: ((x @ w) * 2.0).sum(0), x, w)  # what is summed is not stored
    _unfused(lambda x, w: (x @ w).to(cr.float64) * 2.0, x, w)  # wider than the product
    _unfused(lambda x, w: (x @ w) > 0.0, x, w)  # nothing of the product's dtype to store
    _unfused(lambda x, w: (x @ w) * (x @ w).sum(), x, w)  # reads what is known only after the product
    long = numbers(3, MOST_STEPS + 1), numbers(MOST_STEPS + 1, 4, seed=1)
    _unfused(lambda x, w: (x @ w) * 2.0, *long)


def test_parts_of_a_whole_are_written_by_the_product():
    plan = checked(lambda x, w: cr.cat([x @ w, x @ w * 2.0]), numbers(8, 6), numbers(6, 8, seed=1)).plan
    assert fused(plan) == [["mul", "copy", "copy"]]
    assert len(plan.kernels) == 1


def test_the_second_of_two_products_takes_the_loop():
    x, w, v = numbers(8, 6), numbers(6, 9, seed=1), numbers(6, 9, seed=2)
    plan = checked(lambda x, w, v: x @ w + x @ v, x, w, v).plan
    assert fused(plan) == [[], ["add"]]


# ---- state, threads, reports
def _training(threads: int, monkeypatch, steps: int = 4) -> tuple[list[np.ndarray], object]:
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: threads)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    cr.set_num_threads(threads)
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 70), nn.ReLU(), nn.Linear(70, 90), nn.Tanh(), nn.Linear(90, 10))
    optimizer = cr.optim.SGD(model.parameters(), lr=0.05)
    x, t = numbers(150, 200), cr.from_numpy(np.random.default_rng(3).integers(0, 10, 150))

    def step(x, t):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    compiled = compile(step)
    for _ in range(steps):
        compiled(x, t)
    arrays = [p.detach().numpy().copy() for p in model.parameters()]
    arrays += [p.grad.numpy().copy() for p in model.parameters()]
    return arrays, compiled


@pytest.fixture
def _threads():
    before = cr.get_num_threads()
    yield
    cr.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_weights_are_updated_in_place_by_the_product_of_their_gradient(monkeypatch):
    arrays, compiled = _training(1, monkeypatch)
    plan, aliases = compiled.bound[-1].native.plan, compiled.bound[-1].aliases
    updates = [k for k in kernels(plan, Product) if k.epilogue and len(k.writes) == 2 and len(k.epilogue.body) >= 2]
    assert len(updates) >= 3, str(plan)
    assert aliases == 6  # all weights and biases
    monkeypatch.setenv("CHAINRULE_COMPILE", "0")
    for a, b in zip(arrays, _training(1, monkeypatch)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.usefixtures("_threads")
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    one, _ = _training(1, monkeypatch)
    for threads in (2, 3):
        several, compiled = _training(threads, monkeypatch)
        assert compiled.bound[-1].native.parallel
        assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))


def test_the_report_shows_what_was_fused():
    compiled = compile(lambda x, w, c: (x @ w + c).relu())
    compiled(numbers(9, 5), numbers(5, 8), numbers(8))
    text = explain_compilation(compiled)
    assert "720 floating-point operations, 2 instructions fused" in text
    assert "then loop [9, 8]" in text


@pytest.mark.usefixtures("cached_by_text")
def test_the_verifier_looks_inside(monkeypatch):
    old = points.EMITTERS["tanh"]
    off = lambda b, width, kind, x: old(b, width, kind, x) * (1 + 1e-4)  # noqa: E731
    monkeypatch.setitem(points.EMITTERS, "tanh", off)
    args = numbers(9, 5), numbers(5, 8)
    program = capture(lambda x, w: (x @ w + 1.0).tanh().abs(), *args)
    native = NativeProgram(program.graph)
    assert fused(native.plan) == [["add", "tanh", "abs"]]
    with pytest.raises(VerificationError) as caught:
        verify_program(native, arrays_of(program, args), strict=True)
    assert caught.value.instruction.op.name == "tanh"
