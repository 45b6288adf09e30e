"""self.log: names, means, where values appear; validate, test, predict."""

import csv

import numpy as np
import pytest

import chainrule as torch
import chainrule.train as pl
from chainrule.metrics import Accuracy, MeanMetric
from chainrule.train import MisconfigurationException
from chainrule.utils.data import DataLoader
from train._models import QUIET, Model, loader, weights


class Numbers(Model):
    """Logs numbers that do not depend on training."""

    def training_step(self, batch, batch_idx):
        self.log("both", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)
        self.log("newest", float(batch_idx), prog_bar=True)
        self.log("mean", float(batch_idx), on_step=False, on_epoch=True)
        self.log("largest", float(batch_idx), on_epoch=True, on_step=False, reduce_fx="max")
        self.log("smallest", float(batch_idx), on_epoch=True, on_step=False, reduce_fx=min)
        self.log("total", torch.tensor(float(batch_idx)), on_epoch=True, on_step=False, reduce_fx=torch.sum)
        self.log("hidden", 1.0, logger=False)
        return self.loss(batch)

    def on_train_epoch_end(self):
        self.log("at_end", 7.0)

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val_a": float(batch_idx), "val_b": 2.0}, prog_bar=True)


def run(kind=Numbers, train=None, val=None, **options):
    torch.manual_seed(0)
    model = kind()
    trainer = pl.Trainer(**{"max_epochs": 1, **QUIET, **options})
    trainer.fit(model, loader() if train is None else train, val)
    return model, trainer


def test_names_and_reductions():
    _, trainer = run(val=loader(60))
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert found == {
        "both": 2.5,
        "both_step": 5.0,
        "both_epoch": 2.5,
        "newest": 5.0,
        "mean": 2.5,
        "largest": 5.0,
        "smallest": 0.0,
        "total": 15.0,
        "hidden": 1.0,
        "at_end": 7.0,
        "val_a": 1.0,
        "val_b": 2.0,
    }
    assert set(trainer.logged_metrics) == set(found) - {"both", "hidden"}
    assert trainer.progress_bar_metrics == {
        "both_step": 5.0,
        "both_epoch": 2.5,
        "newest": 5.0,
        "val_a": 1.0,
        "val_b": 2.0,
    }


def test_means_weigh_batches_by_their_size():
    class Sizes(Model):
        def training_step(self, batch, batch_idx):
            self.log("x", float(len(batch[1])), on_epoch=True, on_step=False)
            self.log("unweighted", float(len(batch[1])), on_epoch=True, on_step=False, batch_size=1)
            return self.loss(batch)

    _, trainer = run(Sizes, loader(30, 20))
    assert trainer.callback_metrics["x"].item() == pytest.approx((20 * 20 + 10 * 10) / 30)
    assert trainer.callback_metrics["unweighted"].item() == 15.0


def test_metric_objects():
    class WithMetrics(Model):
        def __init__(self):
            super().__init__()
            self.accuracy = Accuracy(task="multiclass", num_classes=3)
            self.mean = MeanMetric()

        def training_step(self, batch, batch_idx):
            self.mean(float(batch_idx))
            self.log("mean", self.mean, on_step=True, on_epoch=True)
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            self.accuracy.update(self(batch[0]), batch[1])
            self.log("val_acc", self.accuracy)

    model, trainer = run(WithMetrics, val=loader(70, 20), max_epochs=2)
    assert trainer.callback_metrics["mean_step"].item() == 5.0
    assert trainer.callback_metrics["mean_epoch"].item() == 2.5
    x, y = loader(70, 70).dataset.tensors
    right = (model(x).argmax(1) == y).float().mean().item()
    assert trainer.callback_metrics["val_acc"].item() == pytest.approx(right)
    assert not model.accuracy.update_called  # reset for the next epoch


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3), r"a tensor of shape \(3,\)"),
        ({"a": 1.0}, "log_dict"),
        ("much", "got:      str"),
        ([1.0], "got:      list"),
    ],
)
def test_values_that_are_no_number(value, message):
    class Wrong(Model):
        def training_step(self, batch, batch_idx):
            self.log("x", value)

    with pytest.raises(MisconfigurationException, match=message):
        run(Wrong)


def test_one_name_logged_in_two_ways():
    class Wrong(Model):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, on_step=batch_idx > 0, on_epoch=True)

    with pytest.raises(MisconfigurationException, match="on_step=False, on_epoch=True and now"):
        run(Wrong)


