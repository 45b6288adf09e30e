"""Update rules against hand-computed steps, closed forms and direct solves."""

import math

import numpy as np
import pytest

import chainrule
from chainrule import optim
from chainrule.optim import program

VARIANTS = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "nesterov": True}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    (optim.Adam, {"lr": 0.1}),
    (optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
    (optim.Adagrad, {"lr": 0.5, "lr_decay": 0.001, "initial_accumulator_value": 0.5}),
    (optim.Adadelta, {"lr": 1.0, "eps": 1e-3, "weight_decay": 0.1}),
    (optim.RMSprop, {"lr": 0.1}),
    (optim.RMSprop, {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (optim.Adamax, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.NAdam, {"lr": 0.1}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.RAdam, {"lr": 0.1}),
    (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
]
IDS = [cls.__name__ + "".join(f"-{k}" for k in kw if k != "lr") for cls, kw in VARIANTS]


def parameter(values, dtype="float64"):
    return chainrule.nn.Parameter(chainrule.from_numpy(np.array(values, dtype)))


def set_gradient(p, values):
    p.grad = chainrule.from_numpy(np.array(values, p.dtype.numpy))


def steps(optimizer, p, gradient, count):
    for _ in range(count):
        set_gradient(p, gradient(np.array(p.tolist())))
        optimizer.step()
    return np.array(p.tolist())


# p = 1, g = 0.5, then at the new p again g = 0.5: two steps by hand
BY_HAND = [
    (optim.SGD, {"lr": 0.1}, 0.95, 0.90),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}, 0.95, 0.95 - 0.1 * (0.9 * 0.5 + 0.5)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 1 - 0.1 * 0.95, 0.905 - 0.1 * (0.5 + 0.9 * 0.95)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}, 0.95, 0.95 - 0.1 * (0.9 * 0.5 + 0.6 * 0.5)),
    (optim.SGD, {"lr": 0.1, "weight_decay": 0.2}, 1 - 0.1 * 0.7, 0.93 - 0.1 * (0.5 + 0.2 * 0.93)),
    (optim.SGD, {"lr": 0.1, "maximize": True}, 1.05, 1.10),
    # m / (1 - beta1**t) = 0.5 and v / (1 - beta2**t) = 0.25 as long as the gradient stays
    (optim.Adam, {"lr": 0.1, "eps": 0.5}, 1 - 0.1 * 0.5, 1 - 0.2 * 0.5),
    (optim.AdamW, {"lr": 0.1, "eps": 0.5, "weight_decay": 1.0}, 0.9 - 0.05, 0.85 * 0.9 - 0.05),
    (optim.Adagrad, {"lr": 0.1, "eps": 0.5}, 0.95, 0.95 - 0.1 * 0.5 / (math.sqrt(0.5) + 0.5)),
    (optim.Adagrad, {"lr": 0.1, "eps": 0.5, "lr_decay": 1.0}, 0.95, 0.95 - 0.05 * 0.5 / (math.sqrt(0.5) + 0.5)),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.75, "eps": 0.0}, 1 - 0.1 / 0.5, 0.8 - 0.1 / math.sqrt(0.4375)),
    (optim.Adamax, {"lr": 0.1, "eps": 0.0}, 0.9, 0.8),
    # rho is at most 5 in the first steps: plain momentum with its bias removed
    (optim.RAdam, {"lr": 0.1}, 0.95, 0.90),
]


@pytest.mark.parametrize(("cls", "options", "first", "second"), BY_HAND)
def test_two_steps_by_hand(cls, options, first, second):
    p = parameter([1.0])
    optimizer = cls([p], **options)
    assert steps(optimizer, p, lambda x: [0.5], 1) == pytest.approx([first], abs=1e-12)
    assert steps(optimizer, p, lambda x: [0.5], 1) == pytest.approx([second], abs=1e-12)


def test_adadelta_first_step_by_hand():
    p = parameter([1.0])
    eps, v = 1e-2, 0.1 * 0.25
    delta = math.sqrt(eps) / math.sqrt(v + eps) * 0.5
    assert steps(optim.Adadelta([p], eps=eps), p, lambda x: [0.5], 1) == pytest.approx([1 - delta], abs=1e-12)


