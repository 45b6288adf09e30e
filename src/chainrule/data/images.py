"""What the image datasets share: samples (image, label), transforms, and batches gathered in one go.

A sample before the transform is ``(image, label)`` with image a uint8 NumPy array of shape (H, W), or (H, W, C), and
label an int. (torchvision has a PIL image there; ``PIL.Image.fromarray(image)`` makes one.)

NOTE [Transforms on whole batches]. A transform is any callable on one image. If it also has a method ``batch_form()``
that returns a function on arrays of images (first axis: images), with the same result for each image as the transform
itself, the same each time, then images are transformed many at once. ``batch_form`` may return None for "not this
time", and must for a transform with chance in it. The function owns its argument and may overwrite it. All transforms
of ``chainrule.vision.transforms`` but ``Lambda`` have it; a subclass that overrides ``__call__`` alone is applied image
by image.

NOTE [Transformed once]. If the transformed images take up to ``KEEP_BYTES``, the first batch transforms all images and
keeps them, so that later batches only copy rows. Each batch is transformed when asked for if the set is larger, if its
``data`` is a view of another array, or if a ``Compose`` holds another. What is kept is forgotten as soon as
``dataset.data`` or ``dataset.transform`` is looked at or assigned, as it may then change, and if the parts of the
``Compose`` are others. Meanwhile the array behind ``data`` is read-only: writing to a tensor taken from there earlier
raises instead of going unnoticed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chainrule.core import dtypes
from chainrule.data._tensors import array_of, from_numpy
from chainrule.data.collate import default_collate
from chainrule.data.dataset import Dataset, Samples, up_to_date
from chainrule.data.files import default_root

Array = np.ndarray[Any, Any]

KEEP_BYTES = 1 << 30  # as much as MNIST would take five times over
_BLOCK = 256  # images transformed at a time, so that the passes over them stay in the cache
_ONE_AT_A_TIME = threading.Lock()  # workers of a loader ask for their first batches at the same time


def batch_form(transform: Callable[[Any], Any] | None) -> Callable[[Array], Array] | None:
    """The transform as a function on a whole batch of images, or None where it has no such form."""
    if transform is None:
        return lambda images: images
    if not up_to_date(type(transform), "batch_form", "__call__"):
        return None
    form: Callable[[Array], Array] | None = transform.batch_form()  # type: ignore[attr-defined]
    return form


@dataclass(frozen=True)
class _Kept:
    """All images transformed, what that depends on besides them, and the array they came from."""

    depends_on: tuple[Any, ...]
    images: Array
    raw: Array
    was_writeable: bool


class ImageDataset(Dataset):
    """Images in memory with labels, in torchvision's interface.

    ``data`` is a uint8 tensor of shape (n, H, W), ``targets`` an int64 tensor of shape (n,), ``classes`` the names of
    the labels, ``class_to_idx`` the label of each name. ``transform`` is applied to each image (NOTE [Transforms on
    whole batches]), ``target_transform`` to each label. Subclasses set ``classes`` and write :meth:`_load`.
    """

    classes: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
    ) -> None:
        self.root = default_root() if root is None else Path(root).expanduser()
        self.train = train
        self._kept: _Kept | None = None
        self._transform = transform
        self.target_transform = target_transform
        images, labels = self._load(download)
        self._data: Any = from_numpy(images)
        self.targets: Any = from_numpy(labels.astype(np.int64))

    def _load(self, download: bool) -> tuple[Array, Array]:
        raise NotImplementedError(f"{type(self).__name__} must define _load(self, download) -> images, labels")

    @property
    def data(self) -> Any:
        """The images, a uint8 tensor of shape (n, H, W) or (n, H, W, C)."""
        self._forget()
        return self._data

    @data.setter
    def data(self, images: Any) -> None:
        self._forget()
        self._data = images

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """What is applied to each image, or None."""
        self._forget()
        return self._transform

    @transform.setter
    def transform(self, transform: Callable[[Any], Any] | None) -> None:
        self._forget()
        self._transform = transform

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class name."""
        return {name: label for label, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = array_of(self._data)[index]
        label: Any = int(array_of(self.targets)[index])
        if self._transform is not None:
            # What is read-only is the raw array (NOTE [Transformed once]); a transform may write to its image.
            image = self._transform(image if self._kept is None else image.copy())
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        kept = self._kept
        if kept is not None and kept.depends_on == self._depends_on():
            return Samples(self, indices, lambda rows: self._batch(kept.images.take(rows, 0), rows))
        form = batch_form(self._transform)
        if form is None:
            self._forget()
            return [self[int(i)] for i in indices]
        images = self._keep(form)
        if images is not None:
            return Samples(self, indices, lambda rows: self._batch(images.take(rows, 0), rows))
        raw = array_of(self._data)
        return Samples(self, indices, lambda rows: self._batch(form(raw.take(rows, 0)), rows))

    def _batch(self, images: Array, indices: Any) -> list[Any]:
        labels = array_of(self.targets).take(indices)
        if self.target_transform is None:
            return [from_numpy(images), from_numpy(labels)]
        return [from_numpy(images), default_collate([self.target_transform(int(label)) for label in labels])]

    def _depends_on(self) -> tuple[Any, ...]:
        return dtypes.get_default_dtype(), self._transform, *getattr(self._transform, "transforms", ())

    def _keep(self, form: Callable[[Array], Array]) -> Array | None:
        """All images, transformed, if they may be kept: NOTE [Transformed once]."""
        with _ONE_AT_A_TIME:
            depends_on, kept = self._depends_on(), self._kept
            if kept is not None and kept.depends_on == depends_on:
                return kept.images  # another thread was faster
            self._forget()
            raw = array_of(self._data)
            if self._transform is None or len(raw) == 0 or not raw.flags.owndata:
                return None
            if any(hasattr(part, "transforms") for part in depends_on[2:]):
                return None  # a Compose inside a Compose: a change in there would go unnoticed
            first = form(raw[:1].copy())
            if first.nbytes * len(raw) > KEEP_BYTES:
                return None
            images = np.empty((len(raw), *first.shape[1:]), first.dtype)
            for start in range(0, len(raw), _BLOCK):
                images[start : start + _BLOCK] = form(raw[start : start + _BLOCK].copy())
            self._kept = _Kept(depends_on, images, raw, raw.flags.writeable)
            raw.flags.writeable = False
            return images

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept.raw.flags.writeable = self._kept.was_writeable
            self._kept = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # a copy makes its own

    def _location(self) -> str:
        return str(self.root)

    def __repr__(self) -> str:
        lines = [
            f"Dataset {type(self).__name__}",
            f"    Number of datapoints: {len(self)}",
            f"    Root location: {self._location()}",
            f"    Split: {'Train' if self.train else 'Test'}",
        ]
        for name, value in (("transform", self._transform), ("target_transform", self.target_transform)):
            if value is not None:
                lines.append(f"    {name}: {value!r}".replace("\n", "\n    "))
        return "\n".join(lines)
