"""In-place operations: values, history, what is refused, and stale saved values caught with both lines named."""

import inspect
import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.errors import ShapeError


def leaf(*shape):
    return cr.tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)


def place(test, mark):
    """``file:line`` of the line of a test that ends in a comment."""
    lines, first = inspect.getsourcelines(test)
    (number,) = (i for i, line in enumerate(lines) if line.rstrip().endswith(f"# {mark}"))
    return f"{__file__}:{first + number}"


def assert_gradient(program, functional, *shape):
    """``program`` writes in place, ``functional`` computes the same without: equal values and gradients."""
    a, b = leaf(*shape), leaf(*shape)
    y, z = program(a), functional(b)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)


# ---- values and identity
AUGMENTED = {
    "+=": (lambda x: x.__iadd__(3), [4.0, 8.0]),
    "-=": (lambda x: x.__isub__(3), [-2.0, 2.0]),
    "*=": (lambda x: x.__imul__(3), [3.0, 15.0]),
    "/=": (lambda x: x.__itruediv__(2), [0.5, 2.5]),
    "//=": (lambda x: x.__ifloordiv__(2), [0.0, 2.0]),
    "%=": (lambda x: x.__imod__(3), [1.0, 2.0]),
    "**=": (lambda x: x.__ipow__(2), [1.0, 25.0]),
}


@pytest.mark.parametrize("name", AUGMENTED)
def test_augmented_operators_keep_the_tensor_and_its_memory(name):
    apply, expected = AUGMENTED[name]
    x = cr.tensor([1.0, 5.0])
    memory = x.numpy()
    assert apply(x) is x
    assert x.tolist() == expected
    assert x.numpy() is memory


def test_augmented_operators_of_integers():
    x = cr.tensor([5, 3, 7])
    x &= 6
    x |= 8
    x ^= 1
    x <<= 2
    x >>= 1
    assert x.tolist() == [(((v & 6 | 8) ^ 1) << 2) >> 1 for v in (5, 3, 7)]
    assert x.dtype is cr.int64


