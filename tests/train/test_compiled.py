"""Trainer with compiled steps: the same training as eagerly, and eager with a note where a step cannot be compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as torch
import chainrule.nn as nn
import chainrule.train as pl
from chainrule.cli import app as cli
from chainrule.compiler.llvm.target import available
from chainrule.train import compiling
from train._models import QUIET, Model, loader, weights

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")


def fit(kind=Model, compile=True, data=None, val=None, **options):
    torch.manual_seed(0)
    model = kind() if isinstance(kind, type) else kind
    trainer = pl.Trainer(**{"max_epochs": 2, "compile": compile, **QUIET, **options})
    trainer.fit(model, loader(batch_size=25, shuffle=True) if data is None else data, val)
    return model, trainer


def both(kind=Model, **options):
    """The same fit compiled and eagerly; the first must really be compiled."""
    compiled, eager = fit(kind, True, **options), fit(kind, False, **options)
    assert compiled[1].compilation["training_step"].startswith("compiled"), compiled[1].compilation
    assert eager[1].compilation["training_step"] == "eager: compile=False"
    return compiled, eager


def assert_near(a, b, rtol=1e-5, atol=1e-6):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=atol, err_msg=name)


def metrics(trainer):
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


class Centered(nn.Module):
    """Subtracts a running mean, which training steps update in place."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return x - self.mean


class Deep(Model):
    """Two layers, running statistics, dropout and an L2 penalty on the weights."""

    optimizer = staticmethod(lambda p: torch.optim.SGD(p, lr=0.05))

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), Centered(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        penalty = sum(p.square().sum() for p in self.parameters())
        self.log_dict({"train_loss": loss, "penalty": penalty}, on_epoch=True)
        return {"loss": loss + 1e-3 * penalty, "size": batch[0].abs().max()}

    def configure_optimizers(self):
        return self.optimizer(self.parameters())


class DeepAdam(Deep):
    optimizer = staticmethod(lambda p: torch.optim.Adam(p, lr=0.01))


# --- the same training ----------------------------------------------------------------------------------------------


def test_hundred_sgd_steps_agree_within_rounding():
    (a, ta), (b, tb) = both(Deep, max_epochs=20)
    assert ta.global_step == tb.global_step == 100
    assert_near(a, b, rtol=2e-5, atol=2e-6)
    assert metrics(ta) == pytest.approx(metrics(tb), rel=1e-4)


def test_hundred_adam_steps_agree_within_a_looser_bound():
    # Adam divides by the root of its second moments: where a gradient is near 0, rounding shows as a share of lr.
    (a, _), (b, _) = both(DeepAdam, max_epochs=20)
    assert_near(a, b, rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1},
        {"max_steps": 7, "max_epochs": -1},
        {"limit_train_batches": 3},
        {"terminate_on_nan": False},
    ],
    ids=str,
)
def test_options_of_the_trainer(options):
    (a, ta), (b, tb) = both(Deep, **{"max_epochs": 3, **options})
    assert (ta.global_step, ta.current_epoch) == (tb.global_step, tb.current_epoch)
    assert_near(a, b)
    assert metrics(ta) == pytest.approx(metrics(tb), rel=1e-4)


def test_one_program_for_full_batches_and_one_for_the_last():
    _, trainer = fit(Deep, data=loader(n=70, batch_size=32), max_epochs=4)
    assert trainer.compilation["training_step"] == "compiled, 2 programs"


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_schedules_are_read_in_every_step(interval):
    class Scheduled(Deep):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.7)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}

    (a, ta), (b, tb) = both(Scheduled, max_epochs=3)
    assert ta.optimizers[0].param_groups[0]["lr"] == tb.optimizers[0].param_groups[0]["lr"] < 0.1
    assert_near(a, b)
    assert ta.compilation["training_step"] == "compiled, 2 programs"  # 5 batches, the last is short


