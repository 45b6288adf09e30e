"""chainrule.compile: the programming model, what is noticed between calls, what happens when something goes wrong."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import chainrule
from chainrule import nn
from chainrule.core.errors import TracerError

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler import explain_compilation
from chainrule.compiler.verify import VerificationError


def network(seed=0, sizes=(12, 16, 3), optimizer="Adam", **options):
    chainrule.manual_seed(seed)
    model = nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:]))
    made = getattr(chainrule.optim, optimizer)(model.parameters(), **options)
    loss_fn = nn.CrossEntropyLoss()

    def step(x, y):
        made.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        made.step()
        return loss

    return model, made, step


def batch(n=8, seed=1):
    chainrule.manual_seed(seed)
    return chainrule.randn(n, 12), chainrule.randint(0, 3, (n,))


def weights(model):
    return [p.detach().numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize(("optimizer", "options"), [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"lr": 0.01})])
def test_a_training_step_follows_the_eager_one(optimizer, options):
    eager, _, plain = network(optimizer=optimizer, **options)
    model, _, step = network(optimizer=optimizer, **options)
    step = chainrule.compile(step)
    for seed in range(20):
        x, y = batch(seed=seed)
        assert step(x, y).item() == pytest.approx(plain(x, y).item(), abs=1e-5)
    assert step.captures == 1
    for a, b in zip(weights(model), weights(eager), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=1e-5)


def test_as_a_decorator_with_trees_and_keywords():
    @chainrule.compile
    def f(pair, *, scale):
        """Doubles."""
        a, b = pair["a"], pair["b"]
        return {"sum": (a + b) * scale, "both": [a * b, 3]}

    a, b = chainrule.tensor([1.0, 2.0]), chainrule.tensor([3.0, 4.0])
    out = f({"a": a, "b": b}, scale=2.0)
    assert out["sum"].tolist() == [8.0, 12.0]
    assert out["both"][0].tolist() == [3.0, 8.0]
    assert out["both"][1] == 3
    assert f({"a": a, "b": b}, scale=3.0)["sum"].tolist() == [12.0, 18.0]
    assert f.__name__ == "f"
    assert f.__doc__ == "Doubles."


def test_a_method_and_a_compiled_function_inside_another():
    class Thing:
        def __init__(self):
            self.w = chainrule.tensor([2.0])

        @chainrule.compile
        def scaled(self, x):
            return x * self.w

    thing = Thing()
    assert thing.scaled(chainrule.tensor([3.0])).tolist() == [6.0]
    inner = chainrule.compile(lambda x: x + 1)
    outer = chainrule.compile(lambda x: inner(x) * 2)
    assert outer(chainrule.tensor([1.0])).tolist() == [4.0]
    assert inner.captures == 0


def test_a_short_last_batch_is_compiled_once():
    _, _, step = network(lr=0.01)
    step = chainrule.compile(step)
    for _ in range(3):
        for n in (8, 8, 8, 3):
            step(*batch(n))
    assert step.captures == 2


def test_a_learning_rate_is_an_input():
    eager, slow, plain = network(optimizer="SGD", lr=0.5)
    model, fast, step = network(optimizer="SGD", lr=0.5)
    step = chainrule.compile(step)
    for k in range(4):
        slow.param_groups[0]["lr"] = fast.param_groups[0]["lr"] = 0.5 / (k + 1)
        plain(*batch())
        step(*batch())
    assert step.captures == 1
    for a, b in zip(weights(model), weights(eager), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_changed_between_calls_is_noticed():
    model = nn.Sequential(nn.Linear(12, 4), nn.Dropout(0.5))
    f = chainrule.compile(lambda x: model(x))
    x, _ = batch()
    with chainrule.no_grad():
        model.eval()
        first = f(x).numpy().copy()
        model[0].weight.zero_()  # written in place: no new program
        assert np.array_equal(f(x).numpy(), np.broadcast_to(model[0].bias.detach().numpy(), (8, 4)))
        assert f.captures == 1
        model[0].weight = nn.Parameter(chainrule.ones(4, 12))  # another tensor
        assert not np.array_equal(f(x).numpy(), first)
        model.train()
        f(x)
        assert f.captures == 3
        model[0].weight.data = chainrule.zeros(4, 12)  # other memory under the same tensor
        model.eval()
        assert np.array_equal(f(x).numpy(), np.broadcast_to(model[0].bias.detach().numpy(), (8, 4)))


def test_an_index_out_of_range_raises_and_changes_nothing():
    model, _, step = network(lr=0.1)
    step = chainrule.compile(step)
    x, y = batch()
    step(x, y)
    before = weights(model)
    with pytest.raises(IndexError):
        step(x, y + 2)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_gradients_are_not_shared_between_calls():
    model, _, step = network(lr=0.1)
    step = chainrule.compile(step)
    step(*batch(seed=1))
    held = model[0].weight.grad
    copy = held.numpy().copy()
    step(*batch(seed=2))
    assert np.array_equal(held.numpy(), copy)
    assert model[0].weight.grad is not held


def test_results_that_need_derivatives_have_them():
    w = chainrule.tensor([2.0, 3.0], requires_grad=True)
    f = chainrule.compile(lambda x: (x * w).sum())
    x = chainrule.tensor([4.0, 5.0])
    for _ in range(2):
        w.grad = None
        f(x).backward()
        assert w.grad.tolist() == [4.0, 5.0]
    assert chainrule.func.grad(f)(x).tolist() == [2.0, 3.0]


def test_a_compiled_model_in_an_eager_training_step():
    def train(compiled):
        chainrule.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        forward = chainrule.compile(model) if compiled else model
        optimizer = chainrule.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for seed in range(12):
            x, y = batch(seed=seed)
            chainrule.manual_seed(100 + seed)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, weights(model), forward

    losses, expected, _ = train(False)
    found, got, forward = train(True)
    np.testing.assert_allclose(found, losses, atol=1e-5)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert forward.captures == 1


def test_derivatives_of_a_compiled_function_to_third_order():
    f = chainrule.compile(lambda x: ((x * x).sin() * x).sum())
    x = chainrule.tensor([0.5, -1.2], dtype=chainrule.float64, requires_grad=True)
    plain, compiled = [], []
    for function, out in ((f.function, plain), (f, compiled)):
        g = function(x)
        for _ in range(3):
            (g,) = chainrule.autograd.grad(g.sum(), x, create_graph=True)
            out.append(g.detach().numpy())
    np.testing.assert_allclose(compiled, plain, rtol=1e-12)


def test_several_results_of_which_one_is_used():
    w = chainrule.tensor([1.0, 2.0], requires_grad=True)
    f = chainrule.compile(lambda x: (x * w, (x + w).exp(), x > 0))
    x = chainrule.tensor([3.0, 4.0])
    for _ in range(2):
        w.grad = None
        a, b, c = f(x)
        a.sum().backward()
        assert w.grad.tolist() == [3.0, 4.0]
        assert b.requires_grad
        assert not c.requires_grad


def test_a_branch_on_a_value_raises_or_falls_back():
    def f(x):
        return x * 2 if x.sum() > 0 else x

    x = chainrule.tensor([1.0])
    with pytest.raises(TracerError, match="where"):
        chainrule.compile(f)(x)
    g = chainrule.compile(f, fallback=True)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert g(x).tolist() == [2.0]
    assert g(-x).tolist() == [-1.0]


def test_the_first_call_is_verified(monkeypatch):
    def broken(native, arrays, aliases=None):
        raise VerificationError.__new__(VerificationError)

    calls = []
    monkeypatch.setattr("chainrule.compiler.runtime.verify_program", lambda *a, **k: calls.append(1))
    x = chainrule.tensor([1.0])
    for mode, expected in (("first", 1), ("always", 3), ("never", 0)):
        calls.clear()
        f = chainrule.compile(lambda x: x.exp(), verify=mode)
        for _ in range(3):
            f(x)
        assert len(calls) == expected, mode
    monkeypatch.setattr("chainrule.compiler.runtime.verify_program", broken)
    with pytest.raises(VerificationError):
        chainrule.compile(lambda x: x.exp())(x)
    with pytest.raises(ValueError, match="first"):
        chainrule.compile(lambda x: x, verify="sometimes")


def test_the_report_names_passes_kernels_and_memory():
    _, _, step = network(lr=0.1)
    step = chainrule.compile(step)
    step(*batch())
    text = explain_compilation(step)
    for word in (
        "captured once, 1 program kept",
        "deduplicate",
        "product [8, 12] [12, 16]",
        "known before running",
        "in place",
    ):
        assert word in text
    with pytest.raises(TypeError, match="compile"):
        explain_compilation(len)


PROGRAM = """
    import warnings
    warnings.simplefilter("always")
    import chainrule
    f = chainrule.compile(lambda x: x * 2)
    print(f(chainrule.tensor([1.0, 2.0])).tolist(), getattr(f, "captures", None))