METHODS = {
    "add_": (lambda x: x.add_(cr.ones(2), alpha=3), lambda v: v + 3),
    "sub_": (lambda x: x.sub_(1), lambda v: v - 1),
    "mul_": (lambda x: x.mul_(2), lambda v: v * 2),
    "div_": (lambda x: x.div_(2), lambda v: v / 2),
    "div_ floor": (lambda x: x.div_(2, rounding_mode="floor"), lambda v: v // 2),
    "pow_": (lambda x: x.pow_(2), lambda v: v**2),
    "neg_": (lambda x: x.neg_(), lambda v: -v),
    "abs_": (lambda x: x.neg_().abs_(), abs),
    "exp_": (lambda x: x.exp_(), math.exp),
    "log_": (lambda x: x.log_(), math.log),
    "sqrt_": (lambda x: x.sqrt_(), math.sqrt),
    "sin_": (lambda x: x.sin_(), math.sin),
    "tanh_": (lambda x: x.tanh_(), math.tanh),
    "sigmoid_": (lambda x: x.sigmoid_(), lambda v: 1 / (1 + math.exp(-v))),
    "relu_": (lambda x: x.sub_(2).relu_(), lambda v: max(v - 2, 0)),
    "clamp_": (lambda x: x.clamp_(1.5, 3), lambda v: min(max(v, 1.5), 3)),
    "floor_": (lambda x: x.div_(2).floor_(), lambda v: v // 2),
    "reciprocal_": (lambda x: x.reciprocal_(), lambda v: 1 / v),
    "zero_": (lambda x: x.zero_(), lambda v: 0),
    "fill_": (lambda x: x.fill_(7), lambda v: 7),
    "fill_ tensor": (lambda x: x.fill_(cr.tensor(7)), lambda v: 7),
    "copy_": (lambda x: x.copy_(cr.tensor(9)), lambda v: 9),
    "lerp_": (lambda x: x.lerp_(cr.zeros(2), 0.25), lambda v: 0.75 * v),
    "addcmul_": (lambda x: x.addcmul_(cr.ones(2), cr.ones(2), value=0.5), lambda v: v + 0.5),
    "addcdiv_": (lambda x: x.addcdiv_(cr.ones(2), cr.full((2,), 4.0), value=2), lambda v: v + 0.5),
    "masked_fill_": (lambda x: x.masked_fill_(x > 2, 0), lambda v: 0 if v > 2 else v),
    "apply_": (lambda x: x.apply_(lambda v: v + 1), lambda v: v + 1),
    "eq_": (lambda x: x.eq_(5), lambda v: float(v == 5)),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_return_the_tensor_they_wrote(name):
    apply, function = METHODS[name]
    x = cr.tensor([1.0, 5.0])
    assert apply(x) is x
    np.testing.assert_allclose(x.numpy(), [function(1.0), function(5.0)], rtol=1e-6)


def test_methods_that_write_by_index():
    assert cr.zeros(3).index_add_(0, cr.tensor([0, 0, 2]), cr.ones(3)).tolist() == [2, 0, 1]
    assert cr.zeros(3).index_copy_(0, cr.tensor([2, 0]), cr.tensor([5.0, 6.0])).tolist() == [6, 0, 5]
    assert cr.zeros(3).index_fill_(0, cr.tensor([1]), 4).tolist() == [0, 4, 0]
    assert cr.zeros(3).scatter_(0, cr.tensor([1]), 4.0).tolist() == [0, 4, 0]
    assert cr.zeros(3).scatter_add_(0, cr.tensor([1, 1]), cr.ones(2)).tolist() == [0, 2, 0]
    assert cr.zeros(3).index_put_((cr.tensor([1, 1]),), cr.ones(2), accumulate=True).tolist() == [0, 2, 0]
    assert cr.zeros(2, 2).fill_diagonal_(3).tolist() == [[3, 0], [0, 3]]
    assert cr.ones(3).cumsum_(0).tolist() == [1, 2, 3]
    assert cr.ones(2, 2).tril_().tolist() == [[1, 0], [1, 1]]


SETITEM = {
    "integer": np.index_exp[1],
    "negative": np.index_exp[-1],
    "integers": np.index_exp[1, 2],
    "slice": np.index_exp[0:1],
    "steps": np.index_exp[::2, 1::2],
    "ellipsis": np.index_exp[..., 0],
    "none": np.index_exp[None, 1],
    "everything": np.index_exp[:],
    "list": np.index_exp[[0, 1], [1, 2]],
    "list beside integer": np.index_exp[0, [0, 2]],
    "array": np.index_exp[:, np.array([0, 2])],
    "mask": np.index_exp[np.array([True, False])],
    "mask of all": np.index_exp[np.arange(24).reshape(2, 3, 4) % 5 == 0],
    "apart": np.index_exp[np.array([1]), :, np.array([2])],
    "repeated": np.index_exp[[0, 0]],
}


@pytest.mark.parametrize("name", SETITEM)
def test_setitem_of_every_kind_against_numpy(name):
    index = SETITEM[name]
    array = np.arange(24.0).reshape(2, 3, 4)
    x = cr.tensor(array)
    ours = tuple(cr.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)
    value = -1.5 - np.arange(float(array[index].size)).reshape(array[index].shape)
    for v in (5.0, value):
        array[index] = v
        x[ours] = cr.tensor(v) if isinstance(v, np.ndarray) else v
        np.testing.assert_array_equal(x.numpy(), array)


def test_setitem_gradients():
    def program(a):
        x = a * 1
        x[0] = a[1] * a[2]
        x[x > 0.5] = 0.0
        x[cr.tensor([1, 3])] = a[:2] ** 2
        x[2, 1] = a[0, 0]
        return x * x

    def functional(a):
        rows = [a[1] * a[2], a[1], a[2], a[3]]
        x = cr.stack(rows)
        x = cr.where(x > 0.5, cr.zeros_like(x), x)
        last = cr.cat([x[2, :1], a[0, :1], x[2, 2:]])
        x = cr.stack([x[0], a[0] ** 2, last, a[1] ** 2])
        return x * x

    assert_gradient(program, functional, 4, 3)


def test_overlapping_source_and_target():
    x = cr.arange(5.0)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3]
    x[:] = x.flip(0)
    assert x.tolist() == [3, 2, 1, 0, 0]


# ---- history
def test_a_chain_of_in_place_operations():
    def program(a):
        x = a * 1
        x += 1
        x -= a
        x *= a
        x /= 2
        x **= 2
        x.exp_()
        x.sigmoid_()
        x.clamp_(0.6, 0.9)
        return x.sqrt_()

    assert_gradient(program, lambda a: (((a * 1 + 1 - a) * a / 2) ** 2).exp().sigmoid().clamp(0.6, 0.9).sqrt(), 6)


def test_what_an_in_place_operation_saves_is_not_lost_by_itself():
    assert_gradient(lambda a: (a * 1).mul_(a).mul_(a), lambda a: a * a * a, 3)

    def squares(a):
        x = a * 1
        return x.mul_(x).mul_(x)

    assert_gradient(squares, lambda a: (a * a) * (a * a), 3)


def test_a_constant_over_everything_leaves_a_zero_gradient():
    for write in (lambda x: x.zero_(), lambda x: x.fill_(3), lambda x: x.copy_(cr.ones(3))):
        a = leaf(3)
        x = write(a * 1)
        assert x.requires_grad
        assert not x.is_leaf
        (x * x).sum().backward()
        assert a.grad.tolist() == [0, 0, 0]


def test_fill_with_a_tensor_carries_its_gradient():
    a = leaf(3)
    x = (a * 1).fill_(a[0])
    (x * a).sum().backward()
    values = a.detach().numpy()
    np.testing.assert_allclose(a.grad.numpy(), values[0] + np.array([values.sum(), 0, 0]))


def test_a_constant_gets_history_by_being_written():
    a = leaf(3)
    x = cr.zeros(3, 3, dtype=cr.float64)
    row = x[1]
    x[0] = a * a
    row[:2] = a[1:]
    assert x.requires_grad
    assert row.requires_grad
    assert not x.is_leaf
    (x.sum() + row.sum()).backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * a.detach().numpy() + [0, 2, 2])


def test_a_recurrence_filled_in_place():
    def program(a):
        x = cr.zeros(6, dtype=cr.float64)
        x[0] = a[0]
        for i in range(1, 6):
            x[i] = x[i - 1].clone() * a[i % 3] + 1
        return x

    def functional(a):
        xs = [a[0]]
        for i in range(1, 6):
            xs.append(xs[-1] * a[i % 3] + 1)
        return cr.stack(xs)

    assert_gradient(program, functional, 3)


def test_writes_under_no_grad_are_no_history():
    a = leaf(3)
    with cr.no_grad():
        a.add_(1)
        a[0] = 5
        a[1:].mul_(2)
    assert a.is_leaf
    assert a.requires_grad
    assert a[0].item() == 5
    x = a * 2
    with cr.no_grad():
        x.add_(5)
    x.sum().backward()
    assert a.grad.tolist() == [2, 2, 2]


# ---- refused
def test_leaves_are_not_written_while_grad_mode_is_on():
    a = leaf(3)
    before = a.tolist()

    def augmented():
        nonlocal a
        a += 1

    def through_a_view_made_elsewhere():
        with cr.no_grad():
            view = a[1:]
        view.mul_(2)

    for write in (
        augmented,
        through_a_view_made_elsewhere,
        a.zero_,
        lambda: a.add_(1),
        lambda: a[0:2].add_(1),
        lambda: a.view(3).zero_(),
        lambda: a.__setitem__(0, 1.0),
    ):
        with pytest.raises(RuntimeError, match="leaf that requires a gradient was written in place"):
            write()
    assert a.tolist() == before
    a.detach().add_(1)  # says that history does not matter
    assert a.tolist() == [v + 1 for v in before]


def test_a_view_that_was_made_a_leaf():
    base = cr.zeros(3)
    view = base[1:].requires_grad_()
    with pytest.raises(RuntimeError, match="a leaf"):
        view.add_(1)
    with pytest.raises(RuntimeError, match="a view of a leaf"):
        view[0].add_(1)
    base.add_(1)
    assert view.requires_grad
    assert view.tolist() == [1, 1]
    (view * 3).sum().backward()
    assert view.grad.tolist() == [3, 3]
    assert not base.requires_grad


def test_a_view_made_without_history_is_not_written_with():
    x = leaf(3) * 2
    with cr.no_grad():
        view = x[0:2]
    with pytest.raises(RuntimeError, match="made under no_grad"):
        view.mul_(3.0)
    with cr.no_grad():
        view.mul_(3.0)


@pytest.mark.parametrize(
    "write",
    [
        lambda: cr.tensor([1, 2]).add_(1.5),
        lambda: cr.tensor([1, 2]).div_(2),
        lambda: cr.tensor([True]).add_(1),
        lambda: cr.tensor([1]).mul_(cr.tensor([1.0])),
    ],
)
def test_a_result_of_a_higher_category_is_refused(write):
    with pytest.raises(RuntimeError, match="cannot be written into a tensor of type"):
        write()


def test_what_is_converted_when_written():
    x = cr.tensor([1, 2])
    x[0] = 1.7
    x[1] = cr.tensor(-2.9)
    assert x.tolist() == [1, -2]
    assert x.copy_(cr.tensor([3.5, -3.5])).tolist() == [3, -3]
    assert x.fill_(2.9).tolist() == [2, 2]
    y = cr.ones(2).add_(cr.ones(2, dtype=cr.float64))
    assert y.dtype is cr.float32
    z = cr.tensor([True, False])
    z[1] = 3
    assert z.tolist() == [True, True]


@pytest.mark.parametrize(
    "write",
    [
        lambda: cr.zeros(3).add_(cr.ones(2, 3)),
        lambda: cr.zeros(3).__setitem__(slice(0, 2), cr.ones(3)),
        lambda: cr.zeros(3).copy_(cr.ones(2)),
        lambda: cr.zeros(3).copy_(cr.ones(1, 3)),
        lambda: cr.zeros(3).fill_(cr.ones(3)),
    ],
)
def test_shapes_that_do_not_fit(write):
    with pytest.raises(RuntimeError, match="shape"):
        write()


def test_a_value_that_does_not_fit_names_both_shapes():
    with pytest.raises(ShapeError, match=r"(?s)shape \(2,\).*shape \(3,\)"):
        cr.zeros(3)[0:2] = cr.ones(3)


def test_expanded_memory_is_not_written():
    x = cr.zeros(1, 3).expand(2, 3)
    with pytest.raises(RuntimeError, match=r"(?s)cannot be written.*clone"):
        x.add_(1)
    same = cr.zeros(2, 3)
    same.expand(2, 3).add_(1)
    assert same.sum().item() == 6


def test_read_only_arrays_are_not_written():
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        cr.from_numpy(array).add_(1)


def test_changing_the_shape_in_place():
    x = cr.zeros(2, 3)
    assert x.unsqueeze_(0).shape == (1, 2, 3)
    assert x.squeeze_().t_().shape == (3, 2)
    assert x.transpose_(0, 1).shape == (2, 3)
    view = x[0]
    for change in (x.t_, view.unsqueeze_):
        with pytest.raises(RuntimeError, match="view"):
            change(0) if change == view.unsqueeze_ else change()


# ---- stale saved values
def test_a_saved_input_that_was_overwritten_names_both_lines():
    x = leaf(3) * 1
    y = x.sin()  # used
    x.add_(1.0)  # changed
    with pytest.raises(RuntimeError, match="sin saved for the backward pass was changed in place") as caught:
        y.sum().backward()
    me = test_a_saved_input_that_was_overwritten_names_both_lines
    assert f"used at:    {place(me, 'used')}: y = x.sin()" in str(caught.value)
    assert f"changed at: {place(me, 'changed')}: x.add_(1.0)" in str(caught.value)


def test_a_saved_output_that_was_overwritten():
    y = leaf(3).exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="exp saved"):
        y.sum().backward()


