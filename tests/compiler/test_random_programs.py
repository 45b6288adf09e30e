"""Random programs, captured and evaluated by the reference evaluator, against eager mode.

Both sides run the same steps; values and all state have to agree to the last bit. Gradients may be summed in another
order, so they agree to rounding.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.llvm.target import available
from random_programs import SHAPES, STEP, WRITE, apply_step, make, program_of, steps_of


def bits(tensors):
    return [t.numpy(force=True).tobytes() for t in tensors]


@settings(max_examples=150)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3))
def test_values_and_state_are_bit_equal(steps, seed):
    sides = []
    for capture_it in (False, True):
        x, buffer, w = make(seed)
        run = program_of(steps, buffer, buffer[1], w)
        cr.manual_seed(seed)
        if capture_it:
            run = capture(run, x)
        found = []
        for k in range(2):
            argument = x.clone() + k
            with np.errstate(all="ignore"):
                found.append(bits([*run(argument), buffer, argument, cr.get_rng_state()]))
        sides.append(found)
    assert sides[0] == sides[1]


@settings(max_examples=60)
@given(st.lists(STEP.filter(lambda s: s[0] not in (*WRITE, "floor")), min_size=1, max_size=8), st.integers(0, 3))
def test_gradients_are_those_of_eager_mode(steps, seed):
    def make_run(w):
        def run(x):
            pool = [x, w]
            for step in steps:
                apply_step(pool, step, writable=())
            w.grad = None
            (pool[-1] * w).sum().backward()
            return w.grad * 1.0

        return run

    found = []
    for capture_it in (False, True):
        x, _, w = (t.double() for t in make(seed))
        w.requires_grad_()
        cr.manual_seed(seed)
        run = capture(make_run(w), x) if capture_it else make_run(w)
        found.append((run(x).numpy(), w.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


#: steps that machine code computes to the bit as NumPy does
EXACT = (
    *("neg", "abs", "relu", "square", "floor", "add", "sub", "mul", "maximum", "div", "where", "compare"),
    *SHAPES,
    *WRITE,
)


@pytest.mark.skipif(not available(), reason="llvmlite is not installed")
@settings(max_examples=60, deadline=None)
@given(st.lists(steps_of(EXACT), min_size=1, max_size=12), st.integers(0, 3), st.booleans())
def test_machine_code_returns_and_leaves_behind_what_eager_mode_does(steps, seed, owns):
    """Three steps, call by call and in one call; ``owns``: the argument is a copy, so that only state is written."""
    sides = []
    for way in ("eager", "calls", "map"):
        x, buffer, w = make(seed)
        run = program_of(steps, buffer, buffer[1], w)
        function = (lambda x, run=run: run(x.clone())) if owns else run
        xs = cr.stack([x + k for k in range(3)])
        with np.errstate(all="ignore"):
            if way == "map":
                found = [t.numpy() for t in cr.compile(function).map(xs)]
            else:
                call = function if way == "eager" else cr.compile(function)
                rows = [[t.numpy().copy() for t in call(a)] for a in xs]
                found = [np.stack(column) for column in zip(*rows, strict=True)]
        sides.append([a.tobytes() for a in (*found, buffer.numpy(), xs.numpy())])
    assert sides[0] == sides[1]
    assert sides[0] == sides[2]