"""


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_it_can_be_switched_off_everywhere():
    assert run(PROGRAM, CHAINRULE_COMPILE="0").stdout.strip() == "[2.0, 4.0] 0"
    assert run(PROGRAM).stdout.strip() == "[2.0, 4.0] 1"


def test_without_llvmlite_everything_runs_eagerly_and_says_so_once():
    hidden = "import sys; sys.modules['llvmlite'] = None\n" + textwrap.dedent(PROGRAM) + "g = chainrule.compile(len)\n"
    done = run(hidden)
    assert done.stdout.strip() == "[2.0, 4.0] None"
    assert done.stderr.count("pip install llvmlite") == 1


@pytest.mark.slow
def test_many_steps_leave_memory_flat():
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("this system has no /proc to read the resident size from")
    _, _, step = network(lr=0.001)
    step = chainrule.compile(step)
    x, y = batch()

    def resident():
        with open(statm) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(5000):
        step(x, y)
    before = resident()
    for _ in range(100_000):
        step(x, y)
    assert resident() - before < 6 << 20, "60 bytes a step would show"


def test_gradients_that_nobody_clears_accumulate():
    w, xs = chainrule.zeros(3, requires_grad=True), chainrule.arange(12.0).reshape(4, 3)

    @chainrule.compile
    def step(x):
        (w * x).sum().backward()

    for _ in range(2):
        for x in xs:
            step(x)
        np.testing.assert_array_equal(w.grad.numpy(), xs.sum(0).numpy())
        w.grad = None


def test_an_argument_that_is_state_which_is_written_is_noticed():
    """The program was right for other arguments; with this one the function would read what it has just written."""
    w = chainrule.arange(3.0)

    def step(x):
        w.add_(1.0)
        return x * 2

    compiled = chainrule.compile(step)
    for _ in range(2):
        assert compiled(chainrule.ones(3)).tolist() == [2.0] * 3
    for same in (w, w[:], w.detach()):
        with pytest.raises(TracerError, match="memory another input uses"):
            compiled(same)
    assert w.tolist() == [2.0, 3.0, 4.0]
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert chainrule.compile(step, fallback=True)(w).tolist() == [6.0, 8.0, 10.0]
