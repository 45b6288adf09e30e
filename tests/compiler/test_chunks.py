"""Large batches chunk by chunk: what goes together, what waits, and that nothing but the time changes."""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn
from chainrule.compiler import parts
from chainrule.compiler.arena import touched
from chainrule.compiler.chunks import chunked, within_chunks
from chainrule.compiler.epilogues import written_by
from chainrule.compiler.explain import explain_compilation
from chainrule.compiler.kernels import SCRATCH, Access, Buffer, Loop, Plan, Product, Store
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.parts import division_of
from chainrule.compiler.passes import optimize, split
from native_checks import arrays_of, bits, checked, everything_divided
from random_programs import BINARY, PLACE, REDUCE, SHAPES, UNARY, apply_step, steps_of


@contextmanager
def small_batches():
    """A few rows are a large batch: 4 or more to a part, 2 to 8 to a chunk."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(parts, "LEAST_ROWS", 4)
        m.setattr(parts, "ROWS", 4)
        m.setattr(split, "LEAST_BYTES", 0)
        m.setattr(split, "MOST_PARTIAL", 1e9)
        yield


@pytest.fixture(autouse=True)
def _small():
    with small_batches():
        yield


def numbers(*shape, seed=0, dtype="f4"):
    return cr.from_numpy(np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype))


def together(plan: Plan) -> list:
    """The kernels that go by chunks."""
    return list(plan.kernels[plan.chunked.first : plan.chunked.end]) if plan.chunked else []


def gradients(loss, *names):
    """The gradients of a function by some of its arguments, as a function."""
    return cr.func.grad(loss, argnums=names)


# ---- how rows are cut
@given(st.integers(0, 10**6))
def test_divisions(rows):
    with pytest.MonkeyPatch.context() as m:
        m.setattr(parts, "LEAST_ROWS", 1024)
        m.setattr(parts, "ROWS", 256)
        d = division_of(rows)
    if rows < 2048 or rows % 2:
        assert d is None
    if d is not None:
        assert d.parts in (2, 4, 8, 16)
        assert d.rows == rows == d.chunks * d.size
        assert d.chunks % d.parts == 0
        assert rows // d.parts >= 1024
        assert 128 <= d.size <= 512


@pytest.mark.parametrize(("rows", "expected"), [
    (10_000, (8, 250)), (2048, (2, 256)), (60_000, (16, 250)), (65_536, (16, 256)), (10_007, None), (2046, None),
])  # fmt: skip
def test_some_divisions(rows, expected, monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ROWS", 1024)
    monkeypatch.setattr(parts, "ROWS", 256)
    found = division_of(rows)
    assert (found and (found.parts, found.size)) == expected


# ---- what goes together
def mlp(x, y, w, c, v):
    return nn.functional.cross_entropy((x @ w + c).relu() @ v, y)


ROWS = 48


def operands(dtype="f4"):
    y = cr.from_numpy(np.random.default_rng(5).integers(0, 7, ROWS))
    return (
        numbers(ROWS, 20, dtype=dtype),
        y,
        *(numbers(*s, seed=k, dtype=dtype) for k, s in enumerate(((20, 33), (33,), (33, 7)), 1)),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_forward_and_backward_go_together(dtype, target):
    native = checked(gradients(mlp, 2, 3, 4), *operands(dtype), target=target)
    plan = native.plan
    assert plan.chunked[2:] == (16, 8, 3)  # chunks, parts, rows of a chunk
    inside = together(plan)
    products = [k for k in inside if isinstance(k, Product)]
    assert [bool(k.block) for k in products].count(True) == 2  # the two weights
    assert [bool(k.block) for k in products].count(False) == 3  # forward twice, and back to the hidden layer
    # each sum of the parts comes after, the labels' checks before
    assert not any(isinstance(k, Loop) and k.space[-1:] == (plan.chunked.parts,) for k in inside)
    assert all(not isinstance(k, Product) for k in plan.kernels[: plan.chunked.first])


def test_what_chunks_make_for_themselves_stays_in_working_memory():
    args = operands()
    native = checked(gradients(mlp, 2, 3, 4), *args)
    plan, own = native.plan, within_chunks(native.plan)
    made = {b for k in together(plan) for b in written_by(k)}
    assert own
    assert {b.size for b in own} >= {ROWS * 33, ROWS * 7}  # the hidden layer, the logits
    assert {b.size for b in made.difference(own)} >= {8 * 20 * 33, 8 * 33 * 7}  # the sums of 8 parts
    arrays = arrays_of(cr.compiler.capture(gradients(mlp, 2, 3, 4), *args), args)
    expected, memory = bits(map(cr.from_numpy, native(arrays))), native.memory()
    memory.arena[:] = 0xAB
    native._free[:] = [memory]
    assert bits(map(cr.from_numpy, native(arrays))) == expected
    others = {b for k in plan.kernels for b in touched(k) if b.role == SCRATCH}.difference(own)
    mine = np.zeros(plan.arena, bool)
    for b in own:
        mine[b.offset : b.offset + b.nbytes] = True
    for b in others:
        mine[b.offset : b.offset + b.nbytes] = False
    assert mine.sum() > ROWS * 33 * 4
    assert (memory.arena[: plan.arena][mine] == 0xAB).all()


def test_values_are_those_of_eager_mode():
    args = operands("f8")
    native = checked(gradients(mlp, 2, 3, 4), *args)
    assert native.plan.chunked is not None
    program = cr.compile(gradients(mlp, 2, 3, 4))
    for a, e in zip(program(*args), gradients(mlp, 2, 3, 4)(*args), strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-12, atol=1e-14)


def test_a_gathered_batch_is_looked_up_by_chunks(monkeypatch, target):
    """In the first product as rows of A, in the gradient of the layer's weight as rows of B."""
    monkeypatch.setattr("chainrule.compiler.gathers.LEAST", 0)
    _, _, w, c, v = operands()
    data, labels = numbers(200, 20, seed=8), cr.from_numpy(np.random.default_rng(6).integers(0, 7, 200))

    def loss(rows, data, labels, w, c, v):
        return nn.functional.cross_entropy(nn.functional.linear(data[rows], w, c).relu() @ v, labels[rows])

    rows = cr.from_numpy(np.random.default_rng(7).integers(-200, 200, ROWS))
    native = checked(gradients(loss, 3, 4, 5), rows, data, labels, w.T.contiguous(), c, v, target=target)
    inside = [k for k in together(native.plan) if isinstance(k, Product)]
    assert [k.a_rows is not None for k in inside].count(True) == 1
    assert [k.b_rows is not None for k in inside].count(True) == 1


