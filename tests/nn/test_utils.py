"""Clipping of gradients, and parameters as one vector."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)


def params(*grads: object) -> list[nn.Parameter]:
    out = []
    for g in grads:
        if g is None:
            out.append(nn.Parameter(cr.zeros(2, dtype=cr.float64)))
            continue
        g = cr.tensor(g, dtype=cr.float64)
        p = nn.Parameter(cr.zeros(g.shape, dtype=cr.float64))
        p.grad = g
        out.append(p)
    return out


def test_clipping_scales_all_gradients_by_one_factor():
    # the norm of (3, 4) and (12) together is 13
    a, none, b = params([3.0, 4.0], None, [[12.0]])
    total = clip_grad_norm_([a, none, b], 6.5)
    assert total.item() == 13.0
    assert a.grad.tolist() == [1.5, 2.0]
    assert b.grad.tolist() == [[6.0]]
    assert none.grad is None


def test_a_norm_below_the_bound_changes_nothing():
    (a,) = params([3.0, 4.0])
    assert clip_grad_norm_(a, 5.0).item() == 5.0
    assert a.grad.tolist() == [3.0, 4.0]
    assert clip_grad_norm_(a, 50.0).item() == 5.0
    assert a.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("norm_type", "expected"), [(1.0, 19.0), (2.0, 13.0), (3.0, 1819 ** (1 / 3)), (math.inf, 12.0), ("inf", 12.0)]
)
def test_norm_types(norm_type, expected):
    ps = params([3.0, -4.0], [-12.0])
    assert get_total_norm([p.grad for p in ps], norm_type).item() == pytest.approx(expected, rel=1e-14)
    before = clip_grad_norm_(iter(ps), expected / 2, norm_type)
    assert before.item() == pytest.approx(expected, rel=1e-14)
    assert get_total_norm([p.grad for p in ps], norm_type).item() == pytest.approx(expected / 2, rel=1e-14)
    assert ps[1].grad.item() == pytest.approx(-6.0, rel=1e-14)


def test_the_gradient_is_written_in_place_and_the_graph_is_not_touched():
    (a,) = params([6.0, 8.0])
    held = a.grad
    clip_grad_norm_([a], 5.0, foreach=False)
    assert a.grad is held
    assert held.tolist() == [3.0, 4.0]
    assert not held.requires_grad


def test_zero_and_missing_gradients():
    (z,) = params([0.0, 0.0])
    assert clip_grad_norm_([z], 0.0).item() == 0.0
    assert z.grad.tolist() == [0.0, 0.0]
    assert clip_grad_norm_(params(None), 1.0).item() == 0.0
    assert clip_grad_norm_([], 1.0).item() == 0.0


def test_non_finite_norms():
    for bad in (math.nan, math.inf):
        (a,) = params([bad, 1.0])
        with pytest.raises(RuntimeError, match="non-finite"):
            clip_grad_norm_([a], 1.0, error_if_nonfinite=True)
        assert a.grad[1].item() == 1.0
    (a,) = params([math.nan, 1.0])
    assert math.isnan(clip_grad_norm_([a], 1.0).item())
    assert all(math.isnan(v) for v in a.grad.tolist())


def test_clip_by_a_given_norm():
    (a,) = params([3.0, 4.0])
    clip_grads_with_norm_(a, 1.0, cr.tensor(10.0, dtype=cr.float64))
    assert a.grad.numpy() == pytest.approx([0.3, 0.4])


def test_clip_by_value():
    a, none = params([-3.0, 0.5, 7.0], None)
    held = a.grad
    clip_grad_value_([a, none], 2)
    assert a.grad is held
    assert held.tolist() == [-2.0, 0.5, 2.0]
    clip_grad_value_(a, 1.0)
    assert held.tolist() == [-1.0, 0.5, 1.0]


def test_vector_round_trip():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    v = parameters_to_vector(net.parameters())
    assert tuple(v.shape) == (6 + 3 + 3 + 1,)
    expected = np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])
    assert np.array_equal(v.detach().numpy(), expected)
    new = cr.arange(13, dtype=cr.float32)
    vector_to_parameters(new, net.parameters())
    assert net[0].weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert net[1].bias.tolist() == [12.0]
    assert net[0].weight.is_leaf
    new.zero_()
    assert net[1].bias.tolist() == [12.0]


def test_vector_is_differentiable():
    net = nn.Linear(2, 1)
    v = parameters_to_vector(net.parameters())
    (v * cr.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert net.weight.grad.tolist() == [[1.0, 2.0]]
    assert net.bias.grad.tolist() == [3.0]


def test_vector_of_the_wrong_length():
    net = nn.Linear(2, 1)
    before = net.weight.tolist()
    for size in (2, 4):
        with pytest.raises(ValueError, match=rf"a vector of 3 elements, got shape \({size},\)"):
            vector_to_parameters(cr.zeros(size), net.parameters())
    assert net.weight.tolist() == before
    with pytest.raises(TypeError, match="expected a Tensor"):
        vector_to_parameters([1.0, 2.0, 3.0], net.parameters())
    with pytest.raises(ValueError, match="no parameters"):
        parameters_to_vector([])
