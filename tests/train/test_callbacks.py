"""Callbacks: early stopping, checkpoints, the summary, the learning rates, progress."""

import io
import itertools
import re

import numpy as np
import pytest
from rich.console import Console

import chainrule as torch
import chainrule.train as pl
from chainrule.train import MisconfigurationException, report
from chainrule.train.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    PlainProgress,
    RichProgressBar,
)
from chainrule.train.callbacks.summary import print_summary, summarize
from train._models import QUIET, Model, loader, weights


class Scripted(Model):
    """Logs a score per epoch from a list, and remembers the weights of each epoch."""

    scores = (5.0, 3.0, 4.0, 3.5, 2.0, 6.0)

    def on_train_epoch_start(self):
        self.history = getattr(self, "history", [])

    def validation_step(self, batch, batch_idx):
        self.log("score", self.scores[self.current_epoch])

    def on_train_epoch_end(self):
        self.history.append(weights(self))


def fit(*callbacks, scores=None, **options):
    torch.manual_seed(0)
    model = Scripted()
    model.scores = scores or model.scores
    options = {"max_epochs": len(model.scores), "num_sanity_val_steps": 0, **QUIET, **options}
    trainer = pl.Trainer(callbacks=list(callbacks), **options)
    trainer.fit(model, loader(40), loader(20))
    return model, trainer


def assert_weights(model, expected):
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, expected[name])


# --- early stopping
# ------------------------------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights():
    stopping = EarlyStopping("score", patience=2)
    model, trainer = fit(stopping)
    assert trainer.current_epoch == 4  # epochs 2 and 3 did not improve on epoch 1
    assert (stopping.best_score, stopping.best_epoch, stopping.stopped_epoch) == (3.0, 1, 3)
    assert "has not improved on 3 for 2 epochs" in stopping.stopping_reason
    assert_weights(model, model.history[1])


def test_the_best_weights_are_restored_at_the_end_as_well():
    model, trainer = fit(EarlyStopping("score", patience=10))
    assert not trainer.should_stop
    assert_weights(model, model.history[4])


def test_without_restoring():
    model, _ = fit(EarlyStopping("score", patience=2, restore_best=False))
    assert_weights(model, model.history[3])


def test_mode_max_and_min_delta():
    stopping = EarlyStopping("score", patience=2, mode="max", min_delta=0.5)
    _, trainer = fit(stopping, scores=(1.0, 2.0, 2.4, 2.5, 3.0))
    assert trainer.current_epoch == 4
    assert stopping.best_score == 2.0


@pytest.mark.parametrize(
    ("options", "scores", "epochs", "reason"),
    [
        ({}, (1.0, float("nan"), 1.0), 2, "is nan"),
        ({"stopping_threshold": 0.5}, (1.0, 0.5, 0.1), 2, "has reached 0.5"),
        ({"divergence_threshold": 2.0}, (1.0, 2.5, 0.1), 2, "worse than 2"),
    ],
)
def test_other_reasons_to_stop(options, scores, epochs, reason):
    stopping = EarlyStopping("score", patience=5, **options)
    _, trainer = fit(stopping, scores=scores)
    assert trainer.current_epoch == epochs
    assert reason in stopping.stopping_reason


def test_epochs_without_validation_do_not_count():
    _, trainer = fit(EarlyStopping("score", patience=1), scores=(1.0,) * 10, check_val_every_n_epoch=3)
    assert trainer.current_epoch == 6  # seen after epochs 2 and 5


def test_a_metric_that_is_not_there():
    with pytest.raises(MisconfigurationException, match=r"EarlyStopping\(monitor='val_loss'\).*logged: score"):
        fit(EarlyStopping("val_loss"))
    _, trainer = fit(EarlyStopping("val_loss", strict=False))
    assert trainer.current_epoch == 6
    with pytest.raises(MisconfigurationException, match="mode must be"):
        fit(EarlyStopping("score", mode="up"))


def test_min_epochs():
    _, trainer = fit(EarlyStopping("score", patience=1), min_epochs=5)
    assert trainer.current_epoch == 5


