"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from chainrule import tensors as ct
from chainrule.core.errors import DTypeError, ShapeError, explain
from chainrule.tensors.namespace import TENSORS


def layer_norm(
    input: ct.Tensor,
    normalized_shape: Sequence[int],
    weight: ct.Tensor | None = None,
    bias: ct.Tensor | None = None,
    eps: float = 1e-5,
) -> ct.Tensor:
    """y = (x - mean) / sqrt(var + eps) * w + b, mean and variance over the last axes (Ba, Kiros and Hinton, 2016).

    Shapes: x and y (*, *normalized_shape), w and b normalized_shape; without w it is 1, without b it is 0. The variance
    is the mean of (x - mean)^2.

    Raises:
        ShapeError: the input does not end in ``normalized_shape``, or weight or bias have another shape.
        DTypeError: the input is of whole numbers, or weight or bias are of another dtype than the input.
    """
    if isinstance(normalized_shape, Integral):
        raise TypeError(
            explain(
                "layer_norm: normalized_shape is a number",
                expected="the shape of the last axes",
                got=repr(normalized_shape),
                fix=f"write ({normalized_shape},); nn.LayerNorm takes a number too",
            )
        )
    shape = tuple(normalized_shape)
    given = {"input": input, "weight": weight, "bias": bias}
    for name, value in given.items():
        if not isinstance(value, ct.Tensor) and (value is not None or name == "input"):
            raise TypeError(
                explain(f"layer_norm: {name} is not a tensor", expected="a Tensor", got=type(value).__name__)
            )
    x = input._d
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            explain(
                f"layer_norm: the input does not end in normalized_shape={list(shape)}",
                expected=f"an input of shape (*, {', '.join(map(str, shape))})" if shape else "at least one axis",
                got=f"input of shape {tuple(x.shape)}",
                fix="normalized_shape is the shape of the last axes, without the batch",
            )
        )
    if x.dtype.kind != "f":
        raise DTypeError(
            explain("layer_norm needs floating-point numbers", got=str(input.dtype), fix="convert it with .float()")
        )
    for name in ("weight", "bias"):
        value = given[name]
        if value is None:
            continue
        if value._d.shape != shape:
            raise ShapeError(
                explain(
                    f"layer_norm: {name} has another shape than normalized_shape={list(shape)}",
                    expected=f"{name} of shape {shape}",
                    got=f"{tuple(value._d.shape)}",
                )
            )
        if value._d.dtype != x.dtype:
            raise DTypeError(
                explain(
                    f"layer_norm: {name} and input have different dtypes",
                    expected=f"{name} of {input.dtype}, as the input",
                    got=str(value.dtype),
                    fix=f"convert the input with .to({value.dtype}), or the layer with .to({input.dtype})",
                )
            )
    w = ct.ones(shape, dtype=input.dtype) if weight is None else weight
    b = ct.zeros(shape, dtype=input.dtype) if bias is None else bias
    return TENSORS.layer_norm(input, w, b, eps=float(eps))  # type: ignore[no-any-return]