WRITES = {
    "a view": lambda x: x[0:2].mul_(2.0),
    "a view of a view": lambda x: x.view(3, 1)[0:2].zero_(),
    "setitem": lambda x: x.__setitem__(0, 1.0),
    "detach": lambda x: x.detach().mul_(2.0),
    "data": lambda x: x.data.mul_(2.0),
    "copy_": lambda x: x.copy_(cr.zeros(3)),
    "uniform_": lambda x: x.uniform_(),
    "setitem by mask": lambda x: x.__setitem__(x > 0, 0.0),
    "setitem by index": lambda x: x.__setitem__(cr.tensor([0]), 0.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_every_way_of_writing_is_seen(name):
    x = leaf(3) * 1
    y = (x * x).sum()
    WRITES[name](x)
    with pytest.raises(RuntimeError, match="mul saved"):
        y.backward()


def test_the_lines_are_the_users_also_inside_the_library():
    layer = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.Tanh())
    h = layer(cr.ones(2, 3))  # used
    with cr.no_grad():
        cr.nn.init.zeros_(h)  # changed
    with pytest.raises(RuntimeError, match="tanh saved") as caught:
        h.sum().backward()
    me = test_the_lines_are_the_users_also_inside_the_library
    assert f"used at:    {place(me, 'used')}: " in str(caught.value)
    assert f"changed at: {place(me, 'changed')}: " in str(caught.value)


def test_the_line_of_a_composite_function():
    x = leaf(4) * 1
    y = cr.addcmul(x, x, x)  # used
    x.zero_()
    with pytest.raises(RuntimeError, match="changed in place") as caught:
        y.sum().backward()
    assert f"used at:    {place(test_the_line_of_a_composite_function, 'used')}: " in str(caught.value)


def test_the_optimizer_writes_what_a_graph_saved():
    layer = cr.nn.Linear(2, 2)
    optimizer = cr.optim.SGD(layer.parameters(), lr=0.1)
    loss = layer(layer(cr.ones(1, 2, requires_grad=True))).sum()
    loss.backward(retain_graph=True)
    optimizer.step()  # changed
    with pytest.raises(RuntimeError, match="changed in place") as caught:
        loss.backward()
    assert f"changed at: {place(test_the_optimizer_writes_what_a_graph_saved, 'changed')}: " in str(caught.value)


def test_writes_that_disturb_nothing_are_allowed():
    a = leaf(3)
    x = a * 1
    y = x + x  # saves nothing
    x.add_(1.0)
    y.sum().backward()
    assert a.grad.tolist() == [2, 2, 2]
    b = leaf(3)
    z = (b * b).sum()
    other = cr.zeros(3)
    other.add_(1)
    z.backward()
    np.testing.assert_allclose(b.grad.numpy(), 2 * b.detach().numpy())


def test_a_write_before_use_is_no_problem():
    a = leaf(3)
    x = a * 1
    x.add_(1.0)
    (x * x).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * (a.detach().numpy() + 1))


def test_writes_from_numpys_side_are_not_seen():
    """Documented in Tensor.numpy: NumPy does not tell."""
    a = leaf(3)
    x = a * 1
    y = (x * x).sum()
    x.detach().numpy()[:] = 0
    y.backward()
    assert a.grad.tolist() == [0, 0, 0]