def test_places_where_nothing_is_collected():
    class Wrong(Model):
        def on_fit_start(self):
            self.log("x", 1.0)

    with pytest.raises(MisconfigurationException, match="cannot be used in on_fit_start"):
        run(Wrong)


def test_names_that_loggers_need():
    class Wrong(Model):
        def training_step(self, batch, batch_idx):
            self.log("epoch", 1.0)

    with pytest.raises(MisconfigurationException, match="choose another one"):
        run(Wrong)


def test_log_without_a_trainer_warns():
    with pytest.warns(UserWarning, match="has no effect"):
        Model().log("x", 1.0)
    with pytest.raises(RuntimeError, match="not attached"):
        _ = Model().trainer


# --- evaluation
# ----------------------------------------------------------------------------------------------------------


def test_validate_and_test_return_what_was_logged(capsys):
    model, trainer = run(Model)
    x, y = loader().dataset.tensors
    expected = torch.nn.functional.cross_entropy(model(x), y).item()
    assert trainer.validate(model, loader(), verbose=False) == [{"val_loss": pytest.approx(expected, rel=1e-6)}]
    assert capsys.readouterr().out == ""
    assert trainer.test(model, loader()) == [{"test_loss": pytest.approx(expected, rel=1e-6)}]
    out = capsys.readouterr().out
    assert "test_loss" in out
    assert f"{expected:.4f}" in out


def test_evaluation_leaves_modes_and_gradients_alone():
    class Looking(Model):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.Dropout()
            self.part.eval()
            self.seen = []

        def validation_step(self, batch, batch_idx):
            self.seen.append((self.training, self.loss(batch).requires_grad))

    model, _ = run(Looking, val=loader())
    assert set(model.seen) == {(False, False)}
    assert model.training


def test_training_puts_everything_into_training_mode():
    modes = []

    class Looking(Model):
        def training_step(self, batch, batch_idx):
            modes.append(self.training)
            return self.loss(batch)

    torch.manual_seed(0)
    model = Looking().eval()
    pl.Trainer(max_epochs=2, **QUIET).fit(model, loader(), loader())
    assert all(modes)


def test_several_loaders():
    class Several(Model):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("x", float(dataloader_idx))
            self.log(f"own_{dataloader_idx}", 1.0, add_dataloader_idx=False)

    model, trainer = run(Several, val=[loader(), loader()])
    assert {"x/dataloader_idx_0", "x/dataloader_idx_1", "own_0", "own_1"} <= set(trainer.callback_metrics)
    each = trainer.validate(model, [loader(), loader()], verbose=False)
    assert each[0]["x/dataloader_idx_0"] == 0.0
    assert each[1]["x/dataloader_idx_1"] == 1.0
    assert "x/dataloader_idx_1" not in each[0]
    with pytest.raises(MisconfigurationException, match="dataloader_idx=0"):
        trainer.test(model, [loader(), loader()], verbose=False)


def test_predict_gives_the_results_of_the_steps():
    model, trainer = run(Model)
    found = trainer.predict(model, dataloaders=loader(50, 20))
    assert [len(batch) for batch in found] == [20, 20, 10]
    x, _ = loader(50).dataset.tensors
    assert [label for batch in found for label in batch] == model(x).argmax(1).tolist()
    assert trainer.predict(model, loader(), return_predictions=False) is None


def test_predict_with_the_default_step():
    class Plain(Model):
        predict_step = pl.LightningModule.predict_step

    batches = DataLoader(torch.ones(2, 4), batch_size=2)
    found = pl.Trainer(**QUIET).predict(Plain(), batches)
    assert found[0].shape == (2, 3)
    assert not found[0].requires_grad


def test_limits_of_evaluation():
    model, trainer = run(Model, limit_val_batches=2, limit_predict_batches=0.5)
    assert len(trainer.predict(model, loader())) == 3
    seen = []
    model.validation_step = lambda batch, batch_idx: seen.append(batch_idx)
    trainer.validate(model, loader(), verbose=False)
    assert seen == [0, 1]


