"""Plans: where values are, which instructions share a kernel, and that nothing alive is overwritten."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="the plan asks the native backend what it lowers")

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.arena import touched
from chainrule.compiler.kernels import (
    CONSTANT,
    INPUT,
    OUTPUT,
    SCRATCH,
    Access,
    Buffer,
    Call,
    Check,
    Kernel,
    Layout,
    Loop,
    Plan,
    Product,
    Routine,
    dense,
    row_major,
)  # fmt: skip
from chainrule.compiler.layouts import view_layout
from chainrule.compiler.native import NATIVE
from chainrule.compiler.passes import optimize
from chainrule.compiler.plan import plan
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Instruction, Value
from chainrule.ir.op import REGISTRY
from random_programs import STEP, make, program_of

Place = Layout | Access


def planned(function, *args, lowered=NATIVE) -> Plan:
    graph, _ = optimize(capture(function, *args).graph, check=True)
    found = plan(graph, lowered)
    check_plan(found)
    return found


# ---- the checker
def elements(place: Place, shape) -> np.ndarray:
    """The element numbers of a buffer that an access touches."""
    at = np.full(shape, place.offset, np.int64)
    for d, (n, s) in enumerate(zip(shape, place.strides, strict=True)):
        at += (s * np.arange(n)).reshape([-1 if k == d else 1 for k in range(len(shape))])
    return at


def reads_and_writes(k: Kernel) -> tuple[list, list]:
    if isinstance(k, Loop):
        kept = k.space[: len(k.space) - k.reduced]
        writes = [(s.access, k.space) for s in k.stores] + [(r.access, kept) for r in k.reductions]
        return [(a, k.space) for a in k.loads.values()], writes
    if isinstance(k, Product):
        return k.reads, [(a, (*k.batch, k.m, k.n)) for a in k.writes]
    if isinstance(k, Check):
        return [(k.access, (k.count,))], []
    i = k.instruction
    return (
        [(x, v.shape) for x, v in zip(k.inputs, i.inputs, strict=True)],
        [(x, v.shape) for x, v in zip(k.outputs, i.results[: len(k.outputs)], strict=True)],
    )


def check_plan(p: Plan) -> None:
    """Run a plan symbolically: every element is written before it is read, and what is read is what was written.

    Memory is an array that names, per byte, the buffer that wrote it last.
    """
    assert [b.number for b in p.buffers] == list(range(len(p.buffers)))
    spans = {b: np.full(b.nbytes, b.role in (INPUT, CONSTANT)) for b in p.buffers}
    arena = np.full(p.arena, -1)
    for b in p.buffers:
        if b.role == SCRATCH:
            assert 0 <= b.offset <= p.arena - b.nbytes or not any(b in touched(k) for k in p.kernels), b
            assert b.offset % 64 == 0

    def bytes_of(place: Place, shape) -> tuple[Buffer, np.ndarray]:
        at = elements(place, shape).reshape(-1)
        b = place.buffer
        assert not at.size or (at.min() >= 0 and at.max() < b.size), f"{place} over {shape} leaves {b!r}"
        return b, (at[:, None] * b.dtype.itemsize + np.arange(b.dtype.itemsize)).reshape(-1)

    def read(place: Place, shape) -> None:
        b, at = bytes_of(place, shape)
        assert spans[b][at].all(), f"{b!r} is read before it is written"
        if b.role == SCRATCH:
            assert (arena[b.offset + at] == b.number).all(), f"{b!r} was overwritten before it is read"

    for n, k in enumerate(p.kernels):
        reads, writes = reads_and_writes(k)
        for place, shape in reads:
            read(place, shape)
        for place, shape in writes:
            assert place.buffer.role in (OUTPUT, SCRATCH), f"kernel {n} writes {place.buffer!r}"
            b, at = bytes_of(place, shape)
            assert len(set(at.tolist())) == at.size, f"kernel {n} writes an element of {b!r} twice"
            spans[b][at] = True
            if b.role == SCRATCH:
                arena[b.offset + at] = b.number
        for place, shape in reads:  # nothing that a kernel reads is in memory that the same kernel writes
            b, at = bytes_of(place, shape)
            if b.role == SCRATCH and not any(b is w.buffer for w, _ in writes):
                assert (arena[b.offset + at] == b.number).all(), f"kernel {n} writes over its own input {b!r}"


def x_of(*shape, dtype=np.float32):
    return cr.from_numpy(np.arange(max(1, size_of(shape)))[: size_of(shape)].reshape(shape).astype(dtype))


def loops(p: Plan) -> list[Loop]:
    return [k for k in p.kernels if isinstance(k, Loop)]


# ---- layouts
@settings(max_examples=200)
@given(st.data())
def test_view_layouts_are_numpys_strides(data):
    """A random chain of views: the elements that the layout names are those that NumPy's view shows."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    base = np.arange(size_of(shape))
    b = Buffer(0, base.size, base.dtype, INPUT)
    layout, value = Layout(b, 0, row_major(shape)), base.reshape(shape)
    for _ in range(data.draw(st.integers(1, 5))):
        rank = value.ndim
        name = data.draw(st.sampled_from(["permute", "flip", "getitem", "broadcast_to", "reshape"]))
        if name == "permute":
            params = {"perm": tuple(data.draw(st.permutations(range(rank))))}
        elif name == "flip":
            params = {"axes": tuple(data.draw(st.sets(st.integers(0, rank - 1)))) if rank else ()}
        elif name == "broadcast_to":
            grown = tuple(
                data.draw(st.integers(2, 3)) if d == 1 and data.draw(st.booleans()) else d for d in value.shape
            )
            params = {"shape": (*data.draw(st.sampled_from([(), (2,)])), *grown)}
        elif name == "reshape":
            params = {"shape": data.draw(st.sampled_from(factorizations(value.size)))}
        else:
            entries: list = [None] * data.draw(st.integers(0, 1))
            for d in value.shape:
                start, stop = data.draw(st.integers(0, d)), data.draw(st.integers(0, d))
                one = st.integers(0, d - 1) if d else st.just(slice(None))
                entries.append(
                    data.draw(one | st.just(slice(start, stop, data.draw(st.integers(1, 3)))) | st.just(slice(None)))
                )
            params = {"index": tuple(entries)}
        new = np.asarray(REGISTRY[name].kernel(value, **params))
        old = Value(0, value.shape, value.dtype)
        found = view_layout(Instruction(REGISTRY[name], (old,), params, (Value(1, new.shape, new.dtype),)), layout)
        if found is None:
            assert name == "reshape"
            again = value.view()
            with pytest.raises(AttributeError):  # NumPy too would have to copy
                again.shape = params["shape"]
            return
        assert np.array_equal(base[elements(found, new.shape)] if new.size else new, new)
        layout, value = found, new


