"""Trainer: runs the steps of a LightningModule."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from chainrule import nn
from chainrule import tensors as ct
from chainrule.core.errors import explain
from chainrule.train.arguments import check_hardware, clipping, limit, whole
from chainrule.train.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    RichProgressBar,
)
from chainrule.train.compiling import CompiledStep
from chainrule.train.errors import MisconfigurationException
from chainrule.train.hooks import HookTable
from chainrule.train.loggers import CSVLogger
from chainrule.train.loops import EvalLoop, FitLoop, number_of_batches
from chainrule.train.module import LightningModule
from chainrule.train.optimization import Optimization, SchedulerConfig
from chainrule.train.report import print_metrics
from chainrule.train.results import Published, Results, batch_size_of
from chainrule.train.weights import load_weights, save_weights

# Where values are logged step by step unless told otherwise; everywhere else they are reduced over the epoch.
_STEPWISE = (
    "training_step",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_UNLOGGABLE = ("setup", "teardown", "on_fit_start", "on_fit_end", "on_train_end", "on_exception")


class Trainer:
    """Trains and evaluates a :class:`LightningModule`.

    The arguments are Lightning's. Differences: each ``fit`` starts from epoch 0; nothing is written to disk unless
    asked for (``logger=True`` or a logger, ``ModelCheckpoint``); a loss that is not finite stops the run; Ctrl-C
    finishes the running batch, after which ``fit`` returns with ``trainer.interrupted`` set.

    Args:
        max_epochs: stop after so many epochs; -1: never. Default: 1000, or no limit where ``max_steps`` is given.
        min_epochs: ``should_stop`` (early stopping) does not count before.
        max_steps: stop after so many optimizer steps; -1: no limit.
        callbacks: one callback or several.
        gradient_clip_val: clip gradients at this value before each optimizer step.
        gradient_clip_algorithm: "norm" (the common norm of all gradients; default) or "value" (each entry).
        accumulate_grad_batches: step once for so many batches, with the mean of their gradients.
        limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches: a number of batches (int)
            or a share of them (float).
        check_val_every_n_epoch: validate after every n-th epoch.
        num_sanity_val_steps: validation batches run before training, to find errors early; -1: all.
        enable_progress_bar: show progress: a bar on a terminal, else a line per epoch.
        enable_model_summary: print the layers and their parameters before training.
        enable_checkpointing: keep the weights of the last epoch with a :class:`ModelCheckpoint`. Default: only if
            one is among the callbacks.
        logger: True for a :class:`CSVLogger` in ``default_root_dir``, a logger, or several. Default: none.
        log_every_n_steps: how often values of single steps go to the loggers.
        default_root_dir: where files go that are given no other place. Default: the working directory.
        fast_dev_run: run so many batches (True: 1) of everything once, to see that it works; writes nothing.
        terminate_on_nan: raise NonFiniteLossError for a training loss of NaN or infinity.
        compile: "auto": whole training steps (forward, backward, clipping, optimizer) run as native code from the
            second step on, evaluation steps likewise, where at least 100 of them are planned; True: however few;
            False: never. A step that cannot be compiled runs eagerly, and a note says why. See ``trainer.compilation``.
        deterministic, benchmark: accepted; runs repeat exactly for a seed in any case.
        accelerator, devices, strategy, num_nodes, precision: accepted where they mean one CPU in the default precision.
        barebones: no bar, no summary, no logger, no sanity check.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        strategy: str = "auto",
        devices: Any = "auto",
        num_nodes: int = 1,
        precision: Any = None,
        logger: Any = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        fast_dev_run: bool | int = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        limit_train_batches: int | float = 1.0,
        limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0,
        limit_predict_batches: int | float = 1.0,
        check_val_every_n_epoch: int = 1,
        num_sanity_val_steps: int = 2,
        log_every_n_steps: int = 50,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool = True,
        enable_model_summary: bool = True,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        default_root_dir: str | os.PathLike[str] | None = None,
        terminate_on_nan: bool = True,
        compile: bool | str = "auto",
        barebones: bool = False,
    ) -> None:
        check_hardware(accelerator, strategy, devices, num_nodes, precision)
        dev_batches = int(fast_dev_run)
        if dev_batches:
            max_epochs, max_steps, num_sanity_val_steps, logger, enable_checkpointing = 1, dev_batches, 0, False, False
            limit_train_batches = limit_val_batches = limit_test_batches = limit_predict_batches = dev_batches
        if barebones:
            logger, enable_progress_bar, enable_model_summary, num_sanity_val_steps = False, False, False, 0
        self.fast_dev_run = bool(fast_dev_run)
        self.max_epochs = whole(
            "max_epochs", (1000 if max_steps == -1 else -1) if max_epochs is None else max_epochs, -1
        )
        self.min_epochs = whole("min_epochs", min_epochs or 0, 0)
        self.max_steps = whole("max_steps", max_steps, -1)
        self.limit_train_batches = limit("limit_train_batches", limit_train_batches)
        self.limit_val_batches = limit("limit_val_batches", limit_val_batches)
        self.limit_test_batches = limit("limit_test_batches", limit_test_batches)
        self.limit_predict_batches = limit("limit_predict_batches", limit_predict_batches)
        self.check_val_every_n_epoch = whole("check_val_every_n_epoch", check_val_every_n_epoch, 1)
        self.num_sanity_val_steps = whole("num_sanity_val_steps", num_sanity_val_steps, -1)
        self.log_every_n_steps = whole("log_every_n_steps", log_every_n_steps, 0)
        self.accumulate_grad_batches = whole("accumulate_grad_batches", accumulate_grad_batches, 1)
        self.gradient_clip_val, self.gradient_clip_algorithm = clipping(gradient_clip_val, gradient_clip_algorithm)
        self.terminate_on_nan = terminate_on_nan
        if compile not in (True, False, "auto"):
            raise MisconfigurationException(f"compile must be True, False or 'auto', got {compile!r}")
        self.compile = compile
        self.default_root_dir = os.fspath(default_root_dir) if default_root_dir is not None else os.getcwd()
        self._root_given = default_root_dir is not None
        self.loggers = _loggers(logger, self.default_root_dir)
        self.callbacks = self._all_callbacks(callbacks, enable_progress_bar, enable_model_summary, enable_checkpointing)

        self.current_epoch = 0
        self.global_step = 0
        self.should_stop = False
        self.interrupted = False
        self.is_last_batch = False
        self.training = self.validating = self.testing = self.predicting = self.sanity_checking = False
        self.train_dataloader: Any = None
        self.val_dataloaders: Any = None
        self.test_dataloaders: Any = None
        self.predict_dataloaders: Any = None
        self.datamodule: Any = None
        self.num_training_batches: int | None = None
        self._module: Any = None
        self._optimization: Any = None
        self._results = Results()
        self._values: dict[str, float] = {}
        self._logged: dict[str, float] = {}
        self._progress: dict[str, float] = {}
        self._metric_epoch: dict[str, int] = {}
        self._batch: Any = None
        self._batch_idx = 0
        self._batch_size: int | None = None
        self._loader_idx: int | None = None
        self._hooks = HookTable(self, None, [], Callback)
        self._recording: Any = None  # what takes the place of this Trainer while a step is captured
        self._compiled_steps: dict[str, CompiledStep] = {}
        self._told: set[tuple[str, str]] = set()

    def _all_callbacks(self, given: Any, progress: bool, summary: bool, checkpointing: bool | None) -> list[Callback]:
        found = [given] if isinstance(given, Callback) else list(given or [])
        for callback in found:
            if not isinstance(callback, Callback):
                raise MisconfigurationException(
                    f"callbacks must be instances of chainrule.train.Callback, got {callback!r}"
                    + (f"; fix: {callback.__name__}()" if isinstance(callback, type) else "")
                )
        if checkpointing is False and any(isinstance(c, ModelCheckpoint) for c in found) and not self.fast_dev_run:
            raise MisconfigurationException(
                "enable_checkpointing=False, but there is a ModelCheckpoint among the callbacks"
            )
        if self.fast_dev_run:
            found = [c for c in found if not isinstance(c, ModelCheckpoint)]
        if checkpointing and not any(isinstance(c, ModelCheckpoint) for c in found):
            found.append(ModelCheckpoint())
        if not progress:
            found = [c for c in found if not isinstance(c, ProgressBar)]
        elif not any(isinstance(c, ProgressBar) for c in found):
            found.insert(0, RichProgressBar())
        if summary and not any(isinstance(c, ModelSummary) for c in found):
            found.insert(0, ModelSummary())
        # Checkpoints last, so that they see what the others did.
        return sorted(found, key=lambda c: isinstance(c, ModelCheckpoint))

    # --- runs -------------------------------------------------------------------------------------------------------

    def fit(
        self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, datamodule: Any = None
    ) -> None:
        """Train ``model`` from epoch 0 on.

        Loaders come from the arguments, from ``datamodule`` (which may also stand in the place of
        ``train_dataloaders``), or from the model's own ``train_dataloader()`` and ``val_dataloader()``. Validation
        runs if there are validation loaders and the model defines ``validation_step``.

        Raises MisconfigurationException where something is missing, NonFiniteLossError for a loss of NaN or infinity.
        """
        if hasattr(train_dataloaders, "train_dataloader"):
            train_dataloaders, datamodule = None, train_dataloaders
        self._begin(model, datamodule, "fit")
        self.current_epoch = self.global_step = 0
        self.should_stop = self.interrupted = False
        self._metric_epoch.clear()
        try:
            train = self._source(train_dataloaders, "train_dataloader")
            if train is None:
                raise MisconfigurationException(
                    "fit needs training data: trainer.fit(model, train_loader), or model.train_dataloader()"
                )
            val = _as_list(self._source(val_dataloaders, "val_dataloader"))
            if type(model).validation_step is LightningModule.validation_step or self.limit_val_batches == 0:
                val = []
            self.train_dataloader, self.val_dataloaders = train, val or None
            self.num_training_batches = number_of_batches(train, self.limit_train_batches, "limit_train_batches")
            if self.num_training_batches == 0:
                raise MisconfigurationException(
                    "there are no training batches: the loader is empty, or limit_train_batches leaves nothing of it"
                )
            self._optimization = Optimization(self, model)
            for logger in self.loggers:
                if hasattr(logger, "log_hyperparams") and model.hparams:
                    logger.log_hyperparams(dict(model.hparams))
            FitLoop(self, model, train, val).run()
            if self.interrupted:
                self._after_interrupt()
        except BaseException as error:
            self._hooks.call("on_exception", error)
            raise
        finally:
            self._end("fit")

    def validate(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: str | None = None,
        verbose: bool = True,
        datamodule: Any = None,
    ) -> list[dict[str, float]]:
        """Run ``validation_step`` over the loader(s); returns (and with ``verbose`` prints) the logged metrics, one
        dict per loader. ``ckpt_path``: weights to load first, or "best" for the best ones of a ModelCheckpoint.
        """
        return self._evaluate("validate", model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: str | None = None,
        verbose: bool = True,
        datamodule: Any = None,
    ) -> list[dict[str, float]]:
        """As :meth:`validate`, with ``test_step``."""
        return self._evaluate("test", model, dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool = True,
        ckpt_path: str | None = None,
    ) -> Any:
        """The results of ``predict_step``, one per batch, in a list (a list of lists for several loaders)."""
        outputs, _ = self._run_eval("predict", model, dataloaders, ckpt_path, datamodule)
        if not return_predictions:
            return None
        return outputs[0] if len(outputs) == 1 else outputs

    def _evaluate(
        self, stage: str, model: Any, dataloaders: Any, ckpt_path: str | None, verbose: bool, datamodule: Any
    ) -> list[dict[str, float]]:
        outputs, metrics = self._run_eval(stage, model, dataloaders, ckpt_path, datamodule)
        count = len(outputs)
        each: list[dict[str, float]] = [{} for _ in range(count)]
        for name, value in metrics.items():
            tail = name.rpartition("/dataloader_idx_")[2] if "/dataloader_idx_" in name else ""
            for i in [int(tail)] if tail.isdigit() else range(count):
                each[i][name] = value
        if verbose:
            print_metrics(stage, each)
        return each

    def _run_eval(
        self, stage: str, model: Any, dataloaders: Any, ckpt_path: str | None, datamodule: Any
    ) -> tuple[list[list[Any]], dict[str, float]]:
        if hasattr(dataloaders, f"{'val' if stage == 'validate' else stage}_dataloader"):
            dataloaders, datamodule = None, dataloaders
        self._begin(self._module if model is None else model, datamodule, stage)
        flag = {"validate": "validating", "test": "testing", "predict": "predicting"}[stage]
        setattr(self, flag, True)
        try:
            if ckpt_path is not None:
                load_weights(self._module, self._checkpoint_path(ckpt_path))
            name = f"{'val' if stage == 'validate' else stage}_dataloader"
            loaders = _as_list(self._source(dataloaders, name))
            if not loaders:
                raise MisconfigurationException(
                    f"{stage} needs data: trainer.{stage}(model, dataloaders=loader), or model.{name}()"
                )
            setattr(self, f"{name}s", loaders)
            return EvalLoop(self, self._module, stage, loaders).run()
        except BaseException as error:
            self._hooks.call("on_exception", error)
            raise
        finally:
            setattr(self, flag, False)
            self._end(stage)

    def _begin(self, model: Any, datamodule: Any, stage: str) -> None:
        if not isinstance(model, LightningModule):
            kind = "nothing" if model is None else type(model).__name__
            raise MisconfigurationException(
                explain(
                    f"trainer.{stage}() takes a LightningModule",
                    expected="a model that says what a step is",
                    got=kind,
                    fix="wrap a plain nn.Module: chainrule.train.Classifier(model), or "
                    "SupervisedModule(model, loss, optimizer)"
                    if isinstance(model, nn.Module)
                    else "pass the model as first argument",
                )
            )
        self._module, self.datamodule = model, datamodule
        model.trainer = self
        if datamodule is not None:
            datamodule.trainer = self
            datamodule.prepare_data()
            datamodule.setup(stage)
        self._hooks = HookTable(self, model, self.callbacks, Callback)
        self._compiled_steps.clear()
        self._told.clear()
        self._results = Results()
        self._forget_metrics()
        self._hooks.call("setup", stage)

    def _end(self, stage: str) -> None:
        self._save_loggers()
        self._hooks.call("teardown", stage)
        if self.datamodule is not None:
            self.datamodule.teardown(stage)
        self.training = self.validating = self.sanity_checking = False
        self._batch = None

    def _source(self, given: Any, name: str) -> Any:
        if given is not None:
            return given
        for owner in (self.datamodule, self._module):
            found = getattr(owner, name)() if hasattr(owner, name) else None
            if found is not None:
                return found
        return None

    def _after_interrupt(self) -> None:
        self.print(f"Interrupted in epoch {self.epoch_text()}, after {self.global_step:,} optimizer steps.")
        kept = [c.last_model_path for c in self.callbacks if isinstance(c, ModelCheckpoint) and c.last_model_path]
        if not kept and self._root_given:
            kept = [
                str(
                    save_weights(self._module, Path(self.default_root_dir) / "interrupted.safetensors", self.position())
                )
            ]
        self.print(
            "The model keeps the weights it had reached" + (f"; they are saved in {kept[0]}" if kept else "") + "."
        )
        for logger in self.loggers:
            if isinstance(logger, CSVLogger):
                self.print(f"The metrics so far are in {logger.path}.")

    # --- what callbacks and modules ask for -------------------------------------------------------------------------

    @property
    def lightning_module(self) -> Any:
        """The module of the current or last run."""
        return self._module

    model = lightning_module

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers of the current or last ``fit``."""
        return [] if self._optimization is None else self._optimization.optimizers

    @property
    def lr_scheduler_configs(self) -> list[SchedulerConfig]:
        """The schedulers of the current or last ``fit``, and when they step."""
        return [] if self._optimization is None else self._optimization.schedulers

    @property
    def compilation(self) -> dict[str, str]:
        """How the steps of the current or last run were executed: for each kind of step "compiled, 2 programs", or
        "eager: " and the reason.
        """
        return {name: step.describe() for name, step in self._compiled_steps.items()}

    @property
    def callback_metrics(self) -> dict[str, ct.Tensor]:
        """The newest value of everything logged in this run, as 0-d tensors."""
        return {name: ct.tensor(value) for name, value in self._values.items()}

    @property
    def logged_metrics(self) -> dict[str, ct.Tensor]:
        """The newest value of everything that loggers get."""
        return {name: ct.tensor(value) for name, value in self._logged.items()}

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The newest value of everything logged with ``prog_bar=True``."""
        return dict(self._progress)

    @property
    def logger(self) -> Any:
        """The first logger, or None."""
        return self.loggers[0] if self.loggers else None

    @property
    def num_val_batches(self) -> list[int | None]:
        """The number of batches of each validation loader."""
        loaders = self.val_dataloaders or []
        return [number_of_batches(loader, self.limit_val_batches, "limit_val_batches") for loader in loaders]

    @property
    def estimated_stepping_batches(self) -> int | float:
        """The number of optimizer steps of the whole ``fit`` (infinity where there is no limit)."""
        total: float = math.inf
        if self.num_training_batches is None and self.train_dataloader is None:
            loader = self._source(None, "train_dataloader")
            if loader is not None:
                self.num_training_batches = number_of_batches(loader, self.limit_train_batches, "limit_train_batches")
        if self.num_training_batches is not None and self.max_epochs != -1:
            total = math.ceil(self.num_training_batches / self.accumulate_grad_batches) * self.max_epochs
        return total if self.max_steps == -1 else min(total, self.max_steps)

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first EarlyStopping among the callbacks."""
        return next((c for c in self.callbacks if isinstance(c, EarlyStopping)), None)

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first ModelCheckpoint among the callbacks."""
        return next((c for c in self.callbacks if isinstance(c, ModelCheckpoint)), None)

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar among the callbacks."""
        return next((c for c in self.callbacks if isinstance(c, ProgressBar)), None)

    is_global_zero = True
    world_size = 1

    def metric_is_new(self, name: str) -> bool:
        """Whether the metric was logged in the current epoch."""
        return self._metric_epoch.get(name) == self.current_epoch

    def position(self) -> dict[str, int]:
        """Epoch and step, as they are written into files of weights."""
        return {"epoch": self.current_epoch, "global_step": self.global_step}

    def epoch_text(self, epoch: int | None = None) -> str:
        """``3/10``: an epoch (by default the current one) as it is shown to people, counted from 1."""
        number = (self.current_epoch if epoch is None else epoch) + 1
        return str(number) if self.max_epochs < 1 else f"{min(number, self.max_epochs)}/{self.max_epochs}"

    def save_checkpoint(self, filepath: str | os.PathLike[str], weights_only: bool = True) -> None:
        """Save the weights of the module (as safetensors, whole or not at all)."""
        if not weights_only:
            raise MisconfigurationException(
                "save_checkpoint keeps weights, not the state of the optimizer; leave weights_only=True"
            )
        save_weights(self._module, filepath, self.position())

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without disturbing the progress bar."""
        bar = self.progress_bar_callback
        (print if bar is None else bar.print)(*args, **kwargs)

    # --- logging ----------------------------------------------------------------------------------------------------

    def _log(
        self,
        name: str,
        value: Any,
        prog_bar: bool,
        logger: bool,
        on_step: bool | None,
        on_epoch: bool | None,
        reduce: Any,
        batch_size: int | None,
        add_loader_idx: bool,
    ) -> None:
        where = self._hooks.running
        if where in _UNLOGGABLE or not where or "predict" in where:
            raise MisconfigurationException(
                f"self.log({name!r}, ...) cannot be used in {where or 'this place'}: nothing is collected there"
            )
        if name in ("epoch", "step") and logger:
            raise MisconfigurationException(
                f"self.log({name!r}, ...): loggers note the {name} of every row under that name; choose another one"
            )
        stepwise = where in _STEPWISE
        on_step = stepwise if on_step is None else on_step
        on_epoch = not stepwise if on_epoch is None else on_epoch
        if self._loader_idx is not None and add_loader_idx:
            name = f"{name}/dataloader_idx_{self._loader_idx}"
        if batch_size is None:
            if self._batch_size is None and self._batch is not None:
                self._batch_size = batch_size_of(self._batch)
            batch_size = self._batch_size if self._batch is not None else 1
        (self._results if self._recording is None else self._recording).log(
            name,
            value,
            on_step=on_step,
            on_epoch=on_epoch,
            prog_bar=prog_bar,
            logger=logger,
            reduce=reduce,
            weight=batch_size,
        )

    def _publish_step(self, published: Published, stepped: bool = False) -> None:
        """``stepped``: the optimizer has just made a step, which may be one that loggers hear of."""
        if not published.callback:
            return
        self._take(published)
        if published.logged and stepped and self.log_every_n_steps and self.global_step % self.log_every_n_steps == 0:
            self._send(published.logged)

    def _publish(self, published: Published) -> None:
        self._take(published)
        if published.logged and not self.sanity_checking:
            self._send(published.logged)

    def _take(self, published: Published) -> None:
        self._values.update(published.callback)
        self._logged.update(published.logged)
        self._progress.update(published.progress)
        for name in published.callback:
            self._metric_epoch[name] = self.current_epoch

    def _send(self, metrics: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch, **metrics}, step=self.global_step)

    def _save_loggers(self) -> None:
        for logger in self.loggers:
            if hasattr(logger, "save"):
                logger.save()

    def _forget_metrics(self) -> None:
        for store in (self._values, self._logged, self._progress):
            store.clear()
        self._metric_epoch.clear()

    def _checkpoint_path(self, path: str) -> str:
        if path not in ("best", "last"):
            return path
        checkpoint = self.checkpoint_callback
        found = (
            "" if checkpoint is None else (checkpoint.best_model_path if path == "best" else checkpoint.last_model_path)
        )
        if not found:
            raise MisconfigurationException(
                f"ckpt_path={path!r} needs a ModelCheckpoint that has saved something; give the path of a file"
            )
        return found


def _as_list(loaders: Any) -> list[Any]:
    if loaders is None:
        return []
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def _loggers(given: Any, root: str) -> list[Any]:
    if given is None or given is False:
        return []
    if given is True:
        return [CSVLogger(root)]
    loggers = list(given) if isinstance(given, Iterable) else [given]
    for logger in loggers:
        if not hasattr(logger, "log_metrics"):
            raise MisconfigurationException(f"a logger has log_metrics(metrics, step), {type(logger).__name__} has not")
    return loggers
