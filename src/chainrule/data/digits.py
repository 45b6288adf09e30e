"""Digits: the small set of handwritten digits that comes with scikit-learn, so that nothing has to be downloaded."""

from __future__ import annotations

import numpy as np

from chainrule.core import random as random_bits
from chainrule.data.images import Array, ImageDataset

TEST_SHARE = 0.2
_SEED = 0


class Digits(ImageDataset):
    """1,797 handwritten digits of 8 x 8 grey values, labels 0 to 9, in the interface of MNIST.

    ``train`` takes 1,438 of them and the test set the other 359: a fixed split, drawn once from a fixed seed, with the
    same share (a fifth) of each class in the test set. The grey values 0 to 16 of the source are stretched to 0 to 255
    (round(255 v / 16)), so that ``ToTensor`` yields [0, 1] as for any image. ``root`` and ``download`` are not used.

    Source: E. Alpaydin and C. Kaynak, 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, as bundled with scikit-learn. Raises ImportError if scikit-learn is not installed.
    """

    classes = tuple("0123456789")

    def _load(self, download: bool) -> tuple[Array, Array]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                "Digits: the images come with scikit-learn, which is not installed here; "
                "fix: pip install 'chainrule[cli]' (or pip install scikit-learn)"
            ) from error
        bundle = load_digits()
        images = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
        labels = bundle.target
        chosen = split_rows(labels, self.train)
        return images[chosen], labels[chosen]

    def _location(self) -> str:
        return "bundled with scikit-learn"


def split_rows(labels: Array, train: bool) -> Array:
    """Which rows belong to the training or the test set: of each class a fifth, rounded, is for testing."""
    order = np.argsort(random_bits.bits(_SEED, 0, len(labels), 8), kind="stable")
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        test[of_class[: round(TEST_SHARE * len(of_class))]] = True
    return np.flatnonzero(~test if train else test)
