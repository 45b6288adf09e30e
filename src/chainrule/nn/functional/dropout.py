"""Dropout."""

from __future__ import annotations

from chainrule import tensors as ct


def dropout(
    input: ct.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: ct.Generator | None = None,
) -> ct.Tensor:
    """Inverted dropout: each element becomes 0 with probability ``p``, else x / (1 - p); the expectation stays x.

    Without ``training`` the input itself is returned. The numbers come from ``generator``, else from the default one
    that ``chainrule.manual_seed`` sets. Raises ValueError unless 0 <= p <= 1. Source: Srivastava et al. 2014.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        result = input * 0.0
    else:
        keep = ct.rand(input.shape, generator=generator) >= p
        result = input * (keep.to(input.dtype) * (1.0 / (1.0 - p)))
    return input.copy_(result) if inplace else result
