"""LightningModule: a model that says what a training step is and which optimizer it wants."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from chainrule import nn
from chainrule import tensors as ct
from chainrule.core.dtypes import get_default_dtype
from chainrule.train.errors import MisconfigurationException
from chainrule.train.hooks import ModuleHooks
from chainrule.train.results import is_metric


class HyperParameters(dict[str, Any]):
    """A dictionary whose entries are attributes too: ``hparams.lr``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "none"
            raise AttributeError(f"no hyperparameter {name!r}; saved by save_hyperparameters(): {known}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class LightningModule(ModuleHooks, nn.Module):
    """An ``nn.Module`` with steps::

        class Model(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = nn.Linear(8, 2)

            def training_step(self, batch, batch_idx):
                x, y = batch
                loss = nn.functional.cross_entropy(self.net(x), y)
                self.log("train_loss", loss, prog_bar=True)
                return loss

            def configure_optimizers(self):
                return chainrule.optim.Adam(self.parameters(), lr=0.01)

    ``validation_step``, ``test_step`` and ``predict_step`` are written in the same way. With
    ``self.automatic_optimization = False`` the training step does the work of the optimizer itself:
    ``self.optimizers()``, ``self.manual_backward(loss)``, ``optimizer.step()``. Source of the interface: PyTorch
    Lightning.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = True
        # Not an attribute like the others: a Trainer must not travel with copies and pickles of the module.
        object.__setattr__(self, "_trainer", None)
        self._hparams = HyperParameters()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trainer": None}

    # --- the steps, to be overridden -------------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """``(batch, batch_idx)`` -> the loss (a 0-d tensor), a dict with the key "loss", or None to skip the batch."""
        raise MisconfigurationException(
            f"{type(self).__name__} must define training_step(self, batch, batch_idx) and return the loss"
        )

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """``(batch, batch_idx)``; log what is to be seen with ``self.log``."""
        raise MisconfigurationException(f"{type(self).__name__} must define validation_step(self, batch, batch_idx)")

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """``(batch, batch_idx)``; log what is to be seen with ``self.log``."""
        raise MisconfigurationException(f"{type(self).__name__} must define test_step(self, batch, batch_idx)")

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """``(batch, batch_idx)`` -> what ``trainer.predict`` is to collect. Default: ``self(batch)``."""
        return self(args[0] if args else kwargs["batch"])

    def configure_optimizers(self) -> Any:
        """An optimizer; or lists of optimizers and schedulers; or a dict with "optimizer" and "lr_scheduler"."""
        raise MisconfigurationException(
            f"{type(self).__name__} must define configure_optimizers(self) and return an optimizer, as "
            "chainrule.optim.Adam(self.parameters(), lr=1e-3)"
        )

    def train_dataloader(self) -> Any:
        """The loader for ``fit`` where none is given to it."""
        return None

    def val_dataloader(self) -> Any:
        """The loader(s) for validation where none are given."""
        return None

    def test_dataloader(self) -> Any:
        """The loader(s) for ``test`` where none are given."""
        return None

    def predict_dataloader(self) -> Any:
        """The loader(s) for ``predict`` where none are given."""
        return None

    # --- where training is ------------------------------------------------------------------------------------------

    @property
    def trainer(self) -> Any:
        """The Trainer that runs this module. Raises RuntimeError where there is none."""
        if self._trainer is None:
            raise RuntimeError(
                f"{type(self).__name__} is not attached to a Trainer: call Trainer(...).fit(model, ...) first"
            )
        recording = self._trainer._recording
        return self._trainer if recording is None else recording

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        object.__setattr__(self, "_trainer", trainer)

    @property
    def current_epoch(self) -> int:
        """The number of the epoch, from 0; 0 without a Trainer."""
        return 0 if self._trainer is None else self.trainer.current_epoch

    @property
    def global_step(self) -> int:
        """The number of optimizer steps done; 0 without a Trainer."""
        return 0 if self._trainer is None else self.trainer.global_step

    @property
    def logger(self) -> Any:
        """The first logger of the Trainer, or None."""
        return None if self._trainer is None else self.trainer.logger

    @property
    def device(self) -> Any:
        """The CPU."""
        return ct.device("cpu")

    @property
    def dtype(self) -> Any:
        """The dtype of the first floating-point parameter, or the default dtype."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), get_default_dtype())

    @property
    def global_rank(self) -> int:
        """0: one process trains."""
        return 0

    local_rank = global_rank

    # --- logging ----------------------------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        batch_size: int | None = None,
        add_dataloader_idx: bool = True,
        sync_dist: bool = False,
        rank_zero_only: bool = False,
    ) -> None:
        """Log a number (or a metric object) under ``name``.

        Args:
            prog_bar: show it in the progress bar.
            logger: hand it to the loggers.
            on_step: as it is in each step. Default: True in ``training_step``, False elsewhere.
            on_epoch: reduced over the epoch. Default: False in ``training_step``, True elsewhere.
            reduce_fx: "mean" (weighted by batch size), "sum", "min" or "max".
            batch_size: the weight; by default the first size of the first tensor in the batch.
            add_dataloader_idx: with several evaluation loaders, append ``/dataloader_idx_<i>`` to the name.
            sync_dist, rank_zero_only: accepted; there is one process.
        """
        if self._trainer is None:
            warnings.warn(
                f"self.log({name!r}, ...) has no effect: {type(self).__name__} is not run by a Trainer", stacklevel=2
            )
            return
        self._trainer._log(name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, batch_size, add_dataloader_idx)

    def log_dict(self, dictionary: Mapping[str, Any], **kwargs: Any) -> None:
        """:meth:`log` for each entry; an object with ``items()``, such as a collection of metrics, will do."""
        for name, value in dictionary.items():
            self.log(name, value, **kwargs)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without disturbing the progress bar."""
        bar = None if self._trainer is None else self.trainer.progress_bar_callback
        (print if bar is None else bar.print)(*args, **kwargs)

    # --- hyperparameters --------------------------------------------------------------------------------------------

    @property
    def hparams(self) -> HyperParameters:
        """What :meth:`save_hyperparameters` kept."""
        return self._hparams

    def save_hyperparameters(self, *names: Any, ignore: Any = (), logger: bool = True) -> None:
        """Keep the arguments of the calling ``__init__`` (all, or those named) in ``self.hparams``.

        A dictionary as only argument is kept as it is. ``ignore``: a name or names to leave out.
        """
        skipped = {ignore} if isinstance(ignore, str) else set(ignore)
        if len(names) == 1 and isinstance(names[0], Mapping):
            found = dict(names[0])
        else:
            frame = inspect.currentframe()
            assert frame is not None
            assert frame.f_back is not None  # somebody called this
            found = _init_arguments(frame.f_back, type(self))
            unknown = [n for n in names if n not in found]
            if unknown:
                raise MisconfigurationException(
                    f"save_hyperparameters: no arguments {unknown} in __init__; there are {list(found)}"
                )
            found = {n: found[n] for n in names} if names else found
        self._hparams.update({k: v for k, v in found.items() if k not in skipped and not isinstance(v, nn.Module)})

    # --- optimization by hand, and its parts ------------------------------------------------------------------------

    def optimizers(self) -> Any:
        """The optimizer, or the list of them; for a training step that optimizes by itself."""
        found = self.trainer._optimization.manual_optimizers()
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """The scheduler, the list of them, or None."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return (found[0] if found else None) if len(found) <= 1 else found

    def manual_backward(self, loss: ct.Tensor, *args: Any, **kwargs: Any) -> None:
        """``loss.backward()`` in a training step that optimizes by itself."""
        if self.automatic_optimization:
            raise MisconfigurationException(
                "self.manual_backward() is for manual optimization: set self.automatic_optimization "
                "= False in __init__, "
                "or return the loss and leave backward to the Trainer"
            )
        self.trainer._optimization.check_finite(loss)
        self.backward(loss, *args, **kwargs)

    def backward(self, loss: ct.Tensor, *args: Any, **kwargs: Any) -> None:
        """How gradients are computed. Default: ``loss.backward()``."""
        loss.backward(*args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """How gradients are cleared. Default: ``optimizer.zero_grad()``."""
        optimizer.zero_grad()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """How the optimizer steps. ``optimizer_closure()`` runs forward and backward and must be called: default,
        ``optimizer.step(closure=optimizer_closure)``.
        """
        optimizer.step(closure=optimizer_closure)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """How a scheduler steps. Default: with the monitored metric where there is one."""
        scheduler.step() if metric is None else scheduler.step(metric)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """How gradients are clipped. Default: :meth:`clip_gradients`."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of the optimizer's parameters by their common norm ("norm") or each entry ("value")."""
        if gradient_clip_val is None:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if (gradient_clip_algorithm or "norm") == "norm":
            nn.utils.clip_grad_norm_(params, gradient_clip_val)
        else:
            nn.utils.clip_grad_value_(params, gradient_clip_val)

    def freeze(self) -> None:
        """Evaluation mode, and no gradients for any parameter."""
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Training mode, and gradients for all parameters."""
        self.requires_grad_(True)
        self.train()


def _init_arguments(frame: Any, kind: type) -> dict[str, Any]:
    """The arguments of the ``__init__`` that is running in ``frame``, those of ``*args`` left out."""
    if frame.f_code.co_name != "__init__":
        raise MisconfigurationException(f"save_hyperparameters() must be called in {kind.__name__}.__init__")
    info = inspect.getargvalues(frame)
    found = {name: info.locals[name] for name in info.args[1:]}
    count = frame.f_code.co_argcount
    keyword_only = frame.f_code.co_varnames[count : count + frame.f_code.co_kwonlyargcount]
    found.update({name: info.locals[name] for name in keyword_only})
    found.update(info.locals[info.keywords] if info.keywords else {})
    return {name: value for name, value in found.items() if not is_metric(value)}
