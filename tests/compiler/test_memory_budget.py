"""Recomputation under a memory budget: smaller peaks, the same bits, and errors that say what is in the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="budgets are a matter of the native backend")

import chainrule as cr
from chainrule import nn
from chainrule.compiler import MemoryBudgetError, capture, evaluate, explain_compilation
from chainrule.compiler.budget import parse_size
from chainrule.compiler.llvm.target import host
from chainrule.compiler.native import NATIVE, NativeProgram
from chainrule.compiler.passes import optimize
from chainrule.compiler.passes.liveness import Cut, profile
from chainrule.compiler.passes.recompute import Recomputed, _Search, _State, recompute
from chainrule.compiler.plan import plan
from chainrule.ir.graph import Graph, verify
from native_checks import arrays_of, same
from random_programs import BINARY, REDUCE, SHAPES, UNARY, apply_step, make

WIDTH = 32


def normalized(x, axis):
    """To mean 0 and variance 1 along an axis."""
    x = x - x.mean(axis, keepdim=True)
    return x / (x.square().mean(axis, keepdim=True) + 1e-5).sqrt()


class Batch(nn.Module):
    """A layer normalized over the batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return nn.functional.silu(normalized(self.layer(x), 0))


class Block(nn.Module):
    """Normalization, two layers, dropout, and the way around them."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return x + self.drop(self.down(nn.functional.gelu(self.up(normalized(x, 1)))))


class Attention(nn.Module):
    """Every row attends to every other."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return x + cr.softmax(q @ k.T / WIDTH**0.5, 1) @ v


class Steps(nn.Module):
    """A loop: one layer, three times over."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        last, _ = cr.scan(lambda carry, _: (cr.tanh(self.layer(carry)), carry.mean()), x, None, length=3)
        return last


def plain(activation):
    return lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), activation())


LAYERS = {
    "ReLU": plain(nn.ReLU),
    "tanh": plain(nn.Tanh),
    "GELU": plain(nn.GELU),
    "batch norm": Batch,
    "residual": Block,
    "attention": Attention,
    "loop": Steps,
}


class Job:
    """A training run: model, optimizer, data, and its compiled step."""

    def __init__(self, layer, depth=12, batch=24, optimizer="Adam", **options):
        cr.manual_seed(3)
        self.model = nn.Sequential(*(LAYERS[layer]() for _ in range(depth)), nn.Linear(WIDTH, 5))
        optimizer = getattr(cr.optim, optimizer)(self.model.parameters(), lr=0.01)
        loss_fn = nn.CrossEntropyLoss()

        def step(x, y):
            optimizer.zero_grad()
            loss = loss_fn(self.model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        rng = np.random.default_rng(0)
        self.batch = (
            cr.from_numpy(rng.standard_normal((batch, WIDTH), dtype=np.float32)),
            cr.from_numpy(rng.integers(0, 5, batch)),
        )
        self.function, self.optimizer = step, optimizer
        self.step = cr.compile(step, **options)

    def run(self, steps=3) -> list[bytes]:
        """The bits of all losses, and of parameters, gradients, buffers and optimizer state at the end."""
        losses = [self.step(*self.batch) for _ in range(steps)]
        parameters = list(self.model.parameters())
        state = [s for p in parameters for _, s in sorted(self.optimizer.state[p].items())]
        everything = [*losses, *parameters, *(p.grad for p in parameters), *self.model.buffers(), *state]
        return [t.detach().numpy().tobytes() for t in everything] + [cr.get_rng_state().numpy().tobytes()]

    @property
    def native(self) -> NativeProgram:
        (bound,) = self.step.bound
        return bound.native


def planner(graph, late, orders):
    return plan(graph, NATIVE, host().has_f16, late, orders)


def graph_of(layer, depth, batch=24) -> Graph:
    job = Job(layer, depth, batch, "SGD")
    return optimize(capture(job.function, *job.batch).graph)[0]


def recomputed(graph, budget) -> Recomputed:
    return recompute(graph, budget, planner, host())


# ---- the same bits with less memory
@pytest.mark.parametrize(
    "layer", [pytest.param(layer, marks=pytest.mark.slow if layer != "ReLU" else ()) for layer in LAYERS]
)
def test_a_budget_changes_no_bit(layer):
    depth = 6 if layer in ("residual", "attention", "loop") else 8
    whole = Job(layer, depth)
    expected = whole.run()
    peak = whole.native.plan.arena
    for share in (0.8, 0.6):
        budget = int(share * peak)
        small = Job(layer, depth, memory_budget=budget)
        assert small.run() == expected, share
        assert small.native.plan.arena <= budget
        assert small.native.recomputed.dropped


def test_what_was_drawn_is_drawn_again():
    """Dropout's numbers are not kept over the peak; the second draw gives the same ones and moves no generator."""
    job = Job("residual", 6, memory_budget=int(0.6 * plan(graph_of("residual", 6), NATIVE).arena))
    job.run(1)
    assert sum(i.op.random for i in job.native.graph.instructions) > 6


