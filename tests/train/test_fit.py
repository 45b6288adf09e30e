"""Trainer.fit: the loop against one written by hand, limits, accumulation, clipping, optimizers, errors."""

import numpy as np
import pytest

import chainrule as torch
import chainrule.nn as nn
import chainrule.train as pl
from chainrule.train import MisconfigurationException
from chainrule.utils.data import DataLoader
from train._models import QUIET, Model, blobs, by_hand, loader, weights


def fit(model=None, data=None, val=None, **options):
    torch.manual_seed(0)
    model = Model() if model is None else model
    trainer = pl.Trainer(**{"max_epochs": 2, **QUIET, **options})
    trainer.fit(model, loader() if data is None else data, val)
    return model, trainer


def seeded(kind=Model, **options):
    torch.manual_seed(0)
    return kind(**options)


def assert_same(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.5}, {"accumulate_grad_batches": 4}])
def test_fit_is_the_loop_written_by_hand(options):
    ours, trainer = fit(seeded(), **options)
    theirs = seeded()
    names = {"gradient_clip_val": "clip", "accumulate_grad_batches": "accumulate"}
    by_hand(theirs, loader(), epochs=2, **{names[k]: v for k, v in options.items()})
    assert_same(ours, theirs)
    assert trainer.current_epoch == 2
    # Six batches: with four to a step, the two that are left over make a step of their own.
    assert trainer.global_step == (4 if "accumulate_grad_batches" in options else 12)


def test_clipping_by_value():
    seen = []

    class Watched(Model):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            seen.append(max(p.grad.abs().max().item() for p in self.parameters()))

    fit(seeded(Watched), gradient_clip_val=0.01, gradient_clip_algorithm="value")
    assert max(seen) == pytest.approx(0.01)


def test_the_same_seed_gives_the_same_bits():
    a, _ = fit(seeded(), loader(shuffle=True))
    b, _ = fit(seeded(), loader(shuffle=True))
    assert_same(a, b)


def test_a_sanity_check_draws_no_random_numbers_for_good():
    a, _ = fit(seeded(), loader(shuffle=True), loader(60, shuffle=True), max_epochs=1)
    b, _ = fit(seeded(), loader(shuffle=True), max_epochs=1)
    assert_same(a, b)


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"max_steps": 7, "max_epochs": -1}, 7, 1),
        ({"max_steps": 7}, 7, 1),
        ({"max_epochs": 3}, 18, 3),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4, 2),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6, 2),
        ({"fast_dev_run": True}, 1, 1),
        ({"max_epochs": 0}, 0, 0),
    ],
)
def test_limits(options, steps, epochs):
    _, trainer = fit(**options)
    assert trainer.global_step == steps
    assert trainer.current_epoch in (epochs, epochs + 1)


def test_each_fit_starts_anew():
    model, trainer = fit()
    trainer.fit(model, loader())
    assert (trainer.current_epoch, trainer.global_step) == (2, 12)


def test_a_stream_of_unknown_length():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([blobs()[i] for i in range(50)])

    lasts = []
    callback = pl.callbacks.LambdaCallback(on_train_batch_end=lambda t, m, o, b, i: lasts.append(t.is_last_batch))
    _, trainer = fit(
        data=DataLoader(Stream(), batch_size=20), accumulate_grad_batches=2, callbacks=callback, max_epochs=1
    )
    assert trainer.global_step == 2
    assert lasts == [False, False, True]


def test_batches_of_every_shape():
    class Dicts(Model):
        def training_step(self, batch):
            loss = nn.functional.cross_entropy(self(batch["x"]), batch["y"])
            self.log("loss", loss, on_step=False, on_epoch=True)
            return {"loss": loss, "extra": 1}

    data = [{"x": torch.ones(n, 4), "y": torch.zeros(n, dtype=torch.int64)} for n in (1, 3)]
    _, trainer = fit(seeded(Dicts, lr=0.0), data, max_epochs=1)
    assert trainer.global_step == 2


def test_training_step_may_skip_a_batch():
    class Skipping(Model):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    _, trainer = fit(seeded(Skipping), max_epochs=1)
    assert trainer.global_step == 3


def test_on_train_batch_start_may_end_the_epoch():
    class Short(Model):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    _, trainer = fit(seeded(Short))
    assert trainer.global_step == 4


