"""LightningModules for people who have a plain ``nn.Module``, a loss and an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chainrule import nn, optim
from chainrule.train.errors import MisconfigurationException
from chainrule.train.module import LightningModule


class SupervisedModule(LightningModule):
    """Trains ``model`` on batches ``(inputs, targets)`` by ``loss(model(inputs), targets)``.

    Logged are ``train_loss``, ``val_loss``, ``test_loss``, and each of ``metrics`` under the same prefixes;
    ``predict`` gives the outputs of the model.

    Args:
        model: any module.
        loss: a function of outputs and targets, such as ``nn.MSELoss()``.
        optimizer: an optimizer over the model's parameters, or a function that makes one from parameters, such as
            ``lambda params: chainrule.optim.SGD(params, lr=0.1)``. Default: Adam with lr 1e-3.
        metrics: name -> function of outputs and targets that returns a number; averaged over samples.
        scheduler: a scheduler on the optimizer, or a function that makes one from the optimizer; steps after each
            epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Any],
        optimizer: Any = None,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        scheduler: Any = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.metrics = dict(metrics or {})
        self._optimizer, self._scheduler = optimizer, scheduler

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the model."""
        return self.model(*args, **kwargs)

    def evaluate_batch(self, batch: Any, prefix: str) -> Any:
        """The loss of a batch; logs it and the metrics under names that start with ``prefix``."""
        inputs, targets = _pair(batch)
        outputs = self.model(inputs)
        loss = self.loss(outputs, targets)
        self.log(f"{prefix}_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        for name, metric in self.metrics.items():
            self.log(f"{prefix}_{name}", metric(outputs, targets), prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss of the batch."""
        return self.evaluate_batch(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Logs ``val_loss`` and the metrics."""
        return self.evaluate_batch(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Logs ``test_loss`` and the metrics."""
        return self.evaluate_batch(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """The outputs of the model; targets in the batch are left out."""
        return self.model(batch[0] if isinstance(batch, list | tuple) else batch)

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler if there is one."""
        given = self._optimizer
        if given is None:
            given = optim.Adam(self.parameters(), lr=1e-3)
        elif not isinstance(given, optim.Optimizer):
            given = given(_trainable(self))
        if self._scheduler is None:
            return given
        scheduler = self._scheduler if hasattr(self._scheduler, "step") else self._scheduler(given)
        return [given], [scheduler]


class Classifier(SupervisedModule):
    """Trains ``model``, whose outputs are logits of shape (N, C), to predict class indices; also logs ``*_acc``.

    Args:
        model: any module.
        loss: default ``nn.CrossEntropyLoss()``.
        optimizer, metrics, scheduler: as for :class:`SupervisedModule`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Any] | None = None,
        optimizer: Any = None,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        scheduler: Any = None,
    ) -> None:
        super().__init__(
            model,
            nn.CrossEntropyLoss() if loss is None else loss,
            optimizer,
            {"acc": accuracy, **(metrics or {})},
            scheduler,
        )


def accuracy(logits: Any, targets: Any) -> Any:
    """The share of rows whose largest logit is at the target, a tensor of zero dimensions."""
    return (logits.detach().argmax(1) == targets).float().mean()


def _trainable(module: nn.Module) -> Iterable[Any]:
    return [p for p in module.parameters() if p.requires_grad]


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    got = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
    raise MisconfigurationException(
        f"SupervisedModule needs batches (inputs, targets), got {got}; write a LightningModule for others"
    )
