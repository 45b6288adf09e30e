"""The graph's text and its verifier: a graph that breaks a rule is refused, and the message names the instruction."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture, evaluate
from chainrule.ir.graph import Constant, Graph, GraphError, Instruction, Value, describe_size, show_param, verify
from chainrule.ir.op import REGISTRY, Elementwise

F4, F8 = np.dtype("f4"), np.dtype("f8")
ADD, SUM, CAT = REGISTRY["add"], REGISTRY["sum"], REGISTRY["cat"]


def value(number: int, *shape: int, dtype: np.dtype = F4) -> Value:
    return Value(number, shape, dtype)


X, Y, Z = value(0, 2, 3), value(1, 2, 3), value(2, 2, 3)
GOOD = Graph((X, Y), (), (Instruction(ADD, (X, Y), {}, (Z,)),), (Z,))


def with_instruction(*fields: object) -> Graph:
    return GOOD._replace(instructions=(Instruction(*fields),))


def test_a_good_graph_is_returned():
    assert verify(GOOD) is GOOD


BAD = {
    "used before it is defined": (GOOD._replace(inputs=(X,)), r"instruction 0, .*: %1 is read before it is defined"),
    "later result": (
        Graph((X,), (), (Instruction(ADD, (X, Y), {}, (Z,)), Instruction(ADD, (X, X), {}, (Y,))), (Z,)),
        "%1 is read before",
    ),
    "input twice": (GOOD._replace(inputs=(X, X, Y)), "an input: %0 is defined a second time"),
    "result redefines an input": (
        with_instruction(ADD, (X, Y), {}, (X,)),
        "instruction 0.*%0 is defined a second time",
    ),
    "no such output": (GOOD._replace(outputs=(value(9, 1),)), "%9.* is defined nowhere"),
    "too few inputs": (with_instruction(ADD, (X,), {}, (Z,)), "add takes 2 inputs, got 1"),
    "nothing to join": (with_instruction(CAT, (), {"axis": 0}, (Z,)), "cat takes one or more inputs, got 0"),
    "too many results": (with_instruction(ADD, (X, Y), {}, (Z, value(3, 2, 3))), "add has 1 results, 2 are recorded"),
    "missing parameter": (
        with_instruction(SUM, (X,), {"axes": (0,)}, (Z,)),
        r"sum has the parameters \('axes', 'keepdims'\)",
    ),
    "unknown parameter": (
        with_instruction(ADD, (X, Y), {"alpha": 2}, (Z,)),
        r"add has the parameters \(\), got \('alpha',\)",
    ),
    "parameter not static": (
        with_instruction(SUM, (X,), {"axes": ([0],), "keepdims": True}, (Z,)),
        "the parameter axes holds a list",
    ),
    "wrong shape": (
        with_instruction(ADD, (X, Y), {}, (value(5, 3, 2),)),
        r"%5 is recorded as float32\[3, 2\], but add gives float32\[2, 3\]",
    ),
    "wrong dtype": (
        with_instruction(ADD, (X, Y), {}, (value(5, 2, 3, dtype=F8),)),
        r"%5 is recorded as float64\[2, 3\], but add gives float32\[2, 3\]",
    ),
    "constant of another type": (
        Graph((), (Constant(X, np.zeros((2, 3), F8)),), (), (X,)),
        r"the constant %0: float32\[2, 3\] holds float64\[2, 3\]",
    ),
    "constant that is no array": (Graph((), (Constant(X, [1.0]),), (), (X,)), "holds list"),
    "negative size": (Graph((Value(0, (-1,), F4),), (), (), ()), "%0 has no valid type"),
    "dtype by name": (Graph((Value(0, (1,), "float32"),), (), (), ()), "%0 has no valid type"),
}
_row, _wide = value(7, 3), value(8, 3, dtype=F8)
BAD["operands of two shapes"] = (
    Graph((X, _row), (), (Instruction(ADD, (X, _row), {}, (Z,)),), (Z,)),
    "an elementwise op got different shapes",
)
BAD["operands of two dtypes"] = (
    Graph((_row, _wide), (), (Instruction(ADD, (_row, _wide), {}, (value(9, 3, dtype=F8),)),), ()),
    "an elementwise op got different dtypes",
)
BAD["shapes that do not fit"] = (
    Graph((X, Y), (), (Instruction(REGISTRY["matmul"], (X, Y), {}, (Z,)),), ()),
    "matmul does not take these inputs",
)
BAD["op that is not registered"] = (
    with_instruction(Elementwise("ad", np.add, doc="", arity=2), (X, Y), {}, (Z,)),
    "'ad' is no op of the registry; did you mean 'add'",
)


@pytest.mark.parametrize(("graph", "message"), BAD.values(), ids=BAD)
def test_a_bad_graph_is_refused(graph, message):
    with pytest.raises(GraphError, match=message):
        verify(graph)


def test_the_error_names_the_users_line():
    program = capture(lambda x: x + 1, cr.ones(2))
    first, *rest = program.graph.instructions
    broken = program.graph._replace(instructions=(first._replace(inputs=()), *rest))
    with pytest.raises(GraphError, match=r"(?s)takes 1 inputs, got 0.*test_graph.py:\d+: program = capture"):
        verify(broken)


def test_the_text_of_a_program():
    w = cr.ones(3, requires_grad=True)

    def f(x):
        return (x * w)[1:].sum() + 2.0

    text = str(capture(f, cr.ones(4, 3)))
    for part in (
        "input %0: float32[4, 3]  # 48 B; argument 0",
        "input %1: float32[3]  # 12 B; state (Tensor, requires grad)",
        "= 2.0  # 4 B",
        "broadcast_to(%1, shape=(4, 3))  # 48 B; ",
        "getitem(%3, index=(1:,))  # 36 B; ",
        "sum(%4, axes=(0, 1), keepdims=False)",
        "test_graph.py",
        "return (x * w)[1:].sum() + 2.0",
    ):
        assert part in text, text
    assert len([line for line in text.splitlines() if line.startswith("%")]) == len(
        capture(f, cr.ones(4, 3)).graph.instructions
    )


@pytest.mark.parametrize(
    ("param", "text"),
    [
        ((), "()"),
        ((1,), "(1,)"),
        ((slice(None), slice(4, None, -2), None, Ellipsis, 0), "(:, 4::-2, None, ..., 0)"),
        (("getitem", (("index", (1,)),)), "('getitem', (('index', (1,)),))"),
        (F8, "float64"),
        (-0.5, "-0.5"),
    ],
)
def test_parameters_in_short(param, text):
    assert show_param(param) == text


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (31400, "31.4 kB"), (2e6, "2.0 MB"), (3e9, "3.0 GB")]
)
def test_sizes(nbytes, text):
    assert describe_size(nbytes) == text


def test_long_graphs_are_printed_verified_evaluated_and_freed_without_recursion():
    n = 20_000
    values = [value(i, 2) for i in range(n + 1)]
    steps = tuple(Instruction(REGISTRY["neg"], (a,), {}, (b,)) for a, b in itertools.pairwise(values))
    graph = verify(Graph((values[0],), (), steps, (values[-1],)))
    assert str(graph).count("neg(") == n
    (out,) = evaluate(graph, [np.ones(2, F4)])
    assert out.tolist() == [1, 1]


def test_deeply_nested_parameters_need_no_recursion():
    nested: tuple = ([],)
    for _ in range(20_000):
        nested = (nested,)
    assert show_param(nested).startswith("((((")
    with pytest.raises(GraphError, match="the parameter axes holds a list"):
        verify(with_instruction(SUM, (X,), {"axes": nested, "keepdims": True}, (Z,)))


def test_evaluate_checks_what_it_is_given():
    with pytest.raises(ValueError, match="has 2 inputs, got 1"):
        evaluate(GOOD, [np.zeros((2, 3), F4)])
    with pytest.raises(GraphError, match=r"the input %1: recorded as float32\[2, 3\], got float64\[2, 3\]"):
        evaluate(GOOD, [np.zeros((2, 3), F4), np.zeros((2, 3), F8)])


def test_an_error_in_a_run_names_the_instruction_and_the_line():
    program = capture(lambda x, i: x[i], cr.ones(3), cr.tensor([0]))
    with pytest.raises(IndexError) as caught:
        program(cr.ones(3), cr.tensor([7]))
    (note,) = caught.value.__notes__
    assert "= take(" in note
    assert "program = capture(lambda x, i: x[i]" in note