class WithScheduler(Model):
    form = "dict"

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        return {
            "optimizer": optimizer,
            "list": [optimizer],
            "lists": ([optimizer], [scheduler]),
            "lists of dicts": ([optimizer], [{"scheduler": scheduler, "interval": "step"}]),
            "dict": {"optimizer": optimizer, "lr_scheduler": scheduler},
            "dict in dict": {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}},
            "every second": {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "frequency": 2}},
            "list of dicts": [{"optimizer": optimizer, "lr_scheduler": scheduler}],
        }[self.form]


@pytest.mark.parametrize(
    ("form", "rate"),
    [
        ("optimizer", 1.0),
        ("list", 1.0),
        ("lists", 0.25),
        ("lists of dicts", 0.5**12),
        ("dict", 0.25),
        ("dict in dict", 0.5**12),
        ("every second", 0.5),
        ("list of dicts", 0.25),
    ],
)
def test_forms_of_configure_optimizers(form, rate):
    model = seeded(WithScheduler)
    model.form = form
    _, trainer = fit(model)
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate


def test_reduce_on_plateau_reads_the_monitored_metric():
    class Plateau(Model):
        def validation_step(self, batch, batch_idx):
            self.log("flat", 1.0)

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "flat"}

    _, trainer = fit(seeded(Plateau), val=loader(), max_epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_manual_optimization():
    class Manual(Model):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            self.clip_gradients(optimizer, 0.5, "norm")
            optimizer.step()

    ours, trainer = fit(seeded(Manual))
    theirs = seeded()
    by_hand(theirs, loader(), epochs=2, clip=0.5)
    assert_same(ours, theirs)
    assert trainer.global_step == 12


def test_two_optimizers_by_hand():
    class Two(Model):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.second = nn.Linear(4, 3)

        def training_step(self, batch, batch_idx):
            first, second = self.optimizers()
            (first if batch_idx % 2 else second).step()

        def configure_optimizers(self):
            return [torch.optim.SGD(m.parameters(), lr=0.1) for m in (self.net, self.second)]

    assert fit(seeded(Two))[1].global_step == 12


def test_data_module():
    calls = []

    class Data(pl.LightningDataModule):
        def prepare_data(self):
            calls.append("prepare")

        def setup(self, stage):
            calls.append(stage)

        def teardown(self, stage):
            calls.append(f"end of {stage}")

        def train_dataloader(self):
            return loader()

        def val_dataloader(self):
            return loader(60)

    model, trainer = fit(data=Data(), max_epochs=1)
    assert trainer.global_step == 6
    assert len(trainer.validate(model, Data(), verbose=False)) == 1
    assert calls == ["prepare", "fit", "end of fit", "prepare", "validate", "end of validate"]


def test_loaders_of_the_model():
    class Own(Model):
        def train_dataloader(self):
            return loader()

    trainer = pl.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Own())
    assert trainer.global_step == 6


def test_estimated_stepping_batches():
    class Asking(Model):
        def configure_optimizers(self):
            self.estimate = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    model, trainer = fit(seeded(Asking), max_epochs=3, accumulate_grad_batches=4)
    assert model.estimate == trainer.global_step == 6


def test_frozen_and_thawed():
    model = Model()
    model.freeze()
    with pytest.raises(MisconfigurationException, match="depends on no parameter"):
        fit(model)
    model.unfreeze()
    fit(model)


# --- a loss that is not finite
# -----------------------------------------------------------------------------------------


class Exploding(Model):
    def training_step(self, batch, batch_idx):
        factor = float("inf") if (self.current_epoch, batch_idx) == (1, 3) else 1.0
        return self.loss(batch) * factor


def test_a_loss_that_is_not_finite_says_where_and_what_to_try():
    model = seeded(Exploding)
    with pytest.raises(pl.NonFiniteLossError) as caught:
        fit(model)
    message = str(caught.value)
    assert "inf in epoch 2/2, batch 4/6 (after 9 optimizer steps)" in message
    assert "smaller learning rate (now 0.1)" in message
    assert "forward pass or the loss" in message
    assert (caught.value.epoch, caught.value.step) == (1, 9)
    assert all(np.isfinite(w).all() for w in weights(model).values())


