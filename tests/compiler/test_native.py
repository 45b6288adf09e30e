"""Native programs: every op, random programs, derivatives and training steps, against reference and eager mode."""

from __future__ import annotations

import itertools
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.llvm.target import describe
from chainrule.compiler.native import NATIVE, NativeProgram
from chainrule.compiler.verify import verify_program
from chainrule.ir.op import REGISTRY
from native_checks import arrays_of, checked, same
from op_cases import Case, cases, differentiable
from random_programs import BINARY, PLACE, REDUCE, SHAPES, STEP, UNARY, WRITE, apply_step, make, program_of

nn = cr.nn


# ---- every op
@pytest.mark.parametrize("dtype", [cr.float64, cr.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", cases(), ids=repr)
def test_every_sample_of_every_op(case: Case, dtype):
    def given_as(draw: int) -> list[cr.Tensor]:
        xs = [cr.from_numpy(a) for a in case.arrays(draw)]
        return [x.to(dtype) if x.dtype == cr.float64 else x for x in xs]

    checked(case.function, *given_as(0), draws=[given_as(1)])


@pytest.mark.parametrize("case", cases(differentiable), ids=repr)
def test_the_gradient_of_every_op(case: Case):
    arrays = case.arrays()
    scalar = case.scalar(arrays)
    xs = [cr.from_numpy(arrays[i]) for i in case.varied]

    def gradients(*xs: cr.Tensor) -> list[cr.Tensor]:
        leaves = [x.detach().requires_grad_() for x in xs]
        return list(cr.autograd.grad(scalar(*leaves), leaves, materialize_grads=True, allow_unused=True))

    native = checked(gradients, *xs)
    program = capture(gradients, *xs)
    for a, b in zip(native(arrays_of(program, xs)), gradients(*xs), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-11, atol=1e-13)


def test_no_op_runs_as_its_reference_kernel():
    """Everything has machine code, is a view, is assembled from copies, or is decomposed."""
    without = set()
    for case in cases():
        xs = [cr.from_numpy(a) for a in case.arrays()]
        program = NativeProgram(capture(case.function, *xs).graph)
        without |= {k.instruction.op.name for k in program.plan.calls}
    assert not without
    assert not NATIVE - set(REGISTRY)


# ---- random programs
#: (3, 4) fits in one vector; the others have whole vectors, tails, and products of more than one tile
SHAPES_OF_POOLS = [(3, 4), (3, 4), (4, 37), (18, 34), (66, 3)]


def run_random(steps, seed, shape, level=None) -> None:
    x, buffer, w = make(seed, shape)
    cr.manual_seed(seed)
    checked(program_of(steps, buffer, buffer[1], w), x, target=None if level is None else describe(level))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3), st.sampled_from(SHAPES_OF_POOLS))
def test_random_programs(steps, seed, shape):
    run_random(steps, seed, shape)


@settings(max_examples=15, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3), st.sampled_from(SHAPES_OF_POOLS))
def test_random_programs_with_the_narrowest_vectors(steps, seed, shape):
    run_random(steps, seed, shape, "sse2" if describe().is_x86 else None)


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(10))
def test_ten_thousand_random_programs(thousand):
    """``pytest -m slow -k ten_thousand``: a program is found again by its number, ``run_numbered(number)``."""
    for number in range(1000 * thousand, 1000 * (thousand + 1)):
        try:
            run_numbered(number)
        except Exception as error:
            error.add_note(f"random program number {number}")
            raise


def run_numbered(number: int) -> None:
    rng = random.Random(number)
    every = [*UNARY, *BINARY, *SHAPES, *REDUCE, *PLACE, *WRITE, "draw", "matmul"]
    count = rng.randint(1, 14)
    steps = [
        (rng.choice(every), rng.randint(0, 7), rng.randint(0, 7), rng.choice([0.5, -1.25, 2.0, 3.0]))
        for _ in range(count)
    ]
    run_random(steps, number, rng.choice(SHAPES_OF_POOLS))


SMOOTH = [s for s in (*UNARY, *BINARY, *SHAPES, *REDUCE, "matmul", "pad", "stack", "tril") if s not in ("floor", "abs")]


