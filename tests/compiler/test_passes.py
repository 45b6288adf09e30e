"""Passes: each keeps the values of every program, does what its name says, and leaves alone what only looks equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import capture, evaluate
from chainrule.compiler.passes import PIPELINE, Pass, optimize
from chainrule.compiler.passes.decompose import RULES, decompose
from chainrule.compiler.passes.simplify import FOLD_LIMIT, deduplicate, drop_dead, fold, simplify
from chainrule.ir.graph import Constant, Graph, GraphError, Instruction, Value, verify
from chainrule.ir.op import REGISTRY
from native_checks import arrays_of, same
from op_cases import cases, deterministic
from random_programs import STEP, make, program_of

#: passes that change no bit of any result
EXACT = [drop_dead, fold, simplify, deduplicate]
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -2.5], np.float32)


def graph_of(function, *args) -> Graph:
    return capture(function, *args).graph


def ops(graph: Graph) -> list[str]:
    return [i.op.name for i in graph.instructions]


def bits(values) -> list[bytes]:
    return [np.asarray(v).tobytes() for v in values]


def x_of(*shape):
    return cr.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


# ---- values are kept
@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3))
def test_no_pass_changes_a_value(steps, seed):
    x, buffer, w = make(seed)
    cr.manual_seed(seed)
    program = capture(program_of(steps, buffer, buffer[1], w), x)
    arrays = arrays_of(program, [x])
    before = evaluate(program.graph, arrays)
    for run in EXACT:
        assert bits(evaluate(verify(run(program.graph)), arrays)) == bits(before), run.__name__
    after = evaluate(verify(decompose(program.graph)), arrays)
    for a, b in zip(after, before, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=2e-3, atol=1e-4
        )  # softmax and means, in float32, amplified by what follows


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.integers(0, 3))
def test_the_pipeline_is_valid_after_every_pass_and_does_nothing_a_second_time(steps, seed):
    x, buffer, w = make(seed)
    graph = graph_of(program_of(steps, buffer, buffer[1], w), x)
    once, _ = optimize(graph, check=True)
    twice, _ = optimize(once, check=True)
    assert ops(twice) == ops(once)
    assert len(twice.constants) == len(once.constants)
    assert [v.aval for v in once.inputs] == [v.aval for v in graph.inputs]
    assert [v.aval for v in once.outputs] == [v.aval for v in graph.outputs]


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_every_op_survives_the_pipeline(case):
    tensors = [cr.from_numpy(a) for a in case.arrays()]
    program = capture(case.function, *tensors)
    graph, _ = optimize(program.graph, check=True)
    arrays = arrays_of(program, tensors)
    for a, b in zip(evaluate(graph, arrays), evaluate(program.graph, arrays), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


# ---- simplification
IDENTITIES = {
    "times one": lambda x: x * 1.0,
    "one times": lambda x: 1.0 * x,
    "divided by one": lambda x: x / 1.0,
    "to the power of one": lambda x: x**1,
    "times a tensor of ones": lambda x: x * cr.ones(1),
    "same dtype": lambda x: x.to(cr.float32),
    "same shape": lambda x: x.reshape(tuple(x.shape)),
    "same shape, expanded": lambda x: x.expand(tuple(x.shape)),
    "transposed twice": lambda x: x.T.T,
    "reshaped back": lambda x: x.reshape(-1).reshape(tuple(x.shape)),
    "detached": lambda x: x.detach(),
    "copied": lambda x: x.clone(),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_cost_nothing(name):
    x = cr.from_numpy(SPECIAL.reshape(2, 5).copy())
    program = capture(lambda x: (IDENTITIES[name](x) + 0.5, IDENTITIES[name](x) - 0.5), x)
    graph, _ = optimize(program.graph, check=True)
    assert [o for o in ops(graph) if o != "broadcast_to"] == ["add", "sub"]
    assert bits(evaluate(graph, [x.numpy()])) == bits(evaluate(program.graph, [x.numpy()]))


#: equal for most numbers, but not for all
NOT_IDENTITIES = {
    "plus zero": (lambda x: x + 0.0, "add"),  # -0 + 0 is 0
    "minus zero from the left": (lambda x: 0.0 - x, "sub"),  # 0 - 0 is 0, -(0) is -0
    "times zero": (lambda x: x * 0.0, "mul"),  # NaN for infinities, -0 for negative numbers
    "minus itself": (lambda x: x - x, "sub"),  # NaN for infinities
    "divided by itself": (lambda x: x / x, "div"),  # NaN for 0
    "to the power of zero point five": (lambda x: x**0.5, "pow"),  # of -inf: inf, and sqrt gives NaN
    "maximum with itself": (lambda x: cr.maximum(x, -x), "maximum"),
    "equal to itself": (lambda x: x == x, "eq"),  # not for NaN
    "back and forth": (lambda x: x.to(cr.float16).to(cr.float32), "cast"),
    "one divided by": (lambda x: 1.0 / (1.0 / x), "reciprocal"),
}


@pytest.mark.parametrize("name", NOT_IDENTITIES)
def test_what_only_looks_like_an_identity_stays(name):
    function, op = NOT_IDENTITIES[name]
    x = cr.from_numpy(SPECIAL.reshape(2, 5).copy())
    program = capture(function, x)
    graph, _ = optimize(program.graph, check=True)
    assert op in ops(graph) or (op == "reciprocal" and "div" in ops(graph))
    assert bits(evaluate(graph, [x.numpy()])) == bits(evaluate(program.graph, [x.numpy()]))


def test_a_square_is_a_product():
    graph = simplify(graph_of(lambda x: x**2, x_of(3)))
    assert "pow" not in ops(graph)
    assert "mul" in ops(graph)
    assert ops(simplify(graph_of(lambda x: x**3, x_of(3))))[-1] == "pow"


def test_sums_over_axes_of_one_element_are_reshapes():
    graph, _ = optimize(graph_of(lambda x: (x.sum(1), x.amax((1, 2), keepdim=True), x.sum((0, 1))), x_of(3, 1, 1)))
    assert ops(graph).count("reshape") == 1  # the kept shape is the input's own
    assert ops(graph).count("sum") == 1
    assert "amax" not in ops(graph)


def test_permutations_are_combined():
    graph, _ = optimize(graph_of(lambda x: x.permute(1, 2, 0).permute(1, 2, 0) * 2.0, x_of(2, 3, 4)))
    (permutation,) = [i for i in graph.instructions if i.op.name == "permute"]
    assert permutation.params["perm"] == (2, 0, 1)


# ---- constants
def test_what_is_known_is_computed_once():
    c = cr.tensor([1.0, 2.0])

    def run(x):
        return x * (c.exp() + c.sum())

    assert len(graph_of(run, x_of(2)).inputs) == 2  # a tensor from outside may change: nothing is known about it
    table = cr.arange(6).reshape(2, 3)
    known = fold(graph_of(lambda x: x * (cr.arange(6).reshape(2, 3) * 2 + 1), x_of(2, 3)))
    assert drop_dead(known).instructions[-1].op.name == "mul"
    assert any(np.array_equal(k.array, table.numpy() * 2 + 1) for k in known.constants)


def constant_graph(array, op, **params) -> Graph:
    a = np.asarray(array)
    inferred = REGISTRY[op].infer(Value(0, a.shape, a.dtype).aval, **params)
    v, r = Value(0, a.shape, a.dtype), Value(1, tuple(inferred.shape), inferred.dtype)
    return verify(Graph((), (Constant(v, a),), (Instruction(REGISTRY[op], (v,), params, (r,)),), (r,)))


def test_large_and_broadcast_constants_are_not_stored():
    assert ops(fold(constant_graph(np.zeros(FOLD_LIMIT + 1), "neg"))) == ["neg"]
    assert ops(fold(constant_graph(np.zeros(FOLD_LIMIT), "neg"))) == []
    assert ops(fold(constant_graph(np.zeros(()), "broadcast_to", shape=(3,)))) == ["broadcast_to"]


def test_random_draws_are_not_folded():
    graph, _ = optimize(graph_of(lambda x: x * cr.rand(3), x_of(3)))
    assert any(i.op.random for i in graph.instructions)


# ---- common subexpressions and dead code
def test_an_expression_is_computed_once():
    graph, _ = optimize(graph_of(lambda x: (x.exp() + 1.0, x.exp() * 2.0, x.exp().sum(0), x.exp().sum(1)), x_of(2, 2)))
    assert ops(graph).count("exp") == 1
    assert ops(graph).count("sum") == 2  # other axes are another expression


def test_zeros_of_either_sign_are_different_constants():
    x = cr.from_numpy(SPECIAL.copy())
    program = capture(lambda x: (x * 0.0, x * -0.0, cr.copysign(x, cr.tensor(-0.0)), cr.copysign(x, cr.tensor(0.0))), x)
    graph, _ = optimize(program.graph, check=True)
    arrays = arrays_of(program, [x])
    assert bits(evaluate(graph, arrays)) == bits(evaluate(program.graph, arrays))


def test_numbers_of_other_types_are_different_constants():
    x = cr.arange(4)
    program = capture(lambda x: (x * 1, x.double() * 2.0, x.float() * 2.0, x * 2, (x > 1) * True), x)
    graph, _ = optimize(program.graph, check=True)
    for a, b in zip(evaluate(graph, [x.numpy()]), evaluate(program.graph, [x.numpy()]), strict=True):
        assert same(a, b)


def test_what_nobody_needs_goes_and_inputs_stay():
    def run(x, y):
        (y.exp() * 3.0).sum()
        return x * 2.0

    graph = drop_dead(graph_of(run, x_of(2), x_of(3)))
    assert [o for o in ops(graph) if o != "broadcast_to"] == ["mul"]
    assert len(graph.inputs) == 2
    assert len(graph.constants) == 1


# ---- decomposition
def test_every_rule_is_of_an_op_and_writes_other_ops():
    assert set(RULES) <= set(REGISTRY)
    x, w, b, t = x_of(4, 5), x_of(3, 5), x_of(3), cr.tensor([0, 2, 1, 1])

    def run(x, w, b, t):
        y = cr.nn.functional.linear(x, w, b)
        return y.softmax(1), y.log_softmax(0), cr.nn.functional.cross_entropy(y, t), x.mean(1), x.square()

    program = capture(run, x, w, b, t)
    names = set(ops(verify(decompose(program.graph))))
    assert set(ops(program.graph)) & set(RULES)
    assert not names & {"linear", "softmax", "log_softmax", "softmax_nll", "mean", "square"}


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_functions_of_nothing(shape):
    x = x_of(*shape)
    program = capture(lambda x: (x.softmax(0), x.softmax(1), x.log_softmax(1), x.mean(), x.mean(0)), x)
    graph, _ = optimize(program.graph, check=True)
    for a, b in zip(evaluate(graph, [x.numpy()]), evaluate(program.graph, [x.numpy()]), strict=True):
        assert same(a, b)


def test_a_layer_without_inputs_is_its_bias():
    w, b = x_of(3, 0), x_of(3)
    graph, _ = optimize(graph_of(cr.nn.functional.linear, x_of(2, 0), w, b), check=True)
    assert same(evaluate(graph, [np.zeros((2, 0), np.float32), w.numpy(), b.numpy()])[0], np.tile(b.numpy(), (2, 1)))


# ---- reports
def test_reports_and_the_printer():
    shown: list[tuple[str, str]] = []
    graph, reports = optimize(
        graph_of(lambda x: x.softmax(0) * 1.0, x_of(3, 2)), show=lambda name, g: shown.append((name, str(g)))
    )
    assert [r.name for r in reports] == [p.name for p in PIPELINE] == [name for name, _ in shown]
    assert all(r.reason and r.seconds >= 0 for r in reports)
    assert reports[-1].after == len(graph.instructions)
    assert " = softmax(" in shown[0][1]
    assert " = softmax(" not in shown[-1][1]
    assert " = exp(" in shown[-1][1]


def test_a_pass_that_breaks_the_graph_is_named():
    broken = Pass("lose an instruction", "for this test", lambda g: g._replace(instructions=g.instructions[1:]))
    with pytest.raises(GraphError) as caught:
        optimize(graph_of(lambda x: (x * 2.0).exp(), x_of(3)), pipeline=(broken,), check=True)
    assert caught.value.__notes__ == ["after the pass 'lose an instruction'"]


def test_the_users_lines_survive():
    graph, _ = optimize(graph_of(lambda x: x.softmax(0), x_of(3)))
    assert all(i.place is not None for i in graph.instructions)
