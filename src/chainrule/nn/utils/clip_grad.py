"""Clipping of gradients, by their joint norm or element by element."""

from __future__ import annotations

import math
from collections.abc import Iterable

from chainrule import tensors as ct
from chainrule.ir.state import no_grad

Tensor = ct.Tensor


def _as_list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, ct.Tensor) else list(parameters)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in _as_list(parameters) if p.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of all ``tensors``, as if they were one vector: (sum |x|^p)^(1/p), p = ``norm_type``.

    ``float("inf")`` gives the largest |x|. Zero if there are no tensors. With ``error_if_nonfinite`` raises
    RuntimeError when the norm is NaN or infinite. ``foreach`` is accepted and has no effect.
    """
    norm_type = float(norm_type)
    with no_grad():
        norms = [ct.norm(t.detach(), norm_type) for t in _as_list(tensors)]
        if not norms:
            return ct.tensor(0.0)
        total = norms[0] if len(norms) == 1 else ct.norm(ct.stack(norms), norm_type)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite ({total.item()}), "
                "so it cannot be clipped. To disable this error and scale the gradients by the non-finite norm "
                "anyway, set `error_if_nonfinite=False`"
            )
        return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Multiply the gradients of ``parameters`` in place by min(1, max_norm / total_norm)."""
    with no_grad():
        # A norm of zero leaves the (zero) gradients alone, also for max_norm = 0.
        safe = ct.where(total_norm == 0, 1.0, total_norm)
        factor = ct.clamp(float(max_norm) / safe, max=1.0)
        for grad in _gradients(parameters):
            grad.mul_(factor)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by min(1, c / ||g||), so that their joint norm is at most c = ``max_norm``; in place.

    Returns ||g|| as it was before. Parameters without a gradient are left out. PyTorch divides by ||g|| + 1e-6; this
    is the formula itself, so the norm afterwards is c and not a little less. Source: Pascanu et al. 2013, algorithm 1.
    """
    parameters = _as_list(parameters)
    total_norm = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total_norm)
    return total_norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Cut every element of every gradient off to [-clip_value, clip_value], in place."""
    bound = float(clip_value)
    with no_grad():
        for grad in _gradients(parameters):
            grad.copy_(ct.clamp(grad, -bound, bound))