def test_check_val_every_n_epoch():
    epochs = []

    class Looking(Model):
        def on_validation_epoch_start(self):
            epochs.append(self.current_epoch)

    run(Looking, val=loader(), max_epochs=5, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    assert epochs == [1, 3]


def test_no_model():
    with pytest.raises(MisconfigurationException, match="got:      nothing"):
        pl.Trainer(**QUIET).test(dataloaders=loader())
    with pytest.raises(MisconfigurationException, match="predict needs data"):
        pl.Trainer(**QUIET).predict(Model())


def test_the_order_of_hooks():
    class Recorder(pl.Callback):
        pass

    order = []
    for name in dir(pl.Callback):
        if name.startswith("on_"):
            setattr(Recorder, name, lambda self, *args, _name=name: order.append(_name))
    run(Model, loader(20), loader(20), callbacks=[Recorder()], num_sanity_val_steps=0)
    assert order == [
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "on_validation_batch_end",
        "on_validation_epoch_end",
        "on_validation_end",
        "on_train_epoch_end",
        "on_train_end",
        "on_fit_end",
    ]


# --- loggers and hyperparameters
# -----------------------------------------------------------------------------------------


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger(tmp_path):
    _, trainer = run(val=loader(60), max_epochs=2, logger=True, default_root_dir=tmp_path, log_every_n_steps=4)
    rows = read(tmp_path / "chainrule_logs" / "version_0" / "metrics.csv")
    assert trainer.logger.log_dir == str(tmp_path / "chainrule_logs" / "version_0")
    assert [(r["epoch"], r["step"]) for r in rows] == [("0", "4"), ("0", "6"), ("1", "8"), ("1", "12")]
    assert rows[0]["both_step"] == "3.0"
    assert rows[0]["both_epoch"] == ""
    assert rows[1]["both_epoch"] == "2.5"
    assert rows[1]["val_a"] == "1.0"
    assert "hidden" not in rows[0]
    run(logger=True, default_root_dir=tmp_path)
    assert (tmp_path / "chainrule_logs" / "version_1" / "metrics.csv").exists()


def test_nothing_is_written_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(val=loader())
    assert list(tmp_path.iterdir()) == []


def test_hyperparameters(tmp_path):
    class Configured(Model):
        def __init__(self, hidden=8, *, lr=0.1, act="relu", **rest):
            super().__init__(lr)
            self.save_hyperparameters(ignore="act")

    model = Configured(16, lr=0.5, depth=3)
    assert model.hparams == {"hidden": 16, "lr": 0.5, "depth": 3}
    assert model.hparams.hidden == 16
    with pytest.raises(AttributeError, match="hyperparameter 'act'"):
        _ = model.hparams.act
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    pl.Trainer(max_epochs=1, logger=logger, **QUIET).fit(model, loader())
    assert '"hidden": 16' in (tmp_path / "hparams.json").read_text()


def test_named_hyperparameters():
    class Configured(Model):
        def __init__(self, a=1, b=2):
            super().__init__()
            self.save_hyperparameters("b")

    assert Configured().hparams == {"b": 2}

    class Wrong(Model):
        def __init__(self, a=1):
            super().__init__()
            self.save_hyperparameters("c")

    with pytest.raises(MisconfigurationException, match=r"no arguments \['c'\]"):
        Wrong()


def test_seed_everything():
    draws = []
    for _ in range(2):
        assert pl.seed_everything(7) == 7
        draws.append((torch.rand(3).tolist(), np.random.rand()))  # noqa: NPY002 - the generator that is seeded
    assert draws[0] == draws[1]
    with pytest.raises(ValueError, match="between 0"):
        pl.seed_everything(-1)


# --- wrappers
# ------------------------------------------------------------------------------------------------------------


def test_classifier_trains_a_plain_module():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    module = pl.Classifier(net, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(module, loader(), loader(60, seed=1))
    assert {"train_loss", "train_acc", "val_loss", "val_acc"} <= set(trainer.callback_metrics)
    assert trainer.callback_metrics["val_acc"].item() > 0.9
    result = trainer.test(module, loader(60, seed=1), verbose=False)[0]
    assert result["test_acc"] == pytest.approx(trainer.callback_metrics["test_acc"].item())
    assert trainer.predict(module, loader(60))[0].shape == (20, 3)
    assert set(weights(module)) == {"model.weight", "model.bias"}


def test_supervised_module_with_everything():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    data = torch.utils.data.TensorDataset(torch.randn(40, 4), torch.randn(40, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    module = pl.SupervisedModule(
        net,
        torch.nn.MSELoss(),
        optimizer,
        metrics={"mae": torch.nn.functional.l1_loss},
        scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.1),
    )
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=10))
    assert trainer.optimizers == [optimizer]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert trainer.callback_metrics["train_mae"].item() > 0


def test_supervised_module_needs_pairs():
    module = pl.SupervisedModule(torch.nn.Linear(4, 1), torch.nn.MSELoss())
    with pytest.raises(MisconfigurationException, match=r"batches \(inputs, targets\)"):
        pl.Trainer(max_epochs=1, **QUIET).fit(module, DataLoader(torch.ones(4, 4)))