def test_weights_frozen_in_between_stay_as_they_are():
    class Freeze(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                pl_module.net[0].requires_grad_(False)

    (a, _), (b, _) = both(Deep, max_epochs=4, callbacks=Freeze())
    assert_near(a, b)


def test_evaluation_steps_are_compiled_and_log_the_same():
    val = loader(60, batch_size=25, seed=3)
    (a, ta), (b, tb) = both(Deep, val=val)
    assert ta.compilation["validation_step"] == "compiled, 2 programs"
    assert metrics(ta) == pytest.approx(metrics(tb), rel=1e-4)
    assert ta.test(a, val, verbose=False)[0] == pytest.approx(tb.test(b, val, verbose=False)[0], rel=1e-4)
    assert ta.compilation["test_step"].startswith("compiled")


def test_predictions_are_arrays_of_their_own():
    class Predicts(Model):
        def predict_step(self, batch, batch_idx):
            return {"logits": self(batch[0]), "class": self(batch[0]).argmax(1)}

    model, trainer = fit(Predicts)
    got = trainer.predict(model, loader(60, batch_size=20))
    assert trainer.compilation["predict_step"].startswith("compiled")
    for (x, _), out in zip(loader(60, batch_size=20), got, strict=True):
        np.testing.assert_allclose(out["logits"].numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(out["class"].numpy(), model(x).argmax(1).numpy())


def test_several_loaders_log_under_their_own_names():
    class Two(Model):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("val_loss", self.loss(batch))

    val = [loader(60, 20, seed=1), loader(80, 20, seed=2)]
    (_, ta), (_, tb) = both(Two, val=val)
    assert ta.compilation["validation_step 1"].startswith("compiled")
    assert metrics(ta) == pytest.approx(metrics(tb), rel=1e-4)
    assert "val_loss/dataloader_idx_1" in metrics(ta)


def test_hooks_after_a_step_get_what_the_step_returned():
    class Seen(pl.Callback):
        def __init__(self):
            self.outputs = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.outputs.append((outputs["loss"].item(), outputs["size"].item(), batch[0].abs().max().item()))

    seen = Seen()
    _, trainer = fit(Deep, callbacks=seen)
    assert trainer.compilation["training_step"].startswith("compiled")
    assert len({loss for loss, _, _ in seen.outputs}) == len(seen.outputs) == 10
    assert all(size == largest for _, size, largest in seen.outputs)


def test_early_stopping_and_checkpoints(tmp_path):
    results = []
    for compile in (True, False):
        stop = pl.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.05)
        keep = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / str(compile), monitor="val_loss")
        model, trainer = fit(Deep, compile, val=loader(60, seed=3), max_epochs=40, callbacks=[stop, keep])
        saved = Deep()
        pl.load_weights(saved, keep.best_model_path)
        results.append((trainer.current_epoch, weights(model), weights(saved)))
    assert results[0][0] == results[1][0] < 40
    for a, b in zip(results[0][1:], results[1][1:], strict=True):
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_from_where_weights_were_set_in_between():
    class Reset(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            with torch.no_grad():
                for p in pl_module.parameters():
                    p.mul_(0.5)

    (a, _), (b, _) = both(Deep, callbacks=Reset())
    assert_near(a, b)


def test_ctrl_c_finishes_the_step(tmp_path):
    class Press(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 6:
                os.kill(os.getpid(), 2)

    _, trainer = fit(Deep, callbacks=Press(), max_epochs=5, default_root_dir=tmp_path)
    assert trainer.interrupted
    assert trainer.global_step == 7
    assert trainer.compilation["training_step"].startswith("compiled")


# --- a loss that is not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Deep, DeepAdam])
def test_a_loss_that_is_not_finite_leaves_parameters_and_optimizer_as_they_were(make):
    class Spoiled(make):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == 7:
                self.before = {k: v for k, v in weights(self).items() if "mean" not in k}
                self.state = [t.numpy().copy() for s in self.optimizers().state.values() for t in s.values()]
                with torch.no_grad():
                    batch[0][0, 0] = float("nan")

    torch.manual_seed(0)
    model = Spoiled()
    trainer = pl.Trainer(max_epochs=4, compile=True, **QUIET)
    with pytest.raises(pl.NonFiniteLossError, match=r"epoch 2/4, batch 3/5 \(after 7 optimizer steps") as caught:
        trainer.fit(model, loader(batch_size=25))
    assert trainer.compilation["training_step"].startswith("compiled")
    assert "NaN or infinity in the input: batch[0]" in str(caught.value)
    assert "as they were before this batch" in str(caught.value)
    assert (caught.value.epoch, caught.value.step) == (1, 7)
    now = weights(model)
    for name, array in model.before.items():
        np.testing.assert_array_equal(now[name], array)
    state = [t.numpy() for s in trainer.optimizers[0].state.values() for t in s.values()]
    for a, b in zip(state, model.state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_going_on_after_a_loss_that_is_not_finite():
    class Spoiled(Model):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == 3:
                with torch.no_grad():
                    batch[0][0, 0] = float("inf")

    (a, ta), (b, tb) = both(Spoiled, terminate_on_nan=False)
    assert ta.global_step == tb.global_step == 10
    assert np.isnan(weights(a)["net.weight"]).any()
    assert np.isnan(weights(b)["net.weight"]).any()


# --- eager, with a note ---------------------------------------------------------------------------------------------


class Branches(Model):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        return loss * 2 if loss > 1 else loss  # the line


class UsesNumPy(Model):
    def training_step(self, batch, batch_idx):
        scale = np.abs(batch[0].numpy()).max()  # the line
        return self.loss(batch) / float(scale)


class Indexed(Model):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * (1.0 + batch_idx)  # the line


class Annealed(Model):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) / (1 + self.current_epoch)  # the line


class AsksTrainer(Model):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) / (1 + self.trainer.global_step)  # the line


class Counts(Model):
    def __init__(self):
        super().__init__()
        self.count = 0

    def training_step(self, batch, batch_idx):
        self.count += 1
        return self.loss(batch) / self.count


class Collects(Model):
    def __init__(self):
        super().__init__()
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self):
        self.log("mean", torch.stack(self.losses).mean())
        self.losses.clear()


