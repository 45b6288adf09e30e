"""The one place where the data package meets Tensor: inside it everything is a NumPy array."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.tensors import Generator, Tensor, as_tensor, from_numpy, rand, randint, randperm, stack
from chainrule.tensors.tensor import wrap

__all__ = ["Generator", "Tensor", "array_of", "as_tensor", "from_numpy", "rand", "randint", "randperm", "stack", "wrap"]


def array_of(values: Any) -> np.ndarray[Any, Any]:
    """The values of a tensor (shared memory, history left behind) or of anything else NumPy makes an array of."""
    return values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