def test_the_bad_input_is_named():
    data = blobs()
    data.tensors[0][5, 2] = float("nan")
    with pytest.raises(pl.NonFiniteLossError, match=r"in the input: batch\[0\]"):
        fit(data=DataLoader(data, batch_size=20))


def test_the_ruined_parameter_is_named():
    class Ruined(Model):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 2:
                self.net.bias.data.fill_(float("nan"))

    with pytest.raises(pl.NonFiniteLossError, match=r"in the parameter net\.bias"):
        fit(seeded(Ruined))


def test_going_on_regardless():
    assert fit(seeded(Exploding), terminate_on_nan=False)[1].global_step == 12


# --- mistakes
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "gpu"}, "trains on the CPU"),
        ({"accelerator": "cpuu"}, "did you mean 'cpu'"),
        ({"devices": 2}, "one process"),
        ({"num_nodes": 2}, "one process"),
        ({"strategy": "ddp"}, "one process"),
        ({"precision": "16-mixed"}, "dtype of the parameters"),
        ({"precision": 64}, r"model\.double"),
        ({"max_epochs": 1.5}, "max_epochs"),
        ({"max_epochs": -2}, "max_epochs"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches"),
        ({"limit_train_batches": 1.5}, "limit_train_batches"),
        ({"gradient_clip_val": -1.0}, "gradient_clip_val"),
        ({"gradient_clip_algorithm": "l2"}, "'norm' or 'value'"),
        ({"callbacks": [pl.callbacks.EarlyStopping]}, r"fix: EarlyStopping\(\)"),
        ({"logger": object()}, "log_metrics"),
        ({"enable_checkpointing": False, "callbacks": pl.callbacks.ModelCheckpoint()}, "enable_checkpointing=False"),
    ],
)
def test_arguments_that_cannot_work(options, message):
    with pytest.raises(MisconfigurationException, match=message):
        pl.Trainer(**options)


def test_arguments_that_mean_one_cpu():
    trainer = pl.Trainer(accelerator="cpu", devices=1, precision="32-true", strategy="auto", deterministic=True)
    assert trainer.max_epochs == 1000


class NoStep(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class NoOptimizer(Model):
    configure_optimizers = pl.LightningModule.configure_optimizers


class WrongOptimizer(Model):
    def configure_optimizers(self):
        return "adam"


class TwoAutomatic(Model):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]


class VectorLoss(Model):
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")


class Detached(Model):
    def training_step(self, batch, batch_idx):
        return self.loss(batch).detach()


class NoLossKey(Model):
    def training_step(self, batch, batch_idx):
        return {"los": self.loss(batch)}


class ManualInAutomatic(Model):
    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoStep, "must define training_step"),
        (NoOptimizer, "must define configure_optimizers"),
        (WrongOptimizer, "got:      str"),
        (TwoAutomatic, "automatic_optimization = False"),
        (VectorLoss, r"shape \(20,\)"),
        (Detached, "depends on no parameter"),
        (NoLossKey, "without the key 'loss'"),
        (ManualInAutomatic, "manual optimization"),
    ],
)
def test_modules_that_cannot_work(kind, message):
    with pytest.raises(MisconfigurationException, match=message):
        fit(seeded(kind))


def test_a_plain_module_is_told_what_to_do():
    with pytest.raises(MisconfigurationException, match="Classifier"):
        pl.Trainer(**QUIET).fit(nn.Linear(4, 3), loader())


def test_no_data():
    with pytest.raises(MisconfigurationException, match="needs training data"):
        pl.Trainer(**QUIET).fit(Model())
    with pytest.raises(MisconfigurationException, match="no training batches"):
        pl.Trainer(**QUIET).fit(Model(), [])
    with pytest.raises(MisconfigurationException, match="no training batches"):
        pl.Trainer(limit_train_batches=0, **QUIET).fit(Model(), loader())


def test_an_error_in_a_step_comes_through_after_the_hooks():
    seen = []
    callback = pl.callbacks.LambdaCallback(
        on_exception=lambda trainer, module, error: seen.append(type(error)),
        teardown=lambda trainer, module, stage: seen.append(stage),
    )

    class Failing(Model):
        def training_step(self, batch, batch_idx):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fit(seeded(Failing), callbacks=callback)
    assert seen == [KeyError, "fit"]
