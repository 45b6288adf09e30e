"""Learning-rate schedules against PyTorch, step by step."""

import pytest

import chainrule
from chainrule import optim

torch = pytest.importorskip("torch")

STEPS = 50
CASES = {
    "lambda": lambda s, o: s.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.99 if e % 2 else 0.9),
    "step": lambda s, o: s.StepLR(o, 7, gamma=0.3),
    "multistep": lambda s, o: s.MultiStepLR(o, [5, 5, 20, 33], gamma=0.5),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 12, eta_min=0.01),
    "cosine-once": lambda s, o: s.CosineAnnealingLR(o, STEPS),
    "linear": lambda s, o: s.LinearLR(o, 0.2, 0.9, 13),
    "constant": lambda s, o: s.ConstantLR(o, 0.2, 9),
    "polynomial": lambda s, o: s.PolynomialLR(o, 30, 1.7),
    "one-cycle": lambda s, o: s.OneCycleLR(o, [0.5, 1.5], total_steps=STEPS),
    "one-cycle-linear": lambda s, o: s.OneCycleLR(o, 0.5, epochs=5, steps_per_epoch=10, anneal_strategy="linear"),
    "one-cycle-three": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=STEPS, three_phase=True, pct_start=0.2),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01),
    "restarts-longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, T_mult=2),
    "sequence": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1.0, 5), s.CosineAnnealingLR(o, 20), s.ExponentialLR(o, 0.9)], [5, 25]
    ),
    "chain": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.3, 8), s.ExponentialLR(o, 0.95), s.StepLR(o, 11, 0.5)]),
    "sequence-of-restarts": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 4), s.CosineAnnealingWarmRestarts(o, 6)], [4]
    ),
}


def two_groups(library, rates=(0.8, 0.3)):
    return [{"params": [library.nn.Parameter(library.tensor([1.0]))], "lr": lr} for lr in rates]


def follow(schedules, optimizer, make, key):
    scheduler = make(schedules, optimizer)
    seen = []
    for _ in range(STEPS):
        seen.append([group["lr"] for group in optimizer.param_groups] + scheduler.get_last_lr())
        seen[-1] += [group[key] if key == "momentum" else group[key][0] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("case", CASES)
def test_schedule(case, kind):
    options, key = ({"momentum": 0.9}, "momentum") if kind == "SGD" else ({}, "betas")
    mine, theirs = optim.SGD, torch.optim.SGD
    if kind == "Adam":
        mine, theirs = optim.Adam, torch.optim.Adam
    got = follow(optim.lr_scheduler, mine(two_groups(chainrule), **options), CASES[case], key)
    want = follow(torch.optim.lr_scheduler, theirs(two_groups(torch), **options), CASES[case], key)
    for a, b in zip(got, want, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "factor": 0.5, "cooldown": 2, "min_lr": [0.01, 0.1]},
        {"mode": "max", "patience": 0, "threshold": 0.05, "threshold_mode": "abs"},
        {"mode": "max", "patience": 3, "threshold": 0.01},
    ],
)
def test_plateau(options):
    metrics = [1 / (1 + (i % 17)) + 0.1 * ((i * 7) % 5) for i in range(STEPS)]
    seen = []
    for library, module in ((chainrule, optim), (torch, torch.optim)):
        optimizer = module.SGD(two_groups(library))
        scheduler = module.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        rows = []
        for metric in metrics:
            optimizer.step()
            scheduler.step(metric)
            rows.append((scheduler.get_last_lr(), scheduler.best, scheduler.num_bad_epochs))
        seen.append(rows)
    assert [r[1:] for r in seen[0]] == [r[1:] for r in seen[1]]
    for (a, *_), (b, *_) in zip(*seen, strict=True):
        assert a == pytest.approx(b)
    assert seen[0][-1][0] != seen[0][0][0]


def test_steps_to_a_fraction_of_an_epoch():
    seen = []
    for library, module in ((chainrule, optim), (torch, torch.optim)):
        optimizer = module.SGD(two_groups(library))
        scheduler = module.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, T_mult=2, eta_min=0.01)
        rates = []
        for i in range(STEPS):
            optimizer.step()
            scheduler.step(i / 4)
            rates += scheduler.get_last_lr()
        seen.append(rates)
    assert seen[0] == pytest.approx(seen[1])
