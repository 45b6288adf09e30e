"""The data of a run: training and test examples in memory, ready for a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import data
from chainrule.cli.settings import Settings
from chainrule.core.errors import explain

Array = np.ndarray[Any, Any]

_IMAGES = {"digits": data.Digits, "mnist": data.MNIST, "fashion-mnist": data.FashionMNIST}
_TEST_SHARE = 0.2  # of a CSV file
_MANY = 50  # categories that a column of text may have, and classes that a target of whole numbers may have


@dataclass(frozen=True)
class Examples:
    """Inputs (n, features) float32 and class indices (n,) int64."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Any) -> Examples:
        return Examples(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Bundle:
    """A data set: training and test examples, the names of the classes, and remarks for the user."""

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """The number of inputs."""
        return int(self.train.x.shape[1])


def load(settings: Settings) -> Bundle:
    """The data set of the settings. Raises what the readers raise: OSError, ValueError, RuntimeError, ImportError."""
    bundle = _images(settings) if settings.dataset in _IMAGES else _table(settings)
    if settings.limit is None:
        return bundle
    return Bundle(bundle.train[: settings.limit], bundle.test, bundle.classes, bundle.notes)


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a random share (of at least one example): what remains, and what was held out."""
    order = np.random.default_rng(seed).permutation(len(examples))
    count = max(1, round(share * len(examples)))
    return examples[np.sort(order[count:])], examples[np.sort(order[:count])]


def _images(settings: Settings) -> Bundle:
    kind = _IMAGES[settings.dataset]
    train, test = (kind(settings.data_root, train=part, download=settings.download) for part in (True, False))
    # "0 - zero" says no more than "0".
    names = tuple(name.partition(" - ")[0] for name in kind.classes)
    return Bundle(_pixels(train), _pixels(test), names)


def _pixels(images: data.ImageDataset) -> Examples:
    values = images.data.numpy()
    return Examples(values.reshape(len(values), -1).astype(np.float32) / 255, images.targets.numpy())


def _table(settings: Settings) -> Bundle:
    """A CSV file: numbers standardized, text one-hot, a fifth of the rows (of each class) for testing."""
    table = data.read_csv(settings.dataset, settings.target, columns=settings.columns, missing="keep")
    target = table.columns[settings.target]
    known = target != "" if target.dtype.kind == "U" else np.isfinite(target.astype(np.float64))
    notes = [] if known.all() else [f"{int((~known).sum())} rows without a {settings.target} left out"]
    table, target = table[known], target[known]
    classes, y = np.unique(target, return_inverse=True)
    _check_classes(settings, target, classes, y)

    test_rows = _stratified(y)
    columns, skipped = [], []
    for name in table.number_names:
        columns.append(_standardized(table.columns[name].astype(np.float64), ~test_rows))
    for name in table.category_names:
        # Text that is different in almost every row (names, tickets) says nothing about other rows.
        if len(table.categories[name]) > _MANY:
            skipped.append(name)
        else:
            columns.append(data.one_hot(table.columns[name], table.categories[name])[0].numpy())
    if skipped:
        notes.append(f"columns of text with more than {_MANY} different values left out: {', '.join(skipped)}")
    if not columns:
        raise ValueError(f"{settings.dataset}: no column is left to predict {settings.target!r} from")
    x = np.concatenate([c.reshape(len(y), -1) for c in columns], 1).astype(np.float32)
    examples = Examples(x, y.astype(np.int64))
    names = tuple(f"{c:g}" if target.dtype.kind == "f" else str(c) for c in classes)
    return Bundle(examples[~test_rows], examples[test_rows], names, tuple(notes))


def _check_classes(settings: Settings, target: Array, classes: Array, y: Array) -> None:
    if target.dtype.kind != "U" and (len(classes) > _MANY or np.any(target != np.round(target))):
        raise ValueError(
            explain(
                f"{settings.dataset}: {settings.target!r} holds quantities, and fit learns classes",
                expected=f"text, or at most {_MANY} different whole numbers",
                got=f"{len(classes)} different numbers from {classes.min():g} to {classes.max():g}",
                fix="choose another --target, or train a regression from Python with chainrule.train.SupervisedModule",
            )
        )
    counts = np.bincount(y) if len(y) else np.zeros(0, int)
    if len(classes) < 2 or counts.min() < 2:
        rare = "" if len(classes) < 2 else f"; {classes[counts.argmin()]!s} occurs once"
        raise ValueError(
            f"{settings.dataset}: {settings.target!r} needs at least two classes with two rows each, "
            f"it has {len(classes)}{rare}"
        )


def _stratified(y: Array) -> Array:
    """A mask of the test rows: of each class a fifth, at least one; the same for every seed, so that runs compare."""
    order = np.random.default_rng(0).permutation(len(y))
    mask = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = order[y[order] == label]
        mask[rows[: max(1, round(_TEST_SHARE * len(rows)))]] = True
    return mask


def _standardized(column: Array, train_rows: Array) -> Array:
    """(x - mean) / std over the training rows; missing values become the mean, beside a column that says so."""
    missing = ~np.isfinite(column)
    seen = column[train_rows & ~missing]
    mean, std = (seen.mean(), seen.std()) if len(seen) else (0.0, 1.0)
    scaled = np.where(missing, 0.0, (column - mean) / (std or 1.0))
    return np.stack([scaled, missing.astype(np.float64)], 1) if missing.any() else scaled
