"""Every derivative of every op: forward against finite differences, reverse against forward, and second order."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.autograd import grad
from chainrule.ir.op import REGISTRY, Elementwise
from chainrule.tensors.fastpath import TENSORS
from op_cases import cases, differentiable, directions, inner, moved, tensors

CASES = list(cases(differentiable))
H = 1e-6


def varied(case):
    arrays = case.wide()
    return arrays, [arrays[i] for i in case.varied]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_jvp_against_finite_differences(case):
    arrays, xs = varied(case)
    f, ts = case.over(arrays), directions(xs)
    y, got = func.jvp(f, tuple(tensors(xs)), tuple(tensors(ts)))
    ahead, behind = (f(*tensors(moved(xs, ts, h))).numpy() for h in (H, -H))
    if case.op.name == "detach":
        ahead = behind
    assert y.shape == got.shape
    np.testing.assert_allclose(got.numpy(), (ahead - behind) / (2 * H), rtol=2e-8, atol=2e-8)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_jvp_of_each_argument_alone(case):
    """Tangents of None (an argument held constant) take other paths through the rules than tangents that are zero."""
    arrays, xs = varied(case)
    ts = directions(xs)
    total = func.jvp(case.over(arrays), tuple(tensors(xs)), tuple(tensors(ts)))[1].numpy()
    parts = np.zeros_like(total)
    for k in range(len(xs)):

        def alone(x, k=k):
            full = tensors(xs)
            full[k] = x
            return case.over(arrays)(*full)

        parts += func.jvp(alone, (cr.tensor(xs[k]),), (cr.tensor(ts[k]),))[1].numpy()
    np.testing.assert_allclose(parts, total, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_vjp_is_the_transpose_of_jvp(case):
    """<w, J t> = <J^T w, t>, on the arrays as sampled: broadcasting is transposed as well."""
    arrays = case.arrays()
    xs = [arrays[i] for i in case.varied]
    f, ts = case.over(arrays), directions(xs)
    tangent = func.jvp(f, tuple(tensors(xs)), tuple(tensors(ts)))[1].numpy()
    y, pull = func.vjp(f, *tensors(xs))
    w = directions([y.numpy()], 2)[0]
    gs = pull(cr.tensor(w))
    gs = [g.numpy() for g in (gs if isinstance(gs, tuple) else (gs,))]
    assert [g.shape for g in gs] == [x.shape for x in xs]
    np.testing.assert_allclose(inner(gs, ts), inner([w], [tangent]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_each_gradient_alone_equals_all_at_once(case):
    """What the tape saves depends on which inputs need a gradient."""
    arrays = case.arrays()
    xs = [arrays[i] for i in case.varied]
    f = case.scalar(arrays)
    together = tensors(xs, requires_grad=True)
    want = grad(f(*together), together, allow_unused=True)
    for k, expected in enumerate(want):
        alone = [cr.tensor(x, requires_grad=i == k) for i, x in enumerate(xs)]
        y = f(*alone)
        if expected is None:
            assert not y.requires_grad
            continue
        (got,) = grad(y, alone[k])
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_raw_backward_equals_traced_backward(case):
    """One rule, run on arrays and on tensors (create_graph), gives the same numbers."""
    arrays = case.arrays()
    xs = tensors([arrays[i] for i in case.varied], requires_grad=True)
    y = case.scalar(arrays)(*xs)
    if not y.requires_grad:
        assert case.op.name == "detach"
        return
    raw = grad(y, xs, retain_graph=True, allow_unused=True)
    traced = grad(y, xs, create_graph=True, allow_unused=True)
    for a, b, x in zip(raw, traced, xs, strict=True):
        assert a.shape == x.shape
        np.testing.assert_allclose(a.numpy(), b.numpy(force=True), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_second_order_both_ways_and_by_finite_differences(case):
    """The derivative of the gradient along a direction, by three routes."""
    arrays, xs = varied(case)
    h, ts = case.scalar(arrays), directions(xs, 3)
    which = tuple(range(len(xs)))
    gradient = func.grad(h, argnums=which)

    forward_over_reverse = [t.numpy() for t in func.jvp(gradient, tuple(tensors(xs)), tuple(tensors(ts)))[1]]

    def along(*inputs):
        gs = gradient(*inputs)
        return sum(
            ((g * cr.tensor(t)).sum() for g, t in zip(gs, ts, strict=True)), start=cr.zeros((), dtype=cr.float64)
        )

    reverse_over_reverse = [g.numpy() for g in func.grad(along, argnums=which)(*tensors(xs))]
    ahead, behind = ([g.numpy() for g in gradient(*tensors(moved(xs, ts, s)))] for s in (H, -H))
    differences = [(a - b) / (2 * H) for a, b in zip(ahead, behind, strict=True)]
    for f, r, d in zip(forward_over_reverse, reverse_over_reverse, differences, strict=True):
        np.testing.assert_allclose(f, r, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(f, d, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("case", [c for c in CASES if "dtype" not in c.params], ids=repr)
def test_gradients_have_the_dtype_of_their_input(case, kind):
    arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in case.arrays()]
    xs = tensors([arrays[i] for i in case.varied], requires_grad=True)
    y = case.over(arrays)(*xs)
    assert y.dtype.name == kind
    if y.requires_grad:
        (y * 0.5).sum().backward()
        assert {x.grad.dtype.name for x in xs} == {kind}


NOT_NUMBERS = ("bitwise", "polygamma")  # which take integers, and an order
BINARY = [
    op
    for op in REGISTRY.values()
    if isinstance(op, Elementwise) and op.arity == 2 and not op.name.startswith(NOT_NUMBERS)
]


@pytest.mark.parametrize("side", [0, 1], ids=["left", "right"])
@pytest.mark.parametrize("number", [2, 0.5], ids=str)
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
def test_a_python_number_is_a_constant_tensor(op, number, side):
    """Value, dtype and gradients of ``op(x, 2)`` and ``op(2, x)`` are those with a tensor in the number's place."""
    x = np.array([0.75, 1.25, 2.5], np.float32)
    outcomes = []
    for other in (number, cr.full((3,), float(number))):
        t = cr.tensor(x, requires_grad=True)
        y = getattr(TENSORS, op.name)(*((other, t) if side else (t, other)))
        outcome = [y.detach()]
        if y.requires_grad:
            (raw,) = grad(y.sum(), t, retain_graph=True)
            (traced,) = grad(y.sum(), t, create_graph=True)
            outcome += [raw, traced.detach()]
        outcomes.append(outcome)
    assert len(outcomes[0]) == len(outcomes[1])
    for got, want in zip(*outcomes, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6)


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
def test_one_tensor_as_both_operands(op):
    """The two cotangents of ``op(x, x)`` add up."""
    x = cr.tensor([0.75, 1.25], dtype=cr.float64, requires_grad=True)
    y = getattr(TENSORS, op.name)(x, x)
    if not y.requires_grad:
        return
    a, b = (cr.tensor(x.numpy(force=True), requires_grad=True) for _ in range(2))
    z = getattr(TENSORS, op.name)(a, b)
    (got,) = grad(y.sum(), x)
    parts = grad(z.sum(), [a, b], allow_unused=True)
    np.testing.assert_allclose(got.numpy(), sum(p.numpy() for p in parts if p is not None), rtol=1e-14, atol=1e-15)