def factorizations(n: int) -> list[tuple[int, ...]]:
    if n == 0:
        return [(0,), (0, 2), (3, 0)]
    pairs = [(a, n // a) for a in range(1, n + 1) if n % a == 0]
    triples = [(a, b, n // a // b) for a, b in itertools.product(range(1, n + 1), repeat=2) if n % (a * b) == 0]
    return [(n,), (1, n, 1), *pairs, *triples]


def test_views_cost_nothing():
    p = planned(lambda x: x.T[1:, ::2].flip(0).reshape(-1, 2, 1).expand(-1, 2, 3) + 1.0, x_of(4, 6))
    (loop,) = p.kernels
    assert isinstance(loop, Loop)
    assert {a.buffer.role for a in loop.loads.values()} == {INPUT, CONSTANT}
    assert p.arena == 0


def test_a_reshape_that_cannot_be_a_view_copies_first():
    p = planned(lambda x: x.T.reshape(-1) * 2.0, x_of(3, 4))
    copy, product = loops(p)
    assert [i.op.name for i in copy.body] == ["copy"]
    assert [i.op.name for i in product.body] == ["mul"]
    assert p.arena == 64  # 48 bytes, rounded up


# ---- fusion
def names(loop: Loop) -> list[str]:
    return [i.op.name for i in loop.body] + [r.kind for r in loop.reductions]


def test_elementwise_instructions_of_one_space_share_a_loop():
    p = planned(lambda x, y: ((x + y) * x, (x - y).exp()), x_of(3, 4), x_of(3, 4))
    (loop,) = p.kernels
    assert sorted(names(loop)) == ["add", "exp", "mul", "sub"]
    assert len(loop.stores) == 2  # what is used only inside never reaches memory
    assert {s.access.buffer.role for s in loop.stores} == {OUTPUT}


def test_a_reduction_joins_and_what_needs_it_comes_later():
    p = planned(lambda x: (x * x) / (x * x).sum(1, keepdim=True), x_of(3, 4))
    first, second = loops(p)
    assert names(first) == ["mul", "sum"]
    assert first.reduced == 1
    assert names(second)[-1] == "div"


def test_reductions_over_different_axes_do_not_share_a_loop():
    p = planned(lambda x: (x.sum(0), x.sum(1), x.amax(1)), x_of(3, 4))
    assert [names(k) for k in loops(p)] == [["sum"], ["sum", "amax"]]


def test_an_instruction_may_join_an_earlier_loop_but_never_one_before_its_inputs():
    def run(x):
        a = x * 2.0
        total = a.sum()
        return a + 1.0, a * total

    p = planned(run, x_of(3, 4))
    first, second = loops(p)
    assert "add" in names(first)
    assert "mul" in names(second)


def test_loops_are_bounded():
    def run(x):
        for k in range(250):
            x = (x + float(k)).sin()
        return x

    p = planned(run, x_of(3, 4))
    assert len(p.kernels) >= 5
    assert all(len(k.body) <= 96 for k in loops(p))
    p = planned(lambda *xs: sum(xs[1:], xs[0]), *(x_of(2, 3) for _ in range(60)))
    assert all(len(k.loads) <= 24 for k in loops(p))


def test_a_read_through_a_view_comes_from_memory():
    p = planned(lambda x: (x * 2.0) + (x * 2.0).flip(0), x_of(4))
    assert len(p.kernels) == 2


# ---- outputs
def test_outputs_that_are_inputs_constants_views_or_twice_the_same():
    c = cr.tensor([1.0, 2.0, 3.0])

    def run(x):
        y = x * 2.0
        return x[0], x.T.T, c.T, y, y, y.T, y.reshape(-1)

    p = planned(run, x_of(3, 3))
    roles = [layout.buffer.role for layout in p.outputs]
    assert roles[:3] == [INPUT, INPUT, roles[2]]
    assert roles[2] in (CONSTANT, INPUT)
    assert roles[3:] == [SCRATCH] * 4  # several outputs look at one buffer, so each is copied out of it
    lone = planned(lambda x: (x * 2.0, x.sum()), x_of(3, 3))
    assert [layout.buffer.role for layout in lone.outputs] == [OUTPUT, OUTPUT]
    assert all(dense(layout, shape) for layout, shape in zip(lone.outputs, [(3, 3), ()], strict=True))


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), ()])
def test_zero_size_and_scalars(shape):
    p = planned(lambda x: (x * 2.0, x.sum(), x.reshape(-1)), x_of(*shape))
    assert all(b.size >= 1 for b in p.buffers)


# ---- memory
def test_buffers_that_do_not_live_together_share_memory():
    def run(x):
        for _ in range(20):
            x = (x / x.sum(1, keepdim=True)).T.reshape(4, 4)  # the copy of the reshape has to be in memory
        return x

    p = planned(run, x_of(4, 4))
    scratch = [b for b in p.buffers if b.role == SCRATCH and any(b in touched(k) for k in p.kernels)]
    assert len(scratch) > 20
    assert p.arena <= 4 * 64


def test_the_checker_finds_what_it_is_for():
    """Two buffers that live together, put at one place."""
    p = planned(lambda x: x.sum(1, keepdim=True) * x.sum(0, keepdim=True) * x.flip(0).sum(), x_of(3, 3))
    for b in p.buffers:
        b.offset = 0
    with pytest.raises(AssertionError, match=r"overwritten|its own input"):
        check_plan(p)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=14), st.integers(0, 3))
def test_random_programs_never_read_what_was_overwritten(steps, seed):
    x, buffer, w = make(seed)
    planned(program_of(steps, buffer, buffer[1], w), x)


def test_a_training_step_is_all_machine_code_and_prints():
    cr.manual_seed(0)
    nn = cr.nn
    model = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 3))
    optimizer = cr.optim.Adam(model.parameters())

    def step(x, t):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    p = planned(step, cr.rand(5, 7), cr.tensor([0, 2, 1, 1, 0]))
    assert not p.calls
    assert sum(isinstance(k, Product) for k in p.kernels) == 5
    assert any(isinstance(k, Check) for k in p.kernels)
    assert any(isinstance(k, Routine) for k in p.kernels)
    text = str(p)
    assert text.startswith(f"arena: {p.arena} bytes, {len(p.kernels)} kernels, 0 calls")
    assert "product [5, 7] [7, 9]" in text


def test_ops_without_machine_code_are_listed():
    p = planned(lambda x: cr.erfinv(x) + 1.0, x_of(3), lowered=NATIVE - {"erfinv"})
    assert [k.instruction.op.name for k in p.calls] == ["erfinv"]
    assert isinstance(p.kernels[0], Call)
