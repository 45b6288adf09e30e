"""A whole training step as a program: 20 steps of it against eager mode, every bit of every state."""

import gc

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler import capture, captured

STEPS = 20


class Net(nn.Module):
    """A layer, running statistics that are written under no_grad, dropout from a generator, a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(20, 16), nn.Dropout(0.3), nn.Linear(16, 5)
        self.register_buffer("mean", cr.zeros(16))
        self.register_buffer("seen", cr.tensor(0))

    def forward(self, x):
        h = cr.tanh(self.first(x))
        if self.training:
            with cr.no_grad():
                self.mean.mul_(0.9).add_(h.mean(0) * 0.1)
                self.seen += 1
        return self.last(self.drop(h - self.mean))


OPTIMIZERS = {
    "Adam": lambda p: cr.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: cr.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "SGD": lambda p: cr.optim.SGD(p, lr=0.1),
    "momentum": lambda p: cr.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampening": lambda p: cr.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "RMSprop": lambda p: cr.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Adagrad": lambda p: cr.optim.Adagrad(p, lr=0.05),
    "Adadelta": lambda p: cr.optim.Adadelta(p),
    "Adamax": lambda p: cr.optim.Adamax(p, lr=0.01),
    "NAdam": lambda p: cr.optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: cr.optim.RAdam(p, lr=0.01),
}


class Job:
    """Everything that a training run owns."""

    def __init__(self, optimizer="Adam", clip=1.0, accumulate=1):
        cr.manual_seed(5)
        self.net = Net()
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())
        self.scheduler = cr.optim.lr_scheduler.StepLR(self.optimizer, step_size=6, gamma=0.5)
        self.loss, self.clip, self.accumulate = nn.CrossEntropyLoss(), clip, accumulate

    def step(self, *batches):
        self.optimizer.zero_grad()
        total = 0.0
        for x, t in zip(batches[::2], batches[1::2], strict=True):
            loss = self.loss(self.net(x), t) / self.accumulate
            loss.backward()
            total = total + loss.detach()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        return {"loss": total, "norm": norm}

    def state(self):
        found = dict(self.net.state_dict())
        for i, p in enumerate(self.net.parameters()):
            found[f"grad {i}"] = p.grad
            found.update({f"{k} of {i}": v for k, v in self.optimizer.state[p].items()})
        found["generator"] = cr.default_generator.get_state()
        return {k: v.numpy(force=True).copy() for k, v in found.items()}


def batches(k, count=1, size=8):
    rng = np.random.default_rng(k)
    made = []
    for _ in range(count):
        made.append(cr.tensor((rng.standard_normal((size, 20)) * (1 + k / 9)).astype(np.float32)))
        made.append(cr.tensor(rng.integers(0, 5, size)))
    return made


def run(job, step, count=1):
    history = []
    for k in range(STEPS):
        out = step(*batches(k, count))
        job.scheduler.step()
        history.append(({name: v.numpy(force=True).copy() for name, v in out.items()}, job.state()))
    return history


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), f"{name}: {a[name]} and {b[name]}"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_twenty_captured_steps_are_twenty_eager_steps(optimizer, accumulate):
    eager = Job(optimizer, accumulate=accumulate)
    wanted = run(eager, eager.step, accumulate)
    job = Job(optimizer, accumulate=accumulate)
    step = captured(job.step)
    got = run(job, step, accumulate)
    for (out, state), (out2, state2) in zip(wanted, got, strict=True):
        assert_same_bits(out, out2)
        assert_same_bits(state, state2)
    assert step.captures == 1, step.reasons
    assert all(p.is_leaf and p.requires_grad for p in job.net.parameters())


def test_nothing_large_or_stateful_is_baked_in():
    job = Job()
    program = capture(job.step, *batches(0))
    assert max(c.array.size for c in program.graph.constants) == 1
    states = {id(s.held) for s in program.sources if hasattr(s, "held")}
    for t in (*job.net.parameters(), *job.net.buffers(), cr.default_generator._seed, cr.default_generator._offset):
        assert id(t) in states
    numbers = [s for s in program.sources if hasattr(s, "read")]
    assert 0.01 in [s.read() for s in numbers]


def test_gradients_accumulate_over_calls_without_zero_grad():
    results = []
    for wrapper in (lambda f: f, captured):
        cr.manual_seed(1)
        net = nn.Linear(4, 3)

        @wrapper
        def step(x, net=net):
            net(x).square().sum().backward()

        for k in range(4):
            step(cr.ones(2, 4) * (k + 1.0))
        results.append([p.grad.numpy().copy() for p in net.parameters()])
        if wrapper is captured:
            assert step.captures == 2  # once with .grad None, once with .grad there
            assert "grad of state" in step.reasons[0]
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


def test_gradients_that_are_there_are_read_scaled_and_added_to():
    results = []
    for wrapper in (lambda f: f, captured):
        w = cr.ones(3, requires_grad=True)
        w.grad = cr.arange(3.0)

        @wrapper
        def step(x, w=w):
            nn.utils.clip_grad_norm_([w], 1.0)
            (w * x).sum().backward()
            nn.utils.clip_grad_value_([w], 0.75)
            return w.grad.sum()

        results.append([(step(cr.ones(3) * k).item(), w.grad.tolist()) for k in range(3)])
    assert results[0] == results[1]


def test_a_gradient_that_is_also_used_by_itself():
    w = cr.ones(2, requires_grad=True)
    w.grad = held = cr.ones(2)

    @captured
    def step():
        before = held * 2.0
        w.grad.add_(before)
        return held * 1.0

    assert step().tolist() == [3, 3]
    assert step().tolist() == [9, 9]
    w.grad = cr.ones(2)
    assert step().tolist() == [9, 9]
    assert w.grad.tolist() == [19, 19]


def test_lbfgs_decides_by_numbers_and_says_so():
    w = cr.ones(2, requires_grad=True)
    optimizer = cr.optim.LBFGS([w])

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pytest.raises(cr.core.errors.TracerError):
        capture(lambda: optimizer.step(closure))
    assert w.tolist() == [1, 1]
    assert w.grad is None


def test_whoever_holds_the_gradient_sees_it_grow_as_in_eager_mode():
    w = cr.ones(3, requires_grad=True)
    w.grad = cr.zeros(3)
    held = w.grad
    captured(lambda x: (w * x).sum().backward())(cr.arange(3.0))
    assert w.grad is held
    assert held.tolist() == [0, 1, 2]


def test_zeroed_in_place_gradients():
    results = []
    for wrapper in (lambda f: f, captured):
        w = cr.ones(3, requires_grad=True)
        optimizer = cr.optim.SGD([w], lr=0.1)

        @wrapper
        def step(x, w=w, optimizer=optimizer):
            optimizer.zero_grad(set_to_none=False)
            (w * w * x).sum().backward()
            optimizer.step()

        for k in range(3):
            step(cr.arange(3.0) + k)
        results.append((w.tolist(), w.grad.tolist()))
    assert results[0] == results[1]


def test_a_short_last_batch_is_a_second_program_and_the_state_is_shared():
    eager, job = Job(), Job()
    cr.manual_seed(9)
    wanted = [eager.step(*batches(k, size=8 if k % 3 else 5))["loss"].item() for k in range(9)]
    state = cr.get_rng_state().tolist()
    cr.manual_seed(9)
    step = captured(job.step)
    got = [step(*batches(k, size=8 if k % 3 else 5))["loss"].item() for k in range(9)]
    assert got == wanted
    assert cr.get_rng_state().tolist() == state
    assert step.captures == 2


def test_train_and_eval_are_two_programs():
    job = Job()
    forward = captured(job.net)
    x = batches(0)[0]
    job.net.eval()
    quiet = forward(x)
    assert forward(x).tolist() == quiet.tolist() == job.net(x).tolist()
    job.net.train()
    before = job.net.seen.item()
    forward(x)
    assert job.net.seen.item() == before + 1
    assert forward.captures == 2
    assert "training flag" in forward.reasons[0]


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_that_is_returned_with_history_is_differentiated_outside(training):
    """The statistics are written by the program; what the tape saved of them is the value that was used."""
    sides = []
    for wrapper in (lambda f: f, captured):
        job = Job()
        job.net.train(training)
        forward = wrapper(lambda x, t, job=job: job.loss(job.net(x), t))
        for k in range(3):
            forward(*batches(k)).backward()
        sides.append(job.state)
    wanted, got = (side() for side in sides)
    for name in wanted:
        if name != "generator":
            np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_parameters_may_be_arguments():
    def step(w, x):
        w.grad = None
        (w * x).square().sum().backward()
        with cr.no_grad():
            w -= w.grad * 0.1
        return w.grad

    found = []
    for call in (step, capture(step, cr.ones(3, requires_grad=True), cr.ones(3))):
        w = cr.arange(3.0).requires_grad_()
        out = call(w, cr.ones(3) * 2.0)
        found.append((out.tolist(), w.tolist(), w.grad.tolist(), w.is_leaf))
    assert found[0] == found[1]
    with pytest.raises(cr.core.errors.TracerError, match="down to an argument that is the result of a computation"):
        call(w * 1.0, cr.ones(3))


def test_with_the_collector_off_captures_and_runs_leave_nothing_behind():
    def count():
        job = Job()
        step = captured(job.step)
        step(*batches(0))
        gc.collect()
        before = len(gc.get_objects())
        for k in range(30):
            step(*batches(k))
        runs = len(gc.get_objects()) - before
        for k in range(30):
            capture(job.step, *batches(k))
        return runs, len(gc.get_objects()) - before - runs

    gc.disable()
    try:
        runs, captures = count()
    finally:
        gc.enable()
    assert runs < 30
    assert captures < 30


def test_state_made_inside_by_a_hand_written_optimizer_is_promoted():
    results = []
    for wrapper in (lambda f: f, captured):
        w = cr.ones(3, requires_grad=True)
        state = {}

        @wrapper
        def step(x, w=w, state=state):
            w.grad = None
            (w * x).square().sum().backward()
            with cr.no_grad():
                if "m" not in state:
                    state["m"], state["t"] = cr.zeros(3), cr.tensor(0.0)
                state["t"].add_(1.0)
                state["m"].mul_(0.9).add_(w.grad)
                w.sub_(state["m"] * 0.01 / state["t"])
            return state["t"]

        seen = [step(cr.arange(3.0) + k).item() for k in range(5)]
        results.append((seen, w.tolist(), state["m"].tolist(), state["t"].item()))
        if wrapper is captured:
            assert step.captures == 2, step.reasons
    assert results[0] == results[1]


def test_promoted_state_is_an_input_of_the_program():
    state = {}

    def step(x):
        if not state:
            state["m"] = cr.zeros(2)
        state["m"].add_(x)
        return state["m"] * 1.0

    program = capture(step, cr.ones(2))
    assert program.newborn == (state["m"],)
    assert state["m"].tolist() == [0, 0]
    assert program(cr.ones(2)).tolist() == [1, 1]
    assert program(cr.ones(2)).tolist() == [2, 2]
    assert state["m"].tolist() == [2, 2]


def test_a_buffer_made_anew_in_every_call_is_no_state():
    def f(x):
        total = cr.zeros(2)
        total.add_(x)
        return total

    program = capture(f, cr.ones(2))
    assert not program.newborn
    assert [program(cr.ones(2)).tolist() for _ in range(3)] == [[1, 1]] * 3


def test_a_buffer_made_anew_and_kept_for_show_is_not_carried_over():
    class Owner:
        last = None

        def run(self, x):
            self.last = cr.zeros(2)
            self.last.add_(x)
            return self.last * 1.0

    eager, owner = Owner(), Owner()
    step = captured(owner.run)
    for k in range(4):
        x = cr.ones(2) * (k + 1.0)
        assert step(x).tolist() == eager.run(x).tolist()
        assert owner.last.tolist() == eager.last.tolist()
    assert step.captures == 2
