"""Datasets: what is there, and how one sample or a whole batch of it is fetched.

NOTE [Batches by index]. A dataset has ``__len__`` and ``__getitem__(index)``, as in PyTorch. It may also have PyTorch's
``__getitems__(indices)``, which returns the samples at ``indices`` (a sequence of ints; the loader passes an int64
array). What comes back is either a list of samples, or a :class:`Samples`, a sequence that fetches its samples only
when they are read and can make the finished batch in one go. With the default ``collate_fn`` the loader takes that
batch; any other ``collate_fn`` gets the list of samples it expects. So a dataset in memory opts in to fast batches by::

    def __getitems__(self, indices):
        return Samples(self, indices, self._gather)

    def _gather(self, indices):  # the batch that collating [self[i] for i in indices] would make
        return [from_numpy(self.x.take(indices, 0)), from_numpy(self.y.take(indices, 0))]

A subclass that overrides ``__getitem__`` alone is fetched sample by sample: a ``__getitems__`` inherited from further
up does not know of it and is not used (:func:`batch_method`).
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.data._tensors import Generator, Tensor, randperm, wrap


class Dataset:
    """Samples that are had by index. Subclasses write ``__getitem__`` and, for most uses, ``__len__``."""

    def __class_getitem__(cls, item: Any) -> type[Dataset]:
        """``Dataset[T]`` is allowed in annotations and as a base class, and is ``Dataset``."""
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index) and return one sample")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Samples in a stream: a subclass writes ``__iter__``. There is no index, so no shuffling and no sampler."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__(self) and yield one sample at a time")

    def __add__(self, other: Dataset) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class Samples(Sequence[Any]):
    """The samples of ``dataset`` at ``indices``: fetched when read, or made into one batch by :meth:`collate`.

    ``gather(indices)`` must return what collating the samples one by one would, as NOTE [Batches by index] says.
    """

    __slots__ = ("dataset", "gather", "indices")

    def __init__(self, dataset: Any, indices: Sequence[int], gather: Callable[[Any], Any]) -> None:
        self.dataset, self.indices, self.gather = dataset, indices, gather

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self.dataset[int(i)] for i in self.indices[position]]
        return self.dataset[int(self.indices[position])]

    def collate(self) -> Any:
        """The finished batch."""
        return self.gather(self.indices)


def batch_method(dataset: Any) -> Callable[[Any], Sequence[Any]] | None:
    """The dataset's ``__getitems__``, unless ``__getitem__`` was overridden further down than it; then None."""
    return dataset.__getitems__ if up_to_date(type(dataset), "__getitems__", "__getitem__") else None


@functools.lru_cache(256)
def up_to_date(kind: type, fast: str, plain: str) -> bool:
    """Whether a class has a method ``fast`` that is not inherited from above an overridden method ``plain``."""
    return next((fast in vars(k) for k in kind.__mro__ if fast in vars(k) or plain in vars(k)), False)


def fetch(dataset: Any, indices: Sequence[int]) -> Sequence[Any]:
    """The samples at ``indices``, by ``__getitems__`` where the dataset has one that is up to date."""
    many = batch_method(dataset)
    if many is not None:
        return many(indices)
    return [dataset[i] for i in (indices.tolist() if isinstance(indices, np.ndarray) else indices)]


class TensorDataset(Dataset):
    """Tensors of the same first size n; sample i is the tuple of their i-th entries.

    A batch is gathered by one indexing operation per tensor. Raises ShapeError where the first sizes differ.
    """

    def __init__(self, *tensors: Tensor) -> None:
        for position, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(
                    explain(
                        f"TensorDataset takes tensors, but argument {position} is not one",
                        expected="chainrule.Tensor",
                        got=type(t).__name__,
                        fix="pass chainrule.from_numpy(array), or chainrule.tensor(values)",
                    )
                )
        sizes = [tuple(t.shape) for t in tensors]
        if not sizes or any(len(s) == 0 or s[0] != sizes[0][0] for s in sizes):
            raise ShapeError(
                explain(
                    "TensorDataset needs one or more tensors of the same first size (the number of samples)",
                    expected=f"shapes that all start with {sizes[0][0]}" if sizes and sizes[0] else "at least one axis",
                    got=", ".join(str(s) for s in sizes) or "no tensors",
                    fix="give each tensor one row per sample",
                )
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        return Samples(self, indices, self._gather)

    def _gather(self, indices: Any) -> list[Tensor]:
        # A tensor that takes part in differentiation is indexed as such, so that the batch keeps its history.
        return [t[indices] if t.requires_grad else wrap(t.numpy().take(indices, 0)) for t in self.tensors]

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset):
    """The samples of ``dataset`` at ``indices``, in that order.

    To change the selection assign or change ``subset.indices`` itself: the array it is held as for fast batches is made
    anew after each look at that attribute.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    @property
    def indices(self) -> Sequence[int]:
        """Which samples of the dataset these are, as it was given."""
        self._array = None  # the caller may be about to change it
        return self._indices

    @indices.setter
    def indices(self, indices: Sequence[int]) -> None:
        self._indices = indices
        self._array: np.ndarray[Any, Any] | None = None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self._indices[i] for i in index]]
        return self.dataset[self._indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        array = self.positions
        return fetch(self.dataset, [self._indices[i] for i in indices] if array is None else array.take(indices))

    @property
    def positions(self) -> np.ndarray[Any, Any] | None:
        """The indices as an array; None if they are keys of another kind than whole numbers."""
        if self._array is None:
            array = np.asarray(self._indices)
            if array.ndim != 1 or array.dtype.kind not in "iu":
                return None
            self._array = array
        return self._array

    def __len__(self) -> int:
        return len(self._indices)


class ConcatDataset(Dataset):
    """Datasets one after the other, seen as one."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one dataset, got an empty list")
        for d in self.datasets:
            if isinstance(d, IterableDataset):
                raise TypeError(
                    f"ConcatDataset takes datasets with an index; {type(d).__name__} is a stream: use ChainDataset"
                )
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of range for a ConcatDataset of {n} samples")
        index = index % n
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]


class ChainDataset(IterableDataset):
    """Streams one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Split into non-overlapping random parts.

    ``lengths`` are numbers of samples that sum to ``len(dataset)``, or fractions that sum to 1. A fraction f gives
    floor(f n) samples, and the ones left over go to the parts in turn, one each. The permutation is drawn from
    ``generator``, or from the default generator. Raises ValueError if the lengths do not sum up.
    """
    n = len(dataset)
    if not lengths or min(lengths) < 0:
        raise ValueError(f"random_split: lengths must be zero or more, and at least one, got {list(lengths)}")
    counts = [int(length) for length in lengths]
    if math.isclose(sum(lengths), 1):
        counts = [math.floor(n * fraction) for fraction in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(f"random_split: part {i} of {list(lengths)} is empty ({n} samples)", stacklevel=2)
    elif counts != list(lengths) or sum(counts) != n:
        raise ValueError(
            explain(
                "random_split: the sum of the lengths is not the length of the dataset",
                expected=f"whole numbers that sum to {n}, or fractions that sum to 1",
                got=f"{list(lengths)}, which sum to {sum(lengths)}",
                fix="let the last length be len(dataset) minus the others",
            )
        )
    order = randperm(n, generator=generator).tolist()
    ends = itertools.accumulate(counts)
    return [Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts, strict=True)]
