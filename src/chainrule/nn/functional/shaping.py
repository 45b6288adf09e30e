"""One-hot vectors and padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule import tensors as ct
from chainrule.nn.functional._checks import concrete


def one_hot(tensor: ct.Tensor, num_classes: int = -1) -> ct.Tensor:
    """Integer tensor (*,) -> int64 tensor (*, num_classes) with a 1 where the last index is the class, else 0.

    ``num_classes=-1`` takes the largest class + 1. Raises RuntimeError for a class outside 0..num_classes - 1.
    """
    values = concrete(tensor)
    if values is not None and values.size:
        if values.min() < 0:
            raise RuntimeError(f"Class values must be non-negative, got {int(values.min())}.")
        if num_classes != -1 and values.max() >= num_classes:
            raise RuntimeError(f"Class values must be smaller than num_classes {num_classes}, got {int(values.max())}.")
    return ct.one_hot(tensor, num_classes)


def pad(input: ct.Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> ct.Tensor:
    """Lengthen (negative numbers: shorten) the last axes of ``input``.

    ``pad`` = (before, after) of the last axis, then (before, after) of the one before it, and so on. ``mode``:
    "constant" fills with ``value`` (0), "reflect" mirrors without repeating the edge, "replicate" repeats the edge,
    "circular" goes round. Raises ValueError for an odd number of entries, too many of them, or more than reflect or
    circular can fill.
    """
    widths = _widths(input, pad)
    if mode == "constant":
        return ct.pad(input, pad, "constant", 0.0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode!r}; use constant, reflect, replicate or circular")
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    for axis, (before, after) in widths.items():
        if (before, after) != (0, 0):
            index = _source_index(mode, axis, input.shape[axis], before, after)
            input = ct.index_select(input, axis, ct.from_numpy(index))
    return input


def _widths(input: ct.Tensor, pad: Sequence[int]) -> dict[int, tuple[int, int]]:
    if len(pad) % 2:
        raise ValueError(f"Padding length must be divisible by 2 (before and after, per axis), got {len(pad)} numbers")
    if len(pad) // 2 > input.ndim:
        raise ValueError(f"{len(pad)} padding numbers are for {len(pad) // 2} axes, the input has only {input.ndim}")
    return {input.ndim - 1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}


def _source_index(mode: str, axis: int, size: int, before: int, after: int) -> np.ndarray:
    """For each place along the padded axis, the place of the input that it shows."""
    limit = {"reflect": size - 1, "circular": size}.get(mode)
    if limit is not None and max(before, after) > limit:
        raise ValueError(
            f'Padding mode "{mode}" can add at most {limit} at each end of axis {axis} of size {size}, '
            f"got ({before}, {after})"
        )
    if size == 0 or size + before + after < 0:
        raise ValueError(f"axis {axis} of size {size} cannot be padded by ({before}, {after}) with mode {mode!r}")
    index = np.arange(-before, size + after)
    if mode == "replicate":
        return np.clip(index, 0, size - 1)
    if mode == "circular":
        return index % size
    index = np.abs(index)
    return np.where(index >= size, 2 * (size - 1) - index, index)
