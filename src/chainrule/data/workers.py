"""Fetching batches ahead in threads.

NOTE [Loader workers]. ``num_workers`` threads of this process prepare batches while the caller computes; PyTorch starts
processes. Threads start at once, copy nothing and need no pickling, but Python code in ``__getitem__`` and in
transforms runs in one of them at a time. They pay where fetching waits (files, network) or spends its time inside
NumPy; for data in memory 0 workers is fastest. Worker w gets batches w, w + num_workers, ..., and batches come out in
order, so the number of workers changes no result as long as samples do not depend on random draws made while fetching.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

_local = threading.local()


@dataclass(frozen=True)
class WorkerInfo:
    """What :func:`get_worker_info` tells: this worker's number, how many there are, its seed, and the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


@dataclass(frozen=True)
class Crew:
    """How many threads, how many batches each may be ahead, how long to wait, and what each does first."""

    dataset: Any
    count: int
    ahead: int
    timeout: float
    seed: int
    init: Callable[[int], Any] | None


def get_worker_info() -> WorkerInfo | None:
    """Inside a worker of a loader its :class:`WorkerInfo`, anywhere else None."""
    return getattr(_local, "info", None)


def map_ahead(crew: Crew, fetch: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
    """``fetch(b)`` for each of ``batches``, in order."""
    with _Threads(crew) as threads:
        pending: deque[Future[Any]] = deque()
        for worker, indices in zip(itertools.cycle(range(crew.count)), batches):
            pending.append(threads.submit(worker, fetch, indices))
            if len(pending) > crew.count * crew.ahead:
                yield threads.result(pending.popleft())
        while pending:
            yield threads.result(pending.popleft())


def stream_ahead(crew: Crew, batches_of: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """Each worker's batches of a stream, taken in turn. Every worker iterates the dataset itself."""
    end = object()
    with _Threads(crew) as threads:
        streams = [threads.result(threads.submit(w, lambda: batches_of(crew.dataset))) for w in range(crew.count)]
        pending: deque[tuple[int, Future[Any]]] = deque()
        for _ in range(crew.ahead):
            pending.extend((w, threads.submit(w, next, streams[w], end)) for w in range(crew.count))
        while pending:
            worker, future = pending.popleft()
            batch = threads.result(future)
            if batch is not end:
                pending.append((worker, threads.submit(worker, next, streams[worker], end)))
                yield batch


class _Threads:
    """One single-thread executor per worker, so that a worker's work is done in order and by one thread."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.pools = [ThreadPoolExecutor(1, f"chainrule-loader-{w}") for w in range(crew.count)]
        self.stuck = False

    def __enter__(self) -> _Threads:
        try:
            for future in [self.submit(w, self._start, w) for w in range(self.crew.count)]:
                self.result(future)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self.pools:
            pool.shutdown(wait=not self.stuck, cancel_futures=True)

    def _start(self, worker: int) -> None:
        _local.info = WorkerInfo(worker, self.crew.count, self.crew.seed + worker, self.crew.dataset)
        if self.crew.init is not None:
            self.crew.init(worker)

    def submit(self, worker: int, f: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.pools[worker].submit(f, *args)

    def result(self, future: Future[Any]) -> Any:
        if not self.crew.timeout:
            return future.result()
        try:
            return future.result(self.crew.timeout)
        except FutureTimeout:
            if future.done():  # the dataset itself raised a TimeoutError
                raise
            self.stuck = True
            raise RuntimeError(
                f"DataLoader: no batch within timeout={self.crew.timeout} seconds; raise timeout, or look at what the "
                f"{type(self.crew.dataset).__name__} waits for"
            ) from None
