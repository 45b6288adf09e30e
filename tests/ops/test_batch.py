"""vmap of every op, and of its gradient, against a loop, for every choice of batched arguments."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.func import grad, vmap
from chainrule.ir.op import REGISTRY
from chainrule.tensors.fastpath import TENSORS
from op_cases import cases, deterministic, differentiable, tensors

SIZE = 3


def subsets(count):
    return [s for n in range(1, count + 1) for s in itertools.combinations(range(count), n)]


def mapped(case, chosen):
    """Inputs of which the chosen ones have a batch axis, the in_dims, and the inputs of every member."""
    draws = [case.arrays(d) for d in range(SIZE)]
    full = [np.stack([d[i] for d in draws]) if i in chosen else a for i, a in enumerate(draws[0])]
    members = [[d[i] if i in chosen else a for i, a in enumerate(draws[0])] for d in draws]
    return full, tuple(0 if i in chosen else None for i in range(len(full))), members


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_vmap_against_a_loop(case):
    for chosen in subsets(len(case.arrays())):
        full, dims, members = mapped(case, chosen)
        got = vmap(case.function, in_dims=dims)(*tensors(full)).numpy()
        want = np.stack([case.function(*tensors(m)).numpy() for m in members])
        assert got.shape == want.shape, chosen
        assert got.dtype == want.dtype, chosen
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13, err_msg=str(chosen))


@pytest.mark.parametrize("case", cases(differentiable), ids=repr)
def test_vmap_of_the_gradient_against_a_loop(case):
    varied = case.varied
    for chosen in subsets(len(case.arrays())):
        full, dims, members = mapped(case, chosen)

        def gradient(*xs):
            def scalar(*inner):
                ys = list(xs)
                for i, x in zip(varied, inner, strict=True):
                    ys[i] = x
                y = case.function(*ys)
                return (y * y).sum()

            return grad(scalar, argnums=tuple(range(len(varied))))(*(xs[i] for i in varied))

        got = vmap(gradient, in_dims=dims)(*tensors(full))
        want = [gradient(*tensors(m)) for m in members]
        for k, g in enumerate(got):
            expected = np.stack([w[k].numpy() for w in want])
            assert g.shape == expected.shape, chosen
            np.testing.assert_allclose(g.numpy(), expected, rtol=1e-11, atol=1e-12, err_msg=str(chosen))


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_vmap_of_vmap_against_two_loops(case):
    count = len(case.arrays())
    draws = [[case.arrays(2 * i + j) for j in range(2)] for i in range(2)]
    full = [np.stack([np.stack([d[k] for d in row]) for row in draws]) for k in range(count)]
    got = vmap(vmap(case.function))(*tensors(full)).numpy()
    want = np.stack([np.stack([case.function(*tensors(d)).numpy() for d in row]) for row in draws])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [n for n, op in REGISTRY.items() if op.random])
def test_random_ops_under_vmap_ask_what_is_meant(name):
    op = REGISTRY[name]
    seed, at = cr.tensor(3), cr.tensor(0)
    draw = lambda x: getattr(TENSORS, name)(seed, at, **op.samples[0].params) + x  # noqa: E731
    zeros = cr.zeros(4, dtype=cr.int64)
    with pytest.raises(RuntimeError, match="randomness='different'"):
        vmap(draw)(zeros)
    same = vmap(draw, randomness="same")(zeros).numpy()
    different = vmap(draw, randomness="different")(zeros).numpy()
    assert same.shape == different.shape == (4, 3, 2)
    assert (same == same[0]).all()
    assert len(np.unique(different)) == different.size
