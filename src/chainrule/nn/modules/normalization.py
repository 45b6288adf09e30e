"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from chainrule import tensors as ct
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * w + b, mean and variance over the last axes (Ba, Kiros and Hinton, 2016).

    Shapes: x and y (*, *normalized_shape), ``weight`` w and ``bias`` b normalized_shape. The weight starts as 1 and the
    bias as 0; ``elementwise_affine=False`` has neither, ``bias=False`` no bias. It is the same in training and in
    ``eval()`` mode.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (int(normalized_shape),) if isinstance(normalized_shape, Integral) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, present in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            made = Parameter(ct.empty(shape, dtype=dtype, device=device)) if present else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: ct.Tensor) -> ct.Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