def test_statistics_of_the_batch_end_a_stretch():
    """What needs all rows before it goes on waits, with all that depends on it; the numbers are right."""

    def loss(x, w, v):
        h = x @ w
        h = (h - h.mean(0)) / (h.var(0) + 1e-5).sqrt()
        return (h.relu() @ v).square().mean()

    x, _, w, _, v = operands()
    native = checked(gradients(loss, 1, 2), x, w, v)
    plan = native.plan
    if plan.chunked is not None:  # the second stretch: what comes after the statistics is not in the first one
        assert len([k for k in together(plan) if isinstance(k, Product)]) < 4
    program = cr.compile(gradients(loss, 1, 2))
    for a, e in zip(program(x, w, v), gradients(loss, 1, 2)(x, w, v), strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=2e-4, atol=1e-5)


def test_results_by_row_may_be_returned(target):
    def run(x, y, w, c, v):
        (dw, dv), h = cr.func.grad_and_value(lambda w, v: mlp(x, y, w, c, v), argnums=(0, 1))(w, v)
        logits = (x @ w + c).relu() @ v
        return dw, dv, h, logits[:, 1:3].T, logits.tanh()

    plan = checked(run, *operands(), target=target).plan
    assert plan.chunked is not None
    assert any(o.buffer in {b for k in together(plan) for b in written_by(k)} for o in plan.outputs)


def test_few_rows_and_odd_rows_stay_as_they_are():
    for rows in (7, 31, 53):
        x, y, w, c, v = operands()
        x, y = cr.cat([x, x])[:rows], cr.cat([y, y])[:rows]
        plan = checked(gradients(mlp, 2, 3, 4), x, y, w, c, v).plan
        assert plan.chunked is None
        assert not any(k.block for k in plan.kernels if isinstance(k, Product))


def test_as_many_features_as_rows_are_not_taken_for_rows(target):
    x, w, v = numbers(ROWS, ROWS), numbers(ROWS, 33, seed=1), numbers(33, 7, seed=2)
    plan = checked(gradients(lambda x, w, v: ((x @ w).tanh() @ v).square().mean(), 1, 2), x, w, v, target=target).plan
    assert sum(bool(k.block) for k in together(plan) if isinstance(k, Product)) == 2  # the gradients, not x @ w


def test_a_sum_with_large_results_is_not_split(monkeypatch):
    monkeypatch.setattr(split, "MOST_PARTIAL", 0.25)
    x, w = numbers(48, 60), numbers(60, 60, seed=1)
    plan = checked(gradients(lambda x, w: (x @ w).tanh().sum(), 1), x, w).plan
    assert plan.chunked is None
    assert not any(len(k.batch) for k in plan.kernels if isinstance(k, Product))