# --- checkpoints
# ---------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_best_are_kept(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, "{epoch}-{score:.1f}", monitor="score", save_top_k=2, save_last=True)
    model, trainer = fit(checkpoint)
    assert names(tmp_path) == [
        "epoch=1-score=3.0.safetensors",
        "epoch=4-score=2.0.safetensors",
        "last.safetensors",
    ]
    assert checkpoint.best_model_path == str(tmp_path / "epoch=4-score=2.0.safetensors")
    assert checkpoint.best_model_score == 2.0
    assert checkpoint.last_model_path == str(tmp_path / "last.safetensors")
    assert_weights(pl.load_weights(Model(), checkpoint.best_model_path), model.history[4])
    trainer.test(model, loader(20), ckpt_path="best", verbose=False)
    assert_weights(model, model.history[4])
    trainer.test(model, loader(20), ckpt_path="last", verbose=False)
    assert_weights(model, model.history[5])


def test_mode_max(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="score", mode="max")
    fit(checkpoint)
    assert checkpoint.best_model_score == 6.0
    assert names(tmp_path) == ["epoch=5-step=12.safetensors"]


def test_the_newest_is_kept_without_a_metric(tmp_path):
    fit(ModelCheckpoint(tmp_path))
    assert names(tmp_path) == ["epoch=5-step=12.safetensors"]


def test_all_are_kept_every_second_epoch(tmp_path):
    fit(ModelCheckpoint(tmp_path, "{epoch}", monitor="score", save_top_k=-1, every_n_epochs=2))
    assert names(tmp_path) == [f"epoch={n}.safetensors" for n in (1, 3, 5)]


def test_a_second_run_does_not_overwrite_the_first(tmp_path):
    for _ in range(2):
        fit(ModelCheckpoint(tmp_path, "{epoch}", monitor="score"))
    assert names(tmp_path) == ["epoch=4-v1.safetensors", "epoch=4.safetensors"]


def test_the_default_folder(tmp_path):
    fit(enable_checkpointing=True, default_root_dir=tmp_path)
    assert names(tmp_path / "checkpoints") == ["epoch=5-step=12.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = pl.save_weights(Model(), tmp_path / "w.safetensors")
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        pl.save_weights(Model(), path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["w.safetensors"]


def test_weights_are_plain_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    model = Model()
    path = pl.save_weights(model, tmp_path / "new" / "w.safetensors", {"epoch": 3})
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"epoch": "3"}
        np.testing.assert_array_equal(file.get_tensor("net.weight"), weights(model)["net.weight"])
    other = pl.load_weights(Model(), path)
    other.net.weight.data.add_(1.0)  # what was loaded is its own, and may be written


def test_equal_weights_give_equal_files(tmp_path):
    model = Model()
    metadata = {str(i): i for i in range(20)}
    files = [pl.save_weights(model, tmp_path / str(i), metadata).read_bytes() for i in range(3)]
    assert files[0] == files[1] == files[2]


def test_a_file_that_holds_no_weights(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="a safetensors file"):
        pl.load_weights(Model(), path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"save_top_k": 2}, "needs monitor="), ({"save_top_k": -2}, "save_top_k"), ({"mode": "up"}, "mode")],
)
def test_checkpoint_arguments(options, message):
    with pytest.raises(MisconfigurationException, match=message):
        ModelCheckpoint(**options)


def test_checkpoint_name_with_an_unknown_metric(tmp_path):
    with pytest.raises(MisconfigurationException, match="no metric 'acc'"):
        fit(ModelCheckpoint(tmp_path, "{acc:.2f}"))


# --- the others
# ----------------------------------------------------------------------------------------------------------


def test_learning_rates(tmp_path):
    monitor = LearningRateMonitor(logging_interval="step")
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    fit(monitor, logger=logger, log_every_n_steps=1)
    assert monitor.lrs == {"lr-SGD": [0.1] * 12}
    assert "lr-SGD" in (tmp_path / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("hidden", "total", "text"),
    [((128,), 101_770, "101 K"), ((128, 128), 118_282, "118 K"), ((128, 128, 128), 134_794, "134 K")],
)
def test_summary(hidden, total, text):
    class Classifier(pl.LightningModule):
        def __init__(self):
            super().__init__()
            sizes = (784, *hidden)
            layers = [m for a, b in itertools.pairwise(sizes) for m in (torch.nn.Linear(a, b), torch.nn.ReLU())]
            self.model = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 10))
            self.criterion = torch.nn.CrossEntropyLoss()

    model = Classifier()
    model.criterion.eval()
    summary = summarize(model)
    assert (summary.total, summary.trainable) == (total, total)
    assert summary.megabytes == pytest.approx(4 * total / 1e6)
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert re.split(r"\W+", lines[1].strip("┃ ")) == ["Name", "Type", "Params", "Mode"]
    assert [cell.strip() for cell in lines[3].strip("│").split("│")] == ["0", "model", "Sequential", text, "train"]
    assert [cell.strip() for cell in lines[4].strip("│").split("│")] == [
        "1",
        "criterion",
        "CrossEntropyLoss",
        "0",
        "eval",
    ]
    assert f"Trainable params: {text}" in lines
    assert "Non-trainable params: 0" in lines
    assert f"Total params: {text}" in lines
    assert len(summarize(model, max_depth=-1).rows) == 2 + 2 * len(hidden) + 1


