"""DataLoader: every way to ask for batches gives the batches, and contradictions are refused."""

import itertools
import threading
import time

import numpy as np
import pytest

import chainrule
from chainrule.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    get_worker_info,
)


def seeded(seed=3):
    return chainrule.Generator().manual_seed(seed)


def numbered(n=10):
    return TensorDataset(chainrule.arange(n).float().reshape(n, 1), chainrule.arange(n))


def labels(loader):
    return [y.tolist() for _, y in loader]


class Slow(Dataset):
    """Samples one by one, with what happened written down."""

    def __init__(self, n=6, wait=0.0, fail_at=None):
        self.n, self.wait, self.fail_at = n, wait, fail_at
        self.threads, self.workers = set(), set()

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.threads.add(threading.current_thread())
        info = get_worker_info()
        self.workers.add(None if info is None else info.id)
        if index == self.fail_at:
            raise KeyError(f"sample {index} is gone")
        time.sleep(self.wait)
        return index


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.n, step))

    def __len__(self):
        return self.n


def test_in_order():
    loader = DataLoader(numbered(), batch_size=4)
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    x, y = next(iter(loader))
    assert tuple(x.shape) == (4, 1)
    assert x.dtype == chainrule.float32
    assert y.dtype == chainrule.int64
    assert labels(DataLoader(numbered(), batch_size=4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(DataLoader(numbered(), batch_size=4, drop_last=True)) == 2
    assert labels(DataLoader(numbered(3))) == [[0], [1], [2]]


def test_shuffled_by_a_seeded_generator():
    first = labels(DataLoader(numbered(50), 8, shuffle=True, generator=seeded()))
    assert sorted(itertools.chain(*first)) == list(range(50))
    assert first == labels(DataLoader(numbered(50), 8, shuffle=True, generator=seeded()))
    loader = DataLoader(numbered(50), 8, shuffle=True, generator=seeded())
    assert labels(loader) == first
    assert labels(loader) != first  # the second epoch


def test_shuffled_by_the_default_generator():
    chainrule.manual_seed(7)
    first = labels(DataLoader(numbered(50), 8, shuffle=True))
    chainrule.manual_seed(7)
    assert first == labels(DataLoader(numbered(50), 8, shuffle=True))


def test_rows_stay_with_their_labels():
    for x, y in DataLoader(numbered(40), 7, shuffle=True):
        assert x.flatten().tolist() == y.tolist()


def test_samplers():
    assert labels(DataLoader(numbered(), 2, sampler=[3, 1, 4])) == [[3, 1], [4]]
    assert labels(DataLoader(numbered(), batch_sampler=[[1, 2], [5]])) == [[1, 2], [5]]

    class Backwards(SequentialSampler):
        def __iter__(self):
            return reversed(range(len(self.data_source)))

    data = numbered(3)
    assert labels(DataLoader(data, 2, sampler=Backwards(data))) == [[2, 1], [0]]


def test_subset_and_nested_subset():
    part = Subset(Subset(numbered(), [9, 8, 7, 6]), [3, 0])
    assert labels(DataLoader(part, 2)) == [[6, 9]]


def test_a_collate_function_gets_a_list_of_samples():
    seen = []

    def collate(samples):
        seen.append(samples)
        return sum(y.item() for _, y in samples)

    assert list(DataLoader(numbered(4), 2, collate_fn=collate)) == [1, 5]
    assert type(seen[0]) is list
    assert seen[0][1][0].tolist() == [1.0]


def test_without_batches():
    assert [y.item() for _, y in DataLoader(numbered(3), batch_size=None)] == [0, 1, 2]
    assert [b.tolist() for b in DataLoader([np.array([1]), np.array([2])], batch_size=None)] == [[1], [2]]
    assert len(DataLoader(numbered(3), batch_size=None)) == 3


def test_lists_and_arrays_are_datasets():
    assert [b.tolist() for b in DataLoader([5, 6, 7], 2)] == [[5, 6], [7]]
    assert [b.tolist() for b in DataLoader(np.eye(2), 2)] == [[[1.0, 0.0], [0.0, 1.0]]]


def test_streams():
    loader = DataLoader(Stream(5), 2)
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3
    assert [b.tolist() for b in DataLoader(Stream(5), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(2), batch_size=None)) == [0, 1]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing_but_who_does_it(workers):
    expected = [b.tolist() for b in DataLoader(Slow(11), 2, shuffle=True, generator=seeded())]
    data, started = Slow(11), []
    loader = DataLoader(
        data, 2, shuffle=True, generator=seeded(), num_workers=workers, worker_init_fn=started.append, timeout=30
    )
    assert [b.tolist() for b in loader] == expected
    assert data.workers == set(range(workers))
    assert sorted(started) == list(range(workers))
    assert not any(t.is_alive() for t in data.threads)
    assert get_worker_info() is None


def test_workers_of_a_stream_share_it_out():
    batches = [b.tolist() for b in DataLoader(Stream(7), 2, num_workers=2)]
    assert batches == [[0, 2], [1, 3], [4, 6], [5]]


def test_workers_fetch_ahead_only_so_far():
    data = Slow(100)
    stream = iter(DataLoader(data, 1, num_workers=1, prefetch_factor=3, sampler=iter(range(100))))
    next(stream)
    stream.close()
    assert not any(t.is_alive() for t in data.threads)


def test_an_error_in_a_worker_arrives():
    with pytest.raises(KeyError, match="sample 3 is gone"):
        list(DataLoader(Slow(fail_at=3), 2, num_workers=2))

    def fail(worker):
        raise OSError(f"worker {worker} has no disk")

    with pytest.raises(OSError, match="worker 0 has no disk"):
        list(DataLoader(Slow(), 2, num_workers=1, worker_init_fn=fail))


def test_a_timeout_says_so():
    with pytest.raises(RuntimeError, match=r"no batch within timeout=0.05 seconds.*Slow"):
        list(DataLoader(Slow(wait=0.5), 1, num_workers=1, timeout=0.05))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": True, "sampler": [0]}, "either shuffle=True or a sampler"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "leave out batch_size"),
        ({"batch_sampler": [[0]], "drop_last": True}, "leave out batch_size"),
        ({"batch_size": None, "drop_last": True}, "nothing to drop"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"num_workers": -1}, "num_workers must be 0 or more"),
        ({"timeout": -1}, "timeout must be"),
        ({"timeout": 1}, "num_workers is 0"),
        ({"prefetch_factor": 2}, "num_workers is 0"),
        ({"prefetch_factor": 0, "num_workers": 1}, "prefetch_factor must be 1"),
        ({"multiprocessing_context": "spawn", "num_workers": 1}, "workers are threads"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(numbered(), **options)


def test_a_stream_takes_no_order():
    for options in ({"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}):
        with pytest.raises(ValueError, match="a stream without an index"):
            DataLoader(Stream(3), **options)


def test_settings_that_are_built_in_cannot_change():
    loader = DataLoader(numbered(), 2)
    with pytest.raises(ValueError, match="batch_size cannot be changed"):
        loader.batch_size = 4


def test_options_without_meaning_here_are_taken():
    loader = DataLoader(numbered(2), 2, pin_memory=True, num_workers=1, persistent_workers=True, in_order=True)
    assert labels(loader) == [[0, 1]]