def test_wide_networks_are_left_alone(monkeypatch):
    """What does not stay in a cache from product to product gains nothing, and would take more memory."""
    args = operands()
    assert checked(gradients(mlp, 2, 3, 4), *args).plan.chunked is not None
    monkeypatch.setattr("chainrule.compiler.chunks.MOST_BYTES", 3 * 100 * 4)
    assert checked(gradients(mlp, 2, 3, 4), *args).plan.chunked is None


def test_the_report_tells():
    step = cr.compile(gradients(mlp, 2, 3, 4))
    step(*operands())
    text = explain_compilation(step)
    assert "split long sums" in text
    assert "16 chunks of 3 rows, in 8 parts" in text
    assert re.search(r"kB of scratch need not be whole: a thread has \d+(\.\d)? k?B of it at a time", text)


# ---- what must not go wrong
def test_an_index_out_of_bounds_raises_as_ever():
    x, y, w, c, v = operands()
    step = cr.compile(gradients(mlp, 2, 3, 4))
    step(x, y, w, c, v)
    assert step.bound[0].native.plan.chunked is not None
    bad = y.clone()
    bad[11] = 7
    with pytest.raises(IndexError):
        step(x, bad, w, c, v)


def test_what_a_check_of_computed_indices_guards_waits_for_it(target):
    """Indices that depend on the batch are checked when all rows are there, before anything reads by them."""

    def loss(x, w, v, table):
        h = x @ w
        return ((h + table[h.argmax(1)]) @ v).square().mean()

    x, _, w, _, v = operands()
    table = numbers(40, 33, seed=9)
    native = checked(gradients(loss, 1, 2, 3), x, w, v, table, target=target)
    short = cr.compile(gradients(loss, 1, 2, 3))
    assert native.plan is not None
    short(x, w, v, table)
    with pytest.raises(IndexError):
        cr.compile(gradients(loss, 1, 2, 3))(x, w, v, table[:2])


def test_a_check_of_indices_from_inside_comes_before_their_use(monkeypatch, target):
    """A product could look up the rows of its batch by indices that the stretch computes, but for their check."""
    monkeypatch.setattr("chainrule.compiler.gathers.LEAST", 0)

    def loss(x, w, u, c, table):
        h = x @ w
        rows = table[(h[:, 0].abs() * 3.0).to(cr.int64)]
        return (nn.functional.linear(rows, u, c).tanh() * h).mean()

    x, _, w, c, _ = operands()
    table, u = numbers(60, 24, seed=9), numbers(33, 24, seed=10)
    plan = checked(gradients(loss, 1, 2, 3), x, w, u, c, table, target=target).plan
    by_index = [k for k in plan.kernels if isinstance(k, Product) and (k.a_rows or k.b_rows)]
    assert len(by_index) == 2
    assert not any(k in by_index for k in together(plan))
    with pytest.raises(IndexError):
        cr.compile(gradients(loss, 1, 2, 3))(x * 1e6, w, u, c, table)


