"""Digits: the bundled set in the interface of the others, and its fixed split."""

import sys

import numpy as np
import pytest

from chainrule.vision import datasets, transforms


def test_the_split_is_fixed_and_fair():
    sklearn = pytest.importorskip("sklearn.datasets")
    train, test = datasets.Digits(), datasets.Digits(train=False)
    assert (len(train), len(test)) == (1438, 359)
    counts = np.bincount(test.targets.numpy())
    whole = sklearn.load_digits()
    assert counts.tolist() == np.rint(np.bincount(whole.target) * 0.2).astype(int).tolist()
    # Together they are the whole set, each image once.
    together = np.concatenate([train.data.numpy(), test.data.numpy()]).reshape(1797, -1)
    expected = np.rint(whole.images * 255 / 16).astype(np.uint8).reshape(1797, -1)
    assert np.array_equal(np.sort(together.view("V64").ravel()), np.sort(expected.view("V64").ravel()))
    again = datasets.Digits(train=False)
    assert np.array_equal(test.data.numpy(), again.data.numpy())
    assert test.targets.tolist()[:8] == [0, 4, 5, 6, 3, 5, 4, 5]


def test_samples():
    pytest.importorskip("sklearn")
    data = datasets.Digits(transform=transforms.ToTensor())
    image, label = data[0]
    assert tuple(image.shape) == (1, 8, 8)
    assert float(image.max()) <= 1.0
    assert float(image.max()) > 0.9
    assert label in range(10)
    assert data.classes[7] == "7"
    assert "bundled with scikit-learn" in repr(data)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'chainrule\[cli\]'"):
        datasets.Digits()
