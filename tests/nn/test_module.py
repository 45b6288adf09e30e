"""Module: registration, walking, calling, hooks, modes, conversion, copies, text."""

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.scale = nn.Parameter(cr.tensor([2.0]))
        self.register_buffer("mean", cr.tensor([1.0, 2.0]))
        self.register_buffer("scratch", cr.tensor([0.0]), persistent=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False))
        self.note = "plain"

    def forward(self, x):
        return self.rest(self.first(x)) * self.scale


def test_names_come_in_the_order_of_registration_parents_first():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "rest.1.weight"]
    assert [n for n, _ in net.named_buffers()] == ["mean", "scratch"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [type(m).__name__ for m in net.modules()] == ["Net", "Linear", "Sequential", "ReLU", "Linear"]
    assert len(list(net.parameters())) == 4
    assert len(list(net.buffers())) == 2
    assert [type(m).__name__ for m in net.children()] == ["Linear", "Sequential"]


def test_shared_tensors_and_modules_are_counted_once():
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = net.a
    net.c = nn.Linear(2, 2)
    net.c.weight = net.a.weight
    assert [n for n, _ in net.named_parameters()] == ["a.weight", "a.bias", "c.bias"]
    every = [n for n, _ in net.named_parameters(remove_duplicate=False)]
    assert every == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "a", "b", "c"]
    assert [n for n, _ in net.named_children()] == ["a", "c"]


def test_get_by_path():
    net = Net()
    assert net.get_submodule("rest.1") is net.rest[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("first.weight") is net.first.weight
    assert net.get_buffer("mean") is net.mean
    with pytest.raises(AttributeError, match=r"no submodule `second`.*first, rest"):
        net.get_submodule("second")
    with pytest.raises(AttributeError, match=r"no parameter `bias`"):
        net.get_parameter("rest.1.bias")
    with pytest.raises(AttributeError, match=r"no buffer `weight`"):
        net.get_buffer("first.weight")


def test_assignment_moves_a_name_between_tables():
    m = nn.Module()
    m.x = 3
    m.x = nn.Parameter(cr.tensor([1.0]))
    assert "x" not in vars(m)
    assert [n for n, _ in m.named_parameters()] == ["x"]
    m.x = None
    assert m.x is None
    assert list(m.parameters()) == []
    m.x = nn.Linear(1, 1)
    assert [n for n, _ in m.named_modules()] == ["", "x"]
    del m.x
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        _ = m.x


def test_assigning_the_wrong_thing_over_a_registered_name():
    net = Net()
    with pytest.raises(TypeError, match="as parameter 'scale'"):
        net.scale = cr.tensor([1.0])
    with pytest.raises(TypeError, match="as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="buffer 'mean'"):
        net.mean = [1.0]
    net.mean = cr.tensor([5.0])
    assert dict(net.named_buffers())["mean"].tolist() == [5.0]


def test_registration_checks():
    m = nn.Module()
    p = nn.Parameter(cr.tensor([1.0]))
    m.forty = 2
    with pytest.raises(KeyError, match="already exists"):
        m.register_parameter("forty", p)
    with pytest.raises(KeyError, match=r'contain "\."'):
        m.register_parameter("a.b", p)
    with pytest.raises(KeyError, match="empty string"):
        m.add_module("", nn.ReLU())
    with pytest.raises(TypeError, match="should be a string"):
        m.register_buffer(3, cr.tensor([1.0]))
    with pytest.raises(TypeError, match="not a Module subclass"):
        m.register_module("x", p)
    with pytest.raises(TypeError, match=r"chainrule\.nn\.Parameter or None required"):
        m.register_parameter("x", cr.tensor([1.0]))
    with pytest.raises(TypeError, match=r"chainrule\.Tensor or None required"):
        m.register_buffer("x", p.tolist())


def test_forgetting_super_init_is_explained():
    class Forgot(nn.Module):
        def __init__(self, child):
            self.child = child

    for child in (nn.Linear(1, 1), nn.Parameter(cr.tensor([1.0])), nn.Buffer(cr.tensor([1.0]))):
        with pytest.raises(
            AttributeError, match=r"before Module.__init__\(\) call.*super\(\).__init__\(\) first in Forgot"
        ):
            Forgot(child)

    class Late(nn.Module):
        def __init__(self):
            self.size = 3

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) first in Late"):
        Late()(1)
    with pytest.raises(TypeError, match="takes no arguments"):
        nn.Module(3)


def test_a_missing_attribute_and_a_missing_forward_are_named():
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'frist'"):
        _ = Net().frist
    with pytest.raises(NotImplementedError, match=r'\[Module\] is missing the required "forward"'):
        nn.Module()(1)
    assert {"first", "scale", "mean"} <= set(dir(Net()))


def test_buffer_class_registers_itself():
    m = nn.Module()
    m.kept = nn.Buffer(cr.tensor([1.0]))
    m.dropped = nn.Buffer(cr.tensor([2.0]), persistent=False)
    assert [n for n, _ in m.named_buffers()] == ["kept", "dropped"]
    assert list(m.state_dict()) == ["kept"]
    twin = copy.deepcopy(m)
    assert list(twin.state_dict()) == ["kept"]
    assert isinstance(twin.dropped, nn.Buffer)
    assert twin.dropped.persistent is False


def test_forward_hooks_see_and_replace():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    seen = []
    before = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    after = layer.register_forward_hook(lambda m, args, out: seen.append((args[0].tolist(), out.tolist())))
    double = layer.register_forward_hook(lambda m, args, out: out * 10)
    x = cr.tensor([1.0, 3.0])
    assert layer(x).tolist() == [80.0]
    assert seen == [([2.0, 6.0], [8.0])]
    double.remove()
    before.remove()
    after.remove()
    after.remove()
    assert layer(x).tolist() == [4.0]
    assert len(seen) == 1


def test_hooks_in_order_with_kwargs_and_always():
    class Add(nn.Module):
        def forward(self, x, y=0):
            if y < 0:
                raise ValueError("negative")
            return x + y

    m, order = Add(), []
    m.register_forward_hook(lambda *a: order.append("second"))
    with m.register_forward_hook(lambda *a: order.append("first"), prepend=True):
        m(1)
    m(1)
    assert order == ["first", "second", "second"]
    m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {"y": kwargs["y"] + 1}), with_kwargs=True)
    m.register_forward_hook(lambda mod, args, kwargs, out: order.append((kwargs["y"], out)), with_kwargs=True)
    m.register_forward_hook(lambda mod, args, out: order.append(("always", out)), always_call=True)
    order.clear()
    assert m(1, y=4) == 6
    assert order == ["second", (5, 6), ("always", 6)]
    order.clear()
    with pytest.raises(ValueError, match="negative"):
        m(1, y=-5)
    assert order == [("always", None)]


