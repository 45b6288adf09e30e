"""Views: shared memory, and history through them in both directions."""

import numpy as np
import pytest

import chainrule as cr


def leaf(*shape):
    return cr.tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)


def assert_gradient(program, functional, *shape):
    """``program`` writes through views, ``functional`` computes the same without: equal values and gradients."""
    a, b = leaf(*shape), leaf(*shape)
    y, z = program(a), functional(b)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)


#: (a view of a (2, 3) tensor, the same of an array)
VIEWS = {
    "integer": lambda x: x[1],
    "zero dimensions": lambda x: x[1, 2, ...],
    "slice": lambda x: x[:, 1:],
    "steps": lambda x: x[:, ::2],
    "none": lambda x: x[None],
    "T": lambda x: x.T,
    "transpose": lambda x: x.transpose(0, 1) if isinstance(x, cr.Tensor) else x.transpose(1, 0),
    "permute": lambda x: x.permute(1, 0) if isinstance(x, cr.Tensor) else x.transpose(1, 0),
    "view": lambda x: x.view(3, 2) if isinstance(x, cr.Tensor) else x.reshape(3, 2),
    "reshape": lambda x: x.reshape(6),
    "flatten": lambda x: x.flatten() if isinstance(x, cr.Tensor) else x.reshape(6),
    "unsqueeze": lambda x: x.unsqueeze(1) if isinstance(x, cr.Tensor) else x[:, None],
    "narrow": lambda x: x.narrow(1, 1, 2) if isinstance(x, cr.Tensor) else x[:, 1:],
    "select": lambda x: x.select(0, 1) if isinstance(x, cr.Tensor) else x[1],
    "detach": lambda x: x.detach() if isinstance(x, cr.Tensor) else x[:],
    "split": lambda x: x.split(1)[1] if isinstance(x, cr.Tensor) else x[1:],
    "chunk": lambda x: x.chunk(2, 1)[0] if isinstance(x, cr.Tensor) else x[:, :2],
    "unbind": lambda x: x.unbind(1)[2] if isinstance(x, cr.Tensor) else x[:, 2],
    "diagonal": lambda x: x.diagonal() if isinstance(x, cr.Tensor) else np.einsum("ii->i", x[:, :2]),
    "expand as it is": lambda x: x.expand(2, 3) if isinstance(x, cr.Tensor) else x[:],
    "view of view": lambda x: x[1:].T[0:2],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_memory(name):
    base, array = cr.arange(6.0).reshape(2, 3).clone(), np.arange(6.0).reshape(2, 3)
    view, part = VIEWS[name](base), VIEWS[name](array)
    assert view.tolist() == part.tolist()
    view.add_(10)
    part += 10
    assert base.tolist() == array.tolist()
    base.mul_(2)
    array *= 2
    assert view.tolist() == part.tolist()


@pytest.mark.parametrize("name", [n for n in VIEWS if n != "detach"])
def test_history_through_a_view_that_is_written(name):
    def program(a):
        x = a * 1
        view = VIEWS[name](x)
        sibling = x[:, 1]
        view.mul_(a[0, 0])
        return (x * x).sum() + (view**3).sum() + (sibling * view.sum()).sum()

    def functional(a):
        chosen = np.zeros((2, 3))
        VIEWS[name](chosen)[...] = 1
        where = cr.tensor(chosen > 0)
        x = cr.where(where, a * a[0, 0], a)
        view = VIEWS[name](x)
        return (x * x).sum() + (view**3).sum() + (x[:, 1] * view.sum()).sum()

    assert_gradient(program, functional, 2, 3)


@pytest.mark.parametrize("name", [n for n in VIEWS if n != "detach"])
def test_history_of_a_view_whose_base_is_written(name):
    def program(a):
        x = a * 1
        view = VIEWS[name](x)
        x.mul_(a)
        return view * view

    assert_gradient(program, lambda a: VIEWS[name](a * a) ** 2, 2, 3)


def test_a_base_that_gets_history_after_the_view_was_made():
    a = leaf(3)
    x = cr.zeros(3, dtype=cr.float64)
    view = x[1:]
    x.add_(a)
    assert view.requires_grad
    (view * view).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * a.detach().numpy() * [0, 1, 1])


