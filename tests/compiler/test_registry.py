"""Every op of the registry: captured and evaluated by the reference evaluator, against eager mode, bit for bit."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture, evaluate
from chainrule.ir.op import REGISTRY
from op_cases import Case, cases, differentiable

EVERY = cases()


def test_no_op_is_left_out():
    assert {case.op.name for case in EVERY} == set(REGISTRY)


def _equal(a: cr.Tensor, b: cr.Tensor) -> bool:
    x, y = a.numpy(force=True), b.numpy(force=True)
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


@pytest.mark.parametrize("case", EVERY, ids=repr)
def test_captured_and_evaluated_is_eager(case: Case):
    inputs = [cr.from_numpy(a) for a in case.arrays()]
    program = capture(case.function, *inputs)
    ops = {i.op.name for i in program.graph.instructions}
    assert case.op.name in ops or (case.op.name == "cast" and not ops)  # to the dtype it has: nothing to do
    for draw in range(2):
        inputs = [cr.from_numpy(a) for a in case.arrays(draw)]
        with np.errstate(all="ignore"):
            wanted = case.function(*inputs)
        got = program(*inputs)
        assert _equal(got, wanted)
        for again in evaluate(program, [t.numpy() for t in inputs]):
            assert np.asarray(again).tobytes() == wanted.numpy(force=True).tobytes()


@pytest.mark.parametrize("case", cases(differentiable), ids=repr)
def test_captured_gradient_is_the_eager_one(case: Case):
    """The backward pass of every op, captured: what a training step is made of."""
    arrays = case.arrays()
    scalar = case.scalar(arrays)

    def gradients(*xs: cr.Tensor) -> list[cr.Tensor]:
        leaves = [x.detach().requires_grad_() for x in xs]
        return list(cr.autograd.grad(scalar(*leaves), leaves, materialize_grads=True, allow_unused=True))

    xs = [cr.from_numpy(arrays[i]) for i in case.varied]
    wanted = gradients(*xs)
    got = capture(gradients, *xs)(*xs)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", cases(differentiable), ids=repr)
def test_a_program_is_differentiated_like_the_function(case: Case):
    """The graph replayed through tensors: reverse and forward mode of the program against those of the function."""
    arrays = case.arrays()
    scalar = case.scalar(arrays)
    xs = tuple(cr.from_numpy(arrays[i]) for i in case.varied)
    program = capture(scalar, *xs)
    argnums = tuple(range(len(xs)))
    for a, b in zip(cr.func.grad(program, argnums)(*xs), cr.func.grad(scalar, argnums)(*xs), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
    direction = tuple(cr.from_numpy(np.random.default_rng(3).standard_normal(tuple(x.shape))) for x in xs)
    got, wanted = (cr.func.jvp(f, xs, direction)[1] for f in (program, scalar))
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-12, atol=1e-14)