def same_bits(a, b) -> bool:
    """Whether two arrays have the same bits, those inside a NaN aside."""
    return (
        np.array_equal(np.isnan(a), np.isnan(b))
        and np.where(np.isnan(a), 0, a).tobytes() == np.where(np.isnan(b), 0, b).tobytes()
    )


PURE = [name for name in UNARY + BINARY + SHAPES + REDUCE if name != "floor"] + ["draw", "matmul"]
STEPS = st.tuples(st.sampled_from(PURE), st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.5, -1.25, 2.0]))


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=8, max_size=20), st.integers(0, 3), st.data())
def test_whatever_is_dropped_the_values_stay(steps, seed, data):
    """Random programs with their gradients, cut anywhere; any values dropped, under any limit."""
    x, _, w = make(seed, (6, 8))
    w.requires_grad_()
    cr.manual_seed(seed)

    def step(x):
        w.grad = None
        pool = [x, w, x * w]
        for name, _, j, number in steps:
            apply_step(pool, (name, len(pool) - 1, j, number), writable=())
        (pool[-1] * w).sum().backward()
        return pool[-1], w.grad

    program = capture(step, x)
    arrays = arrays_of(program, [x])
    graph, _ = optimize(program.graph)
    state = _State(graph, {}, planner(graph, {}, {}), {})
    search = _Search(1, planner, host(), state)
    expected = evaluate(graph, arrays)
    for _ in range(2):  # the second time from the first one's result
        cut = Cut(state.graph, state.plan)
        cut.peak = data.draw(st.integers(0, len(state.plan.kernels) - 1))
        candidates = cut.candidates
        event(f"candidates: {min(len(candidates), 3)}")
        droppable = {v for v in candidates if data.draw(st.booleans())}
        found = search._walked(state, cut, droppable, data.draw(st.integers(1, max(1, state.plan.arena))))
        if found is None:
            event("not used: the plan cannot keep an order")
            return
        for a, b in zip(evaluate(verify(found.graph), arrays), expected, strict=True):
            assert same_bits(a, b)
        state = found


def test_the_new_graph_says_the_same_to_the_reference():
    job = Job("residual", 6)
    program = capture(job.function, *job.batch)
    graph, _ = optimize(program.graph)
    arrays = arrays_of(program, job.batch)
    found = recomputed(graph, int(0.5 * plan(graph, NATIVE).arena))
    for a, b in zip(evaluate(verify(found.graph), arrays), evaluate(graph, arrays), strict=True):
        assert same(a, b)


def test_a_compiled_model_whose_loss_is_outside():
    """The forward program and the program of its derivative, which is where memory is needed."""
    x = cr.from_numpy(np.random.default_rng(0).standard_normal((64, WIDTH), dtype=np.float32))

    def gradients(**options):
        cr.manual_seed(0)
        model = nn.Sequential(*(LAYERS["ReLU"]() for _ in range(8)))
        predict = cr.compile(lambda x: model(x), **options)
        predict(x).square().mean().backward()
        (bound,) = predict.bound
        (pull,) = bound.program.differentiable._pulls.values()
        return [p.grad.numpy().tobytes() for p in model.parameters()], pull[1].plan.arena

    expected, peak = gradients()
    found, small = gradients(memory_budget=int(0.7 * peak))
    assert found == expected
    assert small <= 0.7 * peak


