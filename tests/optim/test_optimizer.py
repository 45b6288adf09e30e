"""The optimizer base: groups, errors, state, saving."""

import copy
import pickle

import numpy as np
import pytest

import chainrule
from chainrule import optim


def parameter(*values):
    return chainrule.nn.Parameter(chainrule.tensor(list(values), dtype=chainrule.float64))


def set_gradient(p, *values):
    p.grad = chainrule.tensor(list(values), dtype=chainrule.float64)


def test_groups_have_their_own_options():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([{"params": [p], "lr": 0.5}, {"params": q, "weight_decay": 1.0}], lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    for x in (p, q):
        set_gradient(x, 1.0)
    optimizer.step()
    assert p.tolist() == [0.5]
    assert q.tolist() == pytest.approx([0.8])


def test_group_added_later_takes_part():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([p], lr=0.1)
    set_gradient(q, 1.0)
    optimizer.step()
    assert q.tolist() == [1.0]
    optimizer.add_param_group({"params": [q], "lr": 1.0})
    optimizer.step()
    assert (p.tolist(), q.tolist()) == ([1.0], [0.0])  # p has no gradient and stays


def test_a_caller_s_group_is_not_changed():
    p = parameter(1.0)
    mine = {"params": [p]}
    optim.SGD([mine], lr=0.1)
    assert mine == {"params": [p]}


def test_named_parameters():
    p, q = parameter(1.0), parameter(2.0)
    optimizer = optim.SGD([("first", p), ("second", q)], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["first", "second"]
    assert optimizer.param_groups[0]["params"] == [p, q]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "empty parameter list"),
        (lambda p: optim.SGD(iter([])), ValueError, "empty parameter list"),
        (lambda p: optim.SGD(p), TypeError, "got one tensor"),
        (lambda p: optim.SGD({p}), TypeError, "fixed order"),
        (lambda p: optim.SGD([p, 3.0]), TypeError, "parameter 1 is a float"),
        (lambda p: optim.SGD([p, p]), ValueError, "more than once"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), ValueError, "more than once"),
        (lambda p: optim.SGD([{"lr": 0.1}]), ValueError, "'params'"),
        (lambda p: optim.SGD([p], lr=-1.0), ValueError, "lr must be 0 or more, got -1.0"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr must be 0 or more, got nan"),
        (lambda p: optim.SGD([{"params": [p], "lr": -1.0}], lr=0.1), ValueError, "lr must be 0 or more"),
        (lambda p: optim.SGD([p], momentum=-0.5), ValueError, "momentum must be 0 or more"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "needs momentum above 0"),
        (lambda p: optim.SGD([p], nesterov=True, momentum=0.9, dampening=0.1), ValueError, "dampening 0"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda p: optim.Adam([p], eps=-1e-8), ValueError, "eps must be 0 or more"),
        (lambda p: optim.Adadelta([p], rho=1.5), ValueError, r"rho must lie in \[0, 1\), got 1.5"),
        (lambda p: optim.Adam([p], differentiable=True), ValueError, "differentiable=True is not supported"),
    ],
)
def test_errors_say_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make(parameter(1.0))


def test_result_of_a_computation_cannot_be_optimized():
    with pytest.raises(ValueError, match=r"not a leaf: parameter 0 of shape \(1,\)"):
        optim.SGD([parameter(1.0) * 2])


def test_required_option():
    class NeedsRate(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": optim.optimizer.required})

    p = parameter(1.0)
    with pytest.raises(ValueError, match="required option 'lr'"):
        NeedsRate([p])
    assert NeedsRate([{"params": [p], "lr": 0.3}]).param_groups[0]["lr"] == 0.3


def test_zero_grad():
    p = parameter(1.0)
    optimizer = optim.SGD([p])
    set_gradient(p, 3.0)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_closure_gives_the_loss():
    p = parameter(1.0)

    def closure():
        set_gradient(p, 2.0)
        assert chainrule.is_grad_enabled()
        return "loss"

    optimizer = optim.SGD([p], lr=0.5)
    with chainrule.no_grad():
        assert optimizer.step(closure) == "loss"
    assert p.tolist() == [0.0]
    assert optimizer.step() is None


def test_repr():
    p, q = parameter(1.0), parameter(1.0)
    text = repr(optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n")
    assert "\nParameter Group 1\n" in text
    assert text.endswith(
        "    lr: 0.5\n    maximize: False\n    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)"
    )


def run(optimizer, params, count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        for p in params:
            p.grad = chainrule.from_numpy(rng.standard_normal(tuple(p.shape)))
        optimizer.step()


MAKERS = [
    lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    lambda params: optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5),
    lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
    lambda params: optim.NAdam(params, lr=0.1),
    lambda params: optim.Adagrad(params, lr=0.1, initial_accumulator_value=0.2),
    lambda params: optim.RMSprop(params, lr=0.1, centered=True, momentum=0.5),
]


@pytest.mark.parametrize("make", MAKERS)
def test_training_resumes_from_a_state_dict(make):
    params, others = ([parameter(1.0, 2.0), parameter(3.0)] for _ in range(2))
    optimizer, other = make(params), make(others)
    run(optimizer, params, 5)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    for p, q in zip(params, others, strict=True):
        q.detach().numpy()[...] = p.detach().numpy()
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.1
    run(optimizer, params, 7)
    run(other, others, 7)
    assert [p.tolist() for p in params] == [q.tolist() for q in others]


def test_structure_of_the_state_dict():
    params = [parameter(1.0, 2.0), parameter(3.0)]
    optimizer = optim.Adam([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.5}])
    assert optimizer.state_dict()["state"] == {}  # filled at the first step
    run(optimizer, params, 3)
    saved = optimizer.state_dict()
    assert set(saved) == {"state", "param_groups"}
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1]]
    assert set(saved["state"]) == {0, 1}
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert saved["state"][1]["step"].item() == 3


