"""What may be said about gradients of a tensor: requires_grad, .grad, .data, retain_grad, hooks."""

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.tensors import kept


def leaf(*shape):
    return cr.tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)


# ---- requires_grad
@pytest.mark.parametrize(
    "make", [lambda: cr.tensor([1, 2], requires_grad=True), lambda: cr.tensor([True]).requires_grad_()]
)
def test_only_floating_tensors(make):
    with pytest.raises(RuntimeError, match=r"(?s)only floating-point.*\.float\(\)"):
        make()


def test_switching():
    x = cr.ones(2)
    assert x.requires_grad_() is x
    x.requires_grad = False
    assert not x.requires_grad
    y = leaf(2) * 2
    assert y.requires_grad_() is y
    for switch in (lambda: y.requires_grad_(False), lambda: setattr(y, "requires_grad", False)):
        with pytest.raises(RuntimeError, match="detach"):
            switch()


def test_a_frozen_tensor_keeps_its_gradient():
    x = leaf(2)
    x.sum().backward()
    x.requires_grad_(False)
    assert x.grad.tolist() == [1, 1]
    x.requires_grad_()
    x.sum().backward()
    assert x.grad.tolist() == [2, 2]


# ---- .grad
def test_assigning():
    x = leaf(3)
    g = cr.ones(3, dtype=cr.float64)
    x.grad = g
    assert x.grad is g
    x.sum().backward()
    assert g.tolist() == [2, 2, 2]  # added in place, to the tensor that was given
    x.grad = None
    assert x.grad is None
    x.sum().backward()
    del x.grad
    assert x.grad is None


@pytest.mark.parametrize("wrong", [cr.zeros(2, dtype=cr.float64), cr.zeros(3), cr.zeros(3, 1, dtype=cr.float64)])
def test_assigning_another_shape_or_dtype(wrong):
    with pytest.raises(RuntimeError, match=r"(?s)must be like the tensor.*expected: shape \(3,\), chainrule.float64"):
        leaf(3).grad = wrong


def test_assigning_something_else():
    with pytest.raises(TypeError, match=r"(?s)takes a Tensor or None.*list"):
        leaf(3).grad = [1, 2, 3]


def test_a_gradient_of_a_tensor_that_requires_none():
    x = cr.zeros(3)
    x.grad = cr.ones(3)
    assert x.grad.tolist() == [1, 1, 1]
    assert not x.requires_grad
    before = len(kept._parked)
    del x
    gc.collect()
    assert len(kept._parked) == before - 1


def test_results_have_none_unless_retained():
    x = leaf(3)
    y = x * 2
    y.sum().backward()
    assert y.grad is None
    assert not y.retains_grad


def test_grad_is_memory_of_its_own():
    x = leaf(3)
    g = cr.ones(3, dtype=cr.float64)
    (x * 1).backward(g)
    x.grad.add_(5)
    assert g.tolist() == [1, 1, 1]


# ---- .data
def test_data_reads_and_writes_without_history():
    x = leaf(3)
    x.sum().backward()
    before = x.detach().numpy().copy()
    x.data -= 0.1 * x.grad
    np.testing.assert_allclose(x.detach().numpy(), before - 0.1)
    x.data = cr.ones(3, dtype=cr.float64)
    x.data[0] = 9
    assert x.tolist() == [9, 1, 1]
    assert x.requires_grad
    assert x.is_leaf
    assert not x.data.requires_grad


def test_new_data_has_no_part_in_old_views():
    x = cr.zeros(3)
    view = x[1:]
    x.data = cr.ones(3)
    x.add_(1)
    assert view.tolist() == [0, 0]
    assert x.tolist() == [2, 2, 2]


# ---- retain_grad
def test_retain_grad():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    assert y.retains_grad
    assert y.grad is None
    (y * y).sum().backward(retain_graph=True)
    np.testing.assert_allclose(y.grad.numpy(), 2 * y.detach().numpy())
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), 4 * y.detach().numpy())
    y.grad = None
    assert y.grad is None
    x.retain_grad()  # harmless on a leaf
    assert not x.retains_grad
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        cr.zeros(1).retain_grad()


def test_what_is_retained_follows_an_in_place_operation():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), 2 * y.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), 12 * y.detach().numpy())


def test_what_is_retained_follows_a_view_that_is_written():
    x = leaf(3)
    y = x * 2
    view = y[1:]
    view.retain_grad()
    view.mul_(3)
    (view * view).sum().backward()
    np.testing.assert_allclose(view.grad.numpy(), 2 * view.detach().numpy())


def test_what_is_retained_dies_with_the_graph():
    y = leaf(3) * 2
    y.retain_grad()
    y.sum().backward()
    node = weakref.ref(y.grad_fn)
    del y
    gc.collect()
    assert node() is None


# ---- hooks
def test_hooks_see_and_replace():
    x = leaf(3)
    y = x * 2
    seen = []
    y.register_hook(lambda g: g * 10)
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    y.sum().backward(retain_graph=True)
    assert seen == [[20, 20, 20]]
    assert x.grad.tolist() == [20, 20, 20]
    handle.remove()
    handle.remove()
    y.sum().backward()
    assert len(seen) == 1


def test_a_hook_made_before_a_write_sees_the_gradient_of_the_old_value():
    x = leaf(3)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.mul_(3)
    y.sum().backward()
    assert seen == [[3, 3, 3]]


def test_hooks_that_are_wrong():
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        cr.zeros(1).register_hook(print)
    x = leaf(3)
    x.register_hook(lambda g: 3)
    with pytest.raises(TypeError, match="must return a Tensor or None"):
        x.sum().backward()


# ---- backward
def test_backward_twice_names_the_node_and_its_line():
    x = leaf(3)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(
        RuntimeError, match=r"(?s)freed by an earlier.*SumBackward0 of .*y = \(x \* x\)\.sum\(\).*retain_graph"
    ):
        y.backward()


def test_backward_of_what_has_no_gradient():
    with pytest.raises(RuntimeError, match=r"(?s)does not require a gradient.*requires_grad=True"):
        cr.zeros(3).sum().backward()


def test_backward_of_many_numbers():
    x = leaf(3)
    with pytest.raises(RuntimeError, match=r"(?s)scalar.*shape \(3,\).*gradient="):
        (x * 2).backward()
    (x * 2).backward(cr.tensor([1.0, 2.0, 3.0], dtype=cr.float64))
    assert x.grad.tolist() == [2, 4, 6]
    with pytest.raises(RuntimeError, match="another shape"):
        (x * 2).backward(cr.ones(2))
