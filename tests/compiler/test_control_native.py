"""Loops and branches as machine code: against eager mode, under the strictest check, and where they fall back."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture, evaluate, explain_compilation
from chainrule.compiler import native as native_module
from chainrule.compiler.control import machine
from chainrule.compiler.kernels import Call, Product, Routine
from chainrule.compiler.llvm import vmath
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.passes import optimize, sharing
from chainrule.compiler.verify import VerificationError, verify_program
from control_cases import FUNCTIONS, XS, W, X, agree, array, backwards, rnn
from native_checks import arrays_of

func = cr.func
named = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)


def lowered(program):
    """The native program, with nothing left to reference kernels; checked strictly, kernel by kernel."""
    native = NativeProgram(program.graph)
    assert not native.plan.calls
    return native


def loops(native):
    return [k for k in native.plan.kernels if isinstance(k, Routine) and k.control is not None]


def check(function, *args):
    """Machine code of a function against the function, every kernel inside its bounds."""
    program = capture(function, *args)
    native = lowered(program)
    assert loops(native)
    arrays = arrays_of(program, args)
    stepwise = verify_program(native, arrays, strict=True)
    for _ in range(2):
        for a, b in zip(native(arrays), stepwise, strict=True):
            np.testing.assert_array_equal(a, b)
    wanted = function(*args)
    for a, b in zip(stepwise, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        np.testing.assert_allclose(a, b.numpy(force=True), rtol=1e-9, atol=1e-12)
    return native


@named
def test_values(f):
    check(f, X)


@named
def test_gradients(f):
    check(lambda x: func.grad(f)(x), X)


@named
def test_second_derivatives(f):
    check(lambda x: func.grad(lambda y: func.jvp(f, (y,), (X,))[1])(x), X)


@named
def test_batches(f):
    batch = array(5, 3, seed=4)
    if "branch" in f.__name__:  # every member chooses for itself: both branches run, and there is nothing left to lower
        f = lambda x, f=f: cr.scan(lambda c, _: (c + f(x * c), None), x.sum() * 0.1, length=2)[0]  # noqa: E731
    check(lambda x: func.vmap(f)(batch * x), X)
    check(lambda x: func.vmap(func.grad(f))(batch * x), X)


@named
def test_compiled_with_a_check_of_every_call(f):
    compiled = cr.compile(lambda x: f(x), verify="always")
    for x in (X, X * 0.1, X - 1.0, X):
        agree(compiled(x), f(x))
    x = X.clone().requires_grad_()
    compiled(x).backward()
    agree(x.grad, func.grad(f)(X))


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64, cr.int64, cr.int32, cr.uint8, cr.bool])
def test_dtypes_and_layouts(dtype):
    """Operands that are views, carries of several kinds, outputs that are inputs."""
    rng = np.random.default_rng(0)
    xs = cr.from_numpy(rng.integers(0, 2, (5, 2, 6))).to(dtype)

    def f(xs):
        sliced = xs[:, :, ::2].permute(1, 0, 2)
        first = xs[0, 0, :3].reshape(1, 3).expand(5, 3)

        def step(c, x):
            a, b, n = c
            return (cr.maximum(a, x), a, n + 1), (x, a, b, n)

        (a, b, n), ys = cr.scan(step, (first, first, 0), sliced, reverse=True)
        return a, b, n, *ys

    check(f, xs)


def test_sizes_none_and_one():
    for shape in ((0,), (2, 0), (), (1, 1)):
        x, xs = cr.ones(shape), cr.ones((4, *shape))
        check(lambda x, xs: cr.scan(lambda c, v: (c * 0.5 + v, c), x, xs), x, xs)


def test_half_precision():
    x, xs = array(3).half(), array(4, 3).half()
    program = capture(lambda x, xs: cr.scan(lambda c, v: (c * 0.5 + v, c), x, xs), x, xs)
    arrays = arrays_of(program, (x, xs))
    for a, b in zip(verify_program(NativeProgram(program.graph), arrays), program(x, xs), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=4e-3)


def test_predicates_of_all_kinds():
    for p in (True, 3, 0, 0.0, -0.5, float("nan")):
        f = lambda p, x: cr.cond(p, lambda: (x > 0, x.argsort()), lambda: (x < 0, x.argmax().expand(3)))  # noqa: E731
        compiled = cr.compile(f, verify="always")
        for a, b in zip(compiled(cr.tensor(p), X), f(p, X), strict=True):
            assert a.tolist() == b.tolist()
        assert loops(compiled.bound[0].native)


def test_beside_kernels_that_several_threads_share():
    w, x = array(256, 256).float() * 0.05, array(256, 256, seed=1).float()

    def f(x):
        last, ys = cr.scan(lambda c, v: (cr.tanh(c @ w) + v, c.amax(0)), cr.exp(x @ w), cr.stack([x, x * 2]))
        return cr.sin(last @ w), cr.exp(ys)

    compiled = cr.compile(f, verify="never")
    threads = cr.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            cr.set_num_threads(n)
            found.append([[t.numpy() for t in compiled(x)] for _ in range(12)])
    finally:
        cr.set_num_threads(threads)
    assert compiled.bound[0].native.parallel
    for outs in (*found[0], *found[1]):
        for a, b in zip(outs, found[0][0], strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(found[0][0], f(x), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-4)


def test_passing_on_only():
    """A step that computes nothing still moves memory: what it is given goes out."""
    check(lambda x: cr.scan(lambda c, v: ((c[1], c[0]), (v, c[0], W[0])), (x, x * 2), XS)[1], X)
    native = check(lambda x: cr.cond(x.sum() > 0, lambda: (x, W), lambda: (X, W)), X)
    assert len(loops(native)) == 1


def test_lengths_none_and_one():
    for n in (0, 1, 2, 3):
        check(lambda x, n=n: (*(r := cr.scan(lambda c, v: (c * v, c + 1), x, XS[:n])), r[0] * 1.0), X)


def test_a_long_loop():
    """Longer than the number of steps that the check looks into."""
    xs = array(300, 3, seed=7) * 0.1
    check(lambda x: cr.scan(lambda c, v: (cr.tanh(c @ W + v), c.sum()), x, xs), X)


def test_a_loop_within_a_branch_within_a_loop():
    def f(x):
        def step(c, v):
            def inner(c):
                return cr.scan(lambda d, u: (d * 0.5 + u, None), c, XS)[0]

            return cr.cond(v.sum() > 0, inner, lambda c: c * v, c), c

        return cr.scan(step, x, XS)

    check(f, X)
    check(lambda x: func.grad(lambda y: (f(y)[0] ** 2).sum() + f(y)[1].sum())(x), X)


def test_an_index_out_of_bounds_raises_as_in_eager_mode():
    table = array(6, 3, seed=8)

    def f(index):
        return cr.scan(lambda c, i: (c + table[i], c), X, index)[0]

    compiled = cr.compile(f, verify="never")
    good = cr.tensor([0, 5, 2, 1])
    agree(compiled(good), f(good))
    for bad in ([0, 6, 2, 1], [0, 1, 2, -7], [10**9, 0, 0, 0]):
        bad = cr.tensor(bad)
        for run in (f, compiled):
            with pytest.raises(IndexError, match=f"index {max(bad.tolist(), key=abs)} is out of"):
                run(bad)
    agree(compiled(good), f(good))
    checked = cr.compile(f, verify="always")
    with pytest.raises(IndexError):
        checked(cr.tensor([0, 6, 2, 1]))


def test_a_loop_that_cannot_fail_lets_parameters_be_written_in_place():
    p = W.clone()

    def step(x):
        last, _ = cr.scan(lambda c, v: (cr.tanh(c @ p) + v, None), x, XS)
        p.sub_(last.sum() * 0.01)
        return last

    wanted, after = step(X), p.clone()
    p.copy_(W)
    compiled = cr.compile(step)
    agree(compiled(X), wanted)
    agree(p, after)
    assert [b.aliases for b in compiled.bound] == [1]


def test_a_failed_step_leaves_everything_as_it_was():
    total = cr.zeros(3, dtype=cr.float64)

    def f(index):
        def step(c, i):
            total.add_(XS[i])
            return c + XS[i], None

        return cr.scan(step, X, index)[0]

    compiled = cr.compile(f, verify="never")
    compiled(cr.tensor([0, 1]))
    kept = total.clone()
    with pytest.raises(IndexError):
        compiled(cr.tensor([0, 4]))
    agree(total, kept)
    agree(kept, XS[0] + XS[1])


def test_an_index_out_of_bounds_in_the_branch_not_taken_is_not_looked_at():
    def f(p, i):
        return cr.cond(p, lambda: XS[i].sum(0), lambda: X)

    compiled = cr.compile(f, verify="always")
    agree(compiled(cr.tensor(False), cr.tensor([9])), X)
    agree(compiled(cr.tensor(True), cr.tensor([1])), XS[1])
    with pytest.raises(IndexError):
        compiled(cr.tensor(True), cr.tensor([9]))


def test_a_block_without_machine_code_runs_by_its_reference_kernel(monkeypatch):
    monkeypatch.setattr(native_module, "NATIVE", native_module.NATIVE - {"cumsum"})

    def f(x):
        last, ys = cr.scan(lambda c, v: (c.cumsum(0) * v, c), x, XS)
        return cr.cond(last.sum() > 0, lambda: last.cumsum(0), lambda: last), ys

    program = capture(f, X)
    native = NativeProgram(program.graph)
    assert [k.instruction.op.name for k in native.plan.kernels if isinstance(k, Call)] == ["scan", "cond"]
    for a, b in zip(native(arrays_of(program, (X,))), f(X), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-13)


def test_random_draws_inside():
    def f(x):
        return cr.scan(lambda c, v: (cr.where(cr.rand(3) < 0.5, c, v), cr.randn(3)), x, XS)

    compiled = cr.compile(f, verify="always")
    cr.manual_seed(1)
    wanted = [f(X) for _ in range(3)]
    state = cr.get_rng_state().tolist()
    cr.manual_seed(1)
    for pair in wanted:
        for a, b in zip(compiled(X), pair, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    assert cr.get_rng_state().tolist() == state


def test_several_threads_at_once():
    program = capture(rnn, X)
    native = lowered(program)
    inputs = [[a + k for a in arrays_of(program, (X,))] for k in range(8)]
    wanted = [native(arrays)[0] for arrays in inputs]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for a, b in zip(threads.map(native, inputs), wanted, strict=True):
                np.testing.assert_array_equal(a[0], b)


# ---- passes
def test_what_nobody_reads_is_dropped():
    def f(x):
        def step(c, v):
            a, b, n = c
            return (a * v[0], cr.sin(b), n + 1), (a * b, b * 2, v[1])

        (a, _, n), (_, _, z) = cr.scan(step, (x, x * 2, 0), (XS, XS + 1))
        return a, n, z

    (kernel,) = loops(lowered(capture(f, X)))
    p = kernel.instruction.params
    assert (p["carries"], p["slices"], len(kernel.outputs), p["saved"]) == (2, 2, 3, ())
    check(f, X)


def test_saved_carries_stay_where_a_derivative_reads_them():
    first, second = loops(lowered(capture(func.grad(backwards), X)))
    assert len(first.outputs) - first.instruction.params["carries"] == 2  # the outputs, and the carries
    assert first.instruction.params["saved"] == (2,)
    assert not second.instruction.params["reverse"]
    assert not second.instruction.params["saved"]


def products(kernel):
    return sum(isinstance(k, Product) for k in kernel.control.codes[0].native.plan.kernels)


def test_a_backward_loop_takes_products_from_the_forward_loop(monkeypatch):
    def f(x, w):
        last, ys = cr.scan(lambda c, v: ((h := cr.tanh(c @ w + v)), h), x, XS)
        return (last * last).sum() + (ys * ys).sum()

    program = capture(func.grad(f, (0, 1)), X, W)
    first, second = loops(lowered(program))
    assert [products(first), products(second)] == [1, 2]
    assert len(first.outputs) == 3  # what is kept is the output already
    check(func.grad(f, (0, 1)), X, W)
    monkeypatch.setattr(sharing, "MOST_BYTES", -1)
    first, second = loops(lowered(program))
    assert [products(first), products(second)] == [1, 3]


@named
@pytest.mark.parametrize("order", [1, 2])
def test_passes_keep_the_meaning(f, order):
    g = func.grad(f) if order == 1 else func.grad(lambda x: (func.grad(f)(x) * X).sum())
    program = capture(g, X)
    graph, _ = optimize(program.graph, check=True)
    arrays = arrays_of(program, (X,))
    for a, b in zip(evaluate(graph, arrays), evaluate(program.graph, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_only_loops_over_the_same_slices_share():
    """Alike steps of loops with other carries, and over other slices, are computed by each."""

    def f(x):
        step = lambda c, v: (cr.tanh(c @ W + v), v @ W)  # noqa: E731
        a, y = cr.scan(step, x, XS)
        b, z = cr.scan(step, x * 2, XS, reverse=True)
        c, u = cr.scan(step, x, XS * 2)
        return a, y, b, z, c, u

    kernels = loops(check(f, X))
    assert sorted(map(products, kernels)) == [1, 2, 2]  # v @ W of the second loop comes from the first


def test_a_branch_is_cut_down():
    def f(x):
        a, _ = cr.cond(x.sum() > 0, lambda: (x * W[0], X @ W), lambda: (-x, X * XS[0]))
        return a

    (kernel,) = loops(lowered(capture(f, X)))
    assert len(kernel.outputs) == 1
    assert len(kernel.inputs) == 3
    check(f, X)


# ---- the check of machine code
def test_wrong_machine_code_of_a_loop_is_found(monkeypatch):
    """Every step is given the first slice."""
    program = capture(rnn, X)
    monkeypatch.setattr(machine, "size_of", lambda shape: 0)
    native = lowered(program)
    with pytest.raises(VerificationError, match="outside their bounds") as caught:
        verify_program(native, arrays_of(program, (X,)))
    assert caught.value.instruction.op.name == "scan"


@pytest.mark.usefixtures("cached_by_text")
def test_wrong_machine_code_in_a_block_is_found_and_named(monkeypatch):
    monkeypatch.setitem(vmath.EMITTERS, "tanh", vmath.EMITTERS["sin"])
    program = capture(rnn, X)
    with pytest.raises(VerificationError) as caught:
        verify_program(lowered(program), arrays_of(program, (X,)))
    assert caught.value.instruction.op.name == "tanh"


def test_the_report_shows_blocks():
    compiled = cr.compile(lambda x: cr.scan(lambda c, v: (cr.tanh(c @ W) + v, None), x, XS)[0])
    compiled(X)
    text = explain_compilation(compiled)
    assert "scan" in text
    assert "product" in text
    assert "tanh" in text
