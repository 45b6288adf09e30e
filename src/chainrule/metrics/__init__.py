"""Metrics that are updated batch by batch, in torchmetrics' interface."""

from chainrule.metrics.aggregation import MeanMetric
from chainrule.metrics.classification import Accuracy, ConfusionMatrix
from chainrule.metrics.metric import Metric

__all__ = ["Accuracy", "ConfusionMatrix", "MeanMetric", "Metric"]
