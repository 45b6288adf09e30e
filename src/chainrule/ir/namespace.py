"""The mathematics that rules are written against, handed to them as ``m``.

A namespace has one function per primitive, of the same name and with the same arguments (arrays first, then static
parameters). This module holds the NumPy one, filled by the registry as ops are declared, and the helpers that are the
same for every namespace because they are made of primitives alone.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from chainrule.core.shapes import Shape

# NOTE [floating-point warnings]. Infinity and NaN are ordinary results here, as in PyTorch; NumPy warns when one first
# appears. To switch that off around every ufunc would cost a tenth of an op, so the warnings that this package's own
# modules cause are filtered once. NumPy code of the user's still warns as the user has asked for.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"chainrule\.")


class Namespace:
    """Helpers made of primitives: the same for arrays, tensors, captured values and native code."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no primitive {name!r}: declare it under chainrule/ops")

    def swap_last(self, x: Any) -> Any:
        """The transpose of the last two axes."""
        n = len(x.shape)
        return self.permute(x, (*range(n - 2), n - 1, n - 2))

    def unbroadcast(self, g: Any, shape: Shape) -> Any:
        """The transpose of broadcasting: sums ``g`` over the axes along which ``shape`` was stretched."""
        have = g.shape
        if have == shape:
            return g
        lead = len(have) - len(shape)
        axes = tuple(range(lead)) + tuple(i + lead for i, d in enumerate(shape) if d == 1 and have[i + lead] != 1)
        g = self.sum(g, axes, False) if axes else g
        return g if g.shape == shape else self.reshape(g, shape)

    def zeros_like(self, x: Any) -> Any:
        """Zeros of the shape and dtype of ``x``."""
        return self.full(x.shape, 0, x.dtype)

    def zeros(self, shape: Shape, dtype: Any) -> Any:
        """Zeros."""
        return self.full(shape, 0, dtype)

    def expand_front(self, x: Any, size: int) -> Any:
        """``x`` repeated along a new first axis."""
        return self.broadcast_to(x, (size, *x.shape))


class NumPyNamespace(Namespace):
    """Raw arrays. Primitives are the kernels of the registry."""

    def swap_last(self, x: Any) -> Any:
        """The transpose of the last two axes."""
        return x.swapaxes(-2, -1)

    def full(self, shape: Shape, value: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """A constant array."""
        return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)

    def iota(self, size: int) -> np.ndarray[Any, Any]:
        """0, 1, ..., size - 1."""
        return np.arange(size)


NUMPY = NumPyNamespace()
