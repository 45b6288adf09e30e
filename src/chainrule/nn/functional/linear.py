"""Linear and bilinear maps."""

from __future__ import annotations

from chainrule import tensors as ct


def linear(input: ct.Tensor, weight: ct.Tensor, bias: ct.Tensor | None = None) -> ct.Tensor:
    """y = x W^T + b. Shapes: x (*, in), W (out, in) or (in,), b (out,) or (), y (*, out) or (*,)."""
    return ct.linear(input, weight, bias)


def bilinear(input1: ct.Tensor, input2: ct.Tensor, weight: ct.Tensor, bias: ct.Tensor | None = None) -> ct.Tensor:
    """y_o = x1^T W_o x2 + b_o. Shapes: x1 (*, in1), x2 (*, in2), W (out, in1, in2), b (out,), y (*, out)."""
    if weight.ndim != 3:
        raise RuntimeError(f"bilinear: weight must have 3 dimensions (out, in1, in2), got shape {tuple(weight.shape)}")
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise RuntimeError(
            "bilinear: the inputs must agree in all dimensions but the last, got "
            f"{tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    if (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise RuntimeError(
            f"bilinear: the last dimensions of the inputs, {input1.shape[-1]} and {input2.shape[-1]}, do not match the "
            f"weight of shape {tuple(weight.shape)} (out, in1, in2)"
        )
    y = ct.einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias
