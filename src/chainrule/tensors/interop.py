"""Working with other array libraries: sharing memory through DLPack, and NumPy's functions applied to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core import trees
from chainrule.core.errors import explain
from chainrule.tensors.creation import from_numpy
from chainrule.tensors.functions import linalg, pointwise
from chainrule.tensors.tensor import Tensor


def to_dlpack(self: Tensor, **kwargs: Any) -> Any:
    """The DLPack capsule of a tensor (``__dlpack__``).

    Raises:
        BufferError: if it requires a gradient.
    """
    if self.requires_grad:
        raise BufferError(explain("a tensor that requires a gradient cannot be exported", fix="use .detach() first"))
    return self.numpy_payload().__dlpack__(**kwargs)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """(1, 0): the CPU."""
    out: tuple[int, int] = self.numpy_payload().__dlpack_device__()
    return out


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of any array with ``__dlpack__`` (NumPy, PyTorch, JAX, ...)."""
    return from_numpy(np.from_dlpack(source))


#: NumPy's ufuncs that are called otherwise here; the others bear the same name
_UFUNCS = {
    "equal": pointwise.eq, "invert": pointwise.bitwise_not, "left_shift": pointwise.bitwise_left_shift,
    "matmul": linalg.matmul, "power": pointwise.pow, "right_shift": pointwise.bitwise_right_shift,
    "rint": pointwise.round,
}  # fmt: skip


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """``np.sin(tensor)`` and ``array * tensor`` are tensors, with history; ``array += tensor`` writes the array."""
    out = kwargs.pop("out", None)
    if method != "__call__" or kwargs:
        return NotImplemented
    if out is not None:
        arrays = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
        return NotImplemented if isinstance(out[0], Tensor) else ufunc(*arrays, out=out)
    function: Any = _UFUNCS.get(ufunc.__name__) or getattr(pointwise, ufunc.__name__, None)
    if function is None:
        return NotImplemented
    return function(*(from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs))


def array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's other functions (``np.mean(tensor)``) compute with the array: NumPy's results, without history."""
    given, structure = trees.flatten((list(args), kwargs))
    args, kwargs = trees.unflatten(structure, [x.numpy() if isinstance(x, Tensor) else x for x in given])
    return function(*args, **kwargs)