def test_a_state_of_rows_is_not_overwritten_while_others_read_it():
    """memory <- memory / 2 + h, row by row, while each row of the batch meets all of the old memory."""
    states = []
    for switch in (True, False):
        x, _, w, _, _ = operands("f8")
        w = w.clone().requires_grad_()
        memory = numbers(ROWS, 33, seed=4, dtype="f8")

        def step(x):
            w.grad = None  # noqa: B023
            h = x @ w  # noqa: B023
            loss = h.tanh().mean()
            loss.backward()
            near = (h.detach()[:, None] * memory).tanh().mean((1, 2))  # noqa: B023
            memory.copy_(memory * 0.5 + h.detach() * near[:, None])  # noqa: B023
            return loss, w.grad  # noqa: B023

        run = cr.compile(step) if switch else step
        states.append([np.array(t.numpy(force=True), "f8") for _ in range(3) for t in (*run(x), memory)])
        if switch:
            assert run.bound[0].native.plan.chunked is not None
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_memory_that_was_read_as_a_whole_is_not_written_by_chunks():
    """By hand, as no plan has it: a loop that writes what a product before it reads all of."""
    x, w, s = (Buffer(k, n, np.dtype(np.float32), SCRATCH) for k, n in enumerate((ROWS * 8, 64, ROWS * 8)))
    h, out = Buffer(3, ROWS * 8, x.dtype, SCRATCH), Buffer(4, 8 * 64, x.dtype, SCRATCH)
    graph = cr.compiler.capture(lambda a, b: a @ b, numbers(2, 2), numbers(2, 2)).graph
    matmul, value = graph.instructions[0], graph.outputs[0]
    product = Product(matmul, (), ROWS, 8, 8, Access(x, 0, (8, 1)), Access(s, 0, (8, 1)), Access(h, 0, (8, 1)))
    sums = Product(
        matmul, (8,), 8, 8, 6, Access(x, 0, (48, 1, 8)), Access(h, 0, (48, 8, 1)), Access(out, 0, (64, 8, 1)), block=3
    )
    into = Loop((ROWS, 8), 0, {value: Access(h, 0, (8, 1))}, [], [Store(value, Access(s, 0, (8, 1)))], [], {})
    elsewhere = Loop((ROWS, 8), 0, {value: Access(h, 0, (8, 1))}, [], [Store(value, Access(x, 0, (8, 1)))], [], {})
    kernels, found = chunked([product, sums, into])
    assert found is not None
    assert kernels[found.end :] == [into]
    kernels, found = chunked([product, sums, elsewhere])  # x is read row by row, but nothing keeps note of that
    assert found is not None
    assert kernels[found.end :] == [elsewhere]
    reads = Loop((16, 64), 0, {value: Access(out, 0, (32, 0))}, [], [Store(value, Access(w, 0, (4, 0)))], [], {})
    kernels, found = chunked([product, sums, reads])  # sums are there when all chunks of their part are done
    assert found is not None
    assert kernels[found.end :] == [reads]


# ---- the same bits
def train(sizes, batch, method, steps=3, **options):
    cr.manual_seed(1)
    layers = [m for i, o in pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimizer = getattr(cr.optim, method)(model.parameters(), lr=0.01)
    data, labels = cr.rand(90, sizes[0]), cr.randint(0, sizes[-1], (90,))

    @cr.compile(**options)
    def step(rows):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(cr.randint(0, 90, (batch,))) for _ in range(steps)]
    losses.append(step.map(cr.randint(0, 90, (2, batch))))
    return bits([*losses, *model.parameters()]), step.bound[0].native.plan.chunked


@settings(max_examples=5, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=4), st.sampled_from([8, 16, 24, 40, 48, 64, 80]),
    st.integers(2, 4), st.sampled_from(["SGD", "Adam"]),
)  # fmt: skip
def test_training_steps(sizes, batch, threads, method):
    """With chunks or without (a memory budget), on any number of threads."""
    with small_batches(), everything_divided(), pytest.MonkeyPatch.context() as m:
        m.setattr("chainrule.compiler.gathers.LEAST", 0)
        cr.set_num_threads(1)
        one, chunked = train(sizes, batch, method)
        plain, unchunked = train(sizes, batch, method, memory_budget="1GB")
        cr.set_num_threads(threads)
        several, _ = train(sizes, batch, method, verify="never")
    assert chunked is not None
    assert unchunked is None
    assert one == plain
    assert one == several


STEPS = steps_of(UNARY + BINARY + SHAPES + REDUCE + PLACE + ["matmul"])


@settings(max_examples=10, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=8), st.sampled_from([16, 24, 32]), st.integers(0, 3), st.integers(2, 4))
def test_random_programs_between_products(steps, rows, seed, threads):
    """Whatever lies between the products of a network: kernel by kernel, by chunks, and divided, the same bits."""
    x, w, v = (numbers(*s, seed=seed + k) for k, s in enumerate(((rows, 9), (9, 12), (12, 5))))

    def loss(x, w, v):
        pool = [x @ w, (x @ w).tanh()]
        for step in steps:
            apply_step(pool, step, [])
        return sum((p @ v).sigmoid().mean() for p in pool[-3:])

    with small_batches(), np.errstate(all="ignore"):
        native = checked(gradients(loss, 1, 2), x, w, v)
        arrays = arrays_of(cr.compiler.capture(gradients(loss, 1, 2), x, w, v), [x, w, v])
        expected = [a.tobytes() for a in native(arrays)]
        with everything_divided():
            cr.set_num_threads(threads)
            assert [a.tobytes() for a in NativeProgram(native.graph, optimized=True)(arrays)] == expected


def test_the_pass_leaves_a_valid_graph():
    program = cr.compiler.capture(gradients(mlp, 2, 3, 4), *operands())
    graph, reports = optimize(program.graph, check=True)
    assert reports[-1].name == "split long sums"
    assert reports[-1].after > reports[-1].before
    assert graph.outputs
