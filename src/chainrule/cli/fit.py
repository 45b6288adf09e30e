"""``chainrule fit``: data, network, training, results."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from chainrule import data, nn, optim
from chainrule import tensors as ct
from chainrule import train as pl
from chainrule.cli import datasets, report
from chainrule.cli.curves import draw_curves
from chainrule.cli.settings import ACTIVATIONS, OPTIMIZERS, Settings
from chainrule.ir.state import no_grad
from chainrule.metrics import Accuracy, ConfusionMatrix, MeanMetric
from chainrule.train.weights import write_whole

_HELD_OUT = 0.1
_EVAL_BATCH = 4096


class FitModule(pl.LightningModule):
    """The network of a run. Loader 0 of validation is the test set (watched only), loader 1 what was held out."""

    def __init__(self, settings: Settings, features: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        width = features
        for units in settings.hidden:
            layers += [nn.Linear(width, units), getattr(nn, ACTIVATIONS[settings.activation])()]
            layers += [nn.Dropout(settings.dropout)] if settings.dropout else []
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))
        self.loss = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)

    def forward(self, x: Any) -> Any:
        """Logits of shape (N, classes)."""
        return self.layers(x)

    def _log(self, logits: Any, y: Any, part: str) -> None:
        logits = logits.detach()
        options = {"on_step": False, "on_epoch": True, "prog_bar": True, "add_dataloader_idx": False}
        # Without smoothing, so that training and test losses compare.
        self.log(f"{part}_loss", nn.functional.cross_entropy(logits, y), **options)
        self.log(f"{part}_acc", (logits.argmax(1) == y).float().mean(), **options)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The cross-entropy of a batch."""
        x, y = batch
        logits = self(x)
        self._log(logits, y, "train")
        return self.loss(logits, y)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loss and accuracy on the test set and on what was held out."""
        x, y = batch
        self._log(self(x), y, ("test", "val")[dataloader_idx])

    def configure_optimizers(self) -> Any:
        """The optimizer, and the schedule that falls to 0 along a cosine."""
        s = self.settings
        options: dict[str, Any] = {"lr": s.lr, "weight_decay": s.weight_decay}
        if s.optimizer in ("sgd", "rmsprop"):
            options["momentum"] = s.momentum
        optimizer = getattr(optim, OPTIMIZERS[s.optimizer])(self.parameters(), **options)
        if s.schedule == "constant":
            return optimizer
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * min(k / steps, 1.0))))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class History(pl.Callback):
    """The metrics of each epoch, with its seconds."""

    monitors = True

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the row."""
        self._keep(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what there is of the epoch that Ctrl-C ended."""
        if trainer.interrupted and trainer.metric_is_new("train_loss"):
            self._keep(trainer)

    def _keep(self, trainer: Any) -> None:
        order = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")
        values = trainer.callback_metrics
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {name: float(values[name]) for name in order if trainer.metric_is_new(name)}
        self.rows.append({**row, "seconds": time.perf_counter() - self._began})


@dataclass
class Scores:
    """Loss and accuracy in evaluation mode, and the confusion matrix, of one set of examples."""

    loss: float
    accuracy: float
    confusion: Any = field(repr=False)


def run_fit(settings: Settings) -> bool:
    """Do the whole run; returns whether it was interrupted. Raises ClickException where something the user can mend
    is wrong.
    """
    console = Console(quiet=settings.quiet, highlight=False)
    bundle = _load(settings)
    report.print_start(console, settings, bundle)
    pl.seed_everything(settings.seed)
    module = FitModule(settings, bundle.features, len(bundle.classes))
    history = History()
    began = time.perf_counter()
    with blas_threads(settings.threads):
        trainer = _train(settings, module, bundle, history)
        seconds = time.perf_counter() - began
        scores = {part: evaluate(module, getattr(bundle, part), len(bundle.classes)) for part in ("train", "test")}
    if not settings.quiet:
        report.print_scores(console, scores, seconds, trainer)
        report.print_confusion(console, scores["test"].confusion, bundle.classes)
    if trainer.interrupted and history.rows:
        last = {"test_loss": scores["test"].loss, "test_acc": scores["test"].accuracy}
        history.rows[-1] = {**last, **history.rows[-1]}
    folder = _save(settings, module, bundle, history.rows, scores, seconds, trainer)
    if settings.quiet:
        click.echo(folder)
    else:
        report.print_saved(console, folder)
    return bool(trainer.interrupted)


def blas_threads(count: int) -> contextlib.AbstractContextManager[Any]:
    """Matrix products on so many threads inside the block.

    The rounding of a product depends on the number, so that a fixed one keeps weights the same everywhere; and for
    small networks one thread is the fastest, by far where other programs run.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise click.ClickException(
            "threadpoolctl, which comes with scikit-learn, is not installed; fix: pip install 'chainrule[cli]'"
        ) from error
    return threadpool_limits(count, user_api="blas")  # type: ignore[no-any-return]


def _told(error: Exception, hint: str = "") -> click.ClickException:
    """The error for someone at a command line: without the lines about Python code, with what to type instead."""
    lines = [line for line in str(error).splitlines() if not line.startswith(("  at: ", "  (Trainer("))]
    return click.ClickException("\n".join([*lines, *([f"  here:     {hint}"] if hint else [])]))


def _load(settings: Settings) -> datasets.Bundle:
    try:
        bundle = datasets.load(settings)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        table = isinstance(error, data.DataFileError) and settings.target is not None
        raise _told(error, "--columns A,B,... reads only these columns" if table else "") from error
    if settings.early_stopping and len(bundle.train) < 2:
        raise click.ClickException("--early-stopping holds out a tenth of the training examples, and there is only one")
    return bundle


def _train(settings: Settings, module: FitModule, bundle: datasets.Bundle, history: History) -> pl.Trainer:
    training, callbacks = bundle.train, [history]
    watched = [_loader(bundle.test)]
    if settings.early_stopping:
        training, held_out = datasets.hold_out(bundle.train, _HELD_OUT, settings.seed)
        watched.append(_loader(held_out))
        callbacks.append(
            pl.callbacks.EarlyStopping("val_loss", patience=settings.early_stopping, verbose=not settings.quiet)
        )
    if not settings.quiet:
        callbacks.append(pl.callbacks.ModelSummary(max_depth=2))
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        callbacks=callbacks,
        gradient_clip_val=settings.clip_norm,
        enable_progress_bar=not settings.quiet,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        logger=False,
        compile="auto" if settings.compile is None else settings.compile,
    )
    generator = ct.Generator().manual_seed(settings.seed)
    loader = data.DataLoader(_tensors(training), batch_size=settings.batch_size, shuffle=True, generator=generator)
    try:
        trainer.fit(module, loader, watched)
    except pl.NonFiniteLossError as error:
        raise _told(error, f"--lr {settings.lr / 10:g}, or --clip-norm 1") from error
    return trainer


