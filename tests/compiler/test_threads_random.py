"""Random programs on several threads, with everything divided that can be: the same bits as on one thread."""

from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.llvm import program
from chainrule.compiler.threads import Choice
from random_programs import STEP, make, program_of


@contextmanager
def everything_divided(columns=None):
    """However little work there is; ``columns``: a random choice of the products that go by columns."""
    with pytest.MonkeyPatch.context() as m:
        for name in ("SHARED_LOOP", "SHARED_PRODUCT", "SHARED_PROGRAM"):
            m.setattr(program, name, 0.0)
        m.setattr("chainrule.compiler.native.fingerprint", lambda plan: None)
        m.setattr("chainrule.compiler.native.available_cores", lambda: 4)
        m.setattr(Choice, "next", lambda self: (True, False))
        if columns is not None:
            rng = np.random.default_rng(columns)

            def by_columns(kernels, shared, products, target):
                free = [n for n, (spec, plan) in products.items() if plan.by_columns and not spec.batch]
                return {n for n in free if rng.random() < 0.5}

            m.setattr(program, "by_columns", by_columns)
        before = cr.get_num_threads()
        try:
            yield
        finally:
            cr.set_num_threads(before)


def bits(tensors):
    return [t.numpy(force=True).tobytes() for t in tensors]


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


@settings(max_examples=25, deadline=None)
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