def test_summary_counts_frozen_and_shared_parameters():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[0].requires_grad_(False)
    model[1].weight = model[0].weight
    summary = summarize(model)
    assert (summary.total, summary.trainable) == (15, 3)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0 K"),
        (8320, "8.3 K"),
        (101_770, "101 K"),
        (999_999, "999 K"),
        (2_450_000, "2.4 M"),
    ],
)
def test_counts(number, text):
    assert report.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.5000"), (0.0, "0.0000"), (0.00012, "1.20e-04"), (123456.0, "1.23e+05"), (float("nan"), "nan")],
)
def test_values(number, text):
    assert report.value(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(1.24, "1.2 s"), (9.96, "0:00:10"), (75, "0:01:15"), (3725, "1:02:05")])
def test_clock(seconds, text):
    assert report.clock(seconds) == text


def test_plain_lines_where_there_is_no_terminal(capsys):
    torch.manual_seed(0)
    pl.Trainer(max_epochs=2, enable_model_summary=False).fit(Model(), loader(), loader(20))
    first, second = capsys.readouterr().out.splitlines()
    pattern = r"epoch {}/2  train_loss \d\.\d{{4}}  val_loss \d\.\d{{4}}  [\d,]+ samples/s  [\d.]+ s{}"
    assert re.fullmatch(pattern.format(1, r"  [\d.]+ s left"), first)
    assert re.fullmatch(pattern.format(2, ""), second)


def test_fewer_plain_lines(capsys):
    fit(PlainProgress(every_n_epochs=4), enable_progress_bar=True)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["4/6", "6/6"]


def test_the_bar_on_a_terminal():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    torch.manual_seed(0)
    trainer = pl.Trainer(max_epochs=3, callbacks=[RichProgressBar(console=console)], enable_model_summary=False)
    trainer.fit(Model(), loader(), loader(20))
    final = [line for line in out.getvalue().replace("\r", "\n").splitlines() if "epoch 3/3" in line][-1]
    assert "100%" in final
    assert "samples/s" in final
    assert "train_loss" in out.getvalue()
    assert "val_loss" in out.getvalue()
    assert re.search(r" left", out.getvalue())


def test_an_error_gives_the_terminal_back():
    out = io.StringIO()
    bar = RichProgressBar(console=Console(file=out, force_terminal=True))

    class Failing(Model):
        def training_step(self, batch, batch_idx):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pl.Trainer(max_epochs=1, callbacks=[bar], enable_model_summary=False).fit(Failing(), loader())
    assert out.getvalue().rstrip("\n\r ").endswith("\x1b[?25h")  # the cursor is shown again


def test_printing_goes_through_the_bar(capsys):
    class Printing(Model):
        def on_train_epoch_end(self):
            self.print("hello", self.current_epoch)

    pl.Trainer(max_epochs=1, **QUIET).fit(Printing(), loader())
    assert capsys.readouterr().out == "hello 0\n"


def test_summary_is_printed_unless_switched_off(capsys):
    pl.Trainer(max_epochs=0, enable_progress_bar=False).fit(Model(), loader())
    assert "Total params: 15" in capsys.readouterr().out
    pl.Trainer(max_epochs=0, enable_progress_bar=False, callbacks=ModelSummary(0)).fit(Model(), loader())
    assert capsys.readouterr().out == ""


def test_lambda_callback_knows_its_hooks():
    with pytest.raises(MisconfigurationException, match="on_epoch_over"):
        pl.callbacks.LambdaCallback(on_epoch_over=print)