class DrawsFromNumPy(Model):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def training_step(self, batch, batch_idx):
        return self.loss(batch) * float(self.rng.random())


class Prints(Model):
    def training_step(self, batch, batch_idx):
        print("step")  # the line
        return self.loss(batch)


class LogsNumber(Model):
    def training_step(self, batch, batch_idx):
        self.log("lr", 0.1)  # the line
        return self.loss(batch)


class Overrides(Model):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)


class Looks(Model):
    def on_after_backward(self):
        assert self.net.weight.grad is not None


class Closure(Model):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1)


class Manual(Model):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class OwnCounter(torch.optim.Optimizer):
    """An optimizer that counts in Python."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state["step"] = state.get("step", 0) + 1
            p.sub_(p.grad * (0.1 / state["step"]))


class CountingOptimizer(Model):
    def configure_optimizers(self):
        return OwnCounter(self.parameters())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Branches, None),
        (UsesNumPy, None),
        (Indexed, "batch_idx"),
        (Annealed, "'current_epoch'"),
        (AsksTrainer, "'global_step'"),
        (Counts, "self.count"),
        (Collects, "self.losses"),
        (DrawsFromNumPy, "self.rng"),
        (Prints, "prints"),
        (LogsNumber, "'lr'"),
        (Overrides, "Overrides.optimizer_step is overridden"),
        (Looks, "on_after_backward"),
        (Closure, "closure"),
        (Manual, "automatic_optimization"),
        (CountingOptimizer, "'step' in the optimizer's state"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_cannot_be_compiled_runs_eagerly_and_says_so_once(kind, reason, capfd):
    a, ta = fit(kind, True, data=loader(batch_size=20))
    out, err = capfd.readouterr()
    b, tb = fit(kind, False, data=loader(batch_size=20))
    plain, quiet = capfd.readouterr()
    assert quiet == ""
    assert out == plain
    assert err.count("runs eagerly") == 1
    assert err.startswith("Note: training_step runs eagerly, not compiled: ")
    if reason is not None:
        assert reason in err
    source = Path(__file__).read_text().splitlines()
    lines = [i for i, text in enumerate(source, 1) if text.endswith("# the line")]
    begin = kind.training_step.__code__.co_firstlineno
    mine = [i for i in lines if begin <= i < begin + 5 and kind.training_step is not Model.training_step]
    assert all(f"{__file__}:{i}" in err for i in mine)
    assert ta.compilation["training_step"].startswith("eager: ")
    for name, array in weights(b).items():
        np.testing.assert_array_equal(weights(a)[name], array)
    assert metrics(ta) == metrics(tb)


@pytest.mark.parametrize("hook", ["on_before_optimizer_step", "on_before_zero_grad", "on_before_backward"])
def test_callbacks_between_the_parts_of_a_step_are_called(hook, capfd):
    calls = []
    callback = type("Between", (pl.Callback,), {hook: lambda self, *args: calls.append(args)})()
    _, trainer = fit(Model, callbacks=callback)
    assert len(calls) == trainer.global_step == 10
    assert f"{hook} of the module or a callback" in capfd.readouterr().err


@pytest.mark.parametrize("where", ["module", "parameter"])
def test_hooks_on_modules_and_parameters_are_called_in_every_step(where, capfd):
    calls = []

    class Hooked(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1 and where == "module":
                pl_module.net.register_forward_hook(lambda m, x, y: calls.append(1))
            elif trainer.current_epoch == 1:
                pl_module.net.weight.register_hook(lambda g: calls.append(1))

    _, trainer = fit(Model, callbacks=Hooked(), max_epochs=3)
    assert len(calls) == 10
    assert trainer.global_step == 15
    assert "hooks on net" in capfd.readouterr().err


def test_a_batch_of_other_objects(capfd):
    class Pair:
        def __init__(self, x, y):
            self.x, self.y = x, y

    class Takes(Model):
        def loss(self, batch):
            return super().loss((batch.x, batch.y))

    data = [Pair(x, y) for x, y in loader()]
    a, _ = fit(Takes, True, data=data)
    assert "an object of type Pair" in capfd.readouterr().err
    b, _ = fit(Takes, False, data=data)
    np.testing.assert_array_equal(weights(a)["net.weight"], weights(b)["net.weight"])


def test_a_python_number_that_a_hook_changes_is_never_stale(capfd):
    class Beta(Model):
        def __init__(self):
            super().__init__()
            self.config = {"beta": 1.0}

        def training_step(self, batch, batch_idx):
            return self.loss(batch) * self.config["beta"]

        def on_train_epoch_start(self):
            self.config["beta"] = 0.5**self.current_epoch

    (a, ta), (b, _) = both(Beta, max_epochs=4)
    assert_near(a, b)
    assert ta.compilation["training_step"] == "compiled, 8 programs"  # two kinds of batches in four epochs

    class EachStep(Beta):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.config["beta"] *= 0.9

    c, tc = fit(EachStep, True, max_epochs=6)
    d, _ = fit(EachStep, False, max_epochs=6)
    assert_near(c, d)
    assert "had to be compiled" in tc.compilation["training_step"]
    assert "self.config['beta']" in capfd.readouterr().err


def test_few_steps_are_not_compiled_unless_asked_for(capfd):
    _, trainer = fit(Model, "auto")
    assert "too few" in trainer.compilation["training_step"]
    _, trainer = fit(Model, "auto", max_epochs=compiling.MIN_STEPS // 5)
    assert trainer.compilation["training_step"].startswith("compiled")
    assert capfd.readouterr().err == ""
    with pytest.raises(pl.MisconfigurationException, match="compile must be"):
        pl.Trainer(compile="always")


def test_the_switch_in_the_environment_and_a_missing_llvmlite(monkeypatch, capfd):
    monkeypatch.setenv("CHAINRULE_COMPILE", "0")
    a, _ = fit(Model, True)
    assert capfd.readouterr().err.count("CHAINRULE_COMPILE=0 is set") == 1
    monkeypatch.delenv("CHAINRULE_COMPILE")
    monkeypatch.setattr(compiling, "available", lambda: False)
    b, _ = fit(Model, True)
    assert capfd.readouterr().err.count("pip install llvmlite") == 1
    c, _ = fit(Model, False)
    for name, array in weights(c).items():
        np.testing.assert_array_equal(weights(a)[name], array)
        np.testing.assert_array_equal(weights(b)[name], array)


def test_errors_of_a_step_are_those_of_the_eager_step():
    batches = [(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, k])) for k in (2, 2, 2, 5)]
    messages = []
    for compile in (True, False):
        with pytest.raises(IndexError) as caught:
            fit(Model, compile, data=batches)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("flags", "starts"), [(["--compile"], "compiled, 2 programs"), (["--no-compile"], "eager: compile=False")]
)
def test_the_command_line_says_how_the_steps_ran(flags, starts, tmp_path, capfd):
    options = ["--epochs", "1", "--hidden", "8", "--limit", "200", "--quiet", "--out", str(tmp_path)]
    assert cli.run(["fit", "digits", *options, *flags]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    config = json.loads((Path(out.strip()) / "config.json").read_text())
    assert config["compile"] is (flags == ["--compile"])
    assert config["compilation"]["training_step"] == starts
    assert cli.run(["info"]) == 0
    assert "compiled steps" in capfd.readouterr().out


# --- the same bits --------------------------------------------------------------------------------------------------

_RUN = """
import hashlib, sys
import numpy as np
import chainrule as torch, chainrule.nn as nn, chainrule.train as pl
from chainrule.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((300, 64), dtype=np.float32), rng.integers(0, 5, 300)
net = nn.Sequential(nn.Linear(64, 96), nn.Tanh(), nn.Dropout(0.1), nn.Linear(96, 5))
model = pl.Classifier(net, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
trainer = pl.Trainer(max_epochs=3, compile=sys.argv[1] == "1", enable_progress_bar=False, enable_model_summary=False)
trainer.fit(model, DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=64, shuffle=True))
bits = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
print(hashlib.sha256(bits).hexdigest(), trainer.compilation["training_step"].split()[0].strip(":,"))
"""


@pytest.mark.parametrize("compile", [True, False])
def test_the_same_bits_in_every_process_and_for_every_number_of_threads(compile):
    lines = set()
    for threads in ("1", "1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", _RUN, str(int(compile))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        lines.add(done.stdout.strip())
    assert len(lines) == 1, lines
    assert lines.pop().endswith("compiled" if compile else "eager")


def test_wrong_machine_code_is_an_error_and_no_reason_to_run_eagerly(monkeypatch):
    from chainrule.compiler.verify import VerificationError

    def disagree(*args, **kwargs):
        raise VerificationError.__new__(VerificationError)

    monkeypatch.setattr("chainrule.compiler.runtime.verify_program", disagree)
    with pytest.raises(VerificationError):
        fit()
