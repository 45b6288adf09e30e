"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from chainrule import tensors as ct
from chainrule.core.errors import ShapeError
from chainrule.ir.state import no_grad

Tensor = ct.Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after another; differentiable. ValueError if there are no parameters."""
    flat = [p.reshape((-1,)) for p in parameters]
    if not flat:
        raise ValueError(
            "parameters_to_vector got no parameters; an iterator such as net.parameters() can be used only once"
        )
    return ct.cat(flat)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of ``vec`` into the parameters, in the order of ``parameters_to_vector``.

    The numbers are copied (PyTorch makes the parameters views of ``vec``). ShapeError if the count does not fit, and
    then nothing was written.
    """
    if not isinstance(vec, ct.Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec).__name__}")
    parameters = list(parameters)
    count = sum(p.numel() for p in parameters)
    if tuple(vec.shape) != (count,):
        raise ShapeError(f"vector_to_parameters: expected a vector of {count} elements, got shape {tuple(vec.shape)}")
    start = 0
    with no_grad():
        for param in parameters:
            end = start + param.numel()
            param.copy_(vec[start:end].reshape(param.shape))
            start = end
