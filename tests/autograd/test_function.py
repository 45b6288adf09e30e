"""autograd.Function: forward and backward by hand, through the same machinery as every op."""

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import Function, grad, gradcheck, gradgradcheck, once_differentiable
from chainrule.func import grad as fgrad
from chainrule.func import hessian, jacfwd, jacrev, jvp, vmap

RNG = np.random.default_rng(9)


def t(a, requires_grad=False):
    return cr.tensor(a, dtype=cr.float64, requires_grad=requires_grad)


class Cube(Function):
    """k x^3."""

    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x)
        ctx.k = k
        return x * x * x * k

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * ctx.k * x * x * g, None

    @staticmethod
    def jvp(ctx, tangent, _):
        (x,) = ctx.saved_tensors
        return 3 * ctx.k * x * x * tangent


class Pair(Function):
    """(sin(x y), sum(x) y, the number 3)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, y):
        return (x * y).sin(), x.sum() * y, 3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g, h, _):
        x, y = ctx.saved_tensors
        c = (x * y).cos() * g
        return c * y + (h * y).sum(), c * x + h * x.sum()

    @staticmethod
    def jvp(ctx, tx, ty):
        x, y = ctx.saved_tensors
        return (x * y).cos() * (tx * y + x * ty), tx.sum() * y + x.sum() * ty, None


class Exp(Function):
    """Saves its output; has its own vmap."""

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0] * g

    @staticmethod
    def vmap(info, in_dims, x):
        assert info.batch_size == x.shape[in_dims[0]]
        return Exp.apply(x), in_dims[0]


class Sine(Function):
    """Saves a value computed in setup_context."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0].cos())

    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0] * g

    @staticmethod
    def jvp(ctx, tangent):
        return ctx.saved_tensors[0] * tangent


def cube(x):
    return Cube.apply(x, 2.0)


def pair(x, y):
    return Pair.apply(x, y)[:2]


def test_first_derivative_and_names():
    x = t([1.0, 2.0], True)
    y = cube(x)
    assert repr(y.grad_fn) == "<CubeBackward0>"
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 24.0])
    assert not cube(t([1.0])).requires_grad
    with cr.no_grad():
        assert not cube(x).requires_grad


@pytest.mark.parametrize(
    ("f", "shapes"), [(cube, [(2, 3)]), (pair, [(3,), (3,)]), (Exp.apply, [(4,)]), (Sine.apply, [(4,)])],
    ids=["cube", "pair", "exp", "sine"],
)  # fmt: skip
def test_gradients_to_second_order(f, shapes):
    inputs = tuple(cr.tensor(RNG.standard_normal(s).astype(np.float32), requires_grad=True) for s in shapes)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize(("f", "plain"), [(Sine.apply, cr.sin), (Exp.apply, cr.exp), (cube, lambda x: 2 * x**3)],
                         ids=["sine", "exp", "cube"])  # fmt: skip
def test_third_derivatives_by_the_tape(f, plain):
    def third(h):
        x = t([0.3, 0.7], True)
        y = h(x).sum()
        for _ in range(3):
            (y,) = grad(y, x, create_graph=True)
            y = y.sum()
        return y.item()

    assert third(f) == pytest.approx(third(plain), rel=1e-12)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: vmap(fgrad(f, (0, 1)), (0, None)),
        lambda f: vmap(hessian(f, (0, 1)), (0, None)),
        lambda f: fgrad(lambda a, b: vmap(f, (0, None))(a, b).sum(), (0, 1)),
        lambda f: vmap(jacfwd(jacrev(jacfwd(f, 1)), 1), (0, None)),
        lambda f: hessian(lambda a, b: vmap(f, (0, None))(a, b).sum(), (0, 1)),
        lambda f: vmap(lambda a, b: jvp(f, (a, b), (b, a))[1], (0, None)),
    ],
)
def test_transforms_of_a_generated_vmap_rule(transform):
    def custom(a, b):
        s, p = pair(a, b)
        return (s * p).sum()

    def plain(a, b):
        return ((a * b).sin() * a.sum() * b).sum()

    A, B = t(RNG.standard_normal((4, 3))), t(RNG.standard_normal(3))

    def flat(tree):
        return [x for part in tree for x in flat(part)] if isinstance(tree, tuple) else [tree]

    for got, expected in zip(flat(transform(custom)(A, B)), flat(transform(plain)(A, B)), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("f", [Exp.apply, Sine.apply])
def test_vmap_of_the_other_styles(f):
    plain = cr.exp if f.__self__ is Exp else cr.sin
    A = t(RNG.standard_normal((4, 3)))
    np.testing.assert_allclose(vmap(f, 1, 1)(A).numpy(), plain(A).numpy())
    np.testing.assert_allclose(vmap(fgrad(lambda x: (f(x) ** 2).sum()))(A).numpy(),
                               vmap(fgrad(lambda x: (plain(x) ** 2).sum()))(A).numpy(), rtol=1e-12)  # fmt: skip
    x = t(RNG.standard_normal((4, 3)), True)
    vmap(vmap(f))(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), (plain if plain is cr.exp else cr.cos)(x.detach()).numpy(), rtol=1e-12)