def _tensors(examples: datasets.Examples) -> data.TensorDataset:
    return data.TensorDataset(ct.from_numpy(examples.x), ct.from_numpy(examples.y))


def _loader(examples: datasets.Examples) -> data.DataLoader:
    return data.DataLoader(_tensors(examples), batch_size=_EVAL_BATCH)


def evaluate(module: nn.Module, examples: datasets.Examples, classes: int) -> Scores:
    """Loss, accuracy and confusion matrix of the module in evaluation mode."""
    loss, accuracy = MeanMetric(), Accuracy(task="multiclass", num_classes=classes)
    confusion = ConfusionMatrix(task="multiclass", num_classes=classes)
    module.eval()
    with no_grad(), np.errstate(all="ignore"):
        for x, y in _loader(examples):
            logits = module(x)
            loss.update(nn.functional.cross_entropy(logits, y), weight=len(y))
            accuracy.update(logits, y)
            confusion.update(logits, y)
    return Scores(float(loss.compute()), float(accuracy.compute()), confusion.compute().numpy())


def _save(
    settings: Settings,
    module: FitModule,
    bundle: datasets.Bundle,
    rows: list[dict[str, float]],
    scores: dict[str, Scores],
    seconds: float,
    trainer: pl.Trainer,
) -> Path:
    """Write the results into a new folder and return it."""
    try:
        folder = _new_folder(settings)
        pl.save_weights(
            module.layers, folder / "weights.safetensors", {"dataset": settings.dataset, "seed": settings.seed}
        )
        config = {
            **settings.as_dict(),
            "classes": list(bundle.classes),
            "features": bundle.features,
            "train_examples": len(bundle.train),
            "test_examples": len(bundle.test),
            "results": {part: {"loss": s.loss, "accuracy": s.accuracy} for part, s in scores.items()},
            "seconds": round(seconds, 3),
            "epochs_done": trainer.current_epoch,
            "interrupted": trainer.interrupted,
            "stopped_early": trainer.should_stop,
            "compilation": trainer.compilation,
        }
        write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        if rows:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, max(rows, key=len).keys(), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_whole(folder / "metrics.csv", text.getvalue().encode())
            stopping = trainer.early_stopping_callback
            best = None if stopping is None or stopping.best_epoch is None else stopping.best_epoch + 1
            write_whole(
                folder / "curves.png", draw_curves(rows, Path(settings.dataset).stem, scores["test"].accuracy, best)
            )
    except (OSError, ImportError) as error:
        raise click.ClickException(f"the results could not be saved: {error}") from error
    return folder


def _new_folder(settings: Settings) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = f"{Path(settings.dataset).stem}-{stamp}"
    for n in range(1, 1000):
        folder = settings.out / (base if n == 1 else f"{base}-{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"there are too many folders named {base} in {settings.out}")
