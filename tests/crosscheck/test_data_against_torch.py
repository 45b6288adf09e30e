"""Loader, collate, split and samplers beside PyTorch's: same structure, dtypes, values and lengths."""

import inspect
from collections import namedtuple

import numpy as np
import pytest

import chainrule
import chainrule.utils.data as ours

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.utils.data")
pytestmark = pytest.mark.crosscheck

Point = namedtuple("Point", ["x", "y"])


def plain(value):
    """A batch as types, dtypes and values."""
    if isinstance(value, (chainrule.Tensor, torch.Tensor)):
        return "tensor", str(value.dtype).split(".")[-1], value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [plain(v) for v in value]
    return type(value).__name__, value


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        [1.5, 2],
        [True, False],
        [np.float32(1), np.float32(2)],
        [np.array(1), np.array(2)],
        [np.zeros((2, 3), np.uint8)] * 2,
        ["a", "b"],
        [(1, "a"), (2, "b")],
        [[1, 2.5], [3, 4.5]],
        [Point(1, 2.0), Point(3, 4.0)],
        [{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3, 4]}],
    ],
    ids=repr,
)
def test_collate(batch):
    assert plain(ours.default_collate(batch)) == plain(theirs.default_collate(batch))
    assert plain(ours.default_convert(batch[0])) == plain(theirs.default_convert(batch[0]))


@pytest.mark.parametrize(
    ("n", "lengths"),
    [(10, [7, 3]), (10, [0.5, 0.25, 0.25]), (11, [0.3, 0.3, 0.4]), (7, [1.0]), (5, [1, 0]), (3, [3, 0])],
)
@pytest.mark.filterwarnings("ignore:.*empty:UserWarning")
def test_split_lengths(n, lengths):
    data = range(n)
    mine, other = (module.random_split(data, lengths) for module in (ours, theirs))
    assert [len(p) for p in mine] == [len(p) for p in other]
    assert type(mine[0].indices) is type(other[0].indices)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 4},
        {"batch_size": 4, "drop_last": True},
        {"batch_size": None},
        {"batch_size": 3, "sampler": [5, 1, 2, 0]},
        {"batch_sampler": [[1, 2], [0]]},
        {},
    ],
    ids=repr,
)
def test_loader(options):
    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10)
    mine = ours.DataLoader(ours.TensorDataset(chainrule.from_numpy(x), chainrule.from_numpy(y)), **options)
    other = theirs.DataLoader(theirs.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), **options)
    assert len(mine) == len(other)
    assert [plain(b) for b in mine] == [plain(b) for b in other]


def test_signatures():
    for name in ("DataLoader", "random_split", "Subset", "RandomSampler", "WeightedRandomSampler", "BatchSampler"):
        mine, other = (list(inspect.signature(getattr(m, name)).parameters) for m in (ours, theirs))
        assert mine == other, name
