"""Making one batch of many samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.data._tensors import Tensor, as_tensor, from_numpy, stack
from chainrule.data.dataset import Samples


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of a list of samples, by PyTorch's rules, decided by the first sample.

    ========================  ============================================================
    samples                   batch
    ========================  ============================================================
    tensors, NumPy arrays     one tensor with a new first axis
    ints, bools, floats       tensor of dtype int64, bool, float64
    strings, bytes            the strings as they are, in a list or tuple
    tuples, lists             a list with one batch per position
    named tuples              a named tuple of batches
    mappings                  a mapping of batches, with the first sample's keys
    ========================  ============================================================

    Raises ShapeError where shapes or lengths differ and TypeError for anything else, None included.
    """
    if isinstance(batch, Samples):
        return batch.collate()
    if len(batch) == 0:
        raise ValueError("default_collate: there are no samples to make a batch of")
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack_tensors(batch)
    if isinstance(first, (np.ndarray, np.generic)):
        return _stack_arrays(batch)
    if isinstance(first, float):
        return from_numpy(np.array(batch, dtype=np.float64))
    if isinstance(first, int):  # bool included
        return from_numpy(np.array(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuild_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, (tuple, Sequence)):
        return _collate_sequences(batch, first)
    raise TypeError(
        explain(
            "default_collate cannot make a batch of these samples",
            expected="tensors, NumPy arrays, numbers, strings, or tuples, lists and mappings of them",
            got=f"{type(first).__module__}.{type(first).__qualname__}",
            fix="return one of these from the dataset, or pass collate_fn= to the DataLoader",
        )
    )


def default_convert(sample: Any) -> Any:
    """One sample with its NumPy arrays and numbers made tensors; what a loader without batches yields."""
    if isinstance(sample, np.ndarray):
        return sample if sample.dtype.kind in "OSU" else from_numpy(sample)
    if isinstance(sample, np.generic) and not isinstance(sample, (str, bytes)):
        return as_tensor(sample)
    if isinstance(sample, Mapping):
        return _rebuild_mapping(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*(default_convert(value) for value in sample))
    if isinstance(sample, (tuple, list)):
        return [default_convert(value) for value in sample]
    return sample


def _stack_tensors(batch: Sequence[Tensor]) -> Tensor:
    _same_shapes([tuple(t.shape) for t in batch])
    if any(t.requires_grad for t in batch):
        return stack(list(batch))
    return from_numpy(np.stack([t.numpy() for t in batch]))


def _stack_arrays(batch: Sequence[Any]) -> Tensor:
    arrays = [np.asarray(a) for a in batch]
    if arrays[0].dtype.kind in "OSU":
        raise TypeError(
            f"default_collate: no tensor can hold a NumPy array of dtype {arrays[0].dtype}; "
            "return numbers from the dataset, or pass collate_fn= to the DataLoader"
        )
    _same_shapes([a.shape for a in arrays])
    return from_numpy(np.stack(arrays))


def _same_shapes(shapes: list[tuple[int, ...]]) -> None:
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ShapeError(
                explain(
                    "the samples of a batch must have the same shape",
                    expected=f"{shapes[0]}, as sample 0 of this batch",
                    got=f"{shape} for sample {i}",
                    fix="pad or cut the samples in the dataset, or pass a collate_fn= that does",
                )
            )


def _collate_sequences(batch: Sequence[Any], first: Any) -> Any:
    for i, sample in enumerate(batch):
        if len(sample) != len(first):
            raise ShapeError(
                explain(
                    "each sample of a batch must have the same number of parts",
                    expected=f"{len(first)}, as sample 0 of this batch",
                    got=f"{len(sample)} for sample {i}",
                    fix="make the dataset return samples of one form, or pass a collate_fn=",
                )
            )
    columns = [default_collate(column) for column in zip(*batch, strict=True)]
    return type(first)(*columns) if isinstance(first, tuple) and hasattr(first, "_fields") else columns


def _rebuild_mapping(like: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """``values`` in a mapping of the type of ``like``, or in a dict where that type cannot be made from one."""
    if type(like) is dict:
        return values
    try:
        if isinstance(like, MutableMapping):
            clone = copy.copy(like)
            clone.update(values)
            return clone
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
