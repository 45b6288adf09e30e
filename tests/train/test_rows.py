"""Several training steps in one call of machine code: the same training as step by step."""

import math
import signal

import numpy as np
import pytest

import chainrule as torch
import chainrule.train as pl
from chainrule.compiler.llvm.target import available
from chainrule.compiler.runtime import BoundProgram
from chainrule.train.errors import NonFiniteLossError
from chainrule.utils.data import DataLoader, RandomSampler, Subset, TensorDataset, WeightedRandomSampler
from train._models import QUIET, Model, blobs, weights

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")


@pytest.fixture
def native(monkeypatch):
    """How many steps each call of machine code was asked for."""
    taken = []
    repeat = BoundProgram.repeat

    def counting(self, arrays, start, stacks, watched=None):
        taken.append(len(arrays[0]) - start)
        return repeat(self, arrays, start, stacks, watched)

    monkeypatch.setattr(BoundProgram, "repeat", counting)
    return taken


class Rows(pl.Callback):
    """Everything that callbacks may see of each step of the package's own making."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, module):
        self.seen.append((trainer.current_epoch, trainer.global_step, dict(trainer.logged_metrics)))


class Logger:
    def __init__(self):
        self.lines = []

    def log_metrics(self, metrics, step):
        self.lines.append((step, metrics))


def fit(data, many, kind=Model, **options):
    torch.manual_seed(0)
    model, logger, rows = kind(), Logger(), Rows()
    if not many:
        data.rows = lambda: None
    more = {"max_epochs": 3, "compile": True, "logger": [logger], "callbacks": [rows], "log_every_n_steps": 1}
    trainer = pl.Trainer(**{**more, **QUIET, **options})
    trainer.fit(model, data)
    return model, trainer, logger.lines, [(e, s, {k: float(v) for k, v in m.items()}) for e, s, m in rows.seen]


LOADERS = {
    "in order": lambda: DataLoader(blobs(130), batch_size=20),
    "shuffled": lambda: DataLoader(blobs(130), batch_size=20, shuffle=True),
    "no short batch": lambda: DataLoader(blobs(130), batch_size=20, shuffle=True, drop_last=True),
    "part": lambda: DataLoader(Subset(blobs(130), range(5, 96)), batch_size=20, shuffle=True),
    "part of a part": lambda: DataLoader(Subset(Subset(blobs(130), range(0, 120, 2)), range(50)), batch_size=7),
    "with replacement": lambda: DataLoader(
        blobs(130), batch_size=20, sampler=RandomSampler(blobs(130), replacement=True, num_samples=200)
    ),
    "weighted": lambda: DataLoader(blobs(130), batch_size=20, sampler=WeightedRandomSampler(np.arange(130), 90)),
    "single rows": lambda: DataLoader(blobs(50), batch_size=1),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS.keys())
def test_whatever_makes_the_batches(make, native):
    (a, ta, lines_a, seen_a), single = fit(make(), True), fit(make(), False)
    calls = len(native)
    assert calls > 0
    assert ta.compilation["training_step"].startswith("compiled")
    assert seen_a == single[3]
    assert lines_a == single[2]
    for name, w in weights(a).items():
        np.testing.assert_array_equal(w, weights(single[0])[name])


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 11, "max_epochs": -1},
        {"limit_train_batches": 5},
        {"gradient_clip_val": 0.1},
        {"log_every_n_steps": 4},
        {"terminate_on_nan": False},
        {"callbacks": [pl.callbacks.LearningRateMonitor(logging_interval="step")]},
    ],
    ids=lambda o: next(iter(o)),
)
def test_options_of_the_trainer(options, native):
    a, b = (fit(DataLoader(blobs(130), batch_size=20, shuffle=True), many, **options) for many in (True, False))
    assert native
    assert a[2] == b[2]
    assert a[1].global_step == b[1].global_step
    for name, w in weights(a[0]).items():
        np.testing.assert_array_equal(w, weights(b[0])[name])


class Scheduled(Model):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


class EachStep(Scheduled):
    interval = "step"


class EachEpoch(Scheduled):
    interval = "epoch"


class Hooked(Model):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        assert batch[0].shape[1] == 4


@pytest.mark.parametrize(
    ("kind", "options", "possible"),
    [
        (EachEpoch, {}, True),
        (EachStep, {}, False),
        (Hooked, {}, False),
        (Model, {"accumulate_grad_batches": 2}, False),
    ],
)
def test_where_somebody_has_to_look_in_between_it_goes_step_by_step(kind, options, possible, native):
    a, b = (fit(DataLoader(blobs(130), batch_size=20), many, kind, **options) for many in (True, False))
    assert bool(native) is possible
    assert a[2:] == b[2:]
    for name, w in weights(a[0]).items():
        np.testing.assert_array_equal(w, weights(b[0])[name])


class Own(DataLoader):
    def __iter__(self):
        return iter(list(super().__iter__()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Own(blobs(60), batch_size=20),
        lambda: DataLoader(blobs(60), batch_size=20, num_workers=1),
        lambda: DataLoader(blobs(60), batch_size=20, sampler=list(range(60))),
        lambda: DataLoader(blobs(60), batch_sampler=[list(range(20)), list(range(10, 30))]),
        lambda: DataLoader([blobs(60)[i] for i in range(60)], batch_size=20),
    ],
)
def test_other_loaders_are_iterated(make, native):
    assert make().rows() is None
    fit(make(), True)
    assert not native


@pytest.mark.parametrize("at", [3, 7, 12])
def test_training_stops_at_the_step_whose_loss_is_lost(at, native):
    """With the weights that it found: no later step of the same call has changed them."""
    found = []
    for many in (True, False):
        x, y = blobs(400).tensors
        x[20 * at + 3, 1] = math.nan
        torch.manual_seed(0)
        model = Model()
        data = DataLoader(TensorDataset(x, y), batch_size=20)
        if not many:
            data.rows = lambda: None
        trainer = pl.Trainer(max_epochs=1, compile=True, **QUIET)
        with pytest.raises(NonFiniteLossError) as error:
            trainer.fit(model, data)
        found.append((trainer.global_step, str(error.value), weights(model)))
    assert found[0][0] == found[1][0] == at
    assert found[0][1].splitlines()[:3] == found[1][1].splitlines()[:3]
    for name, w in found[0][2].items():
        np.testing.assert_array_equal(w, found[1][2][name])
    assert native


def test_an_interrupt_ends_it_between_two_calls(native, monkeypatch):
    """Ctrl-C while steps run in machine code: those of that call are counted, then training ends."""
    repeat = BoundProgram.repeat

    def pressed(self, *args):
        if len(native) == 4:
            signal.raise_signal(signal.SIGINT)
        return repeat(self, *args)

    monkeypatch.setattr(BoundProgram, "repeat", pressed)
    _, trainer, lines, _ = fit(DataLoader(blobs(6000), batch_size=10), True, max_epochs=50)
    assert trainer.interrupted
    assert len(native) == 5
    assert trainer.global_step == lines[-1][0] < 600 * 50
