"""state_dict and load_state_dict."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_it_shares_memory_and_has_no_history():
    model = net()
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert not any(t.requires_grad for t in state.values())
    with cr.no_grad():
        model[0].bias.fill_(7.0)
    assert state["0.bias"].tolist() == [7.0] * 3
    assert model.state_dict(keep_vars=True)["0.bias"] is model[0].bias
    into = {"old": 1}
    assert model.state_dict(destination=into, prefix="net.") is into
    assert list(into) == ["old", "net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]


def test_round_trip():
    a, b = net(), net()
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    x = cr.ones(4, 2)
    assert np.array_equal(a(x).detach().numpy(), b(x).detach().numpy())
    assert a[0].weight is not b[0].weight
    with cr.no_grad():
        a[0].weight.zero_()
    assert b[0].weight.abs().sum().item() > 0


def test_numpy_arrays_load_and_dtypes_are_converted():
    model = net()
    arrays = {k: np.full(v.shape, 0.5, np.float64) for k, v in model.state_dict().items()}
    model.load_state_dict(arrays)
    assert model[2].bias.tolist() == [0.5]
    assert model[2].bias.dtype == cr.float32


def test_all_mistakes_are_listed_and_nothing_is_written():
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v * 0 for k, v in before.items()}
    del state["2.bias"]
    state["3.bias"] = cr.ones(1)
    state["0.weight"] = cr.ones(3, 5)
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert text.startswith("Error(s) in loading state_dict for Sequential:")
    assert 'Missing key(s) in state_dict: "2.bias".' in text
    assert 'Unexpected key(s) in state_dict: "3.bias".' in text
    assert "size mismatch for 0.weight: copying a param with shape (3, 5) from checkpoint" in text
    assert "the shape in current model is (3, 2)" in text
    for key, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[key].numpy())


def test_not_strict_reports_keys_but_still_checks_shapes():
    model = net()
    state = model.state_dict()
    bias = state.pop("2.bias")
    state["more"] = bias
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["2.bias"]
    assert result.unexpected_keys == ["more"]
    assert "missing_keys=['2.bias']" in repr(result)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.bias"):
        model.load_state_dict({"0.bias": cr.ones(9)}, strict=False)


def test_a_common_prefix_is_noticed():
    model = net()
    wrapped = {f"model.{k}": v for k, v in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=r'differ only by the prefix "model\.": remove it from'):
        model.load_state_dict(wrapped)
    outer = nn.Module()
    outer.model = model
    with pytest.raises(RuntimeError, match=r'differ only by the prefix "model\.": add it to'):
        outer.load_state_dict(model.state_dict())


def test_things_that_are_no_tensors():
    with pytest.raises(RuntimeError, match=r'"0\.bias" must be a tensor or a NumPy array, the state_dict has list'):
        net().load_state_dict({**net().state_dict(), "0.bias": [1.0, 2.0, 3.0]})
    with pytest.raises(TypeError, match="must be a mapping"):
        net().load_state_dict([1])


def test_assign_puts_the_tensors_themselves():
    model = net()
    new = {k: v.double() for k, v in model.state_dict().items()}
    model[0].weight.requires_grad_(False)
    model.load_state_dict(new, assign=True)
    assert model[0].bias.dtype == cr.float64
    assert isinstance(model[0].bias, nn.Parameter)
    assert model[0].bias.requires_grad
    assert not model[0].weight.requires_grad
    with cr.no_grad():
        new["2.bias"].fill_(4.0)
    assert model[2].bias.tolist() == [4.0]


def test_buffers_and_extra_state():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", cr.tensor([1.0]))
            self.register_buffer("hidden", cr.tensor([2.0]), persistent=False)
            self.register_buffer("absent", None)
            self.steps = 0

        def get_extra_state(self):
            return {"steps": self.steps}

        def set_extra_state(self, state):
            self.steps = state["steps"]

    outer = nn.Sequential(Counter())
    outer[0].steps = 5
    state = outer.state_dict()
    assert list(state) == ["0.total", "0._extra_state"]
    other = nn.Sequential(Counter())
    other.load_state_dict(state)
    assert other[0].steps == 5
    state.pop("0._extra_state")
    with pytest.raises(RuntimeError, match=r"_extra_state"):
        other.load_state_dict(state)


def test_assign_keeps_a_buffer_a_buffer():
    m = nn.Module()
    m.register_buffer("mean", cr.tensor([1.0]))
    m.load_state_dict({"mean": cr.tensor([2.0], dtype=cr.float64)}, assign=True)
    assert dict(m.named_buffers())["mean"].dtype == cr.float64
