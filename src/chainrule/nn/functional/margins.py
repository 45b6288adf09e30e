"""Losses between distributions, and losses with margins for rankings and embeddings."""

from __future__ import annotations

import warnings

from chainrule import tensors as ct
from chainrule.nn.functional._checks import legacy_reduction, match_shapes, reduced

Tensor = ct.Tensor


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence, elementwise y (log y - x) for log-probabilities x = ``input`` and probabilities y.

    With ``log_target`` the target holds logarithms too: exp(t) (t - x). ``reduction="batchmean"`` divides the sum by
    the batch size, which is the divergence as it is defined; "mean" divides by the number of elements, and warns.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL math definition.",
            UserWarning,
            stacklevel=2,
        )
    match_shapes("kl_div", input, target)
    losses = ct.exp(target) * (target - input) if log_target else ct.xlogy(target, target) - target * input
    if reduction == "batchmean":
        total = losses.sum()
        return total / input.shape[0] if input.ndim else total
    return reduced(losses, reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where y = 1, max(0, margin - x) where y = -1: x is a distance, y says whether the pair is alike."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("hinge_embedding_loss", input, target)
    alike = ct.where(target == -1, 0.0, input)
    apart = ct.where(target == 1, 0.0, ct.clamp(margin - input, min=0.0))
    return reduced(alike + apart, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -y (x1 - x2) + margin): y = 1 asks that x1 ranks above x2, y = -1 the contrary."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("margin_ranking_loss", input1, input2)
    match_shapes("margin_ranking_loss", input1, target)
    return reduced(ct.clamp(-target * (input1 - input2) + margin, min=0.0), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-y x)) for y = 1 or -1, without overflow for large -y x."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("soft_margin_loss", input, target)
    return reduced(ct.softplus(-target * input), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where y = 1, max(0, cos(x1, x2) - margin) where y = -1.

    Shapes: inputs (N, D) and target (N,), or inputs (D,) and target (). The cosine is taken along the last axis, with
    1e-12 added to each squared norm.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("cosine_embedding_loss", input1, input2, strict=True)
    if tuple(target.shape) != tuple(input1.shape[:-1]) or input1.ndim not in (1, 2):
        raise ValueError(
            "cosine_embedding_loss: inputs (N, D) go with a target (N,), inputs (D,) with a target (); got inputs "
            f"{tuple(input1.shape)} and target {tuple(target.shape)}"
        )
    eps = 1e-12
    squares = ((input1 * input1).sum(-1) + eps) * ((input2 * input2).sum(-1) + eps)
    cosine = (input1 * input2).sum(-1) / ct.sqrt(squares)
    alike = ct.where(target == 1, 1 - cosine, 0.0)
    apart = ct.where(target == -1, ct.clamp(cosine - margin, min=0.0), 0.0)
    return reduced(alike + apart, reduction)
