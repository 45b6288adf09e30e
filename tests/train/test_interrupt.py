"""Ctrl-C: the batch that runs is finished, weights and metrics are kept, a second Ctrl-C stops at once."""

import csv
import os
import signal

import numpy as np
import pytest

import chainrule as torch
import chainrule.train as pl
from chainrule.train.callbacks import EarlyStopping, ModelCheckpoint
from train._models import QUIET, Model, by_hand, loader, weights


class Pressing(Model):
    """Presses Ctrl-C while the given batch of the given epoch is being worked on."""

    at = (1, 2)
    times = 1

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if (self.current_epoch, batch_idx) == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        return loss


def make(**attributes):
    torch.manual_seed(0)
    model = Pressing()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def test_the_batch_is_finished(capsys):
    model, handler = make(), signal.getsignal(signal.SIGINT)
    trainer = pl.Trainer(max_epochs=5, **QUIET)
    trainer.fit(model, loader())
    assert trainer.interrupted
    assert (trainer.current_epoch, trainer.global_step) == (1, 9)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "Interrupted in epoch 2/5, after 9 optimizer steps" in capsys.readouterr().out
    # Six batches of epoch 0 and three of epoch 1, none of them half done.
    torch.manual_seed(0)
    other = Model()
    data = list(loader())
    by_hand(other, data + data[:3])
    for name, array in weights(other).items():
        np.testing.assert_array_equal(weights(model)[name], array)


def test_weights_and_metrics_are_saved(tmp_path, capsys):
    model = make()
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    checkpoint = ModelCheckpoint(tmp_path, monitor="val_loss")
    pl.Trainer(max_epochs=5, logger=logger, callbacks=[checkpoint], **QUIET).fit(model, loader(), loader(20))
    saved = pl.load_weights(Model(), tmp_path / "interrupted.safetensors")
    for name, array in weights(model).items():
        np.testing.assert_array_equal(weights(saved)[name], array)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["epoch"] for r in rows] == ["0", "1"]
    assert float(rows[1]["train_loss_epoch"]) > 0  # the mean of the batches that were done
    out = capsys.readouterr().out
    assert str(tmp_path / "interrupted.safetensors") in out
    assert str(tmp_path / "metrics.csv") in out


def test_weights_are_saved_in_the_folder_that_was_given(tmp_path):
    pl.Trainer(max_epochs=5, default_root_dir=tmp_path, **QUIET).fit(make(), loader())
    assert [p.name for p in tmp_path.iterdir()] == ["interrupted.safetensors"]


def test_early_stopping_leaves_interrupted_weights_alone():
    model = make(lr=0.5)
    pl.Trainer(max_epochs=5, callbacks=EarlyStopping("val_loss"), **QUIET).fit(model, loader(), loader(20))
    torch.manual_seed(0)
    other = Model()
    data = list(loader())
    by_hand(other, data + data[:3], lr=0.5)
    np.testing.assert_array_equal(weights(model)["net.weight"], weights(other)["net.weight"])


def test_during_validation():
    class Pressed(Model):
        def validation_step(self, batch, batch_idx):
            if not self.trainer.sanity_checking and batch_idx == 1:
                os.kill(os.getpid(), signal.SIGINT)
            assert batch_idx < 2

    trainer = pl.Trainer(max_epochs=5, **QUIET)
    trainer.fit(Pressed(), loader(), loader())
    assert trainer.interrupted
    assert trainer.global_step == 6


def test_the_second_stops_at_once():
    ended = []
    model = make(times=2)
    callback = pl.callbacks.LambdaCallback(on_exception=lambda t, m, error: ended.append(type(error)))
    trainer = pl.Trainer(max_epochs=5, callbacks=callback, **QUIET)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(model, loader())
    assert trainer.global_step == 8
    assert ended == [KeyboardInterrupt]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_keyboard_interrupt_from_elsewhere():
    class Raising(Model):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                raise KeyboardInterrupt

    trainer = pl.Trainer(max_epochs=5, **QUIET)
    trainer.fit(Raising(), loader())
    assert trainer.interrupted
    assert trainer.global_step == 6


def test_a_handler_of_ones_own_is_respected():
    calls = []
    signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:
        trainer = pl.Trainer(max_epochs=2, **QUIET)
        trainer.fit(make(), loader())
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert calls == [signal.SIGINT]
    assert not trainer.interrupted
    assert trainer.current_epoch == 2
