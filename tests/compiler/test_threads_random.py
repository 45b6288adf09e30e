"""Random programs on several threads, with everything divided that can be: the same bits as on one thread."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from native_checks import bits, everything_divided
from random_programs import STEP, make, program_of


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3), st.integers(2, 4))
def test_programs(steps, seed, threads):
    sides = []
    with everything_divided():
        for count in (1, threads):
            cr.set_num_threads(count)
            x, buffer, w = make(seed, (26, 40))
            cr.manual_seed(seed)
            run = cr.compile(program_of(steps, buffer, buffer[1], w), verify="never")
            found = []
            with np.errstate(all="ignore"):
                for k in range(3):
                    found += bits([*run(x + k), buffer])
                found += bits([*run.map(cr.stack([x, x * 2.0])), buffer])
            sides.append(found)
    assert sides[0] == sides[1]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 150), min_size=2, max_size=4), st.integers(1, 150), st.integers(2, 4),
    st.integers(0, 2**32 - 1), st.sampled_from(["SGD", "Adam"]),
)  # fmt: skip
def test_training_steps(sizes, batch, threads, seed, method):
    sides = []
    for count in (1, threads):
        with everything_divided(columns=seed):
            cr.set_num_threads(count)
            cr.manual_seed(seed)
            layers = [m for i, o in pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
            model = nn.Sequential(*layers[:-1])
            optimizer = getattr(cr.optim, method)(model.parameters(), lr=0.01)
            data, target = cr.rand(40, sizes[0]), cr.rand(40, sizes[-1])
            data = cr.where(cr.rand(40, sizes[0]) < 0.2, data, 0.0)  # mostly zeros, as images are

            @cr.compile(verify="never")
            def step(rows):
                optimizer.zero_grad()  # noqa: B023
                loss = ((model(data[rows]) - target[rows]) ** 2).mean()  # noqa: B023
                loss.backward()
                optimizer.step()  # noqa: B023
                return loss

            losses = [step(cr.randint(0, 40, (batch,))).numpy().tobytes() for _ in range(4)]
            losses += bits([step.map(cr.randint(0, 40, (3, batch)))])
            sides.append([*losses, *bits(model.parameters())])
    assert sides[0] == sides[1]
