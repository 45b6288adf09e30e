"""Dropout layers."""

from __future__ import annotations

from chainrule import tensors as ct
from chainrule.nn import functional as F
from chainrule.nn.module import Module


class Dropout(Module):
    """While training, each element becomes 0 with probability ``p``, else x / (1 - p); the identity in ``eval()`` mode.

    ``generator`` (ours; PyTorch has none here) draws from other random numbers than the default ones.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, generator: ct.Generator | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace
        self.generator = generator

    def forward(self, input: ct.Tensor) -> ct.Tensor:
        return F.dropout(input, self.p, self.training, self.inplace, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
