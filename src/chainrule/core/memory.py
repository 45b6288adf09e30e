"""Where arrays are in memory, for machine code."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import Any

import numpy as np

from_buffer = c_char.from_buffer


def address(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first element; of dense, writable memory in a fifth of NumPy's own time."""
    if array.flags.carray and array.size:
        return addressof(from_buffer(array))  # type: ignore[arg-type]
    found: int = array.__array_interface__["data"][0]
    return found
