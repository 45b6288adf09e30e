"""ModelCheckpoint: keep the weights of good epochs on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from chainrule.train.callbacks.base import Callback, Monitor
from chainrule.train.errors import MisconfigurationException
from chainrule.train.weights import save_weights


class ModelCheckpoint(Callback):
    """Saves weights as safetensors files after an epoch; each file appears whole or not at all.

    Args:
        dirpath: the folder. Default: ``checkpoints`` in the logger's folder or in the Trainer's ``default_root_dir``.
        filename: a name with places for epoch, step and metrics, ``"{epoch}-{val_loss:.2f}"``, which gives
            ``epoch=3-val_loss=0.12.safetensors``.
        monitor: the metric that says which epochs are good; None keeps the newest.
        mode: "min" or "max".
        save_top_k: how many files to keep; -1: all.
        save_last: also keep the newest as ``last.safetensors``.
        every_n_epochs: look only at every n-th epoch.
        verbose: print what is saved.
        save_weights_only: accepted; files hold weights.
    """

    monitors: ClassVar[bool] = True
    FILE_EXTENSION = ".safetensors"

    def __init__(
        self,
        dirpath: Any = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | None = None,
        save_top_k: int = 1,
        save_weights_only: bool = True,
        mode: str = "min",
        every_n_epochs: int = 1,
    ) -> None:
        if save_top_k < -1 or every_n_epochs < 1:
            raise MisconfigurationException(
                f"ModelCheckpoint: save_top_k must be at least -1 and every_n_epochs at least 1, got "
                f"{save_top_k}, {every_n_epochs}"
            )
        if monitor is None and save_top_k > 1:
            raise MisconfigurationException(
                f"ModelCheckpoint(save_top_k={save_top_k}) needs monitor=, to know which ones are best"
            )
        self.dirpath, self.filename, self.monitor, self.mode = dirpath, filename or "{epoch}-{step}", monitor, mode
        self.verbose, self.save_last, self.save_top_k = verbose, save_last, save_top_k
        self.save_weights_only, self.every_n_epochs = save_weights_only, every_n_epochs
        self._folder = Path()
        self._reset()

    def _reset(self) -> None:
        self._watch = Monitor(self.monitor, self.mode)
        self.best_k_models: dict[str, float] = {}
        self.best_model_path = self.last_model_path = ""
        self.best_model_score: float | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find the folder."""
        if stage == "fit":
            self._reset()
            root = getattr(trainer.logger, "log_dir", None) or trainer.default_root_dir
            self._folder = Path(self.dirpath) if self.dirpath is not None else Path(root) / "checkpoints"

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save, where the epoch is good enough."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        if self.save_last:
            self.last_model_path = self._save(trainer, "last")
        if self.save_top_k == 0:
            return
        score = None if self.monitor is None else self._watch.read(trainer, "ModelCheckpoint")
        if self.monitor is None:
            self._keep_newest(trainer)
        elif score is not None and self._is_good(score):
            self._keep(trainer, score)

    def _is_good(self, score: float) -> bool:
        full = self.save_top_k != -1 and len(self.best_k_models) >= self.save_top_k
        return score == score and (not full or self._watch.better(score, self.best_k_models[self._worst()]))

    def _worst(self) -> str:
        key = self.best_k_models.__getitem__
        return (max if self.mode == "min" else min)(self.best_k_models, key=key)

    def _keep_newest(self, trainer: Any) -> None:
        before = self.best_model_path
        self.best_model_path = self._save(trainer, self._name(trainer))
        if self.save_top_k == 1 and before and before != self.best_model_path:
            Path(before).unlink(missing_ok=True)
        if not self.save_last:
            self.last_model_path = self.best_model_path

    def _keep(self, trainer: Any, score: float) -> None:
        path = self._save(trainer, self._name(trainer), {str(self.monitor): score})
        self.best_k_models[path] = score
        if self.save_top_k != -1 and len(self.best_k_models) > self.save_top_k:
            worst = self._worst()
            del self.best_k_models[worst]
            Path(worst).unlink(missing_ok=True)
        best = (min if self.mode == "min" else max)(self.best_k_models, key=self.best_k_models.__getitem__)
        self.best_model_path, self.best_model_score = best, self.best_k_models[best]
        if not self.save_last:
            self.last_model_path = path

    def _name(self, trainer: Any) -> str:
        values = {"epoch": trainer.current_epoch, "step": trainer.global_step, **trainer._values}

        def fill(match: re.Match[str]) -> str:
            name, spec = match[1], match[2] or ""
            if name not in values:
                raise MisconfigurationException(
                    f"ModelCheckpoint(filename={self.filename!r}): no metric {name!r} was logged; "
                    f"there are {', '.join(sorted(values))}"
                )
            return f"{name}={values[name]:{spec}}".replace("/", "_")

        name = re.sub(r"\{([^{}:]+)(?::([^{}]*))?\}", fill, self.filename)
        if not (self._folder / (name + self.FILE_EXTENSION)).exists() or "{" not in self.filename:
            return name
        mine = {Path(path).stem for path in (*self.best_k_models, self.best_model_path)}
        taken = (n for n in range(1, 10**6) if not (self._folder / f"{name}-v{n}{self.FILE_EXTENSION}").exists())
        return name if name in mine else f"{name}-v{next(taken)}"

    def _save(self, trainer: Any, name: str, metrics: dict[str, float] | None = None) -> str:
        path = self._folder / (name + self.FILE_EXTENSION)
        save_weights(trainer.lightning_module, path, {**trainer.position(), **(metrics or {})})
        if self.verbose:
            trainer.print(f"ModelCheckpoint: saved {path}")
        return str(path)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """After Ctrl-C: keep the weights as they are, as ``interrupted.safetensors``."""
        if isinstance(exception, KeyboardInterrupt) and trainer.interrupted:
            self.last_model_path = self._save(trainer, "interrupted")
