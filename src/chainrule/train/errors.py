"""Errors of training, and the words that say what to do about them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule import tensors as ct


class MisconfigurationException(ValueError):
    """A Trainer, a module or a callback was put together in a way that cannot work."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite. ``epoch`` (from 0) and ``step`` (optimizer steps done) say when, ``loss`` is its
    value.
    """

    def __init__(self, message: str, *, loss: float, epoch: int, step: int) -> None:
        super().__init__(message)
        self.loss, self.epoch, self.step = loss, epoch, step


def non_finite_loss(loss: float, trainer: Any, batch: Any, batch_idx: int, last: float | None) -> NonFiniteLossError:
    """The error for a loss that is not finite, with the likely cause: bad input, ruined weights, or the loss itself.

    ``last`` is the loss before it. Epochs and batches are counted from 1 in the message, as the progress bar does.
    """
    module, optimizers = trainer.lightning_module, trainer.optimizers
    of_all = f"/{trainer.num_training_batches}" if trainer.num_training_batches else ""
    lines = [
        (
            f"the training loss is {loss} in epoch {trainer.epoch_text()}, batch {batch_idx + 1}{of_all} "
            f"(after {trainer.global_step} optimizer steps)"
        ),
        "  expected: a finite number" + ("" if last is None else f"; the batch before had {last:.6g}"),
    ]
    bad_input = next((name for name, t in _named_leaves("batch", batch) if not _finite(t)), None)
    bad_weight = next((name for name, p in module.named_parameters() if not _finite(p)), None)
    rates = sorted(
        {float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group}
    )
    rate = ", ".join(f"{r:g}" for r in rates)
    if bad_input is not None:
        lines.append(f"  found:    NaN or infinity in the input: {bad_input}")
        lines.append("  try:      fill or drop missing values, and scale the data, before training")
    elif bad_weight is not None:
        lines.append(f"  found:    NaN or infinity in the parameter {bad_weight}: an earlier step was too large")
        lines.append(f"  try:      a smaller learning rate (now {rate}), or Trainer(gradient_clip_val=1.0)")
    else:
        lines.append(
            "  found:    inputs and parameters are finite, so it comes from the forward pass or the loss itself"
        )
        lines.append(
            f"  try:      a smaller learning rate (now {rate}), Trainer(gradient_clip_val=1.0), "
            "inputs scaled to about 1,"
        )
        lines.append(
            "            losses on logits (CrossEntropyLoss, BCEWithLogitsLoss) rather than "
            "log(softmax(x)) or log(sigmoid(x))"
        )
    if module.automatic_optimization:
        lines.append("  weights:  as they were before this batch; the optimizer did not step")
    lines.append("  (Trainer(terminate_on_nan=False) goes on regardless)")
    return NonFiniteLossError("\n".join(lines), loss=loss, epoch=trainer.current_epoch, step=trainer.global_step)


def _named_leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, ct.Tensor | np.ndarray):
        return [(name, value)]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _named_leaves(f"{name}[{key!r}]", item)]
    if isinstance(value, list | tuple):
        return [leaf for i, item in enumerate(value) for leaf in _named_leaves(f"{name}[{i}]", item)]
    return [(name, value)] if isinstance(value, float) else []


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    array = value.detach().numpy() if isinstance(value, ct.Tensor) else value
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
