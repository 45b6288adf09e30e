"""Schedules against their closed forms."""

import math

import pytest

import chainrule
from chainrule import optim
from chainrule.optim import lr_scheduler as schedules


def make_optimizer(*rates, cls=optim.SGD, **options):
    groups = [{"params": [chainrule.nn.Parameter(chainrule.tensor([1.0]))], "lr": lr} for lr in rates or (0.8,)]
    return cls(groups, **options)


def rates(scheduler, count, *metrics):
    """The rate of the first group before each of ``count`` steps."""
    seen = []
    for i in range(count):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step(*(m[i] for m in metrics))
    return seen


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


CLOSED_FORMS = [
    (lambda o: schedules.LambdaLR(o, lambda e: 1 / (1 + e)), lambda e: 0.8 / (1 + e)),
    (lambda o: schedules.MultiplicativeLR(o, lambda e: 0.5), lambda e: 0.8 * 0.5**e),
    (lambda o: schedules.StepLR(o, 3, gamma=0.5), lambda e: 0.8 * 0.5 ** (e // 3)),
    (lambda o: schedules.MultiStepLR(o, [2, 5, 5], gamma=0.5), lambda e: 0.8 * 0.5 ** ((e >= 2) + 2 * (e >= 5))),
    (lambda o: schedules.ConstantLR(o, 0.25, 4), lambda e: 0.2 if e < 4 else 0.8),
    (lambda o: schedules.LinearLR(o, 0.25, 0.75, 4), lambda e: 0.8 * (0.25 + 0.5 * min(e, 4) / 4)),
    (lambda o: schedules.ExponentialLR(o, 0.9), lambda e: 0.8 * 0.9**e),
    (lambda o: schedules.PolynomialLR(o, 6, 2.0), lambda e: 0.8 * (1 - min(e, 6) / 6) ** 2),
    (lambda o: schedules.CosineAnnealingLR(o, 5, 0.1), lambda e: 0.1 + 0.7 * cosine(e / 5)),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 4, eta_min=0.1), lambda e: 0.1 + 0.7 * cosine(e % 4 / 4)),
]


@pytest.mark.parametrize(("make", "want"), CLOSED_FORMS)
def test_closed_forms(make, want):
    scheduler = make(make_optimizer())
    assert rates(scheduler, 20) == pytest.approx([want(e) for e in range(20)], abs=1e-12)
    assert scheduler.get_last_lr() == pytest.approx([want(20)], abs=1e-12)


@pytest.mark.parametrize(("make", "want"), CLOSED_FORMS[2:])
def test_step_to_a_given_epoch(make, want):
    scheduler = make(make_optimizer())
    scheduler.optimizer.step()
    scheduler.step(7)
    assert scheduler.get_last_lr() == pytest.approx([want(7)], abs=1e-12)


@pytest.mark.parametrize("make", [make for make, _ in CLOSED_FORMS])
def test_resumes_from_state_dicts(make):
    whole = make(make_optimizer())
    want = rates(whole, 15)
    first = make(make_optimizer())
    rates(first, 6)
    optimizer = make_optimizer()
    second = make(optimizer)
    optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, 9) == pytest.approx(want[6:], abs=1e-15)
    assert "optimizer" not in first.state_dict()


def test_every_group_follows_from_its_own_rate():
    optimizer = make_optimizer(0.8, 0.4)
    scheduler = schedules.LambdaLR(optimizer, [lambda e: 0.5**e, lambda e: 1.0])
    rates(scheduler, 2)
    assert scheduler.get_last_lr() == pytest.approx([0.2, 0.4])
    with pytest.raises(ValueError, match="one for each of 2 groups, got 3"):
        schedules.LambdaLR(optimizer, [abs] * 3)


def test_warm_restarts_get_longer():
    scheduler = schedules.CosineAnnealingWarmRestarts(make_optimizer(), 2, T_mult=2)
    seen = rates(scheduler, 14)
    assert [e for e, lr in enumerate(seen) if lr == 0.8] == [0, 2, 6]
    scheduler.step(2.5)
    assert scheduler.get_last_lr() == pytest.approx([0.8 * cosine(0.5 / 4)])
    with pytest.raises(ValueError, match="0 or more"):
        scheduler.step(-1)


