"""Training in Lightning's programming model: ``import chainrule.train as pl``.

A :class:`LightningModule` says what a step is and which optimizer to use, a :class:`Trainer` runs the steps. A plain
``nn.Module`` is trained by wrapping it: ``Trainer(max_epochs=5).fit(Classifier(model), loader)``.
"""

from chainrule.train import callbacks, loggers
from chainrule.train.callbacks import Callback
from chainrule.train.datamodule import LightningDataModule
from chainrule.train.errors import MisconfigurationException, NonFiniteLossError
from chainrule.train.module import LightningModule
from chainrule.train.seed import seed_everything
from chainrule.train.supervised import Classifier, SupervisedModule
from chainrule.train.trainer import Trainer
from chainrule.train.weights import load_weights, save_weights

__all__ = [
    "Callback",
    "Classifier",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "NonFiniteLossError",
    "SupervisedModule",
    "Trainer",
    "callbacks",
    "load_weights",
    "loggers",
    "save_weights",
    "seed_everything",
]