def test_nadam_first_step_by_hand():
    p = parameter([1.0])
    mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    n = mu2 * 0.05 / (1 - mu1 * mu2) + (1 - mu1) * 0.5 / (1 - mu1)
    assert steps(optim.NAdam([p], lr=0.1, eps=0), p, lambda x: [0.5], 1) == pytest.approx(
        [1 - 0.1 * n / 0.5], abs=1e-12
    )


def test_amsgrad_divides_by_the_largest_second_moment():
    p, q = parameter([0.0]), parameter([0.0])
    plain, ams = optim.Adam([p], lr=0.1, betas=(0.0, 0.5)), optim.Adam([q], lr=0.1, betas=(0.0, 0.5), amsgrad=True)
    for g in (2.0, 0.1, 0.1, 0.1):
        for x, optimizer in ((p, plain), (q, ams)):
            set_gradient(x, [g])
            optimizer.step()
    assert ams.state[q]["max_exp_avg_sq"].tolist() == [2.0]
    assert plain.state[p]["exp_avg_sq"].tolist()[0] == pytest.approx(0.25875)
    assert abs(p.tolist()[0]) > abs(q.tolist()[0])


def test_radam_becomes_adaptive_when_the_variance_is_known():
    p = parameter([0.0])
    optimizer = optim.RAdam([p], lr=1.0)
    moved = [-np.diff([0.0, *(steps(optimizer, p, lambda x: [100.0], 1)[0] for _ in range(7))])][0]
    assert moved[:5] == pytest.approx([100.0] * 5)  # rho <= 5: in units of the gradient
    assert all(0 < x < 1 for x in moved[5:])  # after that: in units of lr


@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=IDS)
def test_reaches_the_minimum_of_a_quadratic(cls, options):
    """sum(a * (x - b)**2) / 2 has its minimum at b (a penalty would move it, so there is none)."""
    a, b = np.array([1.0, 3.0, 0.5]), np.array([1.0, -2.0, 0.5])
    options = {**options, "weight_decay": 0.0}
    sign = -1.0 if options.get("maximize") else 1.0
    p = parameter([0.0, 0.0, 0.0])
    optimizer = cls([p], **options)
    for _ in range(40):
        got = steps(optimizer, p, lambda x: sign * a * (x - b), 50)
        optimizer.param_groups[0]["lr"] *= 0.9
    assert got == pytest.approx(b, abs=0.01)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_weight_decay_is_ridge_regression(options):
    """With weight decay k, SGD on |Xw - y|**2 / 2 ends at the solution of (X'X + k I) w = X'y."""
    rng = np.random.default_rng(3)
    x, y, k = rng.standard_normal((40, 5)), rng.standard_normal(40), 2.5
    p = parameter(np.zeros(5))
    got = steps(optim.SGD([p], lr=0.01, weight_decay=k, **options), p, lambda w: x.T @ (x @ w - y), 1500)
    assert got == pytest.approx(np.linalg.solve(x.T @ x + k * np.eye(5), x.T @ y), abs=1e-6)


def test_decoupled_decay_ignores_the_scale_of_the_gradient():
    p = parameter([1.0, 1.0])
    steps(optim.AdamW([p], lr=0.0, weight_decay=0.5), p, lambda x: [1e-3, 1e3], 3)
    assert p.tolist() == [1.0, 1.0]  # lr scales the decay
    steps(optim.AdamW([p], lr=0.1, weight_decay=0.5, eps=0), p, lambda x: [1e-3, 1e3], 1)
    assert p.tolist() == pytest.approx([0.85, 0.85])


