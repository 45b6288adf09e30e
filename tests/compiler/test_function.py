"""Functions that are captured when called: when a program is used again, when not, and how that is explained."""

import functools
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler import Captured, capture, captured
from chainrule.compiler.function import LIMIT
from chainrule.compiler.guards import difference, observe

SCALE = 2.0


def scaled(x):
    return x * SCALE


def indirectly(x):
    return scaled(x) + 1.0


def test_one_capture_for_one_kind_of_call():
    f = captured(lambda x: x * 2)
    for k in range(3):
        assert f(cr.ones(2) * k).tolist() == [2 * k, 2 * k]
    assert f.captures == 1
    assert f.reasons == []


CHANGES = {
    "shape": (lambda: (cr.ones(3), 3), r"argument 0 is float32\[3\] now, captured as float32\[2\]"),
    "dtype": (lambda: (cr.ones(2, dtype=cr.float64), 3), "float64"),
    "number": (lambda: (cr.ones(2), 4), "argument 1 is 4, captured with 3"),
    "type of a number": (lambda: (cr.ones(2), 3.0), "argument 1 is 3.0, captured with 3"),
    "structure": (lambda: (cr.ones(2), 3, None), "another structure"),
}


@pytest.mark.parametrize(("call", "reason"), CHANGES.values(), ids=CHANGES)
def test_another_kind_of_call_is_another_program(call, reason):
    f = captured(lambda x, n, *rest: x * n)
    first = (cr.ones(2), 3)
    f(*first)
    args = call()
    assert f(*args).tolist() == (args[0] * args[1]).tolist()
    assert f.captures == 2
    assert len(f.programs) == 2
    f(*first)
    f(*args)
    assert f.captures == 2
    assert re.search(reason, f.reasons[0]), f.reasons


def test_grad_mode_and_default_dtype_are_guards():
    w = cr.ones(2, requires_grad=True)
    f = captured(lambda x: x * w + cr.zeros(2))
    assert f(cr.ones(2)).requires_grad
    with cr.no_grad():
        assert not f(cr.ones(2)).requires_grad
    assert f.captures == 2
    assert "grad mode" in f.reasons[0]
    cr.set_default_dtype(cr.float64)
    try:
        assert f(cr.ones(2, dtype=cr.float32)).dtype == cr.float64
    finally:
        cr.set_default_dtype(cr.float32)


def test_globals_closures_defaults_and_partials_are_guards(monkeypatch):
    f = captured(indirectly)
    assert f(cr.ones(1)).item() == 3
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    assert f(cr.ones(1)).item() == 6
    assert f.reasons == ["global SCALE changed from 2.0 to 5.0"]

    factor = 2.0

    def g(x, add=1.0):
        return x * factor + add

    closed = captured(g)
    assert closed(cr.ones(1)).item() == 3
    factor = 3.0
    assert closed(cr.ones(1)).item() == 4
    g.__defaults__ = (7.0,)
    assert closed(cr.ones(1)).item() == 10
    assert [r.split(" changed")[0].rsplit(" of ", 1)[0] for r in closed.reasons] == ["variable factor", "default 0"]

    bound = captured(functools.partial(g, add=0.0))
    assert bound(cr.ones(1)).item() == 3


def test_a_callable_object_is_looked_into(monkeypatch):
    class Scaler:
        def __call__(self, x):
            return x * SCALE

    f = captured(Scaler())
    assert f(cr.ones(1)).item() == 2
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    assert f(cr.ones(1)).item() == 4


def test_another_tensor_in_the_same_variable_is_noticed():
    w = cr.ones(1)
    f = captured(lambda: w * 2)
    assert f().item() == 2
    w.add_(1.0)
    assert f().item() == 4
    assert f.captures == 1
    w = cr.zeros(1)
    assert f().item() == 0
    assert f.captures == 2


