"""Callbacks: what happens beside the training steps."""

from chainrule.train.callbacks.base import Callback, LambdaCallback
from chainrule.train.callbacks.checkpoint import ModelCheckpoint
from chainrule.train.callbacks.early_stopping import EarlyStopping
from chainrule.train.callbacks.lr_monitor import LearningRateMonitor
from chainrule.train.callbacks.progress import PlainProgress, ProgressBar, RichProgressBar
from chainrule.train.callbacks.summary import ModelSummary

RichModelSummary = ModelSummary
TQDMProgressBar = RichProgressBar

__all__ = [
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "PlainProgress",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "TQDMProgressBar",
]
