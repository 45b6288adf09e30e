"""The text of tensors. The rules are PyTorch's; the cross-checks compare many more with the real ones."""

import math

import pytest

import chainrule as cr

EXPECTED = {
    "whole": (lambda: cr.tensor([1.0, 2.0, -3.0]), "tensor([ 1.,  2., -3.])"),
    "fractions": (lambda: cr.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
    "far apart": (lambda: cr.tensor([1e-3, 1e3, 5.0]), "tensor([1.0000e-03, 1.0000e+03, 5.0000e+00])"),
    "small": (lambda: cr.tensor([1e-5]), "tensor([1.0000e-05])"),
    "large": (lambda: cr.tensor([1e9, 1.0]), "tensor([1.0000e+09, 1.0000e+00])"),
    "special": (lambda: cr.tensor([math.inf, -math.inf, math.nan, 1.5]), "tensor([   inf,   -inf,    nan, 1.5000])"),
    "only special": (lambda: cr.tensor([math.nan, math.inf]), "tensor([nan, inf])"),
    "zero dimensions": (lambda: cr.tensor(3.0), "tensor(3.)"),
    "integer": (lambda: cr.tensor(3), "tensor(3)"),
    "integers": (lambda: cr.tensor([1, 20, -300]), "tensor([   1,   20, -300])"),
    "booleans": (lambda: cr.tensor([True, False]), "tensor([ True, False])"),
    "empty": (lambda: cr.tensor([]), "tensor([])"),
    "empty with sizes": (lambda: cr.zeros(0, 3), "tensor([], size=(0, 3))"),
    "empty integers": (lambda: cr.zeros(2, 0, dtype=cr.int64), "tensor([], size=(2, 0), dtype=chainrule.int64)"),
    "dtype": (lambda: cr.ones(2, dtype=cr.float64), "tensor([1., 1.], dtype=chainrule.float64)"),
    "int32": (lambda: cr.ones(2, dtype=cr.int32), "tensor([1, 1], dtype=chainrule.int32)"),
    "matrix": (lambda: cr.tensor([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
    "leaf": (lambda: cr.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    "history": (lambda: cr.tensor([1.0], requires_grad=True) * 2, "tensor([2.], grad_fn=<MulBackward0>)"),
    "three dimensions": (
        lambda: cr.arange(8).reshape(2, 2, 2),
        "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])",
    ),
    "shortened": (lambda: cr.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    "shortened rows": (
        lambda: cr.zeros(600, 2),
        (
            "tensor([[0., 0.],\n        [0., 0.],\n        [0., 0.],\n        ...,\n        [0., 0.],\n"
            "        [0., 0.],\n        [0., 0.]])"
        ),
    ),
    "broken lines": (
        lambda: cr.arange(30),
        (
            "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
            "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"
        ),
    ),
    "parameter": (
        lambda: cr.nn.Parameter(cr.tensor([1.0])),
        "Parameter containing:\ntensor([1.], requires_grad=True)",
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_text(name):
    make, text = EXPECTED[name]
    assert repr(make()) == text
    assert str(make()) == text


def _a():
    return cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)


NODES = {
    "AddBackward0": lambda a: a + 1,
    "SubBackward0": lambda a: a - 1,
    "MulBackward0": lambda a: a * a,
    "DivBackward0": lambda a: a / 2,
    "PowBackward0": lambda a: a**2,
    "PowBackward1": lambda a: a**a,
    "PowBackward2": lambda a: 2**a,
    "NegBackward0": lambda a: -a,
    "SumBackward0": lambda a: a.sum(),
    "SumBackward1": lambda a: a.sum(0),
    "MeanBackward0": lambda a: a.mean(),
    "MmBackward0": lambda a: a @ a,
    "BmmBackward0": lambda a: a[None] @ a[None],
    "ViewBackward0": lambda a: a.view(4),
    "PermuteBackward0": lambda a: a.T,
    "SelectBackward0": lambda a: a[0],
    "SliceBackward0": lambda a: a[:, 1:],
    "UnsqueezeBackward0": lambda a: a.unsqueeze(0),
    "SqueezeBackward0": lambda a: a[:, :1].squeeze(1),
    "IndexBackward0": lambda a: a[cr.tensor([0])],
    "ExpandBackward0": lambda a: a[0].expand(3, 2),
    "CloneBackward0": lambda a: a.clone(),
    "ToCopyBackward0": lambda a: a.double(),
    "ReluBackward0": lambda a: a.relu(),
    "ExpBackward0": lambda a: a.exp(),
    "SoftmaxBackward0": lambda a: a.softmax(1),
    "LogSoftmaxBackward0": lambda a: a.log_softmax(1),
    "AddmmBackward0": lambda a: cr.nn.functional.linear(a, a, a[0]),
    "NllLossBackward0": lambda a: cr.nn.functional.cross_entropy(a, cr.tensor([0, 1])),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_bear_the_names_people_know(name):
    y = NODES[name](_a())
    assert y.grad_fn.name() == name
    assert repr(y).endswith(f"grad_fn=<{name}>)")


def test_a_written_part_is_called_copy_slices():
    x = _a() * 1
    x[0] = 0.0
    assert x.grad_fn.name() == "CopySlices"


def test_the_name_of_a_freed_node():
    y = _a()[0].sum()
    y.backward()
    assert y.grad_fn.name() == "SumBackward0"


def test_nodes_lead_to_nodes():
    y = _a() * 2
    ((parent, number),) = [pair for pair in y.grad_fn.next_functions if pair[0] is not None]
    assert repr(parent) == "<AccumulateGrad>"
    assert number == 0


def test_print_options():
    try:
        cr.set_printoptions(precision=2)
        assert repr(cr.tensor([1.234])) == "tensor([1.23])"
        cr.set_printoptions(profile="default", threshold=4, edgeitems=1)
        assert repr(cr.arange(5)) == "tensor([0,  ..., 4])"
        cr.set_printoptions(profile="full")
        assert "..." not in repr(cr.arange(2000))
        cr.set_printoptions(profile="default", sci_mode=True)
        assert repr(cr.tensor([1.5])) == "tensor([1.5000e+00])"
        with pytest.raises(ValueError, match=r"(?s)unknown print profile.*default, short, full"):
            cr.set_printoptions(profile="wide")
    finally:
        cr.set_printoptions(profile="default")


def test_format():
    assert f"{cr.tensor(3.14159):.2f}" == "3.14"
    assert f"{cr.tensor(3):5d}" == "    3"
    assert f"{cr.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert "%.2f" % cr.tensor(2.5) == "2.50"  # noqa: UP031 - the old way is used in the programs people have
    with pytest.raises(TypeError, match="format string"):
        f"{cr.tensor([1.0]):.2f}"


def test_traced_values_say_so():
    seen = []
    cr.func.vmap(lambda x: seen.append(repr(x)) or x)(cr.zeros(2, 3))
    assert seen == ["tensor(<value of vmap, shape (3,), float32>)"]
