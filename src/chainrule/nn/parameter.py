"""``Parameter`` and ``Buffer``: tensors that a Module registers when they are assigned to one of its attributes."""

from __future__ import annotations

from typing import Any

from chainrule.ir.interpreter import Tracer
from chainrule.tensors.fastpath import plain
from chainrule.tensors.tensor import Tensor


def _alias(cls: type[Tensor], data: Any) -> Any:
    """A leaf of class ``cls`` that shares the memory of ``data`` and has no history."""
    if data is None:
        data = Tensor()
    if not isinstance(data, Tensor):
        raise TypeError(
            f"{cls.__name__} takes a Tensor, got {type(data).__name__}; make one first with chainrule.tensor(...)"
        )
    payload = data.detach()._d
    alias = object.__new__(cls)
    alias._d = payload if isinstance(payload, Tracer) else data.numpy_payload()
    alias._node = alias._view = None
    return alias


@plain
class Parameter(Tensor):
    """A tensor that is learned: a leaf that requires a gradient and that ``Module.parameters()`` finds.

    ``Parameter(data)`` shares the memory of ``data``. Results of ops on parameters are ordinary tensors. Raises
    TypeError unless ``data`` is a Tensor, RuntimeError if it requires a gradient and is not floating point.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        parameter = _alias(cls, data)
        if requires_grad:
            parameter.requires_grad_()
        return parameter

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


@plain
class Buffer(Tensor):
    """A tensor that is state but is not learned. ``persistent=False`` keeps it out of ``state_dict()``."""

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        buffer = _alias(cls, data)
        buffer.persistent = persistent
        return buffer

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = super().__deepcopy__(memo)
        copy.persistent = self.persistent
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"persistent": self.persistent})
