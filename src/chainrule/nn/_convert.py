"""Conversion of the tensors of a module to another dtype or device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule import tensors as ct
from chainrule.core import dtypes
from chainrule.ir.state import no_grad

if TYPE_CHECKING:
    from chainrule.nn.module import Module


def replace_tensors(root: Module, fn: Callable[[ct.Tensor], ct.Tensor]) -> None:
    """Put ``fn(tensor)`` in the place of every parameter's data, gradient and buffer; the objects stay."""
    with no_grad():
        for param in root.parameters():
            grad, param.grad = param.grad, None
            param.data = fn(param.detach())
            param.grad = None if grad is None else fn(grad)
        for module in root.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fn(buffer)


def parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Device and dtype out of the arguments of ``to``."""
    device = kwargs.pop("device", None)
    dtype = kwargs.pop("dtype", None)
    for ignored in ("non_blocking", "copy", "memory_format"):
        kwargs.pop(ignored, None)
    if kwargs:
        raise TypeError(f"to() got unexpected keyword arguments: {', '.join(kwargs)}")
    for arg in args:
        if isinstance(arg, ct.Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, dtypes.dtype):
            dtype = arg
        elif isinstance(arg, (str, ct.device)):
            device = arg
        elif arg is not None and not isinstance(arg, bool):
            raise TypeError(f"to() takes a dtype, a device or a tensor, got {type(arg).__name__}")
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
    return device, dtype