# ---- how far it goes
@pytest.mark.slow
def test_the_peak_grows_with_depth_and_batch_and_with_a_budget_like_the_root_of_the_depth():
    shallow, deep = graph_of("tanh", 16), graph_of("tanh", 64)
    peaks = [plan(g, NATIVE).arena for g in (shallow, deep, graph_of("tanh", 16, 96))]
    assert peaks[1] > 3.6 * peaks[0]
    assert peaks[2] > 3.6 * peaks[0]
    found = recomputed(deep, peaks[1] // 5)
    assert found.after <= peaks[1] // 5
    assert found.work < 0.45 * found.whole  # never more than about one more forward pass, a third of the whole


def test_cheap_values_go_first():
    """Half of a deep net's memory is what activations were given; giving that up costs no matrix product."""
    graph = graph_of("tanh", 24)
    found = recomputed(graph, int(0.8 * plan(graph, NATIVE).arena))
    products = [sum(i.op.name == "matmul" for i in g.instructions) for g in (graph, found.graph)]
    assert products[0] == products[1]
    assert found.after < found.before


def test_less_budget_means_more_work():
    graph = graph_of("ReLU", 32)
    peak = plan(graph, NATIVE).arena
    work = [recomputed(graph, int(share * peak)).work for share in (0.9, 0.6, 0.4)]
    assert work == sorted(work)
    assert work[0] < work[2]


def test_a_budget_that_is_large_enough_changes_nothing():
    graph = graph_of("ReLU", 4)
    peak = plan(graph, NATIVE).arena
    found = recomputed(graph, peak)
    assert found.graph is graph
    assert (found.before, found.after, found.dropped, found.instructions, found.work) == (peak, peak, (), 0, 0.0)


def test_the_profile_of_a_plan_is_what_is_alive():
    graph = graph_of("ReLU", 6)
    found = plan(graph, NATIVE)
    alive = profile(found)
    assert len(alive) == len(found.kernels)
    assert max(alive) <= found.arena <= 1.25 * max(alive)
    cut = Cut(graph, found)
    assert alive[cut.peak] == max(alive)
    waiting = sum(cut.stored[v].nbytes for v in cut.candidates)
    assert 0.5 * max(alive) < waiting <= max(alive)


def test_a_program_whose_sums_would_be_ordered_differently_is_not_used():
    graph = graph_of("residual", 6)
    start = _State(graph, {}, planner(graph, {}, {}), {})
    search = _Search(int(0.6 * start.plan.arena), planner, host(), start)
    assert search.run() is not None
    search = _Search(int(0.6 * start.plan.arena), lambda graph, late, orders: planner(graph, late, {}), host(), start)
    search.fixed = {v: ("order", (3, 3)) if known[0] == "order" else known for v, known in search.fixed.items()}
    assert search.run() is None
    assert search.smallest is start


# ---- what people see
def test_the_report_names_the_peaks_and_what_is_recomputed():
    job = Job("ReLU")
    job.run(1)
    peak = job.native.plan.arena
    assert "recompute" not in explain_compilation(job.step)
    small = Job("ReLU", memory_budget=int(0.7 * peak))
    small.run(1)
    text = explain_compilation(small.step, kernels=False)
    found = small.native.recomputed
    for part in ("recompute ", "computed a second time", "values not kept", "run again", repr(found.dropped[0])):
        assert part in text, part
    (report,) = [r for r in small.native.reports if r.name == "recompute"]
    assert report.seconds > 0
    assert report.after == len(small.native.graph.instructions)
    large = Job("ReLU", memory_budget="1GB")
    large.run(1)
    assert "memory budget 1.0 GB: peak" in explain_compilation(large.step)
    assert "nothing is recomputed" in explain_compilation(large.step)


def test_a_budget_that_cannot_be_met_says_what_was_reached():
    job = Job("ReLU", memory_budget=5000)
    with pytest.raises(MemoryBudgetError) as caught:
        job.step(*job.batch)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.wanted == 5000 < error.reached < error.before
    text = str(error)
    for part in ("5.0 kB", f"{error.reached:,} bytes", "fix:", "float32[", __file__):
        assert part in text, part
    assert Job("ReLU", memory_budget=error.before).run(1)


def test_nothing_changed_when_a_budget_is_not_met():
    job = Job("ReLU", memory_budget="5kB", optimizer="SGD")
    before = [p.detach().numpy().tobytes() for p in job.model.parameters()]
    with pytest.raises(MemoryBudgetError):
        job.step(*job.batch)
    assert [p.detach().numpy().tobytes() for p in job.model.parameters()] == before


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096), ("64MB", 64_000_000), ("1.5GiB", 3 * 2**29), ("10 kB", 10_000), (" 2mib ", 2**21),
        (".5kb", 500), ("1TB", 10**12), ("1TiB", 2**40), ("7B", 7),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("size", ["64", "MB", "1.2.3MB", "-1MB", "64 megabytes", "", "0MB", 0, -5, "0.1B"])
def test_what_is_no_size_is_refused_at_once(size):
    with pytest.raises(ValueError, match=r"memory_budget=.* is no size of memory") as caught:
        cr.compile(lambda x: x, memory_budget=size)
    assert "64MB" in str(caught.value)


@pytest.mark.parametrize("size", [1.5, True, (1,)])
def test_what_is_no_number_of_bytes_is_refused_at_once(size):
    with pytest.raises(TypeError, match="expected: an int or a str"):
        cr.compile(memory_budget=size)