def test_one_cycle():
    optimizer = make_optimizer(momentum=0.9)
    scheduler = schedules.OneCycleLR(optimizer, 1.0, total_steps=10, pct_start=0.5, anneal_strategy="linear")
    momenta, seen = [], []
    for _ in range(10):
        momenta.append(optimizer.param_groups[0]["momentum"])
        seen += rates(scheduler, 1)
    assert seen[0] == pytest.approx(0.04)
    assert (max(seen), seen.index(max(seen))) == (1.0, 4)
    assert seen[9] == pytest.approx(0.04 / 1e4)
    assert (momenta[0], momenta[4], momenta[9]) == pytest.approx((0.95, 0.85, 0.95))
    with pytest.raises(ValueError, match="step 11 of a cycle of 10 steps"):
        scheduler.step()


def test_one_cycle_needs_a_momentum_to_cycle():
    with pytest.raises(ValueError, match="cycle_momentum=True"):
        schedules.OneCycleLR(make_optimizer(cls=optim.Adagrad), 1.0, total_steps=10)
    with pytest.raises(ValueError, match="total_steps, or both"):
        schedules.OneCycleLR(make_optimizer(), 1.0, epochs=3)


def test_plateau():
    scheduler = schedules.ReduceLROnPlateau(make_optimizer(), factor=0.5, patience=1, cooldown=1, min_lr=0.3)
    #          best  -    -    -> .4       cooldown  -    -    -> .3 (bound)
    metrics = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert rates(scheduler, 8, metrics) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.3, 0.3])
    better = schedules.ReduceLROnPlateau(make_optimizer(), mode="max", patience=0, threshold=0.1, threshold_mode="abs")
    assert rates(better, 4, [1.0, 1.2, 1.25, 1.3]) == pytest.approx([0.8, 0.8, 0.8, 0.08])


def test_sequence():
    optimizer = make_optimizer()
    warm, decay = schedules.LinearLR(optimizer, 0.25, 1.0, 4), schedules.ExponentialLR(optimizer, 0.5)
    scheduler = schedules.SequentialLR(optimizer, [warm, decay], [4])
    want = [0.2, 0.35, 0.5, 0.65, 0.8, 0.4, 0.2]
    assert rates(scheduler, 7) == pytest.approx(want)


def test_chain_multiplies():
    optimizer = make_optimizer()
    parts = [schedules.ConstantLR(optimizer, 0.5, 3), schedules.ExponentialLR(optimizer, 0.9)]
    scheduler = schedules.ChainedScheduler(parts)
    want = [0.8 * (0.5 if e < 3 else 1.0) * 0.9**e for e in range(7)]
    assert rates(scheduler, 7) == pytest.approx(want)


@pytest.mark.parametrize("kind", ["sequence", "chain"])
def test_combinations_resume(kind):
    def make():
        optimizer = make_optimizer()
        parts = [schedules.LinearLR(optimizer, 0.5, 1.0, 3), schedules.StepLR(optimizer, 2, 0.5)]
        return (
            schedules.SequentialLR(optimizer, parts, [3]) if kind == "sequence" else schedules.ChainedScheduler(parts)
        )

    want = rates(make(), 10)
    first, second = make(), make()
    rates(first, 5)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, 5) == pytest.approx(want[5:], abs=1e-15)


def test_combination_errors():
    one, two = make_optimizer(), make_optimizer()
    parts = [schedules.ExponentialLR(one, 0.9), schedules.ExponentialLR(two, 0.9)]
    with pytest.raises(ValueError, match="item 1 has another"):
        schedules.ChainedScheduler(parts)
    with pytest.raises(ValueError, match="2 schedulers need 1 milestones, got 2"):
        schedules.SequentialLR(one, [parts[0], parts[0]], [1, 2])
    with pytest.raises(ValueError, match="at least one"):
        schedules.SequentialLR(one, [], [])
    with pytest.raises(ValueError, match="needs a metric"):
        schedules.ChainedScheduler([schedules.ReduceLROnPlateau(one)])


def test_wrong_order_is_warned_about():
    scheduler = schedules.StepLR(make_optimizer(), 2)
    with pytest.warns(UserWarning, match=r"before optimizer.step\(\)"):
        scheduler.step()


def test_resuming_needs_the_initial_rate():
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(make_optimizer(), 2, last_epoch=3)
    with pytest.raises(TypeError, match="expected an optimizer, got int"):
        schedules.StepLR(3, 2)


def test_rate_in_a_tensor_is_changed_in_place():
    rate = chainrule.tensor(0.8, dtype=chainrule.float64)
    optimizer = optim.SGD([chainrule.nn.Parameter(chainrule.tensor([1.0]))], lr=rate)
    scheduler = schedules.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.4)