def test_what_is_missing_is_named():
    with pytest.raises(RuntimeError, match="staticmethod vmap"):
        vmap(cube)(t([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="staticmethod jvp"):
        jvp(Exp.apply, (t([1.0]),), (t([1.0]),))

    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 0.5

        @staticmethod
        def vmap(info, in_dims, x):
            return Half.apply(x), in_dims[0]

    with pytest.raises(NotImplementedError, match="backward"):
        Half.apply(t([1.0], True)).sum().backward()
    with pytest.raises(RuntimeError, match="setup_context"):
        vmap(fgrad(lambda x: Half.apply(x).sum()))(t([[1.0]]))


def test_needs_input_grad_and_none():
    seen = []

    class Mul(Function):
        @staticmethod
        def forward(ctx, a, scale, b):
            seen.append(ctx.needs_input_grad)
            ctx.save_for_backward(a, b)
            return a * b * scale

        @staticmethod
        def backward(ctx, g):
            seen.append(ctx.needs_input_grad)
            a, b = ctx.saved_tensors
            return g * b, None, None if not ctx.needs_input_grad[2] else g * a

    a, b = t([2.0], True), t([5.0])
    Mul.apply(a, 1.0, b).backward()
    assert seen == [(True, False, False)] * 2
    assert a.grad.item() == 5.0
    assert b.grad is None


def test_unused_outputs_are_zeros_or_none():
    seen = []

    class Two(Function):
        materialize = True

        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(Two.materialize)
            return x * 2, x.sum()

        @staticmethod
        def backward(ctx, g, h):
            seen.append((g, h))
            return cr.ones(3) if h is None or not h.shape else None

    for Two.materialize in (True, False):
        x = cr.ones(3).requires_grad_()
        Two.apply(x)[0].sum().backward()
        g, h = seen.pop()
        np.testing.assert_array_equal(g.numpy(), np.ones(3))
        assert (h is None) != Two.materialize
        if h is not None:
            assert h.shape == ()
            assert h.item() == 0


def test_non_differentiable_and_integer_outputs():
    class TopOne(Function):
        @staticmethod
        def forward(ctx, x):
            value, index = x.max(0)
            floor = x.floor()
            ctx.mark_non_differentiable(floor)
            ctx.save_for_backward(index)
            ctx.size = len(x)
            return value, index, floor

        @staticmethod
        def backward(ctx, g, g_index, g_floor):
            assert not g_floor.numpy().any()
            return cr.nn.functional.one_hot(ctx.saved_tensors[0], ctx.size).to(g.dtype) * g

    x = t([1.5, 4.5, 2.5], True)
    value, index, floor = TopOne.apply(x)
    assert value.requires_grad
    assert not index.requires_grad
    assert not floor.requires_grad
    assert index.item() == 1
    value.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (lambda g: (g, None, g), RuntimeError, "wrong number"),
        (lambda g: g, RuntimeError, "wrong number"),
        (lambda g: (g, g), RuntimeError, "no tensor"),
        (lambda g: (cr.ones(7), None), RuntimeError, "wrong shape"),
        (lambda g: (3.0, None), TypeError, "no Tensor"),
    ],
)
def test_wrong_results_of_backward(result, error, text):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, k):
            return x * k

        @staticmethod
        def backward(ctx, g):
            return result(g)

    with pytest.raises(error, match=text):
        Wrong.apply(cr.ones(3).requires_grad_(), 2.0).sum().backward()


