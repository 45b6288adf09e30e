"""``step.map``: many steps in one call of machine code are the same steps one after another, bit for bit."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core import trees

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.runtime import BoundProgram

STEPS, BATCH = 9, 8


@pytest.fixture(params=[1, 2], ids=["alone", "together"])
def threads(request):
    before = cr.get_num_threads()
    cr.set_num_threads(request.param)
    yield request.param
    cr.set_num_threads(before)


@pytest.fixture
def native(monkeypatch):
    """How many steps each call of :meth:`BoundProgram.repeat` took."""
    taken = []
    repeat = BoundProgram.repeat

    def counting(self, arrays, start, stacks, watched=None):
        taken.append(len(arrays[0]) - start)
        return repeat(self, arrays, start, stacks, watched)

    monkeypatch.setattr(BoundProgram, "repeat", counting)
    return taken


def training(optimizer="Adam", wide=16, dropout=0.0):
    """A step that gathers its rows, with its model and the rows of some steps."""
    cr.manual_seed(0)
    x, y = cr.randn(60, 12), cr.randint(0, 3, (60,))
    model = nn.Sequential(nn.Linear(12, wide), nn.Tanh(), nn.Dropout(dropout), nn.Linear(wide, 3))
    options = {"lr": 0.05, "momentum": 0.9} if optimizer == "SGD" else {"lr": 0.01}
    made = getattr(cr.optim, optimizer)(model.parameters(), **options)

    def step(rows):
        made.zero_grad()
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        made.step()
        return loss.detach()

    return step, model, cr.randint(0, 60, (STEPS, BATCH))


def everything(model):
    return [t.detach().numpy().copy() for t in (*model.parameters(), *(p.grad for p in model.parameters()))]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize(("wide", "dropout"), [(16, 0.0), (16, 0.5), (400, 0.0)])
def test_an_epoch_is_its_steps(optimizer, wide, dropout, threads, native):
    step, single, order = training(optimizer, wide, dropout)
    call = cr.compile(step)
    wanted = np.array([call(rows).item() for rows in order], np.float32)
    step, model, order = training(optimizer, wide, dropout)
    found = cr.compile(step).map(order)
    np.testing.assert_array_equal(found.numpy(), wanted)
    for a, b in zip(everything(model), everything(single), strict=True):
        np.testing.assert_array_equal(a, b)
    assert native == [STEPS - 1]


def test_another_epoch_goes_on(native):
    step, model, order = training()
    call, other = cr.compile(step), training()
    epoch = cr.compile(other[0])
    for _ in range(3):
        losses = epoch.map(order)
        assert losses.tolist() == [call(rows).item() for rows in order]
    assert native == [STEPS - 1] * 3
    for a, b in zip(everything(model), everything(other[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_results_are_stacked_whatever_they_are(native):
    count = cr.zeros(2)

    def step(a, b):
        before = count.clone()
        count.add_(1)
        wide = cr.exp(a["x"][:, None] * b)
        total = wide.sum()
        return {"wide": wide, "again": wide, "total": total, "count": count + 0, "before": before + 0, "name": "n"}

    a, b = {"x": cr.randn(5, 30)}, cr.randn(5, 10)
    wanted = [step({"x": p}, q) for p, q in zip(a["x"], b, strict=True)]
    count.zero_()
    found = cr.compile(step).map(a, b)
    assert found.pop("name") == "n"
    for key, value in found.items():
        np.testing.assert_allclose(value.numpy(), np.stack([w[key].numpy() for w in wanted]), rtol=1e-6)
    assert native == [4]


def test_what_is_read_and_replaced_is_copied_in_time(native):
    """State that cannot be computed in place: each value depends on all of the old ones."""
    cr.manual_seed(0)
    m = cr.randn(6, 6) / 3
    states = [cr.ones(6), cr.ones(6)]

    def stepping(s):
        def step(x):
            s.copy_(cr.tanh(m @ s) + x)
            return s.sum()

        return step

    xs = cr.randn(7, 6)
    call = cr.compile(stepping(states[0]))
    wanted = [call(x).item() for x in xs]
    found = cr.compile(stepping(states[1])).map(xs)
    assert found.tolist() == wanted
    np.testing.assert_array_equal(states[0].numpy(), states[1].numpy())
    assert native == [6]


@pytest.mark.parametrize("wide", [16, 400])
def test_an_index_out_of_range_leaves_the_steps_before_it_done(wide, threads):
    step, single, order = training(wide=wide)
    call = cr.compile(step)
    for rows in order[:6]:
        call(rows)
    step, model, order = training(wide=wide)
    order[6, 3] = 60
    with pytest.raises(IndexError, match="60"):
        cr.compile(step).map(order)
    for a, b in zip(model.parameters(), single.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    assert cr.compile(step).map(order[:6]).shape == (6,)  # the memory of both is in order


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("at", [0, 1, 5])
def test_steps_end_where_a_watched_number_is_lost(dtype, bad, at, native):
    total = cr.zeros((), dtype=dtype)

    def step(x):
        total.add_(1)
        return x.sum(), x * 2

    xs = cr.arange(24.0, dtype=dtype).reshape(8, 3)
    if bad is not None:
        xs[at, 1] = bad
    results = cr.compile(step).repeat((xs,), watched=True)
    done = 8 if bad is None else at + 1
    assert results.done == total.item() == done
    sums, twice = results.stacked()
    np.testing.assert_array_equal(sums.numpy(), xs.numpy()[:done].sum(1))
    np.testing.assert_array_equal(twice.numpy(), 2 * xs.numpy()[:done])
    assert bool(native) == (done > 1)


def running_sum(x):
    return running_sum.total.add_(x.sum()).clone()


def with_history(x):
    return (running_sum.weight * x).sum()


def argument_written(x):
    x.mul_(2.0)
    return x.sum()


@pytest.mark.parametrize("function", [with_history, argument_written])
def test_what_cannot_run_that_way_runs_step_by_step(function, native):
    running_sum.weight = cr.ones(4, requires_grad=True)
    xs, same = cr.arange(12.0).reshape(3, 4), cr.arange(12.0).reshape(3, 4)
    found = cr.compile(function).map(xs)
    wanted = cr.stack([function(x) for x in same])
    np.testing.assert_array_equal(found.detach().numpy(), wanted.detach().numpy())
    np.testing.assert_array_equal(xs.numpy(), same.numpy())
    assert found.requires_grad is wanted.requires_grad
    assert native == []


def test_gradients_that_are_added_to_run_step_by_step(native):
    w = cr.zeros(3, requires_grad=True)

    @cr.compile
    def step(x):
        loss = (w * x).sum()
        loss.backward()
        return loss.detach()

    xs = cr.arange(12.0).reshape(4, 3)
    step.map(xs)
    np.testing.assert_array_equal(w.grad.numpy(), xs.sum(0).numpy())
    assert native == []


@pytest.mark.parametrize("switch", ["0", "1"])
def test_switched_off_it_is_a_loop(switch, monkeypatch, native):
    monkeypatch.setenv("CHAINRULE_COMPILE", switch)
    step = cr.compile(lambda x: (x * 2, x.sum()))
    double, total = step.map(cr.ones(5, 3))
    assert double.shape == (5, 3)
    assert total.tolist() == [3.0] * 5
    assert native == ([] if switch == "0" else [4])


def test_every_step_is_verified_if_that_is_asked_for(native):
    step = cr.compile(lambda x: x.exp(), verify="always")
    np.testing.assert_allclose(step.map(cr.ones(3, 2)).numpy(), np.e, rtol=1e-6)
    assert native == []


def test_inside_a_transform_it_is_a_loop():
    step = cr.compile(lambda x: (x**2).sum())
    gradient = cr.func.grad(lambda xs: step.map(xs).sum())(cr.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(gradient.numpy(), 2 * np.arange(6.0).reshape(3, 2))


def test_a_strided_or_single_step(native):
    step = cr.compile(lambda x: x * 2)
    xs = cr.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(step.map(xs.T).numpy(), 2 * xs.numpy().T)
    np.testing.assert_array_equal(step.map(xs[:1]).numpy(), 2 * xs.numpy()[:1])
    assert native == [5]


def test_what_is_no_stack_of_steps_is_refused():
    step = cr.compile(lambda *xs: trees.flatten(xs)[0][0] * 1)
    with pytest.raises(TypeError, match=r"got: +int"):
        step.map(cr.ones(3), 4)
    for wrong in ((cr.ones(3), cr.ones(4)), (cr.ones(0, 2),), (cr.tensor(1.0),), ()):
        with pytest.raises(ValueError, match="equally many entries"):
            step.map(*wrong)
