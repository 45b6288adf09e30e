"""cond and scan: eager mode, captures and transforms give the same, and errors teach."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture, captured
from chainrule.core.errors import TracerError
from chainrule.ir.graph import GraphError, Instruction, verify
from chainrule.tensors.apply import apply
from control_cases import FUNCTIONS, XS, W, X, agree, array, branching, rnn

func = cr.func
BATCH = array(5, 3, seed=4)
named = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)


def control(program):
    """The instructions of a program that are loops or branches."""
    return [i for i in program.graph.instructions if i.op.kind == "control"]


# ---- values and derivatives
@named
def test_eager_derivatives_are_right(f):
    x = X.clone().requires_grad_()
    assert cr.autograd.gradcheck(f, (x,), check_forward_ad=True)
    assert cr.autograd.gradgradcheck(f, (x,))


@named
def test_a_capture_is_one_instruction_and_computes_the_same(f):
    program = capture(f, X)
    assert len(control(program)) == 1
    verify(program.graph)
    for x in (X, X * 0.1, X - 1.0):
        agree(program(x), f(x))


T = cr.ones(3, dtype=cr.float64)
TRANSFORMS = {
    "grad": lambda f: func.grad(f),
    "jvp": lambda f: lambda x: func.jvp(f, (x,), (T,))[1],
    "hessian": lambda f: func.hessian(f),
    "grad of grad": lambda f: func.grad(lambda x: func.grad(f)(x).sum()),
    "grad of jvp": lambda f: func.grad(lambda x: func.jvp(f, (x,), (x,))[1]),
    "jvp of jvp": lambda f: lambda x: func.jvp(lambda y: func.jvp(f, (y,), (T,))[1], (x,), (x,))[1],
    "vmap": lambda f: lambda x: func.vmap(f)(BATCH * x),
    "vmap of grad": lambda f: lambda x: func.vmap(func.grad(f))(BATCH * x),
    "grad of vmap": lambda f: func.grad(lambda x: func.vmap(f)(BATCH * x).sum()),
    "capture": lambda f: lambda x: capture(f, x)(x),
}


@named
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_transform_inside_a_capture(f, transform):
    program = capture(transform(f), X)
    assert control(program) or "branch" in f.__name__  # members of a batch that choose for themselves run both
    verify(program.graph)
    agree(program(X), transform(f)(X))


@named
@pytest.mark.parametrize("name", ["grad", "jvp", "vmap of grad", "hessian"])
def test_a_program_under_a_transform(f, name):
    transform = TRANSFORMS[name]
    agree(transform(capture(f, X))(X), transform(f)(X))


@named
def test_backward_twice_inside_a_capture(f):
    def twice(x):
        x = x.detach().requires_grad_()
        (g,) = cr.autograd.grad(f(x), x, create_graph=True)
        return cr.autograd.grad((g * g).sum(), x)[0]

    agree(capture(twice, X)(X), twice(X))


@named
def test_the_tape_of_an_op_on_arrays(f):
    """The rules on raw arrays, where a loop or branch is applied as one op by itself."""
    program = capture(f, X)
    (i,) = control(program)
    rng = np.random.default_rng(5)
    xs = [rng.standard_normal(v.shape).astype(v.dtype) for v in i.inputs]
    inputs = [cr.from_numpy(x).requires_grad_(x.dtype.kind == "f") for x in xs]

    def total(outs):
        outs = outs if isinstance(outs, tuple) else (outs,)
        return sum((o * o).sum() for o in outs if o.requires_grad)

    floats = [t for t in inputs if t.requires_grad]
    got, wanted = (
        cr.autograd.grad(total(run(*inputs)), floats, allow_unused=True, materialize_grads=True)
        for run in (lambda *ts: apply(i.op, ts, i.params), lambda *ts: i.op.through(*ts, **i.params))
    )
    for a, b in zip(got, wanted, strict=True):
        agree(a, b)


# ---- semantics
def test_trees_go_in_and_come_out():
    carry, ys = cr.scan(lambda c, x: ((c[0] + x["a"], [c[1][0] * x["b"]]), {"s": c[0], "n": None}),
                        (X, [X]), {"a": XS, "b": XS})  # fmt: skip
    agree(carry[0], X + XS.sum(0))
    agree(carry[1][0], X * XS.prod(0))
    assert ys["n"] is None
    agree(ys["s"][1], X + XS[0])


def test_reverse_outputs_belong_to_their_slices():
    for f in (lambda x: cr.scan(lambda c, v: (c + v, c), x, XS, reverse=True),):
        for last, ys in (f(X), capture(f, X)(X)):
            agree(last, X + XS.sum(0))
            agree(ys[-1], X)
            agree(ys[0], X + XS[1:].sum(0))


def test_a_python_truth_value_is_no_branch_of_the_program():
    program = capture(lambda x: cr.cond(True, cr.sin, cr.cos, x), X)
    assert not control(program)
    agree(program(X), cr.sin(X))


def test_numbers_come_back_as_tensors():
    f = lambda p: cr.cond(p, lambda: {"a": 1.0}, lambda: {"a": 2.0})  # noqa: E731
    for run in (f, captured(f)):
        for p in (True, cr.tensor(True)):
            assert run(p)["a"].item() == 1.0


def test_numbers_are_true_unless_zero():
    for value in (0.0, 0.5, -2.0):
        f = lambda p: cr.cond(p, lambda: X, lambda: -X)  # noqa: E731
        p = cr.tensor(value)
        agree(f(p), X if value else -X)
        agree(captured(f)(p), X if value else -X)


def test_a_branch_not_taken_is_not_run():
    index = cr.tensor(7)
    f = lambda p, i: cr.cond(p, lambda: X[i.reshape(1)].sum(), lambda: X.sum())  # noqa: E731
    no, yes = cr.tensor(False), cr.tensor(True)
    for run in (f, captured(f)):
        agree(run(no, index), X.sum())
        with pytest.raises(IndexError):
            run(yes, index)


def test_members_of_a_batch_choose_for_themselves():
    f = func.vmap(lambda x: cr.cond(x.sum() > 0, lambda: x * 2, lambda: -x))
    wanted = np.stack([2 * r if r.sum() > 0 else -r for r in BATCH.numpy()])
    assert 0 < sum(r.sum() > 0 for r in BATCH.numpy()) < 5
    np.testing.assert_array_equal(f(BATCH).numpy(), wanted)
    np.testing.assert_array_equal(capture(f, BATCH)(BATCH).numpy(), wanted)


def test_a_loop_stays_one_instruction_however_long():
    f = lambda x: cr.scan(lambda c, _: (c * 0.999 + x, None), x, length=2000)[0]  # noqa: E731
    program = capture(func.grad(lambda x: f(x).sum()), X)
    assert len(program.graph.instructions) < 30
    agree(program(X), func.grad(lambda x: f(x).sum())(X))


def test_what_a_step_writes_outside_is_written_when_the_loop_is_done():
    def make():
        total, calls = cr.zeros(3, dtype=cr.float64), cr.zeros((), dtype=cr.int64)

        def f(x):
            def step(c, v):
                with cr.no_grad():
                    total.add_(c)
                    calls.add_(1)
                return c * v + total, total.sum()

            return cr.scan(step, x, XS)

        return f, total, calls

    eager, lazy = make(), make()
    program = captured(lazy[0])
    for x in (X, X * 2):
        for a, b in zip(eager[0](x), program(x), strict=True):
            agree(b, a)
    agree(lazy[1], eager[1])
    assert lazy[2].item() == eager[2].item() == 8
    assert program.captures == 1


def test_views_of_what_a_step_writes_see_it():
    def make():
        memory = cr.zeros(2, 3, dtype=cr.float64)
        row, whole = memory[1], memory.view(6)

        def f(x):
            def step(c, v):
                y = c + row * v
                memory[1] = c + v
                return y, whole + row.sum()

            return cr.scan(step, x, XS)

        return f, memory

    (eager, memory), (lazy, other) = make(), make()
    program = captured(lazy)
    for x in (X, X * 2):
        for a, b in zip(program(x), eager(x), strict=True):
            agree(a, b)
    agree(other, memory)


def test_a_view_with_history_of_its_own_keeps_it():
    base = cr.cat([W.reshape(9), X])
    leaf = base[:9].view(3, 3).detach().requires_grad_()

    def f(x):
        return cr.scan(lambda c, v: (c @ leaf + v, None), x, XS)[0].sum()

    agree(capture(lambda x: cr.autograd.grad(f(x), leaf)[0], X)(X), cr.autograd.grad(f(X), leaf)[0])


def test_random_draws_inside_follow_the_generator():
    def dropped(x):
        def step(c, v):
            keep = cr.rand(3, dtype=cr.float64) > 0.5
            return cr.cond(v[0] > 0, lambda: cr.where(keep, c, 0.0) + v, lambda: c + cr.randn(3, dtype=cr.float64)), c

        return cr.scan(step, x, XS)

    program = captured(dropped)
    cr.manual_seed(3)
    wanted = [dropped(X) for _ in range(2)]
    position = cr.get_rng_state().tolist()
    cr.manual_seed(3)
    for pair in wanted:
        for a, b in zip(program(X), pair, strict=True):
            agree(a, b)
    assert cr.get_rng_state().tolist() == position
    assert program.captures == 1


def test_only_the_branch_taken_writes():
    count = cr.zeros((), dtype=cr.int64)

    def f(p):
        def yes():
            count.add_(1)
            return X

        return cr.cond(p, yes, lambda: -X)

    program = captured(f)
    for p in (True, False, True):
        agree(program(cr.tensor(p)), X if p else -X)
    assert count.item() == 2


def test_history_is_that_of_eager_mode():
    w = W.clone().requires_grad_()

    def f(x):
        last, (a, b) = cr.scan(lambda c, v: (c @ w, (c.detach() + v, c)), x, XS)
        return [t.requires_grad for t in (last, a, b)]

    assert f(X) == [True, False, True]
    assert capture(f, X)(X) == f(X)
    with cr.no_grad():
        assert capture(f, X)(X) == f(X) == [False] * 3


def test_what_was_computed_under_no_grad_in_a_step_is_constant():
    def f(x):
        def step(c, v):
            with cr.no_grad():
                size = c.abs().sum()
            return c * v / size, None

        return cr.scan(step, x, XS)[0].sum()

    agree(capture(func.grad(f), X)(X), func.grad(f)(X))


def test_a_module_with_dropout_and_a_layer_on_top_trains_natively():
    def train(wrap):
        cr.manual_seed(0)
        first, second, drop = cr.nn.Linear(4, 3), cr.nn.Linear(6, 3), cr.nn.Dropout(0.25)
        optimizer = cr.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

        def step(xs):
            optimizer.zero_grad()

            def low(h, x):
                h = cr.tanh(first(cr.cat([h, x])))
                return h, drop(h)

            def high(h, x):
                h = cr.tanh(second(cr.cat([h, x])))
                return h, h

            _, ys = cr.scan(low, cr.zeros(3), xs)
            last, zs = cr.scan(high, cr.zeros(3), ys, reverse=True)
            loss = (zs * zs).mean() - last.sum()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        xs = cr.randn(5, 1)
        return [step(xs).item() for _ in range(6)], cr.get_rng_state().tolist()

    eager, native = train(lambda f: f), train(lambda f: cr.compile(f, verify="always"))
    np.testing.assert_allclose(native[0], eager[0], rtol=1e-4)
    assert native[1] == eager[1]


def test_an_rnn_trains_inside_a_captured_step():
    def train(wrap):
        cr.manual_seed(0)
        cell, head = cr.nn.Linear(5, 3), cr.nn.Linear(3, 1)
        parameters = [*cell.parameters(), *head.parameters()]
        optimizer = cr.optim.Adam(parameters, lr=0.05)

        def step(xs, target):
            optimizer.zero_grad()

            def once(h, x):
                h = cr.tanh(cell(cr.cat([h, x], 1)))
                return h, head(h)

            _, ys = cr.scan(once, cr.zeros(4, 3), xs)
            loss = ((ys - target) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        xs = cr.randn(6, 4, 2)
        target = xs.cumsum(0).sum(2, keepdim=True).sin()
        losses = [step(xs, target).item() for _ in range(25)]
        return losses, [p.detach().numpy() for p in parameters]

    eager, lazy, native = train(lambda f: f), train(captured), train(lambda f: cr.compile(f, verify="always"))
    assert eager[0][-1] < 0.6 * eager[0][0]
    for found in (lazy, native):
        np.testing.assert_allclose(found[0], eager[0], rtol=2e-4)
        for a, b in zip(found[1], eager[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=5e-3, atol=2e-4)


# ---- errors
def both(function, *args):
    """The function itself, and as a capture."""
    return [lambda: function(*args), lambda: capture(function, *args)]


BAD_SCANS = {
    "structure": (lambda x: cr.scan(lambda c, v: ((c, c), None), x, XS), ValueError, r"keep its structure"),
    "shape": (lambda x: cr.scan(lambda c, v: (c.sum(), None), x, XS), ValueError, r"float64\[3\]"),
    "dtype": (lambda x: cr.scan(lambda c, v: (c.float(), None), x, XS), TypeError, r"to\(chainrule.float64\)"),
    "number": (lambda x: cr.scan(lambda c, v: (1.5, None), 0, XS), TypeError, "float32"),
    "no pair": (lambda x: cr.scan(lambda c, v: c, x, XS), TypeError, "two values"),
    "three": (lambda x: cr.scan(lambda c, v: (c, c, c), x, XS), TypeError, "a tuple of 3"),
    "text": (lambda x: cr.scan(lambda c, v: (c, "y"), x, XS), TypeError, "holds a str"),
    "lengths": (lambda x: cr.scan(lambda c, v: (c, None), x, (XS, X)), ValueError, r"sizes \[3, 4\]"),
    "length": (lambda x: cr.scan(lambda c, v: (c, None), x, XS, length=3), ValueError, "length 3"),
    "no length": (lambda x: cr.scan(lambda c, v: (c, None), x), ValueError, "length None"),
    "scalar": (lambda x: cr.scan(lambda c, v: (c, None), x, x.sum()), ValueError, "first dimension"),
    "carry written": (lambda x: cr.scan(lambda c, v: (c.add_(1), None), x.clone(), XS), TracerError, "in place"),
    "slice written": (lambda x: cr.scan(lambda c, v: (c, v.mul_(2)), x, XS.clone()), TracerError, "in place"),
    "result": (lambda x: cr.cond(True, lambda: "a", lambda: x), TypeError, "holds a str"),
    "pred": (lambda x: cr.cond(x > 0, lambda: x, lambda: x), ValueError, r"\.any\(\)"),
    "pred type": (lambda x: cr.cond("yes", lambda: x, lambda: x), TypeError, "got:      str"),
}


@pytest.mark.parametrize(("f", "error", "words"), BAD_SCANS.values(), ids=BAD_SCANS)
def test_errors_teach(f, error, words):
    for run in both(f, X):
        with pytest.raises(error, match=words) as caught:
            run()
        assert "test_control.py" in str(caught.value)


UNEQUAL = {
    "shape": (lambda x: x, lambda x: x[:2]),
    "dtype": (lambda x: x, lambda x: x.float()),
    "structure": (lambda x: (x, x), lambda x: [x, x]),
}


@pytest.mark.parametrize(("yes", "no"), UNEQUAL.values(), ids=UNEQUAL)
def test_branches_must_give_the_same_types(yes, no):
    f = lambda x: cr.cond(x.sum() > 0, yes, no, x)  # noqa: E731
    for run in (lambda: capture(f, X), lambda: func.vmap(f)(BATCH)):
        with pytest.raises(ValueError, match="same structure, shapes and dtypes"):
            run()


def test_an_output_that_changes_is_refused():
    shapes = iter([3, 2])
    with pytest.raises(ValueError, match="in every step"):
        cr.scan(lambda c, v: (c, v[: next(shapes)]), X, XS)


def test_effects_that_a_loop_cannot_have_are_refused():
    w = X.clone().requires_grad_()

    def writes(x):
        def step(c, v):
            with cr.no_grad():
                w.mul_(0.9)
            return c * w, None

        return cr.scan(step, x, XS)[0]

    def sets_grad(x):
        def step(c, v):
            (w * c.detach()).sum().backward()
            return c, None

        return cr.scan(step, x, XS)[0]

    kept = []

    def keeps(x):
        return cr.scan(lambda c, v: (kept.append(c * v) or c, None), x, XS)[0]

    with pytest.raises(TracerError, match="requires a gradient was written"):
        capture(writes, X)
    with pytest.raises(TracerError, match=r"autograd\.grad"):
        capture(sets_grad, X)
    with pytest.raises(TracerError, match="kept outside"):
        capture(keeps, X)
    assert w.grad is None
    agree(w, X)


def test_random_draws_under_vmap_in_a_capture_are_refused():
    f = func.vmap(lambda x: cr.scan(lambda c, v: (c + cr.rand(3, dtype=cr.float64), None), x, XS)[0],
                  randomness="different")  # fmt: skip
    assert tuple(f(BATCH).shape) == (5, 3)
    with pytest.raises(TracerError, match="draw the numbers before"):
        capture(f, BATCH)


def test_a_data_dependent_branch_names_the_ways_out():
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(TracerError) as caught:
        capture(f, X)
    assert "if x.sum() > 0:" in str(caught.value)
    for way in ("chainrule.where(condition, a, b)", "chainrule.cond(condition, true_fn, false_fn, *operands)"):
        assert way in str(caught.value)
    fixed = lambda x: cr.cond(x.sum() > 0, lambda: x, lambda: -x)  # noqa: E731
    agree(capture(fixed, X)(X), f(X))


def test_the_verifier_looks_into_blocks():
    program = capture(rnn, X)
    (i,) = control(program)
    wrong = {**i.params, "length": 9}
    at = program.graph.instructions.index(i)
    graph = program.graph._replace(
        instructions=(*program.graph.instructions[:at], Instruction(i.op, i.inputs, wrong, i.results),
                      *program.graph.instructions[at + 1 :])
    )  # fmt: skip
    with pytest.raises(GraphError, match="scan gives"):
        verify(graph)
    body = i.params["body"]
    body.graph = body.graph._replace(instructions=body.graph.instructions[1:])
    with pytest.raises(GraphError, match="before it is defined"):
        verify(program.graph)


def test_a_program_shows_its_blocks():
    lines = str(capture(branching, X)).splitlines()
    body = lines.index("  body:")
    true, false = lines.index("      true:"), lines.index("      false:")
    assert body < true < false
    (sine,) = (k for k, line in enumerate(lines) if " = sin(" in line)
    assert true < sine < false
