"""Distances and similarities as layers."""

from __future__ import annotations

from chainrule import tensors as ct
from chainrule.nn import functional as F
from chainrule.nn.module import Module


class PairwiseDistance(Module):
    """||x1 - x2 + eps||_p along the last axis."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: ct.Tensor, x2: ct.Tensor) -> ct.Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class CosineSimilarity(Module):
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along ``dim``."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: ct.Tensor, x2: ct.Tensor) -> ct.Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)
