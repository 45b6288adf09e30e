"""Samplers: in which order the samples of a dataset are visited, and how they are grouped into batches.

The samplers here make an epoch's order as one array. Their iterators (:class:`IndexStream`, :class:`BatchStream`)
behave as any iterator of ints, or of lists of ints, and hand that array to those who can use it whole. A sampler
written by a user is any iterable; nothing more is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.data._tensors import Generator, Tensor, array_of, from_numpy, rand, randint, randperm

Indices = np.ndarray[Any, Any]


class IndexStream(Iterator[int]):
    """An epoch's indices in order, held as one array."""

    def __init__(self, order: Indices) -> None:
        self._order = order
        self._at = 0

    def __next__(self) -> int:
        if self._at >= len(self._order):
            raise StopIteration
        self._at += 1
        return int(self._order[self._at - 1])

    def rest(self) -> Indices:
        """All that was not yielded yet, as an int64 array; the stream is then at its end."""
        rest, self._at = self._order[self._at :], len(self._order)
        return rest


class BatchStream(Iterator[list[int]]):
    """An epoch's order cut into batches: lists of ints, or slices of the array by :meth:`arrays`."""

    def __init__(self, order: Indices, batch_size: int, drop_last: bool) -> None:
        self._order, self._cut = order, (batch_size, drop_last)
        self._arrays = _slices(order, batch_size, drop_last)

    def __next__(self) -> list[int]:
        return next(self._arrays).tolist()  # type: ignore[no-any-return]

    def through(self, positions: Indices) -> BatchStream:
        """The same batches from their beginning, with ``positions[i]`` in the place of each index i."""
        return BatchStream(positions.take(self._order), *self._cut)

    def arrays(self) -> Iterator[Indices]:
        """The batches not yielded yet, as int64 arrays."""
        return self._arrays


def _slices(order: Indices, size: int, drop_last: bool) -> Iterator[Indices]:
    stop = len(order) - len(order) % size if drop_last else len(order)
    for start in range(0, stop, size):
        yield order[start : start + size]


class Sampler:
    """The base of samplers: a subclass writes ``__iter__`` and, where the loader's length is asked for, ``__len__``."""

    def __class_getitem__(cls, item: Any) -> type[Sampler]:
        """``Sampler[T]`` is allowed in annotations and as a base class, and is ``Sampler``."""
        return cls

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__(self) and yield indices")


class SequentialSampler(Sampler):
    """0, 1, ..., n - 1."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return IndexStream(np.arange(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """A random order, drawn anew each time it is iterated.

    Without replacement it is a permutation (and, where ``num_samples`` exceeds n, several, the last one cut short);
    with replacement ``num_samples`` independent uniform draws. ``num_samples`` is n unless given.
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if num_samples is not None and not _is_count(num_samples):
            raise ValueError(f"RandomSampler: num_samples must be a whole number, 1 or more, got {num_samples!r}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, k = len(self.data_source), self.num_samples
        if n == 0:
            return IndexStream(np.arange(0))
        if self.replacement:
            return IndexStream(array_of(randint(0, n, (k,), generator=self.generator)))
        parts = [array_of(randperm(n, generator=self.generator)) for _ in range(-(-k // n))]
        return IndexStream(parts[0][:k] if len(parts) == 1 else np.concatenate(parts)[:k])

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in a random order, drawn anew each time."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        order = array_of(randperm(len(self.indices), generator=self.generator))
        return IndexStream(np.asarray(array_of(self.indices), dtype=np.int64)[order])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """``num_samples`` indices, index i with probability w_i / sum(w).

    With replacement a uniform u in [0, 1) picks the first i with w_0 + ... + w_i > u sum(w). Without, the
    ``num_samples`` smallest -log(u_i) / w_i are taken (Efraimidis and Spirakis, 2006, "Weighted random sampling with a
    reservoir"), which is drawing one by one among what is left.
    """

    def __init__(
        self,
        weights: Sequence[float] | Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        if not _is_count(num_samples):
            raise ValueError(
                f"WeightedRandomSampler: num_samples must be a whole number, 1 or more, got {num_samples!r}"
            )
        values = np.asarray(array_of(weights), dtype=np.float64)
        if values.ndim != 1 or not np.all(np.isfinite(values)) or np.any(values < 0) or not np.any(values > 0):
            raise ValueError(
                explain(
                    "WeightedRandomSampler: these weights are no distribution",
                    expected="one axis; finite, none negative, at least one above zero",
                    got=f"shape {values.shape}, values {np.array2string(values, threshold=8)}",
                    fix="give each sample the weight 1 / (number of samples of its class), for instance",
                )
            )
        possible = int(np.count_nonzero(values))
        if not replacement and num_samples > possible:
            raise ValueError(
                f"WeightedRandomSampler: cannot draw {num_samples} different samples, only {possible} of "
                f"{len(values)} weights are above zero; lower num_samples or use replacement=True"
            )
        self.weights = from_numpy(values)
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        weights = array_of(self.weights)
        count = self.num_samples if self.replacement else len(weights)
        u = array_of(rand(count, dtype=dtypes.float64, generator=self.generator))
        if self.replacement:
            total = np.cumsum(weights)
            return IndexStream(np.searchsorted(total / total[-1], u, side="right"))
        with np.errstate(divide="ignore"):  # weight zero: never before a positive one
            keys = np.where(weights > 0, -np.log1p(-u) / weights, np.inf)
        return IndexStream(np.argsort(keys, kind="stable")[: self.num_samples])

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Groups of ``batch_size`` indices of another sampler; the last one is shorter, or left out with ``drop_last``."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not _is_count(batch_size):
            raise ValueError(f"batch_size must be a whole number, 1 or more, got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last must be True or False, got {drop_last!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        stream = iter(self.sampler)
        if isinstance(stream, IndexStream):
            return BatchStream(stream.rest(), self.batch_size, self.drop_last)
        return self._one_by_one(stream)

    def _one_by_one(self, stream: Iterator[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in stream:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value > 0)