def test_gradients_are_summed_to_the_argument_and_cast():
    class Loose(Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

        @staticmethod
        def backward(ctx, g):
            return (cr.ones(5, 3, dtype=cr.float64), None, None)  # one row per use; trailing None are allowed

    x = cr.ones(3).requires_grad_()
    Loose.apply(x).backward()
    assert x.grad.dtype == cr.float32
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 5.0))


def test_grad_never_aliases_what_backward_returned():
    kept = []

    class Same(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            kept.append(g.clone())
            return kept[-1], kept[-1]

    x, y = t([1.0], True), t([2.0], True)
    Same.apply(x, y).backward()
    x.grad.add_(10.0)
    assert y.grad.item() == 1.0
    assert kept[0].item() == 1.0
    Same.apply(x, y).backward()
    assert x.grad.item() == 12.0
    assert kept[0].item() == kept[1].item() == 1.0


def test_returning_the_argument_gives_memory_of_its_own():
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = t([1.0], True)
    y = Identity.apply(x)
    with cr.no_grad():
        y.add_(1.0)
    assert x.item() == 1.0
    y.backward()
    assert x.grad.item() == 2.0


def test_writes_to_arguments_and_saved_values_are_caught():
    class Writes(Cube):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2.0)
            return x + 0

    with pytest.raises(RuntimeError, match=r"changed its tensor argument 0 in place\n.*x\.mul_"):
        Writes.apply(t([1.0]))
    x = t([1.0], True) * 1.0
    y = cube(x)
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="Cube saved"):
        y.backward()

    class Keeps(Function):
        box: list = []  # noqa: RUF012

        @staticmethod
        def forward(ctx, x):
            m = x * 2
            Keeps.box.append(m)
            ctx.save_for_backward(m)
            return m + 1

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0] * g

    y = Keeps.apply(t([1.0], True))
    Keeps.box[0].add_(1.0)
    with pytest.raises(RuntimeError, match="Keeps saved"):
        y.backward()


def test_an_input_that_is_not_saved_may_change():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    leaf = t([1.0], True)
    x = leaf * 1.0
    y = Double.apply(x)
    x.add_(1.0)
    y.backward()
    assert leaf.grad.item() == 2.0


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return cr.from_numpy(2 * ctx.saved_tensors[0].detach().numpy() * g.detach().numpy())

    x = t([3.0], True)
    (g,) = grad(Once.apply(x), x)
    assert g.item() == 6.0
    (g,) = grad(Once.apply(x), x, create_graph=True)
    assert g.item() == 6.0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.backward()


def test_the_graph_of_a_function_is_freed_by_counting_alone():
    gc.collect()
    gc.disable()
    try:
        x = t(RNG.standard_normal(1000), True)
        a, b = pair(x, x * 2)
        (a.sum() + b.sum()).backward()
        y = Exp.apply(cube(x))
        refs = [weakref.ref(o) for o in (a.grad_fn, b.grad_fn, y.grad_fn, y)]
        y.sum().backward()
        del a, b, y
        assert [r() for r in refs] == [None] * 4
    finally:
        gc.enable()


def test_a_function_cannot_be_called_without_tensors_in_its_result():
    class Number(Function):
        @staticmethod
        def forward(ctx, x):
            return 3.0

    with pytest.raises(TypeError, match="must return a Tensor"):
        Number.apply(t([1.0]))


def test_a_function_in_a_captured_program():
    """Capture sees through a Function: the ops of its forward and of its backward become part of the program."""
    from chainrule.compiler import captured

    def step(x, y):
        x = x.detach().requires_grad_()
        a, b = pair(x, y)
        (g,) = grad((a * b).sum() + cube(x).sum(), x)
        return g, fgrad(lambda v: (Sine.apply(v) * v).sum())(y), jvp(cube, (y,), (y,))[1], vmap(Exp.apply)(y)

    compiled = captured(step)
    for _ in range(3):
        x, y = t(RNG.standard_normal(3)), t(RNG.standard_normal(3))
        for got, expected in zip(compiled(x, y), step(x, y), strict=True):
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-13)
    assert compiled.captures == 1


def test_errors_of_the_users_forward_come_through():
    class Fails(Function):
        @staticmethod
        def forward(ctx, x):
            return len(3) + x

    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        Fails.apply(t([1.0]))
