"""Samplers: which indices, how many, in which batches, and the same ones again from the same seed."""

import numpy as np
import pytest

import chainrule
from chainrule.utils.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


def seeded(seed=1):
    return chainrule.Generator().manual_seed(seed)


def test_sequential_and_random_orders():
    assert list(SequentialSampler(range(5))) == [0, 1, 2, 3, 4]
    order = list(RandomSampler(range(100), generator=seeded()))
    assert sorted(order) == list(range(100))
    assert order != list(range(100))
    assert all(type(i) is int for i in order)
    assert order == list(RandomSampler(range(100), generator=seeded()))
    assert order != list(RandomSampler(range(100), generator=seeded(2)))


def test_each_epoch_has_an_order_of_its_own():
    sampler = RandomSampler(range(50), generator=seeded())
    assert list(sampler) != list(sampler)


def test_random_sampler_counts():
    more = list(RandomSampler(range(10), num_samples=25, generator=seeded()))
    assert len(more) == 25
    assert sorted(more[:10]) == sorted(more[10:20]) == list(range(10))
    assert len(set(more[20:])) == 5
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=300, generator=seeded()))
    assert len(drawn) == 300
    assert min(np.bincount(drawn, minlength=3)) > 60
    assert list(RandomSampler([])) == []
    with pytest.raises(ValueError, match="num_samples must be a whole number"):
        RandomSampler(range(3), num_samples=0)


def test_subset_random_sampler():
    order = list(SubsetRandomSampler([7, 3, 5], generator=seeded()))
    assert sorted(order) == [3, 5, 7]


def test_weighted_sampling_follows_the_weights():
    drawn = list(WeightedRandomSampler([1.0, 0.0, 3.0], 4000, generator=seeded()))
    counts = np.bincount(drawn, minlength=3)
    assert counts[1] == 0
    # 3000 expected, standard deviation sqrt(4000 * .75 * .25) = 27: five of them
    assert abs(counts[2] - 3000) < 140


def test_weighted_sampling_without_replacement():
    for seed in range(20):
        drawn = list(WeightedRandomSampler([1.0, 0.0, 3.0, 2.0], 3, replacement=False, generator=seeded(seed)))
        assert sorted(drawn) == [0, 2, 3]
    first = [
        next(iter(WeightedRandomSampler([1.0, 3.0], 2, replacement=False, generator=seeded(s)))) for s in range(400)
    ]
    # 300 expected, standard deviation 8.7: five of them
    assert abs(sum(first) - 300) < 44


@pytest.mark.parametrize(
    ("weights", "count", "replacement", "message"),
    [
        ([1.0, -1.0], 1, True, "no distribution"),
        ([0.0, 0.0], 1, True, "no distribution"),
        ([[1.0]], 1, True, "no distribution"),
        ([1.0, float("nan")], 1, True, "no distribution"),
        ([1.0, 0.0], 2, False, "only 1 of 2 weights are above zero"),
        ([1.0], 0, True, "num_samples must be"),
    ],
)
def test_bad_weights(weights, count, replacement, message):
    with pytest.raises(ValueError, match=message):
        WeightedRandomSampler(weights, count, replacement)


def test_batches():
    assert list(BatchSampler(SequentialSampler(range(7)), 3, False)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(BatchSampler(SequentialSampler(range(7)), 3, True)) == [[0, 1, 2], [3, 4, 5]]
    assert len(BatchSampler(SequentialSampler(range(7)), 3, False)) == 3
    assert len(BatchSampler(SequentialSampler(range(7)), 3, True)) == 2
    assert list(BatchSampler(["a", "b", "c"], 2, False)) == [["a", "b"], ["c"]]
    assert list(BatchSampler(["a", "b", "c"], 2, True)) == [["a", "b"]]
    batch = next(iter(BatchSampler(SequentialSampler(range(7)), 3, False)))
    assert type(batch) is list
    assert type(batch[0]) is int


def test_a_stream_that_was_begun_is_batched_from_where_it_stands():
    stream = iter(SequentialSampler(range(6)))
    assert next(stream) == 0
    assert list(BatchSampler(stream, 2, False)) == [[1, 2], [3, 4], [5]]
    assert next(stream, "end") == "end"


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_bad_batch_sizes(size):
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        BatchSampler(SequentialSampler(range(3)), size, False)


def test_the_base_class_says_what_to_write():
    with pytest.raises(NotImplementedError, match=r"must define __iter__"):
        iter(Sampler())
