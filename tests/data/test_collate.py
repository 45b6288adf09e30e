"""default_collate: each kind of sample, and what cannot be put together."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import chainrule
from chainrule.utils.data import default_collate, default_convert

Point = namedtuple("Point", ["x", "y"])


def test_numbers_keep_their_kind():
    assert default_collate([1, 2]).dtype == chainrule.int64
    assert default_collate([1.0, 2.0]).dtype == chainrule.float64
    assert default_collate([True, False]).dtype == chainrule.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype == chainrule.float32
    assert default_collate([1, 2]).tolist() == [1, 2]


def test_arrays_and_tensors_get_a_new_first_axis():
    for make in (np.ones, chainrule.ones):
        batch = default_collate([make((2, 3)), make((2, 3))])
        assert isinstance(batch, chainrule.Tensor)
        assert tuple(batch.shape) == (2, 2, 3)
    a, b = chainrule.tensor([1.0], requires_grad=True), chainrule.tensor([2.0])
    default_collate([a, b]).sum().backward()
    assert a.grad.tolist() == [1.0]


def test_structures():
    batch = default_collate([{"x": 1, "y": ("a", 2.0)}, {"x": 3, "y": ("b", 4.0)}])
    assert batch["x"].tolist() == [1, 3]
    assert batch["y"][0] == ("a", "b")
    assert batch["y"][1].tolist() == [2.0, 4.0]
    assert type(batch["y"]) is list
    point = default_collate([Point(1, 2), Point(3, 4)])
    assert isinstance(point, Point)
    assert point.y.tolist() == [2, 4]
    ordered = default_collate([OrderedDict(a=1), OrderedDict(a=2)])
    assert type(ordered) is OrderedDict
    assert ordered["a"].tolist() == [1, 2]
    assert [t.tolist() for t in default_collate([[1, 2], [3, 4]])] == [[1, 3], [2, 4]]
    assert default_collate([b"a", b"b"]) == [b"a", b"b"]


def test_what_does_not_fit_names_the_sample():
    with pytest.raises(ValueError, match=r"got: +\(3,\) for sample 1"):
        default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(RuntimeError, match=r"got: +\(3,\) for sample 1"):
        default_collate([chainrule.zeros(2), chainrule.zeros(3)])
    with pytest.raises(RuntimeError, match=r"got: +1 for sample 1"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(TypeError, match="NoneType"):
        default_collate([None, None])
    with pytest.raises(TypeError, match="dtype <U1"):
        default_collate([np.array(["a"]), np.array(["b"])])
    with pytest.raises(ValueError, match="no samples"):
        default_collate([])


def test_convert():
    out = default_convert({"a": np.array([1, 2]), "b": ("x", np.float64(2.0)), "c": 3})
    assert out["a"].tolist() == [1, 2]
    assert out["b"][0] == "x"
    assert out["b"][1].item() == 2.0
    assert out["c"] == 3
    assert default_convert(Point(np.array(1), 2)).x.item() == 1