def rule_on_plain_arrays(optimizer, p, g, state, count):
    """The pure rule with NumPy as its namespace: the oracle for the in-place program made of it."""
    group = optimizer.param_groups[0]
    options = frozenset(name for name in optimizer.switches if group[name])
    scalars = {"step": 0.0, **{name: optimizer.initial(name, group) for name in optimizer.scalars(options)}}
    h = {name: float(optim.rule_optimizer.number(group, name)) for name in optimizer.hyper}
    math_of = optim.rule_optimizer.ScalarMath
    state = {name: state[name] for name in optimizer.slots(options)}
    for _ in range(count):
        scalars["step"] += 1
        c = optimizer.coefficients(math_of, scalars, h, options)
        scalars.update({name: c.pop(name) for name in tuple(c) if name in scalars})
        c = {name: np.array(x, p.dtype) for name, x in c.items()}
        p, state = optimizer.rule(np, p, g, state, c, options)
    return p, state


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=IDS)
def test_in_place_program_equals_the_pure_rule_bit_by_bit(cls, options, dtype, monkeypatch):
    monkeypatch.setattr(program, "CHUNK", 16)  # so that 35 elements take three chunks, the last one short
    program.compile_rule.cache_clear()
    rng = np.random.default_rng(7)
    start, g = rng.standard_normal((5, 7)).astype(dtype), rng.standard_normal((5, 7)).astype(dtype)
    initial = options.get("initial_accumulator_value", 0.0)
    names = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "sum", "square_avg", "acc_delta", "grad_avg")
    zeros = {name: np.full((5, 7), initial, dtype) for name in (*names, "exp_inf")}
    contiguous, transposed = parameter(start, dtype), chainrule.nn.Parameter(chainrule.from_numpy(start.T.copy().T))
    for p in (contiguous, transposed):
        optimizer = cls([p], **options)
        p.grad = chainrule.from_numpy(g.copy())
        for _ in range(8):
            optimizer.step()
        want, state = rule_on_plain_arrays(optimizer, start, g, zeros, 8)
        assert np.array_equal(p.detach().numpy(), want)
        for name, value in state.items():
            assert np.array_equal(optimizer.state[p][name].numpy(), value), name
        assert np.array_equal(p.grad.numpy(), g)  # the gradient is only read
    program.compile_rule.cache_clear()


@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=IDS)
def test_rule_on_tensors_equals_rule_on_arrays(cls, options):
    rng = np.random.default_rng(11)
    start, g = rng.standard_normal((4, 3)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")
    p, q = parameter(start, "float32"), parameter(start, "float32")
    arrays, tensors = cls([p], **options), cls([q], **options)
    group = tensors.param_groups[0]
    chosen = frozenset(name for name in tensors.switches if group[name])
    for x in (p, q):
        x.grad = chainrule.from_numpy(g.copy())
    for _ in range(8):
        arrays.step()
        with chainrule.no_grad():
            tensors._step_tensor(q, group, chosen, None)
    assert np.array_equal(p.detach().numpy(), q.detach().numpy())
    assert arrays.state[p].keys() == tensors.state[q].keys()
    for name, value in arrays.state[p].items():
        assert np.array_equal(value.numpy(), tensors.state[q][name].numpy()), name


def test_step_writes_into_the_buffer_of_the_parameter():
    data = np.ones(3, "float32")
    p = chainrule.nn.Parameter(chainrule.from_numpy(data))
    set_gradient(p, [1.0, 2.0, 3.0])
    optim.SGD([p], lr=0.5).step()
    assert data.tolist() == [0.5, 0.0, -0.5]


def test_parameter_without_dimensions():
    p = chainrule.nn.Parameter(chainrule.tensor(2.0, dtype=chainrule.float64))
    optimizer = optim.Adam([p], lr=0.5)
    p.grad = chainrule.tensor(3.0, dtype=chainrule.float64)
    optimizer.step()
    assert p.item() == pytest.approx(1.5, abs=1e-7)


def test_not_a_number_in_a_gradient_gives_not_a_number_without_a_warning():
    p = parameter([1.0, 1.0])
    got = steps(optim.Adam([p], lr=0.1), p, lambda x: [math.nan, math.inf], 1)
    assert np.isnan(got).all()


def test_centered_rmsprop_survives_a_constant_gradient():
    p = parameter([0.0], "float32")
    optimizer = optim.RMSprop([p], lr=1e-3, alpha=0.5, centered=True)
    assert np.isfinite(steps(optimizer, p, lambda x: [0.1], 200)).all()


def test_rule_may_not_branch_on_a_value():
    def rule(m, p, g, s, c, options):
        return (p if p > 0 else g), {}

    with pytest.raises(TypeError, match=r"m\.where"):
        program.compile_rule(rule, (), (), frozenset())


def test_own_optimizer_from_a_rule():
    class SignSGD(optim.RuleOptimizer):
        switches = ()

        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @staticmethod
        def scalars(options):
            return ()

        @staticmethod
        def coefficients(m, s, h, options):
            return {"lr": h["lr"]}

        @staticmethod
        def rule(m, p, g, s, c, options):
            return m.where(g > 0, p - c["lr"], p + c["lr"]), {}

    p = parameter([1.0, 1.0])
    assert steps(SignSGD([p], lr=0.25), p, lambda x: [3.0, -4.0], 2).tolist() == [0.5, 1.5]
