"""Losses for numbers: squared, absolute and robust errors, and likelihoods of Gaussian and Poisson variables."""

from __future__ import annotations

import math

from chainrule import tensors as ct
from chainrule.core.errors import ShapeError
from chainrule.nn.functional._checks import concrete, legacy_reduction, match_shapes, reduced

Tensor = ct.Tensor


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error (x - y)^2. With ``weight`` w the mean is sum(w (x - y)^2) / sum(w)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("mse_loss", input, target)
    error = input - target
    return _weighted(error * error, weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Absolute error |x - y|, derivative 0 at x = y. With ``weight`` w the mean is sum(w |x - y|) / sum(w)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("l1_loss", input, target)
    return _weighted(ct.abs(input - target), weight, reduction)


def _weighted(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    if weight is None:
        return reduced(losses, reduction)
    losses = losses * _like_losses(weight, losses)
    return losses.sum() / weight.sum() if reduction == "mean" else reduced(losses, reduction)


def _like_losses(weight: Tensor, losses: Tensor) -> Tensor:
    if tuple(weight.shape) != tuple(losses.shape):
        raise ShapeError(
            f"weight must have the shape of the losses: expected {tuple(losses.shape)}, got {tuple(weight.shape)}"
        )
    return weight


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - y)^2 / (2 beta) where |x - y| < beta, else |x - y| - beta / 2; beta = 0 is ``l1_loss`` (Girshick 2015)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}")
    match_shapes("smooth_l1_loss", input, target)
    error = input - target
    size = ct.abs(error)
    losses = size if beta == 0 else ct.where(size < beta, error * error * (0.5 / beta), size - 0.5 * beta)
    return reduced(losses, reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """(x - y)^2 / 2 where |x - y| < delta, else delta (|x - y| - delta / 2) (Huber 1964).

    ``weight`` multiplies the losses; the mean still divides by their number.
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}")
    match_shapes("huber_loss", input, target)
    error = input - target
    size = ct.abs(error)
    losses = ct.where(size < delta, error * error * 0.5, (size - 0.5 * delta) * delta)
    return reduced(losses if weight is None else losses * _like_losses(weight, losses), reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts y under a Poisson law: exp(x) - y x; x - y log(x + eps) without ``log_input``.

    ``full`` adds Stirling's approximation of log(y!), y log y - y + log(2 pi y) / 2, where y > 1.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    match_shapes("poisson_nll_loss", input, target)
    losses = ct.exp(input) - target * input if log_input else input - target * ct.log(input + eps)
    if full:
        y = ct.where(target > 1, target, 1.0)
        stirling = y * ct.log(y) - y + 0.5 * ct.log(y * (2 * math.pi))
        losses = losses + ct.where(target > 1, stirling, 0.0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood (log v + (x - y)^2 / v) / 2 of targets y under N(x, v), ``full`` adds log(2 pi) / 2.

    ``var`` has the shape of ``input``, or 1 in (or lacks) the last axis, or is a number. It is raised to ``eps``
    where smaller, and the derivative by it is taken at the raised value, as in PyTorch. Raises ValueError for a
    negative variance. Source: Nix & Weigend 1994.
    """
    match_shapes("gaussian_nll_loss", input, target)
    if not isinstance(var, ct.Tensor):
        var = ct.full_like(input, var)
    var = _fitting_variance(input, var)
    values = concrete(var)
    if values is not None and (values < 0).any():
        raise ValueError(f"var has negative entry/entries: expected variances >= 0, got a smallest of {values.min()}")
    var = var + ct.clamp(eps - var, min=0.0).detach()
    error = input - target
    losses = 0.5 * (ct.log(var) + error * error / var)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _fitting_variance(input: Tensor, var: Tensor) -> Tensor:
    a, v = tuple(input.shape), tuple(var.shape)
    if a == v:
        return var
    if a[:-1] == v:
        return var.unsqueeze(-1)
    if len(a) == len(v) and sum(n for m, n in zip(a, v, strict=True) if m != n) == 1:
        return var
    raise ShapeError(f"var is of incorrect size: expected {a}, {a[:-1]} or {(*a[:-1], 1)}, got {v}")