def test_bad_hooks():
    m = nn.Identity()
    with pytest.raises(TypeError, match="callable"):
        m.register_forward_hook(3)
    m.register_forward_pre_hook(lambda mod, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"None or \(new_args, new_kwargs\)"):
        m(cr.tensor([1.0]))


def test_train_and_eval_reach_every_module():
    net = Net()
    assert net.eval() is net
    assert [m.training for m in net.modules()] == [False] * 5
    net.train()
    assert all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="boolean"):
        net.train(1)


def test_requires_grad_and_zero_grad():
    net = Net()
    net(cr.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    held = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0.0]
    assert held.tolist() == [0.0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert not net(cr.ones(2, 3)).requires_grad


def test_apply_visits_children_first():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Linear", "Sequential", "Net"]


def test_conversion_keeps_objects_and_integers():
    net = Net()
    net.register_buffer("count", cr.tensor([3]))
    weight = net.first.weight
    net(cr.ones(2, 3)).sum().backward()
    net.double()
    assert net.first.weight is weight
    assert weight.dtype == cr.float64
    assert weight.grad.dtype == cr.float64
    assert weight.requires_grad
    assert weight.is_leaf
    assert net.mean.dtype == cr.float64
    assert net.count.dtype == cr.int64
    net.to(cr.float32)
    assert weight.dtype == cr.float32
    assert net.float() is net
    assert net.to("cpu") is net
    assert net.to(cr.tensor([1.0], dtype=cr.float64)).scale.dtype == cr.float64
    assert net.half().scale.dtype == cr.float16
    net.type(cr.float64)
    assert net.count.dtype == cr.float64
    with pytest.raises(TypeError, match="floating point"):
        net.to(cr.int64)
    with pytest.raises(TypeError, match="dtype, a device or a tensor"):
        net.to(3.5)


def test_deepcopy_and_pickle_are_independent_and_keep_sharing():
    net = Net()
    net.again = net.first
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.again is twin.first
        assert [n for n, _ in twin.named_parameters()] == [n for n, _ in net.named_parameters()]
        assert isinstance(twin.scale, nn.Parameter)
        assert twin.scale.requires_grad
        assert twin.scale.is_leaf
        x = cr.ones(1, 3)
        assert np.array_equal(twin(x).detach().numpy(), net(x).detach().numpy())
        with cr.no_grad():
            twin.scale.zero_()
        assert net.scale.tolist() == [2.0]
        assert list(twin.state_dict()) == list(net.state_dict())


def test_repr():
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=4, out_features=2, bias=False)\n"
        "  )\n"
        ")"
    )

    class Wordy(nn.Linear):
        def extra_repr(self):
            return "one\ntwo"

    assert repr(Wordy(1, 1)) == "Wordy(\n  one\n  two\n)"


def test_parameter():
    base = cr.tensor([1.0, 2.0])
    p = nn.Parameter(base)
    assert isinstance(p, cr.Tensor)
    assert p.requires_grad
    assert p.is_leaf
    assert not base.requires_grad
    with cr.no_grad():
        p.mul_(3.0)
    assert base.tolist() == [3.0, 6.0]
    assert not nn.Parameter(base, requires_grad=False).requires_grad
    assert type(p * 1) is cr.Tensor
    assert repr(p) == "Parameter containing:\ntensor([3., 6.], requires_grad=True)"
    assert nn.Parameter().numel() == 0
    p.tag = "mine"
    assert p.tag == "mine"
    with pytest.raises(TypeError, match=r"chainrule\.tensor"):
        nn.Parameter([1.0])
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(cr.tensor([1]))
    m = nn.Module()
    with pytest.raises(TypeError, match="cannot assign"):
        m.register_parameter("x", p * 2)
