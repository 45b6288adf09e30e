"""Optimizer steps as machine code: when they begin, and that nobody can tell the difference by any bit."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="machine code is made with it")

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.llvm import target
from chainrule.compiler.llvm.update import native_rule
from chainrule.core.errors import GradError
from chainrule.optim import native
from chainrule.optim.program import compile_rule

SIZES = (0, 1, 7, 16, 33, 70)
KINDS = [(np.float32, "f32"), (np.float64, "f64")]


def random_rule(seed):
    """A rule of up to 14 random operations on p, g, two states and two coefficients; any three values are results."""

    def rule(m, p, g, s, c, options):
        rng = np.random.default_rng(seed)
        values = [p, g, s["a"], s["b"]]
        for _ in range(rng.integers(0, 15)):
            x, y = (values[i] for i in rng.integers(0, len(values), 2))
            k = c["k"] if rng.random() < 0.5 else c["l"]
            made = [
                lambda x, y, k: x + y,
                lambda x, y, k: x - k * y,
                lambda x, y, k: x * y + 0.1,
                lambda x, y, k: m.maximum(x, y),
                lambda x, y, k: k / (1.0 + m.abs(x)),
                lambda x, y, k: -x,
                lambda x, y, k: m.sqrt(m.abs(y)),
                lambda x, y, k: m.where(x > y, x, k),
                lambda x, y, k: m.where(k > 0.0, x, y),
                lambda x, y, k: m.where(x > y, 0.5, 0.25) * x,
            ]
            values.append(made[rng.integers(len(made))](x, y, k))
        chosen = rng.choice(len(values), 3, replace=rng.random() < 0.3)
        return values[chosen[0]], {"a": values[chosen[1]], "b": values[chosen[2]]}

    return rule


# ---- the machine code
@pytest.mark.parametrize(("dtype", "kind"), KINDS)
@pytest.mark.parametrize("seed", range(40))
def test_random_rules_give_numpys_bits(seed, dtype, kind):
    rule, rng = random_rule(seed), np.random.default_rng(seed + 1000)
    coefficients = np.array([0.3, -0.7], dtype)
    groups = [[rng.standard_normal(n).astype(dtype) for _ in range(4)] for n in SIZES]
    expected = [[a.copy() for a in arrays] for arrays in groups]
    with np.errstate(all="ignore"):
        for arrays in expected:
            compile_rule(rule, ("a", "b"), ("k", "l"), frozenset())(tuple(arrays), tuple(coefficients))
    rows = np.array([[arrays[0].size, *map(native.address, arrays)] for arrays in groups], np.int64)
    run = native_rule(rule, ("a", "b"), ("k", "l"), frozenset(), kind)
    run(native.address(rows), len(rows), native.address(coefficients))
    for got, want in zip(groups, expected, strict=True):
        for a, b in zip(got, want, strict=True):
            assert a.tobytes() == b.tobytes()


def test_numbers_at_the_edges_are_those_of_numpy():
    """Denormal numbers are kept, infinities and NaN go through, products are not contracted into sums."""
    x = np.array([1e-45, 1e-40, -1e-39, 1.2e-38, 3e38, np.inf, -np.inf, np.nan, 0.0, -0.0, 1 + 2**-12, 1 - 2**-12] * 3)
    x = x.astype(np.float32)

    def rule(m, p, g, s, c, options):
        return p * g - c["k"] * p, {"a": m.sqrt(s["a"]) / g}

    p, g, a = x.copy(), np.roll(x, 1), np.roll(x, 5)
    k = np.array([1 + 2**-11], np.float32)
    with np.errstate(all="ignore"):
        want = p * g - k * p, np.sqrt(a) / g
    rows = np.array([[p.size, *map(native.address, (p, g, a))]], np.int64)
    native_rule(rule, ("a",), ("k",), frozenset(), "f32")(native.address(rows), 1, native.address(k))
    for got, expected in zip((p, a), want, strict=True):
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        known = ~np.isnan(got)
        assert got[known].tobytes() == expected[known].tobytes()


# ---- whole runs
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "Adam, L2": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
}


@pytest.fixture
def early(monkeypatch):
    """Machine code from the third step on."""
    monkeypatch.setattr(native, "STEPS", 3)
    monkeypatch.setattr(native, "WORTH", 0.0)


class Job:
    """A model with its optimizer, and gradients made from its parameters."""

    def __init__(self, make, dtype=cr.float32):
        cr.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(9, 17), nn.Tanh(), nn.Linear(17, 5)).to(dtype)
        self.optimizer = make(self.model.parameters())
        self.x = cr.randn(6, 9).to(dtype)

    def run(self, steps):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(self.x).square().mean().backward()
            self.optimizer.step()
        return self

    @property
    def machine(self) -> bool:
        """Whether the last step was one of machine code."""
        return bool(self.optimizer._native and self.optimizer._native._rows)

    def bits(self):
        parameters = list(self.model.parameters())
        state = [self.optimizer.state[p][name] for p in parameters for name in sorted(self.optimizer.state[p])]
        return [t.detach().numpy().tobytes() for t in (*parameters, *state)]


def switched_off(monkeypatch):
    monkeypatch.setenv("CHAINRULE_COMPILE", "0")


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_runs_are_the_same_to_the_last_bit(name, dtype, early, monkeypatch):
    found = Job(OPTIMIZERS[name], dtype).run(12)
    assert found.machine
    switched_off(monkeypatch)
    expected = Job(OPTIMIZERS[name], dtype).run(12)
    assert not expected.machine
    assert found.bits() == expected.bits()


def freeze(job):
    job.model[0].bias.requires_grad_(False)
    job.model[0].bias.grad = None


def exchange(job):
    p = job.model[0].weight
    p.data = p.detach() * 2


def restore(job):
    saved = copy.deepcopy(job.optimizer.state_dict())
    job.run(2)
    job.optimizer.load_state_dict(saved)


def restart_one(job):
    del job.optimizer.state[job.model[2].weight]


def change_rate(job):
    job.optimizer.param_groups[0]["lr"] = 0.003


def scheduled(job):
    job.optimizer.param_groups[0]["weight_decay"] = 0.2  # another variant of the rule


EVENTS = [freeze, exchange, restore, restart_one, change_rate, scheduled]


@pytest.mark.parametrize("event", EVENTS)
def test_what_happens_between_steps_is_seen(event, early, monkeypatch):
    def whole():
        job = Job(OPTIMIZERS["Adam"]).run(5)
        event(job)
        return job.run(4)

    found = whole()
    assert found.machine
    switched_off(monkeypatch)
    expected = whole()
    assert not expected.machine
    assert found.bits() == expected.bits()


def test_a_group_that_is_added_later_gets_its_own_table(early, monkeypatch):
    def whole():
        job = Job(OPTIMIZERS["momentum"]).run(4)
        extra = cr.ones(4, requires_grad=True)
        job.optimizer.add_param_group({"params": [extra], "lr": 0.3})
        for _ in range(4):
            extra.grad = cr.full((4,), 0.5)
            job.optimizer.step()
        return job, extra.detach().numpy().tobytes()

    job, found = whole()
    assert len(job.optimizer._native._rows) == 2
    switched_off(monkeypatch)
    plain, expected = whole()
    assert found == expected
    assert job.bits() == plain.bits()


def test_what_machine_code_does_not_cover_stays_with_numpy(early):
    """Views, arrays that are not dense, float16: the group goes on as before."""
    base = cr.zeros(6, 4)
    parameters = {
        "view": base[1].detach().requires_grad_(),
        "transposed": cr.from_numpy(np.zeros((3, 4), np.float32).T).requires_grad_(),
        "half": cr.zeros(5, dtype=cr.float16, requires_grad=True),
    }
    for name, p in parameters.items():
        optimizer = optim.SGD([p], lr=0.5)
        for _ in range(6):
            p.grad = cr.ones_like(p).detach()
            optimizer.step()
        assert np.array_equal(p.detach().numpy(), np.full(tuple(p.shape), -3.0)), name
        assert not optimizer._native._rows, name


def test_a_gradient_that_is_not_dense_is_used_all_the_same(early):
    p = cr.zeros(3, 4, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    for _ in range(6):
        p.grad = cr.from_numpy(np.arange(12, dtype=np.float32).reshape(4, 3).T)
        optimizer.step()
    assert np.array_equal(p.detach().numpy(), -6 * np.arange(12, dtype=np.float32).reshape(4, 3).T)


def test_a_saved_value_that_a_step_overwrites_is_caught_with_the_line(early):
    job = Job(OPTIMIZERS["SGD"]).run(4)
    loss = (job.model[0].weight.square()).sum()
    loss.backward(retain_graph=True)
    job.optimizer.step()  # the write
    assert job.machine
    with pytest.raises(GradError, match="the write"):
        loss.backward()


def test_optimizers_are_copied_and_pickled_without_their_tables(early):
    job = Job(OPTIMIZERS["Adam"]).run(5)
    for other in (copy.deepcopy(job.optimizer), pickle.loads(pickle.dumps(job.optimizer))):
        assert other._native is None
        p = other.param_groups[0]["params"][0]
        p.grad = cr.ones_like(p).detach()
        before = p.detach().clone()
        for _ in range(4):
            other.step()
        assert not cr.equal(before, p)


# ---- when it begins
def test_steps_begin_as_numpy_and_change_at_a_step_that_sizes_decide():
    """A million elements with a state array save 0.6 ms a step; ten elements without one, a microsecond."""
    p = cr.zeros(1_000_000, requires_grad=True)
    p.grad = cr.ones(1_000_000)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    changed = []
    for _ in range(30):
        optimizer.step()
        changed.append(bool(optimizer._native._rows))
    assert changed.index(True) == native.STEPS - 1
    small = cr.zeros(10, requires_grad=True)
    small.grad = cr.ones(10)
    optimizer = optim.SGD([small], lr=0.1)
    for _ in range(200):
        optimizer.step()
    assert not optimizer._native._rows


def test_a_short_run_loads_no_compiler():
    program = """
