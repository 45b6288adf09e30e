"""Datasets, their parts and their sums, and the way a whole batch is asked for."""

import numpy as np
import pytest

import chainrule
from chainrule.data.dataset import batch_method
from chainrule.utils.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Samples,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)


def numbered(n=6):
    return TensorDataset(chainrule.tensor([[float(i), 10.0 * i] for i in range(n)]), chainrule.tensor(list(range(n))))


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return index * index


class Count(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def test_tensor_dataset_items():
    data = numbered()
    assert len(data) == 6
    x, y = data[2]
    assert x.tolist() == [2.0, 20.0]
    assert y.item() == 2
    assert data[1:3][1].tolist() == [1, 2]


def test_tensor_dataset_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="same first size") as error:
        TensorDataset(chainrule.zeros(3, 2), chainrule.zeros(4))
    assert "(3, 2), (4,)" in str(error.value)
    with pytest.raises(ValueError, match="no tensors"):
        TensorDataset()
    with pytest.raises(TypeError, match="argument 1 is not one"):
        TensorDataset(chainrule.zeros(3), np.zeros(3))


def test_a_gathered_batch_equals_the_collated_samples():
    data = numbered()
    samples = data.__getitems__([4, 0, 4])
    assert isinstance(samples, Samples)
    assert len(samples) == 3
    gathered, collated = samples.collate(), default_collate(list(samples))
    assert len(gathered) == len(collated) == 2
    for a, b in zip(gathered, collated, strict=True):
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist()
    assert [y.item() for _, y in samples[1:]] == [0, 4]


def test_a_batch_is_a_copy():
    x = chainrule.zeros(4)
    (batch,) = TensorDataset(x).__getitems__([0, 1]).collate()
    batch += 1
    assert x.tolist() == [0.0] * 4


def test_a_batch_of_a_tensor_with_history_keeps_it():
    x = chainrule.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=2)))
    (batch * batch).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 0.0]


def test_subset():
    part = Subset(numbered(), [5, 1, 3])
    assert len(part) == 3
    assert part[0][1].item() == 5
    assert part.__getitems__(np.array([2, 0])).collate()[1].tolist() == [3, 5]
    inner = Subset(part, [2])
    assert inner.__getitems__([0]).collate()[1].tolist() == [3]


def test_subset_of_a_plain_dataset_and_of_keys():
    assert list(Subset(Squares(5), [3, 1]).__getitems__([0, 1])) == [9, 1]
    by_key = Subset({"a": 1, "b": 2}, ["b", "a"])
    assert [batch.tolist() for batch in DataLoader(by_key, batch_size=2)] == [[2, 1]]


def test_a_changed_subset_is_seen():
    part = Subset(numbered(), [0, 1])
    assert part.__getitems__([0]).collate()[1].tolist() == [0]
    part.indices[0] = 4
    assert part.__getitems__([0]).collate()[1].tolist() == [4]
    part.indices = [2]
    assert part.__getitems__([0]).collate()[1].tolist() == [2]


def test_an_overridden_getitem_is_never_passed_over():
    class Negated(TensorDataset):
        def __getitem__(self, index):
            return -super().__getitem__(index)[0]

    data = Negated(chainrule.tensor([1.0, 2.0]))
    assert batch_method(data) is None
    assert next(iter(DataLoader(data, batch_size=2))).tolist() == [-1.0, -2.0]
    part = Subset(data, [1, 0])
    assert next(iter(DataLoader(part, batch_size=2))).tolist() == [-2.0, -1.0]


def test_a_list_from_getitems_is_collated():
    class Many(Squares):
        def __getitems__(self, indices):
            return [1000 + int(i) for i in indices]

    assert [b.tolist() for b in DataLoader(Many(3), batch_size=2)] == [[1000, 1001], [1002]]


def test_concat():
    both = numbered(2) + Squares(3)
    assert isinstance(both, ConcatDataset)
    assert len(both) == 5
    assert [both[i] for i in (2, 3, 4)] == [0, 1, 4]
    assert both[-1] == 4
    assert both[1][1].item() == 1
    for index in (5, -6):
        with pytest.raises(IndexError, match="out of range"):
            both[index]
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="ChainDataset"):
        ConcatDataset([Count(2)])


def test_chain():
    both = Count(2) + Count(3)
    assert isinstance(both, ChainDataset)
    assert list(both) == [0, 1, 0, 1, 2]


def test_random_split_lengths():
    parts = random_split(range(10), [7, 3], generator=chainrule.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [7, 3]
    assert sorted([*parts[0], *parts[1]]) == list(range(10))
    again = random_split(range(10), [7, 3], generator=chainrule.Generator().manual_seed(0))
    assert [p.indices for p in parts] == [p.indices for p in again]
    assert type(parts[0].indices) is list


def test_random_split_fractions():
    assert [len(p) for p in random_split(range(10), [0.5, 0.25, 0.25])] == [6, 2, 2]
    assert [len(p) for p in random_split(range(11), [0.3, 0.3, 0.4])] == [4, 3, 4]
    with pytest.warns(UserWarning, match="part 1 of .* is empty"):
        assert [len(p) for p in random_split(range(1), [0.5, 0.5])] == [1, 0]


@pytest.mark.parametrize("lengths", [[5, 4], [5, 6], [0.5, 0.4], [11, -1], [], [1.5, 8.5]])
def test_random_split_refuses_lengths_that_do_not_sum_up(lengths):
    with pytest.raises(ValueError, match="random_split"):
        random_split(range(10), lengths)


def test_base_classes_say_what_to_write():
    with pytest.raises(NotImplementedError, match=r"must define __getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match=r"must define __iter__"):
        iter(IterableDataset())


def test_annotations_with_a_type():
    class Words(Dataset[str]):
        def __getitem__(self, index):
            return "word"

    assert Words()[0] == "word"