def test_looking_again_under_no_grad_keeps_history():
    """The history of a view does not depend on the mode in which it is next looked at."""
    a = leaf(3)
    x = a * 1
    view = x[1:]
    x.mul_(2.0)
    with cr.no_grad():
        view.sum().item()
        assert view.requires_grad
    view.sum().backward()
    assert a.grad.tolist() == [0, 2, 2]


def test_a_deep_chain_of_views():
    x = cr.zeros(3000, requires_grad=True) * 1
    view = x
    for _ in range(2500):
        view = view[1:]
    view.add_(1.0)
    view.sum().backward()
    assert x.sum().item() == 500


def test_reshape_that_copies_is_no_view():
    def program(a):
        x = a * 1
        y = x.T.reshape(6)
        y.mul_(2.0)
        x.mul_(3.0)
        return y * x.reshape(6)

    assert_gradient(program, lambda a: (a.T.reshape(6) * 2) * (a * 3).reshape(6), 2, 3)
    x = cr.zeros(2, 3)
    x.T.reshape(6).add_(1)
    assert x.sum().item() == 0


def test_contiguous_shares_only_if_it_is():
    x = cr.zeros(2, 3)
    assert x.contiguous() is x
    x.T.contiguous().add_(1)
    assert x.sum().item() == 0


def test_advanced_indices_copy():
    x = cr.zeros(3)
    x[cr.tensor([0, 1])].add_(1)
    x[x == 0].add_(1)
    assert x.tolist() == [0, 0, 0]


def test_detach_shares_memory_and_cuts_history():
    a = leaf(3)
    x = a * 1
    d = x.detach()
    assert not d.requires_grad
    d.mul_(5)
    np.testing.assert_allclose(x.detach().numpy(), 5 * a.detach().numpy())
    x.sum().backward()
    assert a.grad.tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="view"):
        (a * 2)[0:2].detach_()
    y = (a * 2).detach_()
    assert y.is_leaf
    assert not y.requires_grad


def test_expand_reads_what_was_written_to_the_base():
    assert_gradient(lambda a: _expanded(a) ** 2, lambda a: (a * 2).expand(2, 3) ** 2, 3)


def _expanded(a):
    x = a * 1
    wide = x.expand(2, 3)
    x.mul_(2)
    return wide


def test_where_a_view_starts():
    x = cr.zeros(4, 3)
    assert x[2:].storage_offset() == 6
    assert x[2:].data_ptr() == x.data_ptr() + 6 * x.element_size()
    assert x.T.stride() == (1, 3)
    assert x.stride(0) == 3
    assert not x.T.is_contiguous()
    assert x._base is None
    assert x[1]._base is x
    assert x[1:].T[0]._base is x


def test_zero_dimensional_results_have_memory():
    s = cr.ones(3).sum()
    view = s.view(1)
    view.fill_(7)
    assert s.item() == 7
    s.add_(1)
    assert view.tolist() == [8]
    x = cr.zeros(3)
    first = x[0]
    assert first.shape == ()
    first.fill_(5)
    x[0] += 1
    assert x.tolist() == [6, 0, 0]
    assert first.item() == 6


def test_inside_transforms_writes_are_functional():
    def f(x):
        y = x * 1
        y[0].mul_(3)
        y.T[1] = y.T[0] * 2
        return (y * y).sum()

    x = cr.tensor(np.random.default_rng(0).standard_normal((2, 3)))
    before = x.tolist()
    a = x.clone().requires_grad_()
    f(a).backward()
    np.testing.assert_allclose(cr.func.grad(f)(x).numpy(), a.grad.numpy())
    batch = cr.stack([x, x * 2])
    np.testing.assert_allclose(cr.func.vmap(f)(batch).numpy(), [f(x).item(), f(x * 2).item()])
    assert x.tolist() == before


def test_a_traced_tensor_overwritten_by_a_constant_stays_inside():
    def f(x):
        y = x * 1
        y.zero_()
        y[0].copy_(x[1])
        return (y * y).sum()

    x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert cr.func.jvp(f, (x,), (cr.ones(2, 2),))[1].item() == 14
    assert cr.func.vmap(f)(cr.stack([x, 2 * x])).tolist() == [25, 100]