def test_contents_of_lists_and_dictionaries_are_guards():
    settings, layers = {"scale": 2.0}, [1.0, 2.0]

    @captured
    def f(x):
        return x * settings["scale"] + sum(layers)

    assert f(cr.ones(1)).item() == 5
    settings["scale"] = 3.0
    assert f(cr.ones(1)).item() == 6
    layers.append(4.0)
    assert f(cr.ones(1)).item() == 10
    assert f.captures == 3


def test_training_flags_of_any_module_within_reach():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5)))
    f = captured(lambda x: net(x))
    net[1][0].eval()
    quiet = f(cr.ones(1, 2)).tolist()
    net[1][0].train()
    f(cr.ones(1, 2))
    net[1][0].eval()
    assert f(cr.ones(1, 2)).tolist() == quiet
    assert f.captures == 2
    assert f.reasons[0].startswith("training flag of Dropout (module 3 of variable net of")
    net[1][0].train()
    net[1][0].p = 0.999999
    assert f(cr.ones(1, 2)).tolist() == [[0, 0]]
    net[0].weight = nn.Parameter(cr.zeros(2, 2))
    net.eval()
    assert f(cr.ones(1, 2)).tolist() == [net[0].bias.tolist()]
    assert f.captures == 4


def test_an_option_that_is_switched_on_is_noticed_and_a_number_that_changes_is_an_input():
    w = cr.ones(2, requires_grad=True)
    optimizer = cr.optim.SGD([w], lr=0.1)

    def step():
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()

    f = captured(step)
    f()
    optimizer.param_groups[0]["lr"] = 0.5
    f()
    assert f.captures == 1
    np.testing.assert_allclose(w.tolist(), [0.0, 0.0], atol=1e-7)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    f()
    assert f.captures == 2
    assert "options of group 0" in f.reasons[0]


def test_methods_are_captured_per_object():
    class Scaler:
        def __init__(self, factor):
            self.factor = cr.tensor(factor)

        @captured
        def __call__(self, x):
            return x * self.factor

    two, three = Scaler(2.0), Scaler(3.0)
    assert [two(cr.ones(1)).item(), three(cr.ones(1)).item(), two(cr.ones(1)).item()] == [2, 3, 2]
    assert isinstance(Scaler.__call__, Captured)
    assert Scaler.__call__.captures == 2


def test_a_parameter_that_is_frozen_is_noticed():
    w = cr.ones(2, requires_grad=True)
    f = captured(lambda x: (x * w).sum())
    assert f(cr.ones(2)).requires_grad
    w.requires_grad_(False)
    assert not f(cr.ones(2)).requires_grad
    assert "requires grad" in f.reasons[0]


def test_programs_are_bounded_and_the_oldest_goes_first():
    f = captured(lambda x, n: x * n)
    for n in range(LIMIT + 3):
        f(cr.ones(1), n)
    assert len(f.programs) == LIMIT
    assert f.captures == LIMIT + 3
    f(cr.ones(1), LIMIT + 2)
    assert f.captures == LIMIT + 3
    f(cr.ones(1), 0)
    assert f.captures == LIMIT + 4


def test_it_looks_like_the_function():
    f = captured(scaled)
    assert f.__name__ == "scaled"
    assert f.__wrapped__ is scaled


def test_differences_in_words():
    assert difference({"a": (int, "1")}, {"a": (int, "1")}) is None
    assert difference({"a": (int, "1")}, {"a": (int, "2")}) == "a changed from 1 to 2"
    assert "grad mode" in observe(scaled, [])


def test_printing_a_program_with_effects():
    w = cr.ones(2, requires_grad=True)
    optimizer = cr.optim.SGD([w], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    program = capture(step, cr.ones(2))
    text = str(program)
    assert "lr" in text
    assert "write %" in text
    assert "set grad of state (Tensor, requires grad) to %" in text
    assert "result: nothing" in text
    assert repr(program).startswith("<program ")
