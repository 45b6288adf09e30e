"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

import pytest

import chainrule as cr
from chainrule import nn


class Plus(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x):
        return x * 10 + self.n


def numbers(container) -> list[int]:
    return [m.n for m in container]


def test_sequential_calls_in_order():
    s = nn.Sequential(Plus(1), Plus(2), Plus(3))
    assert s(0) == 123
    assert len(s) == 3
    assert nn.Sequential()(5) == 5
    named = nn.Sequential({"a": Plus(1), "b": Plus(2)})
    assert named(0) == 12
    assert named.b.n == 2
    assert list(named.state_dict()) == []


def test_sequential_indexing_and_editing():
    s = nn.Sequential(*[Plus(i) for i in range(5)])
    assert s[-1].n == 4
    assert isinstance(s[1:3], nn.Sequential)
    assert numbers(s[1:3]) == [1, 2]
    s[0] = Plus(9)
    s.append(Plus(5)).insert(1, Plus(7))
    assert numbers(s) == [9, 7, 1, 2, 3, 4, 5]
    del s[1]
    del s[3:]
    assert numbers(s) == [9, 1, 2]
    assert [n for n, _ in s.named_children()] == ["0", "1", "2"]
    assert s.pop(0).n == 9
    s.extend([Plus(6)])
    s += nn.Sequential(Plus(8))
    assert numbers(s) == [1, 2, 6, 8]
    assert numbers(nn.Sequential(Plus(1)) + nn.Sequential(Plus(2))) == [1, 2]
    assert numbers(nn.Sequential(Plus(1)) * 3) == [1, 1, 1]
    with pytest.raises(IndexError, match="index 4 is out of range for a container of 4"):
        _ = s[4]
    with pytest.raises(TypeError, match="not a Module subclass"):
        nn.Sequential(3)
    with pytest.raises(ValueError, match="Non-positive"):
        _ = s * 0


def test_deleting_from_a_named_sequential_keeps_the_names():
    s = nn.Sequential({"a": Plus(1), "b": Plus(2), "c": Plus(3)})
    del s[1]
    assert [n for n, _ in s.named_children()] == ["a", "c"]


def test_module_list():
    m = nn.ModuleList(Plus(i) for i in range(3))
    assert numbers(m) == [0, 1, 2]
    m.append(Plus(3))
    m.insert(0, Plus(7))
    m += [Plus(8)]
    assert numbers(m) == [7, 0, 1, 2, 3, 8]
    assert numbers(m[::2]) == [7, 1, 3]
    assert isinstance(m[:2], nn.ModuleList)
    del m[0]
    del m[-1]
    assert m.pop(0).n == 0
    assert numbers(m) == [1, 2, 3]
    assert [n for n, _ in m.named_children()] == ["0", "1", "2"]
    more = [Plus(9)]
    assert numbers(m + more) == [1, 2, 3, 9]
    with pytest.raises(NotImplementedError, match="forward"):
        m(1)
    with pytest.raises(TypeError, match="iterable of modules"):
        m.extend(3)


def test_module_list_repr_joins_equal_neighbours():
    text = repr(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()]))
    expected = "ModuleList(\n  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n  (2): ReLU()\n)"
    assert text == expected


def test_module_dict():
    d = nn.ModuleDict({"a": Plus(1)})
    d["b"] = Plus(2)
    d.update([("c", Plus(3))])
    assert list(d) == list(d.keys()) == ["a", "b", "c"]
    assert "a" in d
    assert len(d) == 3
    assert d.pop("a").n == 1
    assert [(k, m.n) for k, m in d.items()] == [("b", 2), ("c", 3)]
    assert [m.n for m in d.values()] == [2, 3]
    del d["b"]
    d.clear()
    assert len(d) == 0
    with pytest.raises(KeyError, match="already exists"):
        d["keys"] = Plus(1)
    with pytest.raises(ValueError, match=r"element #0 should be a \(name, value\) pair"):
        d.update([("x", Plus(1), 3)])
    with pytest.raises(TypeError, match="mapping or an iterable of pairs"):
        d.update(3)


def test_parameter_list():
    p = nn.ParameterList([cr.ones(2), nn.Parameter(cr.zeros(1, 3))])
    assert all(isinstance(x, nn.Parameter) for x in p)
    assert [n for n, _ in p.named_parameters()] == ["0", "1"]
    p.append(cr.ones(1))
    p += [cr.ones(4)]
    assert [tuple(x.shape) for x in p] == [(2,), (1, 3), (1,), (4,)]
    assert [tuple(x.shape) for x in p[1:3]] == [(1, 3), (1,)]
    assert tuple(p.pop(0).shape) == (2,)
    assert len(p) == 3
    p[-1] = cr.ones(5)
    assert tuple(p[2].shape) == (5,)
    assert "(0): Parameter containing: [" in repr(p)
    assert "of size 1x3]" in repr(p)
    with pytest.raises(IndexError, match="out of range"):
        _ = p[3]
    with pytest.raises(RuntimeError, match="should not be called"):
        p(1)
    with pytest.raises(TypeError, match="iterable"):
        p.extend(3)


def test_parameter_dict():
    d = nn.ParameterDict({"left": cr.ones(2)})
    d["right"] = cr.zeros(3)
    assert [n for n, _ in d.named_parameters()] == ["left", "right"]
    assert isinstance(d["left"], nn.Parameter)
    assert list(d) == list(d.keys()) == ["left", "right"]
    assert d.get("none", 5) == 5
    assert tuple(d.setdefault("more", cr.ones(4)).shape) == (4,)
    assert d.popitem()[0] == "more"
    assert tuple(d.pop("left").shape) == (2,)
    assert "left" not in d
    assert list((d | {"x": cr.ones(1)}).keys()) == ["right", "x"]
    d |= {"y": cr.ones(1)}
    assert [k for k, _ in d.copy().items()] == ["right", "y"]
    assert [tuple(v.shape) for v in d.values()] == [(3,), (1,)]
    assert list(reversed(d)) == ["y", "right"]
    with pytest.raises(KeyError, match="missing"):
        _ = d["missing"]
    with pytest.raises(KeyError, match="attribute of ParameterDict"):
        d["update"] = cr.ones(1)
    with pytest.raises(TypeError, match="not a string"):
        d[3] = cr.ones(1)
    d.clear()
    assert len(d) == 0
    assert repr(d) == "ParameterDict()"
