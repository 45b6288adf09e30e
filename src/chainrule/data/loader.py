"""DataLoader: batches of a dataset, in PyTorch's interface."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from chainrule.core.errors import explain
from chainrule.data._tensors import Generator, Tensor
from chainrule.data.collate import default_collate, default_convert
from chainrule.data.dataset import IterableDataset, Samples, Subset, TensorDataset, batch_method, fetch
from chainrule.data.samplers import (
    BatchSampler,
    BatchStream,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from chainrule.data.workers import Crew, map_ahead, stream_ahead

#: samplers that draw the whole order of an epoch when it begins
_AT_ONCE = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset")


class Rows(NamedTuple):
    """An epoch: the tensors whose rows make batches, what makes a batch of some rows, and the rows of each batch."""

    tensors: tuple[Tensor, ...]
    fetch: Callable[[Any], Any]
    batches: Iterator[Any]


class DataLoader:
    """Iterates over batches of ``dataset``; each ``for`` over it is one epoch.

    - ``batch_size`` samples a batch, the last one shorter, or left out with ``drop_last``; None yields single samples.
    - ``shuffle``: a new random order each epoch, drawn from ``generator`` (or from the default generator). Or give a
      ``sampler`` (an iterable of indices) or a ``batch_sampler`` (an iterable of lists of indices).
    - ``collate_fn(samples)`` makes the batch, :func:`default_collate` unless given. With the default, datasets in
      memory are gathered a whole batch at a time: NOTE [Batches by index] in dataset.py.
    - ``num_workers`` threads fetch ahead, ``prefetch_factor`` (2) batches each; ``timeout`` in seconds and
      ``worker_init_fn(worker_id)`` belong to them: NOTE [Loader workers] in workers.py.
    - ``pin_memory``, ``pin_memory_device``, ``persistent_workers`` and ``in_order`` are taken and change nothing:
      tensors live in the memory of this process, threads start in no time, and the order is always kept.

    Raises ValueError for options that contradict each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._check_workers(prefetch_factor, multiprocessing_context)

        self._is_stream = isinstance(dataset, IterableDataset)
        if self._is_stream and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                f"DataLoader: {type(dataset).__name__} is an IterableDataset, a stream without an index; "
                "it cannot take shuffle, sampler or batch_sampler. Shuffle inside its __iter__"
            )
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: give either shuffle=True or a sampler (which decides the order), not both")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader: a batch_sampler decides everything about batches; "
                    "leave out batch_size, shuffle, sampler and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None means no batches, so drop_last has nothing to drop")

        if sampler is None and not self._is_stream:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self._batched = batch_size is not None or batch_sampler is not None
        if batch_size is not None and batch_sampler is None:
            # For a stream only the check of batch_size and drop_last is wanted.
            batch_sampler = BatchSampler(sampler if sampler is not None else (), batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = None if self._is_stream else batch_sampler
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self._ready = True

    def _check_workers(self, prefetch_factor: int | None, context: Any) -> None:
        if self.num_workers < 0:
            raise ValueError(f"DataLoader: num_workers must be 0 or more, got {self.num_workers}")
        if self.timeout < 0:
            raise ValueError(f"DataLoader: timeout must be 0 (wait for ever) or more seconds, got {self.timeout}")
        if self.num_workers == 0 and (prefetch_factor is not None or self.timeout or self.persistent_workers):
            raise ValueError(
                "DataLoader: prefetch_factor, timeout and persistent_workers are about workers, but num_workers is 0"
            )
        if prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError(f"DataLoader: prefetch_factor must be 1 or more, got {prefetch_factor}")
        if context is not None:
            raise ValueError(
                explain(
                    "DataLoader: there is no multiprocessing_context to choose",
                    expected="None: workers are threads of this process",
                    got=repr(context),
                    fix="leave it out",
                )
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and self.__dict__.get("_ready"):
            raise ValueError(f"DataLoader: {name} cannot be changed afterwards; make a new DataLoader")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """The number of batches of an epoch (of samples if there are no batches)."""
        if self._is_stream:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self._batched else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self._is_stream:
            if self.num_workers:
                return stream_ahead(self._crew(), self._stream)
            return self._stream(self.dataset)
        fetch, batches = self._plan()
        return map_ahead(self._crew(), fetch, batches) if self.num_workers else map(fetch, batches)

    def rows(self) -> Rows | None:
        """An epoch by the rows of its batches, where a batch is nothing but the rows of tensors in memory; else None.

        For a :class:`TensorDataset`, or a :class:`Subset` of one, with a sampler of this package, collated as usual and
        without workers. A training loop may then gather batches in another way than by iterating over the loader.
        """
        dataset = self.dataset
        while type(dataset) is Subset and dataset.positions is not None:
            dataset = dataset.dataset
        if type(dataset) is not TensorDataset or any(t.requires_grad for t in dataset.tensors):
            return None
        usual = type(self.batch_sampler) is BatchSampler and self.collate_fn is default_collate and not self.num_workers
        if not usual or type(self.sampler) not in _AT_ONCE or type(self).__iter__ is not DataLoader.__iter__:
            return None
        return Rows(dataset.tensors, *self._plan())

    def _crew(self) -> Crew:
        seed = 0 if self.generator is None else int(self.generator.initial_seed())
        ahead = self.prefetch_factor or 1
        return Crew(self.dataset, self.num_workers, ahead, self.timeout, seed, self.worker_init_fn)

    def _plan(self) -> tuple[Callable[[Any], Any], Iterator[Any]]:
        """For one epoch: what makes a batch of indices, and the indices of each batch (arrays where there are)."""
        dataset, collate = self.dataset, self.collate_fn
        if not self._batched:
            return lambda index: collate(dataset[index]), iter(self.sampler)  # type: ignore[arg-type]
        batches = iter(self.batch_sampler)  # type: ignore[arg-type]
        if isinstance(batches, BatchStream):
            while type(dataset) is Subset and dataset.positions is not None:  # its indices are looked up once an epoch
                dataset, batches = dataset.dataset, batches.through(dataset.positions)
            batches = batches.arrays()
        if collate is not default_collate:
            return lambda indices: collate(list(fetch(dataset, indices))), batches
        many = batch_method(dataset)
        if many is None:
            return lambda indices: collate(fetch(dataset, indices)), batches

        def gather(indices: Any) -> Any:
            samples = many(indices)
            return samples.collate() if type(samples) is Samples else collate(samples)

        return gather, batches

    def _stream(self, dataset: Any) -> Iterator[Any]:
        samples = iter(dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn(batch)
