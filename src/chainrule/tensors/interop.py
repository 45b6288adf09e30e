"""Sharing memory with other array libraries through DLPack, without a copy in either direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.errors import GradError, explain
from chainrule.tensors.creation import from_numpy
from chainrule.tensors.tensor import Tensor


def to_dlpack(self: Tensor, **kwargs: Any) -> Any:
    """The DLPack capsule of a tensor (``__dlpack__``).

    Raises:
        RuntimeError: if it requires a gradient.
    """
    if self._node is not None:
        raise GradError(explain("a tensor that requires a gradient cannot be exported", fix="use .detach() first"))
    return self.numpy_payload().__dlpack__(**kwargs)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """(1, 0): the CPU."""
    out: tuple[int, int] = self.numpy_payload().__dlpack_device__()
    return out


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of any array with ``__dlpack__`` (NumPy, PyTorch, JAX, ...)."""
    return from_numpy(np.from_dlpack(source))
