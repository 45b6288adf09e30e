"""Norms and distances between vectors."""

from __future__ import annotations

from chainrule import tensors as ct


def normalize(
    input: ct.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: ct.Tensor | None = None
) -> ct.Tensor:
    """x / max(||x||_p, eps) along ``dim``."""
    result = input / ct.clamp(ct.norm(input, p, dim, True), min=eps)
    return result if out is None else out.copy_(result)


def cosine_similarity(x1: ct.Tensor, x2: ct.Tensor, dim: int = 1, eps: float = 1e-8) -> ct.Tensor:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along ``dim``; the inputs are broadcast."""
    x1, x2 = ct.broadcast_tensors(x1, x2)
    unit1 = x1 / ct.clamp(ct.norm(x1, 2, dim, True), min=eps)
    unit2 = x2 / ct.clamp(ct.norm(x2, 2, dim, True), min=eps)
    return (unit1 * unit2).sum(dim)


def pairwise_distance(
    x1: ct.Tensor, x2: ct.Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> ct.Tensor:
    """||x1 - x2 + eps||_p along the last axis; eps keeps the derivative finite where the two are equal."""
    return ct.norm(x1 - x2 + eps, p, -1, keepdim)