def test_a_loaded_state_is_a_copy_in_the_dtype_of_the_parameter():
    p = parameter(1.0)
    optimizer = optim.Adam([p])
    run(optimizer, [p], 2)
    saved = optimizer.state_dict()
    q = chainrule.nn.Parameter(chainrule.tensor([1.0], dtype=chainrule.float32))
    other = optim.Adam([q])
    other.load_state_dict(saved)
    assert other.state[q]["exp_avg"].dtype == chainrule.float32
    before = saved["state"][0]["exp_avg"].tolist()
    q.grad = chainrule.tensor([5.0], dtype=chainrule.float32)
    other.step()
    assert saved["state"][0]["exp_avg"].tolist() == before
    assert other.state[q]["step"].item() == 3


def test_loading_keeps_groups_and_state_tensors():
    p, q = parameter(1.0), parameter(1.0)
    optimizer, source = optim.Adam([p], lr=0.1), optim.Adam([q], lr=0.7)
    run(optimizer, [p], 2)
    run(source, [q], 3)
    group, mean, step = optimizer.param_groups[0], optimizer.state[p]["exp_avg"], optimizer.state[p]["step"]
    optimizer.load_state_dict(source.state_dict())
    assert optimizer.param_groups[0] is group
    assert group["lr"] == 0.7
    assert optimizer.state[p]["exp_avg"] is mean
    assert mean.tolist() == source.state[q]["exp_avg"].tolist()
    assert step.item() == 3


def test_state_of_another_model_is_refused():
    one = optim.SGD([parameter(1.0)])
    two = optim.SGD([parameter(1.0), parameter(2.0)])
    with pytest.raises(ValueError, match="has 2 parameters, this optimizer's has 1"):
        one.load_state_dict(two.state_dict())
    groups = optim.SGD([{"params": [parameter(1.0)]}, {"params": [parameter(1.0)]}])
    with pytest.raises(ValueError, match="has 2 parameter groups, this optimizer has 1"):
        one.load_state_dict(groups.state_dict())


def test_deepcopy_is_independent():
    p = parameter(1.0)
    optimizer = optim.Adam([p], lr=0.1)
    run(optimizer, [p], 2)
    twin = copy.deepcopy(optimizer)
    (q,) = twin.param_groups[0]["params"]
    assert q is not p
    before = p.tolist()
    run(twin, [q], 1)
    assert p.tolist() == before
    assert q.tolist() != before


def test_learning_rate_in_a_tensor():
    p = parameter(1.0)
    rate = chainrule.tensor(0.25, dtype=chainrule.float64)
    optimizer = optim.SGD([p], lr=rate)
    set_gradient(p, 2.0)
    optimizer.step()
    assert p.tolist() == [0.5]


def test_option_switched_on_between_steps():
    p = parameter(1.0)
    optimizer = optim.SGD([p], lr=0.1)
    run(optimizer, [p], 1)
    optimizer.param_groups[0]["momentum"] = 0.9
    run(optimizer, [p], 1)
    assert set(optimizer.state[p]) == {"momentum_buffer"}


def test_init_state_changes_nothing():
    p, q = parameter(1.0), parameter(1.0)
    early, late = optim.Adam([p], lr=0.1), optim.Adam([q], lr=0.1)
    early.init_state()
    assert early.state[p]["step"].item() == 0
    run(early, [p], 3)
    run(late, [q], 3)
    assert p.tolist() == q.tolist()
