"""gradcheck and gradgradcheck: they pass what is right, and find and describe what is wrong."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import Function, GradcheckError, gradcheck, gradgradcheck

RNG = np.random.default_rng(6)


def leaf(*shape, dtype=cr.float32):
    return cr.tensor(RNG.uniform(0.5, 1.5, shape), dtype=dtype, requires_grad=True)


def wrong(factor=1.01, order=1, mode="reverse"):
    """x -> x^3 with a derivative that is off by a factor."""

    class Off(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            if order == 1:
                return 3 * x * x * g * (factor if mode == "reverse" else 1.0)
            return Second.apply(x) * g

        @staticmethod
        def jvp(ctx, t):
            (x,) = ctx.saved_tensors
            return 3 * x * x * t * (factor if mode == "forward" else 1.0)

    class Second(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return 3 * x * x

        @staticmethod
        def backward(ctx, g):
            return 6 * ctx.saved_tensors[0] * g * factor

        @staticmethod
        def jvp(ctx, t):
            return 6 * ctx.saved_tensors[0] * t * factor

    return Off.apply


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda x: x.exp(), [(2, 3)]),
        (lambda x, y: (x @ y, x.sum()), [(2, 3), (3, 2)]),
        (lambda x: x[0] * x[1], [(2,)]),
        (lambda x: cr.zeros(2), [(3,)]),
        (lambda x: x.sort()[0], [(5,)]),
        (lambda x: x.log_softmax(1), [(3, 4)]),
        (lambda x: x.sum(), [()]),
        (lambda x: x * 1e6, [(3,)]),
        (lambda x: (x * 1e-3).sin() * 1e3, [(3,)]),
    ],
)
def test_right_derivatives_pass(f, shapes):
    inputs = tuple(leaf(*s) for s in shapes)
    assert gradcheck(f, inputs) is True
    assert gradgradcheck(f, inputs) is True
    assert gradcheck(f, inputs, fast_mode=True)


def test_inputs_are_not_changed():
    x = leaf(3)
    before = x.detach().numpy().copy()
    gradcheck(lambda x: x.mul(2).add_(1), x)
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert x.dtype == cr.float32
    assert x.grad is None


def test_other_arguments_pass_through():
    assert gradcheck(lambda x, i, k, s: x[i] * k + len(s), (leaf(3), cr.tensor([0, 2]), 2.5, "text"))


def test_large_inputs_are_checked_along_random_directions():
    x = leaf(40, 40)
    assert gradcheck(lambda x: (x.sin() * x).sum(1), x)
    with pytest.raises(GradcheckError, match="random direction"):
        gradcheck(lambda x: wrong(1.1)(x).sum(1), x)


def test_the_report_of_a_wrong_reverse_rule():
    x = cr.tensor([[1.0, 2.0], [3.0, 1.0]], requires_grad=True)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda k, x: wrong()(x) * k, (2.0, x))
    text = str(caught.value)
    assert "reverse-mode derivative" in text
    assert "MulBackward0" in text
    assert "test_gradcheck.py" in text
    assert "d output 0[1, 0] / d input 1[1, 0]" in text  # the worst of the four
    assert "reverse mode: 54.54" in text
    assert "differences:  54" in text
    assert "4 entries differ" in text
    assert "shape (2, 2)" in text


@pytest.mark.parametrize("factor", [0.99, 1.002, -1.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_wrong_factors_are_found(factor, mode):
    with pytest.raises(GradcheckError, match=f"{mode}-mode"):
        gradcheck(wrong(factor, mode=mode), leaf(2))
    assert gradcheck(wrong(factor, mode=mode), leaf(2), raise_exception=False) is False
    other = {"check_forward_ad": False} if mode == "forward" else {"check_backward_ad": False}
    assert gradcheck(wrong(factor, mode=mode), leaf(2), **other)


def test_a_wrong_second_derivative_is_found():
    f = wrong(order=2)
    assert gradcheck(f, leaf(2))
    with pytest.raises(GradcheckError, match="the gradient of"):
        gradgradcheck(f, leaf(2))
    assert not gradgradcheck(f, leaf(2), raise_exception=False)
    with pytest.raises(GradcheckError, match="the gradient of"):
        gradgradcheck(f, leaf(2), grad_outputs=leaf(2), check_fwd_over_rev=False)


def test_the_saved_constant_of_a_function_is_found_in_the_second_derivative():
    class Sine(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x.cos())
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0] * g

    assert gradcheck(Sine.apply, leaf(2))
    with pytest.raises(GradcheckError):
        gradgradcheck(Sine.apply, leaf(2))


def test_a_function_without_a_forward_rule():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    assert gradcheck(Double.apply, leaf(2))
    with pytest.raises(RuntimeError, match="forward-mode rule"):
        gradcheck(Double.apply, leaf(2), check_forward_ad=True)


def test_one_step_only():
    def wobble(x):
        return x + (x * 1e4).sin() * 1e-4

    assert gradcheck(wobble, leaf(1), eps=1e-7)
    with pytest.raises(GradcheckError):
        gradcheck(wobble, leaf(1), eps=1e-2)


def test_random_functions_and_inputs_without_gradient():
    with pytest.raises(GradcheckError, match="deterministic"):
        gradcheck(lambda x: x * cr.rand(()), leaf(2))
    with pytest.raises(ValueError, match="requires a gradient"):
        gradcheck(lambda x: x, cr.ones(2))
    with pytest.raises(ValueError, match="no floating tensor"):
        gradcheck(lambda x: x > 0, leaf(2))
