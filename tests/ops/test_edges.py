"""Derivatives where they are delicate: kinks, ties, zeros, infinities, branches not taken; and wrong inputs."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core.errors import ShapeError
from chainrule.ir.op import REGISTRY, Elementwise
from chainrule.tensors.fastpath import TENSORS

INF, NAN = math.inf, math.nan

# op, inputs, and the gradient per input (None: no derivative is defined there)
POINTS = [
    ("abs", (0.0,), (0.0,)),
    ("relu", (0.0,), (0.0,)),
    ("relu", (-0.0,), (0.0,)),
    ("sign", (0.0,), (0.0,)),
    ("sqrt", (0.0,), (INF,)),
    ("log", (0.0,), (INF,)),
    ("reciprocal", (0.0,), (-INF,)),
    ("rsqrt", (0.0,), (-INF,)),
    ("square", (0.0,), (0.0,)),
    ("asin", (1.0,), (INF,)),
    ("acos", (1.0,), (-INF,)),
    ("atanh", (1.0,), (INF,)),
    ("acosh", (1.0,), (INF,)),
    ("exp", (-INF,), (0.0,)),
    ("exp", (1e4,), (INF,)),
    ("tanh", (1e4,), (0.0,)),
    ("tanh", (-INF,), (0.0,)),
    ("sigmoid", (1e4,), (0.0,)),
    ("sigmoid", (-1e4,), (0.0,)),
    ("softplus", (1e4,), (1.0,)),
    ("softplus", (-1e4,), (0.0,)),
    ("silu", (1e4,), (1.0,)),
    ("silu", (-1e4,), (0.0,)),
    ("gelu", (1e4,), (1.0,)),
    ("gelu", (-1e4,), (0.0,)),
    ("erf", (INF,), (0.0,)),
    ("maximum", (2.0, 2.0), (0.5, 0.5)),
    ("minimum", (2.0, 2.0), (0.5, 0.5)),
    ("maximum", (INF, INF), (0.5, 0.5)),
    ("maximum", (INF, 1.0), (1.0, 0.0)),
    ("clamp_min", (2.0, 2.0), (1.0, 0.0)),
    ("clamp_max", (2.0, 2.0), (1.0, 0.0)),
    ("pow", (0.0, 0.0), (0.0, 0.0)),
    ("pow", (0.0, 1.0), (1.0, 0.0)),
    ("pow", (0.0, 2.0), (0.0, 0.0)),
    ("pow", (0.0, 0.5), (INF, 0.0)),
    ("pow", (0.0, 3.0), (0.0, 0.0)),
    ("pow", (-2.0, 3.0), (12.0, None)),
    ("pow", (-2.0, 2.0), (-4.0, None)),
    ("xlogy", (0.0, 0.0), (0.0, None)),
    ("xlogy", (0.0, 2.0), (math.log(2), 0.0)),
    ("xlogy", (1.0, 2.0), (math.log(2), 0.5)),
    ("logaddexp", (1e4, -1e4), (1.0, 0.0)),
    ("logaddexp", (1e4, 1e4), (0.5, 0.5)),
    ("div", (0.0, 2.0), (0.5, 0.0)),
    ("div", (1.0, INF), (0.0, 0.0)),
    ("div", (1e-200, 1e-200), (1e200, -1e200)),
    ("hypot", (3e200, 4e200), (0.6, 0.8)),
    ("copysign", (2.0, -0.0), (-1.0, None)),
    ("floor", (1.0,), (0.0,)),
    ("round", (0.5,), (0.0,)),
]


@pytest.mark.parametrize(("name", "inputs", "want"), POINTS, ids=str)
def test_gradients_at_delicate_points(name, inputs, want):
    with np.errstate(all="ignore"):
        for k, expected in enumerate(want):
            if expected is None:
                continue
            xs = [cr.tensor(x, dtype=cr.float64, requires_grad=i == k) for i, x in enumerate(inputs)]
            getattr(TENSORS, name)(*xs).backward()
            np.testing.assert_allclose(xs[k].grad.item(), expected, rtol=1e-12)

            def alone(x, k=k):
                full = [cr.tensor(v, dtype=cr.float64) for v in inputs]
                full[k] = x
                return getattr(TENSORS, name)(*full)

            tangent = func.jvp(alone, (cr.tensor(inputs[k], dtype=cr.float64),), (cr.ones((), dtype=cr.float64),))[1]
            np.testing.assert_allclose(tangent.item(), expected, rtol=1e-12)


def test_powers_by_a_number_at_zero():
    """x ** 2 at 0 to second order: 2, without a NaN from 0 ** -1 or log 0."""
    x = cr.zeros(3, dtype=cr.float64, requires_grad=True)
    (g,) = cr.autograd.grad((x**2).sum(), x, create_graph=True)
    (h,) = cr.autograd.grad(g.sum(), x)
    np.testing.assert_array_equal(g.numpy(force=True), 0)
    np.testing.assert_array_equal(h.numpy(), 2)


def test_where_keeps_the_nan_of_the_branch_not_taken_out():
    """log and sqrt are not differentiable at 0, but there the constant is chosen."""
    x = cr.tensor([0.0, 4.0], dtype=cr.float64, requires_grad=True)
    with np.errstate(all="ignore"):
        cr.where(x > 0, x, cr.log(x * 0 - 1)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[1], 1)
    g = cr.tensor([INF, NAN])
    taken, other = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 4.0], requires_grad=True)
    cr.where(cr.tensor([True, True]), taken, other).backward(g)
    np.testing.assert_array_equal(other.grad.numpy(), [0, 0])
    np.testing.assert_array_equal(taken.grad.numpy(), [INF, NAN])


@pytest.mark.parametrize("name", ["maximum", "minimum", "clamp_min", "clamp_max"])
def test_an_infinite_cotangent_does_not_reach_the_loser(name):
    low, high = cr.tensor(1.0, requires_grad=True), cr.tensor(2.0, requires_grad=True)
    getattr(TENSORS, name)(low, high).backward(cr.tensor(INF))
    loser = low if name in ("maximum", "clamp_min") else high
    assert loser.grad.item() == 0


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_ties_share_the_gradient_of_an_extreme(name):
    x = cr.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 3.0, 1.0]], requires_grad=True)
    getattr(cr, name)(x, 1).sum().backward()
    second = [0, 0, 1, 0] if name == "amax" else [0, 0.5, 0, 0.5]
    np.testing.assert_array_equal(x.grad.numpy(), [[0.25] * 4, second])


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_softmax_family_with_huge_logits(size):
    logits = np.array([[size, 0.0, -size], [size, size, size]])
    x = cr.tensor(logits, requires_grad=True)
    p = cr.softmax(x, 1)
    np.testing.assert_allclose(p.numpy(force=True), [[size > 0, 0, size < 0], [1 / 3] * 3], rtol=1e-12)
    p[:, 0].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [2 / 9, -1 / 9, -1 / 9]], atol=1e-15)
    x.grad = None
    lp = cr.log_softmax(x, 1)
    np.testing.assert_allclose(lp.numpy(force=True)[0], logits[0] - 1e4, rtol=1e-12)
    lp[:, 0].sum().backward()
    first = [0, 0, 0] if size > 0 else [1, 0, -1]
    np.testing.assert_allclose(x.grad.numpy(), [first, [2 / 3, -1 / 3, -1 / 3]], atol=1e-15)
    x.grad = None
    loss = TENSORS.softmax_nll(x, cr.tensor([1, 2]), mean=False)
    np.testing.assert_allclose(loss.numpy(force=True), [1e4, math.log(3)], rtol=1e-12)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[size > 0, -1, size < 0], [1 / 3, 1 / 3, -2 / 3]], atol=1e-15)


def test_masked_logits_are_no_trouble():
    """-inf logits have probability zero and gradient zero, as attention masks need."""
    x = cr.tensor([0.0, -INF, 0.0], dtype=cr.float64, requires_grad=True)
    p = cr.softmax(x, 0)
    (p * cr.tensor([1.0, 5.0, 2.0], dtype=cr.float64)).sum().backward()
    np.testing.assert_allclose(p.numpy(force=True), [0.5, 0, 0.5])
    np.testing.assert_allclose(x.grad.numpy(), [-0.25, 0, 0.25])


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "silu", "gelu", "tanh", "logaddexp", "erf", "relu"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_saturation_stays_finite(name, kind):
    """Values and gradients of activations, far out on both sides."""
    x = cr.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=kind, requires_grad=True)
    args = (x, -x) if REGISTRY[name].arity == 2 else (x,)
    y = getattr(TENSORS, name)(*args)
    y.sum().backward()
    assert np.isfinite(y.numpy(force=True)).all()
    assert np.isfinite(x.grad.numpy()).all()


def test_nan_goes_through_reductions_and_comparisons():
    x = cr.tensor([1.0, NAN, 3.0])
    assert math.isnan(x.amax().item())
    assert math.isnan(x.amin().item())
    assert math.isnan(x.sum().item())
    assert x.argmax().item() == 1
    assert (x == x).tolist() == [True, False, True]
    assert cr.sort(x).values.tolist()[:2] == [1, 3]
    assert cr.argsort(x, descending=True).tolist() == [1, 2, 0]


def test_a_cast_gives_the_gradient_in_the_inputs_dtype():
    x = cr.tensor([1.0, 2.0], dtype=cr.float16, requires_grad=True)
    (x.to(cr.float64) * 3).sum().backward()
    assert x.grad.dtype is cr.float16
    np.testing.assert_array_equal(x.grad.numpy(), 3)


def test_no_history_through_integers():
    x = cr.tensor([1.5, 2.5], requires_grad=True)
    assert not x.long().requires_grad
    assert not (x > 1).requires_grad
    assert not x.argmax().requires_grad


def test_derivatives_of_lgamma_to_fifth_order():
    """d^5/dx^5 ln Gamma(x) = polygamma(4, x); at 1 it is -4! zeta(5)."""
    f = cr.lgamma
    for _ in range(5):
        f = func.grad(f)
    assert f(cr.tensor(1.0, dtype=cr.float64)).item() == pytest.approx(-24 * 1.0369277551433699)


# ---- inputs that are wrong
BINARY = [op.name for op in REGISTRY.values() if isinstance(op, Elementwise) and op.arity == 2]
UNARY = [op.name for op in REGISTRY.values() if isinstance(op, Elementwise) and op.arity == 1]


@pytest.mark.parametrize("name", BINARY)
def test_shapes_that_do_not_broadcast(name):
    kind = cr.int64 if name.startswith("bitwise") else cr.float32
    with pytest.raises(ShapeError, match=r"axis -1 has 3 and 2|axis -1 has 2 and 3"):
        getattr(TENSORS, name)(cr.ones(2, dtype=kind), cr.ones(3, dtype=kind))


@pytest.mark.parametrize("name", [*BINARY, *UNARY])
@pytest.mark.parametrize("wrong", ["text", None, [1.0, 2.0], object()], ids=["str", "None", "list", "object"])
def test_operands_of_a_wrong_type_name_the_op(name, wrong):
    args = (cr.ones(2), wrong) if name in BINARY else (wrong,)
    with pytest.raises(TypeError, match=name):
        getattr(TENSORS, name)(*args)


@pytest.mark.parametrize("name", [n for n in (*BINARY, *UNARY) if n.startswith("bitwise")])
def test_bits_of_floats_are_refused(name):
    x = cr.ones(2)
    with pytest.raises(TypeError, match="integers or booleans"):
        getattr(TENSORS, name)(*(x,) * REGISTRY[name].arity)


WRONG = {
    "matmul": (lambda: cr.ones(2, 3) @ cr.ones(4, 5), RuntimeError, "inner sizes differ, 3 and 4"),
    "matmul of scalars": (lambda: cr.ones(()) @ cr.ones(3), RuntimeError, "zero dimensions"),
    "matmul of mixed dtypes": (lambda: cr.ones(2, 2) @ cr.ones(2, 2, dtype=cr.float64), RuntimeError, "one dtype"),
    "linear": (lambda: TENSORS.linear(cr.ones(2, 3), cr.ones(4, 5), cr.ones(4)), ValueError, "mismatch|differ|match"),
    "reshape": (lambda: cr.ones(6).reshape(4, 2), RuntimeError, "invalid for a tensor of 6"),
    "two holes": (lambda: cr.ones(6).reshape(-1, -1), RuntimeError, "at most one"),
    "permute": (lambda: cr.ones(2, 3).permute(0, 0), RuntimeError, "appears twice"),
    "permute of too few": (lambda: cr.ones(2, 3).permute(0), RuntimeError, "every dimension"),
    "expand": (lambda: cr.ones(2, 3).expand(2, 4), RuntimeError, "do not fit"),
    "sum": (lambda: cr.ones(2, 3).sum(2), IndexError, "out of range"),
    "sum of a dimension twice": (lambda: cr.ones(2, 3).sum((0, 0)), RuntimeError, "appears twice"),
    "amax of nothing": (lambda: cr.ones(0, 3).amax(0), IndexError, "without elements"),
    "argmax of nothing": (lambda: cr.ones(0).argmax(), IndexError, "without elements"),
    "index": (lambda: cr.ones(3)[3], IndexError, "out of range for dimension 0"),
    "too many indices": (lambda: cr.ones(3)[0, 0], IndexError, "too many"),
    "float index": (lambda: cr.ones(3)[cr.tensor([0.5])], IndexError, "integers or booleans"),
    "mask of a wrong shape": (lambda: cr.ones(3)[cr.tensor([True, False])], IndexError, "mask does not fit"),
    "index tensor": (lambda: cr.ones(3)[cr.tensor([0, 3])], IndexError, "index 3 is out of range"),
    "negative step": (lambda: cr.ones(3)[::-1], ValueError, "positive step"),
    "gather": (lambda: cr.ones(2, 3).gather(1, cr.tensor([[0], [3]])), IndexError, "index 3"),
    "gather of a larger index": (
        lambda: cr.ones(2, 3).gather(1, cr.zeros(3, 1, dtype=cr.int64)),
        RuntimeError,
        "does not fit",
    ),
    "scatter": (lambda: cr.ones(2, 3).scatter(1, cr.tensor([[0], [-4]]), 1.0), IndexError, "index -4"),
    "one_hot": (lambda: cr.one_hot(cr.tensor([0, 4]), 3), IndexError, "index 4"),
    "cross-entropy class": (
        lambda: TENSORS.softmax_nll(cr.ones(2, 3), cr.tensor([0, 3]), mean=False),
        IndexError,
        "index 3",
    ),
    "cat": (lambda: cr.cat([cr.ones(2, 3), cr.ones(2, 4)]), RuntimeError, "differ outside dimension 0"),
    "cat of nothing": (lambda: cr.cat([]), RuntimeError, "at least one"),
    "cat of scalars": (lambda: cr.cat([cr.ones(())]), RuntimeError, "zero dimensions"),
    "stack": (lambda: cr.stack([cr.ones(2), cr.ones(3)]), RuntimeError, "one shape"),
    "mean of integers": (lambda: cr.arange(3).mean(), RuntimeError, "floating"),
    "topk": (lambda: cr.ones(3).topk(4), RuntimeError, "out of range"),
    "item": (lambda: cr.ones(3).item(), RuntimeError, "exactly one"),
    "tensor of text": (lambda: cr.tensor(["a"]), TypeError, "cannot become a tensor"),
    "ragged": (lambda: cr.tensor([[1.0], [1.0, 2.0]]), TypeError, "cannot become a tensor"),
    "arange": (lambda: cr.arange(0, 3, -1), ValueError, "cannot reach"),
    "negative size": (lambda: cr.zeros(-1), (RuntimeError, ValueError), "negative"),
    "integer ** negative integer": (lambda: cr.tensor([2]) ** -1, (RuntimeError, ValueError), "negative"),
    "integer // 0": (lambda: cr.tensor([2]) // 0, ZeroDivisionError, "zero"),
    "boolean // boolean": (lambda: cr.tensor([True]) // cr.tensor([True]), TypeError, "booleans"),
    "integer % 0": (lambda: cr.tensor([2]) % 0, ZeroDivisionError, "zero"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_inputs_raise_clear_errors(what):
    call, kind, message = WRONG[what]
    with pytest.raises(kind, match=message):
        call()