@settings(max_examples=25, deadline=None)
@given(st.lists(STEP.filter(lambda s: s[0] in SMOOTH), min_size=1, max_size=4), st.integers(0, 3))
def test_derivatives_to_third_order(steps, seed):
    x, _, w = (t.double() * 0.5 for t in make(seed))

    def value(x):
        pool = [x, w]
        for step in steps:
            apply_step(pool, step, writable=())
        return (pool[-1] * w).mean()

    def first(x):
        return (cr.func.grad(value)(x) * w.flip(0)).sum()

    def second(x):
        return (cr.func.grad(first)(x) * w.flip(1)).sum()

    def run(x):
        return value(x), cr.func.grad(value)(x), cr.func.grad(first)(x), cr.func.grad(second)(x)

    native = checked(run, x)
    found = native(arrays_of(capture(run, x), [x]))
    with np.errstate(all="ignore"):
        wanted = [t.numpy() for t in run(x)]
    for a, b in zip(found, wanted, strict=True):
        size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * max(size, 1.0))


# ---- training
class Normalized(nn.Module):
    """Statistics of a batch, and running ones that are written in place, as a batch normalization keeps them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(cr.ones(width))
        self.register_buffer("mean", cr.zeros(width))
        self.register_buffer("var", cr.ones(width))

    def forward(self, x):
        mean, var = x.mean(0), x.var(0)
        with cr.no_grad():
            self.mean.mul_(0.9).add_(mean * 0.1)
            self.var.mul_(0.9).add_(var * 0.1)
        return (x - mean) / (var + 1e-5).sqrt() * self.scale


def build(optimizer: str, dtype):
    cr.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 17, bias=False),
        Normalized(17),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(17, 9),
        nn.Tanh(),
        nn.Linear(9, 3),
    ).to(dtype)
    make_optimizer = {
        "sgd": lambda p: cr.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        "adam": lambda p: cr.optim.Adam(p, lr=0.01),
        "adamw": lambda p: cr.optim.AdamW(p, lr=0.01, weight_decay=0.02),
    }[optimizer]
    made = make_optimizer(model.parameters())

    def step(x, t):
        made.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t, label_smoothing=0.1)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        made.step()
        return loss, norm

    return model, step


def batches(dtype, count):
    rng = np.random.default_rng(5)
    for _ in range(count):
        t = rng.integers(0, 3, 12)
        yield cr.from_numpy(rng.standard_normal((12, 6)) + t[:, None]).to(dtype), cr.from_numpy(t)


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_training_step_is_that_of_eager_mode(optimizer, dtype):
    """Twenty steps: dropout draws the same numbers, buffers and weights follow, and every kernel is within bounds."""
    sides = []
    for compiled in (False, True):
        model, step = build(optimizer, dtype)
        losses = []
        run = cr.compile(step) if compiled else step
        for n, (x, t) in enumerate(batches(dtype, 20)):
            if compiled and n > 2:
                program = run.bound[-1]
                arrays = arrays_of(program.program, [x, t])
                outputs = verify_program(program.native, arrays, strict=True)
            loss, norm = run(x, t)
            losses.append((loss.item(), norm.item()))
            if compiled and n > 2:
                for source, at in program.program.writes:
                    assert same(source.tensor([x, t])._d, outputs[at]), source
        if compiled:
            assert len(run.bound) <= 2
            assert not run.bound[-1].native.plan.calls
        sides.append((losses, {k: v.numpy() for k, v in model.state_dict().items()}))
    tolerance = 1e-9 if dtype == cr.float64 else 2e-4
    np.testing.assert_allclose(sides[1][0], sides[0][0], rtol=tolerance, atol=tolerance)
    assert sides[0][0][-1][0] < 0.95 * sides[0][0][0][0]
    for name, value in sides[0][1].items():
        np.testing.assert_allclose(sides[1][1][name], value, rtol=tolerance, atol=tolerance, err_msg=name)


# ---- errors
CLASSES = cr.tensor([0, 3, 1])
OUT_OF_RANGE = {
    "one_hot": lambda t: cr.one_hot(t, 4) * 2,
    "take": lambda t: cr.arange(4.0)[t],
    "take rows": lambda t: cr.ones(4, 3)[t] * 2.0,
    "gather": lambda t: cr.ones(3, 4).gather(1, t.reshape(3, 1)),
    "index_select": lambda t: cr.index_select(cr.ones(2, 4), 1, t),
    "scatter_add": lambda t: cr.zeros(3, 4).scatter_add(1, t.reshape(3, 1), cr.ones(3, 1)),
    "cross_entropy": lambda t: nn.functional.cross_entropy(cr.ones(3, 4), t),
}


@pytest.mark.parametrize("bad", [4, 1000, -5, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_an_index_out_of_range_raises_the_eager_error(name, bad):
    function = OUT_OF_RANGE[name]
    native = checked(function, CLASSES)
    wrong = cr.tensor([0, bad, 1])
    with pytest.raises((IndexError, ValueError, RuntimeError)) as eager:
        function(wrong)
    program = capture(function, CLASSES)
    with pytest.raises(type(eager.value)) as compiled:
        native(arrays_of(program, [wrong]))
    assert "out of" in str(compiled.value)
    with pytest.raises(type(eager.value)):
        verify_program(native, arrays_of(program, [wrong]))
    assert same(native(arrays_of(program, [CLASSES]))[0], function(CLASSES).numpy())  # and it works afterwards


def test_wrong_inputs():
    native = NativeProgram(capture(lambda x: x * 2.0, cr.ones(3)).graph)
    with pytest.raises(ValueError, match="argument"):
        native([])


# ---- sharing
def test_threads_may_call_one_program_at_the_same_time():
    cr.manual_seed(0)
    w = cr.randn(33, 29)
    function = lambda x: ((x @ w).softmax(1).sum(0), cr.erfinv(x[0] * 0.1), x.flip(0) * 2.0)  # noqa: E731
    xs = [cr.randn(40, 33).clamp(-3.0, 3.0) for _ in range(8)]
    program = capture(function, xs[0])
    native = NativeProgram(program.graph)
    inputs = [arrays_of(program, [x]) for x in xs]
    wanted = [native(a) for a in inputs]
    wrong: list[str] = []

    def work(k: int) -> None:
        for n in range(60):
            at = (k * 7 + n) % len(xs)
            if not all(same(a, b) for a, b in zip(native(inputs[at]), wanted[at], strict=True)):
                wrong.append(f"thread {k}, call {n}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_outputs_are_arrays_of_their_own():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    native = NativeProgram(capture(lambda x: (x.T, x * 2.0, x.reshape(-1), x + x), cr.from_numpy(x)).graph)
    first = native([x])
    kept = [a.copy() for a in first]
    second = native([x + 1])
    for a, b in itertools.combinations([*first, *second, x], 2):
        assert not np.shares_memory(a, b)
    assert all(same(a, b) for a, b in zip(first, kept, strict=True))


def test_inputs_may_be_strided_and_read_only():
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    native = NativeProgram(capture(lambda x: x * 2.0, cr.ones(4, 3)).graph)
    view = x[:, ::2]
    view.flags.writeable = False
    assert same(native([view])[0], view * 2)
    odd = np.frombuffer(b"\0" + np.ones(12, np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 3)
    assert same(native([odd])[0], odd * 2)


def test_denormals_are_flushed_inside_a_call_only():
    tiny = np.full(40, 1e-39, np.float32)
    native = NativeProgram(capture(lambda x: x * 0.5, cr.from_numpy(tiny)).graph)
    assert not native([tiny])[0].any()
    assert (tiny * np.float32(0.5) > 0).all()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_calls_leave_no_memory_behind():
    cr.manual_seed(0)
    program = capture(lambda x: ((x @ x.T).softmax(1) @ x, x.sum(0)), cr.randn(64, 64))
    native = NativeProgram(program.graph)
    inputs = arrays_of(program, [cr.randn(64, 64)])
    for _ in range(200):
        native(inputs)
    before = _resident()
    for _ in range(5000):
        native(inputs)
    assert _resident() - before < 2 << 20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_a_hundred_thousand_steps_leave_no_memory_behind():
    _, step = build("adam", cr.float32)
    run = cr.compile(step)
    ((x, t),) = batches(cr.float32, 1)
    for _ in range(2000):
        run(x, t)
    before = _resident()
    for _ in range(100_000):
        run(x, t)
    assert _resident() - before < 4 << 20
