"""Quick tests of later calls: whatever is exchanged between two calls, in whatever way, is noticed."""

import copy

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("shift", cr.ones(2))
        self.factor, self.names = 2.0, ["a"]

    def forward(self, x):
        y = self.layer(x) * self.factor + self.shift
        return y if self.training else -y


class Careless(Scaled):
    """A class that sets attributes without its base class."""

    def __setattr__(self, name, value):
        if name == "factor":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def replaced(m):
    m._parameters["x"] = m._parameters.pop("x", None)
    m.layer._parameters["weight"] = nn.Parameter(cr.zeros(2, 3))


def deleted(m):
    del m.shift
    m.shift = cr.zeros(2)


CHANGES = {
    "eval": lambda m: m.eval(),
    "eval of a part": lambda m: m.layer.eval(),
    "attribute": lambda m: setattr(m, "factor", 3.0),
    "parameter": lambda m: setattr(m.layer, "bias", nn.Parameter(cr.ones(2))),
    "parameter in the table": replaced,
    "no parameter": lambda m: setattr(m.layer, "bias", None),
    "buffer": lambda m: setattr(m, "shift", cr.zeros(2)),
    "buffer deleted": deleted,
    "buffer in the table": lambda m: m._buffers.update(shift=cr.zeros(2)),
    "submodule": lambda m: setattr(m, "layer", nn.Linear(3, 2)),
    "submodule in the table": lambda m: m._modules.__setitem__("layer", nn.Linear(3, 2)),
    "hook": lambda m: m.layer.register_forward_hook(lambda *a: a[2] * 5),
    "pre-hook": lambda m: m.register_forward_pre_hook(lambda *a: (a[1][0] * 5,)),
    "data": lambda m: setattr(m.layer.weight, "data", cr.ones(2, 3)),
    "conversion": lambda m: m.double().float(),
    "weights loaded": lambda m: m.load_state_dict({k: v * 0 + 1 for k, v in m.state_dict().items()}, assign=True),
    "parameter frozen": lambda m: m.layer.weight.requires_grad_(False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("kind", [Scaled, Careless])
def test_a_changed_module_is_noticed(change, kind):
    cr.manual_seed(0)
    m, x = kind(), cr.randn(4, 3)
    compiled = cr.compile(lambda x: m(x))
    for _ in range(3):
        compiled(x)
    change(m)
    for _ in range(3):
        np.testing.assert_allclose(compiled(x).detach().numpy(), m(x).detach().numpy(), rtol=1e-6)


def test_a_hook_that_is_taken_away_again():
    cr.manual_seed(0)
    m, x = Scaled(), cr.randn(4, 3)
    compiled = cr.compile(lambda x: m(x))
    plain = compiled(x).tolist()
    with m.register_forward_hook(lambda *a: a[2] * 0):
        assert not any(map(any, compiled(x).tolist()))
    assert compiled(x).tolist() == plain


def test_modules_that_do_not_change_are_not_looked_at_again():
    m, x = Scaled(), cr.ones(1, 3)
    compiled = cr.compile(lambda x: m(x))
    compiled(x)
    (recent,) = compiled._recent
    looked = []
    same = recent.watch._same_modules
    recent.watch._same_modules = lambda: looked.append(1) or same()
    for _ in range(3):
        compiled(x)
    assert len(looked) == 1
    other = Scaled()  # another module may change as it likes; that is found out by looking once
    compiled(x)
    other.factor = 4.0
    compiled(x)
    assert len(looked) == 3
    assert compiled.captures == 1


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: __import__("pickle").loads(__import__("pickle").dumps(m))]
)
def test_a_copied_module_counts_too(duplicate):
    m, x = duplicate(Scaled()), cr.ones(1, 3)
    compiled = cr.compile(lambda x: m(x))
    compiled(x), compiled(x)
    m._buffers["shift"] = cr.zeros(2)
    np.testing.assert_allclose(compiled(x).detach().numpy(), m(x).detach().numpy(), rtol=1e-6)


def test_numbers_that_go_back_and_forth_between_programs():
    """Each program has cells for the numbers; what one of them knows says nothing about the other's."""

    def training():
        w = cr.zeros(2, requires_grad=True)
        optimizer = cr.optim.SGD([w], lr=0.1, momentum=0.5)

        def step(x):
            optimizer.zero_grad()
            (w * x).sum().backward()
            optimizer.step()

        return w, optimizer, step

    a, b = training(), training()
    compiled = cr.compile(a[2])
    rng = np.random.default_rng(0)
    for n in range(60):
        x = cr.ones(2) if rng.random() < 0.5 else cr.ones(1)
        for _, optimizer, _ in (a, b):
            optimizer.param_groups[0]["lr"] = float([0.1, 0.2, 0.0][n // 4 % 3])
            optimizer.param_groups[0]["momentum"] = float([0.5, 0.5, 0.9, 0.0][n // 5 % 4])
        compiled(x)
        b[2](x)
        np.testing.assert_allclose(a[0].detach().numpy(), b[0].detach().numpy(), rtol=1e-5, atol=1e-7)


def test_betas_in_a_list_that_is_changed_in_place():
    w = cr.ones(2, requires_grad=True)
    v = cr.ones(2, requires_grad=True)
    a, b = (cr.optim.Adam([p], lr=0.1, betas=[0.9, 0.99]) for p in (w, v))

    def step(p, optimizer):
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()

    compiled = cr.compile(lambda: step(w, a))
    for n in range(6):
        for optimizer in (a, b):
            optimizer.param_groups[0]["betas"][0] = 0.9 - 0.1 * n
        compiled()
        step(v, b)
    np.testing.assert_allclose(w.detach().numpy(), v.detach().numpy(), rtol=1e-5)
