"""Several threads: the same bits for any number of them, errors, contention, forks."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

import chainrule
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.compiled import compile
from chainrule.compiler.threads import Choice, pool


@pytest.fixture(autouse=True)
def _restore_threads():
    before = chainrule.get_num_threads()
    yield
    chainrule.set_num_threads(before)


def training_step(seed=0, sizes=(300, 96, 10)):
    chainrule.manual_seed(seed)
    model = nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))
    optimizer = chainrule.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, compile(step)


def batches(count=4, size=64):
    chainrule.manual_seed(1)
    return [(chainrule.rand(size, 300), chainrule.randint(0, 10, (size,))) for _ in range(count)]


@pytest.mark.parametrize("threads", [2, 3])
def test_weights_are_the_same_bits_for_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: threads)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    data = batches()
    weights = []
    for n in (1, threads):
        chainrule.set_num_threads(n)
        model, step = training_step()
        for _ in range(5):
            for x, y in data:
                step(x, y)
        assert step.bound[-1].native.parallel
        weights.append([p.detach().numpy().copy() for p in model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_an_index_out_of_range_raises_on_several_threads_and_changes_nothing(monkeypatch):
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: 2)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    chainrule.set_num_threads(2)
    model, step = training_step()
    x, y = batches(1)[0]
    step(x, y)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    bad = y.clone()
    bad[3] = 10
    with pytest.raises(IndexError, match="10"):
        step(x, bad)
    assert all(np.array_equal(a, p.detach().numpy()) for a, p in zip(before, model.parameters(), strict=True))
    step(x, y)


def test_two_callers_at_once_get_their_own_results(monkeypatch):
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: 2)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    chainrule.set_num_threads(2)
    function = compile(lambda a, b: (a @ b).tanh().sum(1))
    a, b = chainrule.rand(200, 300), chainrule.rand(300, 200)
    expected = function(a, b).numpy()
    wrong = []

    def call():
        for _ in range(30):
            if not np.array_equal(function(a, b).numpy(), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not wrong


def test_the_number_of_threads_is_checked():
    chainrule.set_num_threads(3)
    assert chainrule.get_num_threads() == 3
    with pytest.raises(ValueError, match="at least 1"):
        chainrule.set_num_threads(0)


def _in_child(connection):
    chainrule.set_num_threads(2)
    function = compile(lambda a, b: (a @ b).sum(1))
    a, b = chainrule.ones(200, 300), chainrule.ones(300, 200)
    connection.send((float(function(a, b)[0]), pool().pid == os.getpid()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own():
    chainrule.set_num_threads(2)
    function = compile(lambda a, b: (a @ b).sum(1))
    function(chainrule.ones(200, 300), chainrule.ones(300, 200))
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(theirs,))
    child.start()
    assert ours.poll(60), "the child did not answer"
    assert ours.recv() == (60000.0, True)
    child.join(10)
    assert child.exitcode == 0


def period(choice, alone, shared):
    """One period: how many trials it began with, how many steps it had, whether the others ran on all threads."""
    trials, ways, steps = 0, set(), 0
    while steps == 0 or choice._at:
        together, timed = choice.next()
        steps += 1
        if timed:
            trials += 1
            choice.took(together, shared if together else alone)
        else:
            ways.add(together)
    (way,) = ways
    return trials, steps, way


def test_the_quicker_way_is_chosen_and_tried_again_soon_if_that_was_news():
    choice, trials, shortest = Choice(), 2 * Choice.TRIALS, Choice.SHORTEST
    assert period(choice, 0.004, 0.005) == (trials, shortest, False)
    assert period(choice, 0.004, 0.005) == (trials, 2 * shortest, False)
    assert period(choice, 0.00404, 0.004) == (trials, shortest, True)
    found = [period(choice, 0.00404, 0.004)[1] for _ in range(6)]
    assert found[:2] == [2 * shortest, 4 * shortest]
    assert found[-1] == Choice.LONGEST


def test_trials_without_threads_that_pay_lose_little():
    trials, steps, together = period(Choice(), 0.04, 0.02)
    assert (trials, steps, together) == (2, 100, True)
    assert period(Choice(), 0.0015, 0.001)[1] == 200


def test_trials_of_short_steps_are_some_time_apart_and_those_of_long_ones_few():
    assert period(Choice(), 0.001, 0.002) == (2 * Choice.TRIALS, 50, False)
    assert period(Choice(), 0.02, 0.04) == (2, Choice.SHORTEST, False)


def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell where threads are")
def test_workers_stay_off_the_callers_core(monkeypatch):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    chainrule.set_num_threads(2)
    function = compile(lambda a, b: (a @ b).tanh())
    a, b = chainrule.rand(200, 300), chainrule.rand(300, 200)
    try:
        for core in (cores[0], cores[1], cores[0]):
            os.sched_setaffinity(0, {core})  # of this thread alone
            busy(0.05)
            os.sched_setaffinity(0, cores)
            function(a, b)
            worker = pool()._workers[0].native_id
            assert os.sched_getaffinity(worker) == set(cores) - {pool()._core}
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="this system does not tell what threads use")
def test_a_worker_without_work_uses_no_processor_time(monkeypatch):
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: 2)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    chainrule.set_num_threads(2)
    function = compile(lambda a, b: (a @ b).tanh())
    a, b = chainrule.rand(200, 300), chainrule.rand(300, 200)
    expected = function(a, b).numpy()

    def switches():
        with open(f"/proc/self/task/{pool()._workers[0].native_id}/status") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

    def busy():
        before = switches()
        time.sleep(0.3)
        return switches() - before >= 20

    deadline = time.monotonic() + 30  # it yields its core 4,000 times first, for long where others want it
    while busy():
        assert time.monotonic() < deadline
    assert np.array_equal(function(a, b).numpy(), expected)  # and it wakes
