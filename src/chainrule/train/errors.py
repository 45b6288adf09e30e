"""Errors of training, and the words that say what to do about them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule import tensors as ct


class MisconfigurationException(ValueError):
    """A Trainer, a module or a callback was put together in a way that cannot work."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite. ``epoch`` and ``step`` (optimizer steps done) say when, ``loss`` is its
    value.
    """

    def __init__(self, message: str, *, loss: float, epoch: int, step: int) -> None:
        super().__init__(message)
        self.loss, self.epoch, self.step = loss, epoch, step


def non_finite_loss(
    loss: float, *, epoch: int, batch_idx: int, step: int, last: float | None, module: Any, batch: Any, optimizers: Any
) -> NonFiniteLossError:
    """The error for a loss that is not finite, with the likely cause: bad input, ruined weights, or the loss itself."""
    lines = [
        f"the training loss is {loss} in epoch {epoch}, batch {batch_idx} (after {step} optimizer steps)",
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
    lines.append("  (Trainer(terminate_on_nan=False) goes on regardless)")
    return NonFiniteLossError("\n".join(lines), loss=loss, epoch=epoch, step=step)


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