import sys, chainrule as cr
from chainrule import optim
p = cr.zeros(1000, requires_grad=True)
p.grad = cr.ones(1000)
optimizer = optim.Adam([p])
for _ in range(100):
    optimizer.step()
assert not [m for m in sys.modules if m.startswith(("llvmlite", "chainrule.compiler"))], sorted(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_without_llvmlite_numpy_stays(early, monkeypatch):
    monkeypatch.setattr(target, "available", lambda: False)
    job = Job(OPTIMIZERS["Adam"]).run(6)
    assert not job.machine


def test_on_a_processor_without_code_numpy_stays(early, monkeypatch):
    def host():
        raise target.BackendUnavailableError("no native code for this processor")

    monkeypatch.setattr(target, "host", host)
    job = Job(OPTIMIZERS["Adam"]).run(6)
    assert not job.machine


def test_the_switch_is_asked_at_every_step(early, monkeypatch):
    switched_off(monkeypatch)
    job = Job(OPTIMIZERS["Adam"]).run(5)
    assert not job.machine
    monkeypatch.delenv("CHAINRULE_COMPILE")
    assert job.run(2).machine
    expected = Job(OPTIMIZERS["Adam"]).run(9).bits()
    switched_off(monkeypatch)
    assert job.run(2).bits() == expected
