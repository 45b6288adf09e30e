"""MNIST and FashionMNIST: found on disk in torchvision's layout or a flat one, or downloaded and checked.

MNIST: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits". Fashion-MNIST: H. Xiao, K.
Rasul, R. Vollgraf, 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from chainrule.core.errors import explain
from chainrule.data.files import SETTING, DataFileError, Resource, download, sha256_of
from chainrule.data.idx import read_idx
from chainrule.data.images import Array, ImageDataset


class MNIST(ImageDataset):
    """Handwritten digits: 60,000 training and 10,000 test images of 28 x 28 grey values, labels 0 to 9.

    The four files are looked for, gzipped or not, in ``root/MNIST/raw`` (where torchvision puts them), ``root/mnist``,
    ``root/MNIST`` and ``root`` itself. ``root`` None stands for the folder in the environment setting CHAINRULE_DATA,
    or else ``chainrule/data`` in the user's cache folder. With ``download=True`` what is missing, or gzipped there with
    another SHA-256 than the official file's, is fetched into ``root/MNIST/raw``.

    Raises RuntimeError where files are missing, DataFileError for damaged ones, DownloadError if no mirror helps.
    """

    folder: ClassVar[str] = "MNIST"
    flat_folders: ClassVar[Sequence[str]] = ("mnist", "MNIST", "")
    mirrors: ClassVar[Sequence[str]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    # Training images, training labels, test images, test labels.
    resources: ClassVar[Sequence[Resource]] = (
        Resource(
            "train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        Resource(
            "train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        Resource(
            "t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        Resource("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
    classes = (
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    )

    @property
    def raw_folder(self) -> Path:
        """Where downloads go: ``root/MNIST/raw``."""
        return self.root / self.folder / "raw"

    def _load(self, download: bool) -> tuple[Array, Array]:
        if download:
            for resource in self.resources:
                self._fetch(resource)
        image_file, label_file = self._files()
        images, labels = read_idx(image_file), read_idx(label_file)
        self._check(image_file, images, 3, "images: 3 axes (number, rows, columns) of uint8")
        self._check(label_file, labels, 1, "labels: 1 axis of uint8")
        if len(images) != len(labels):
            raise DataFileError(
                label_file,
                f"there are not as many labels as images in {image_file}",
                expected=f"{len(images)} labels",
                got=f"{len(labels)}",
                fix="the two files come from different sets; fetch both again",
            )
        if len(labels) and labels.max() >= len(self.classes):
            raise DataFileError(
                label_file,
                "a label is out of range",
                expected=f"0 to {len(self.classes) - 1}",
                got=f"{labels.max()}, at position {labels.argmax()}",
                fix="this is another data set's file, or a damaged one; fetch it again",
            )
        return images, labels

    def _places(self, resource: Resource) -> list[Path]:
        """Where a file may lie, best first: the checked download before anything else."""
        folders = [self.raw_folder, *(self.root / folder for folder in self.flat_folders)]
        return [folder / name for folder in folders for name in (resource.name, resource.name.removesuffix(".gz"))]

    def _find(self, resource: Resource) -> Path | None:
        return next((path for path in self._places(resource) if path.is_file()), None)

    def _fetch(self, resource: Resource) -> None:
        found = self._find(resource)
        if found is not None and (found.suffix != ".gz" or sha256_of(found) == resource.sha256):
            return
        download(resource, self.raw_folder, self.mirrors)

    def _files(self) -> tuple[Path, Path]:
        wanted = self.resources[:2] if self.train else self.resources[2:]
        found = [self._find(resource) for resource in wanted]
        image_file, label_file = found
        if image_file is not None and label_file is not None:
            return image_file, label_file
        name = type(self).__name__
        missing = [r.name for r, path in zip(wanted, found, strict=True) if path is None]
        folders = dict.fromkeys(str(path.parent) for path in self._places(wanted[0]))
        raise RuntimeError(
            explain(
                f"{name}: {'training' if self.train else 'test'} files not found: {', '.join(missing)}",
                expected="in one of " + ", ".join(folders) + " (gzipped or not)",
                got="no such files there" if self.root.is_dir() else f"{self.root} does not exist",
                fix=f"{name}(root, download=True), or fetch the files elsewhere and put them in {self.raw_folder}, "
                f"or give the right root (root=None takes it from the environment setting {SETTING})",
            )
        )

    @staticmethod
    def _check(path: Path, values: Array, axes: int, what: str) -> None:
        if values.ndim != axes or values.dtype != "uint8":
            raise DataFileError(
                path,
                "these are not the values that belong in this file",
                expected=what,
                got=f"shape {values.shape} of {values.dtype}",
                fix="image and label files may have been swapped; fetch them again",
            )


class FashionMNIST(MNIST):
    """Clothing: 60,000 training and 10,000 test images of 28 x 28 grey values in 10 classes.

    As :class:`MNIST`, with the folders ``FashionMNIST/raw``, ``fashion-mnist``, ``FashionMNIST`` and ``root`` itself.
    """

    folder = "FashionMNIST"
    flat_folders = ("fashion-mnist", "FashionMNIST", "")
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    resources = (
        Resource(
            "train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        Resource(
            "train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        Resource(
            "t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        Resource("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
