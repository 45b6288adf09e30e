"""MNIST and FashionMNIST: where files are looked for, downloads, and what is said when something is wrong."""

import gzip
import hashlib
import io
import sys

import numpy as np
import pytest

from chainrule.data import DataFileError, DownloadError, files, read_idx, write_idx
from chainrule.data.files import Resource
from chainrule.utils.data import DataLoader
from chainrule.vision import datasets, transforms

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def contents():
    rng = np.random.default_rng(0)
    sizes = ((12, 4, 4), (12,), (5, 4, 4), (5,))
    return [rng.integers(0, 10 if len(s) == 1 else 256, s, dtype=np.uint8) for s in sizes]


def fill(folder, suffix=".gz"):
    folder.mkdir(parents=True)
    for name, values in zip(NAMES, contents(), strict=True):
        write_idx(folder / f"{name}{suffix}", values)
    return folder


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror on this disk that MNIST believes in."""
    folder = fill(tmp_path / "mirror")
    resources = []
    for name in NAMES:
        raw = (folder / f"{name}.gz").read_bytes()
        resources.append(Resource(f"{name}.gz", len(raw), hashlib.sha256(raw).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", tuple(resources))
    monkeypatch.setattr(datasets.MNIST, "mirrors", (folder.as_uri() + "/",))
    return folder


@pytest.mark.parametrize(
    ("kind", "folder", "suffix"),
    [
        (datasets.MNIST, "MNIST/raw", ""),
        (datasets.MNIST, "MNIST/raw", ".gz"),
        (datasets.MNIST, "mnist", ".gz"),
        (datasets.MNIST, ".", ".gz"),
        (datasets.FashionMNIST, "FashionMNIST/raw", ""),
        (datasets.FashionMNIST, "fashion-mnist", ".gz"),
    ],
)
def test_where_files_are_found(tmp_path, kind, folder, suffix):
    root = tmp_path / "root"
    fill(root / folder, suffix)
    images, labels, test_images, test_labels = contents()
    train, test = kind(root), kind(str(root), train=False)
    assert np.array_equal(train.data.numpy(), images)
    assert train.targets.tolist() == labels.tolist()
    assert np.array_equal(test.data.numpy(), test_images)
    assert test.targets.tolist() == test_labels.tolist()
    assert len(train) == 12


def test_what_a_sample_is(tmp_path):
    fill(tmp_path / "mnist")
    data = datasets.MNIST(tmp_path)
    image, label = data[3]
    assert type(image) is np.ndarray
    assert image.shape == (4, 4)
    assert image.dtype == np.uint8
    assert type(label) is int
    assert data.classes[3] == "3 - three"
    assert data.class_to_idx["3 - three"] == 3
    assert "Number of datapoints: 12" in repr(data)
    assert datasets.FashionMNIST.classes[9] == "Ankle boot"
    doubled = datasets.MNIST(tmp_path, transform=transforms.ToTensor(), target_transform=lambda y: 2 * y)
    assert doubled[3][1] == 2 * label
    _, labels = next(iter(DataLoader(doubled, 12)))
    assert labels.tolist() == (2 * data.targets).tolist()


def test_the_root_is_a_setting(tmp_path, monkeypatch):
    fill(tmp_path / "mnist")
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path))
    assert len(datasets.MNIST()) == 12
    monkeypatch.delenv("CHAINRULE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="cache/chainrule/data does not exist"):
        datasets.MNIST()


def test_missing_files_say_where_to_put_them(tmp_path):
    (tmp_path / "mnist").mkdir()
    write_idx(tmp_path / "mnist" / f"{NAMES[0]}.gz", contents()[0])
    with pytest.raises(RuntimeError) as error:
        datasets.MNIST(tmp_path)
    text = str(error.value)
    for word in (
        "training files not found: train-labels-idx1-ubyte.gz",
        str(tmp_path / "MNIST" / "raw"),
        "download=True",
    ):
        assert word in text
    assert NAMES[0] not in text


def test_download(tmp_path, mirror):
    root = tmp_path / "root"
    assert len(datasets.MNIST(root, download=True)) == 12
    raw = root / "MNIST" / "raw"
    assert sorted(p.name for p in raw.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    before = {p: p.stat().st_mtime_ns for p in raw.iterdir()}
    datasets.MNIST(root, train=False, download=True)
    assert before == {p: p.stat().st_mtime_ns for p in raw.iterdir()}


def test_download_mends_a_damaged_file(tmp_path, mirror):
    raw = fill(tmp_path / "root" / "MNIST" / "raw")
    broken = raw / f"{NAMES[0]}.gz"
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(DataFileError, match="gzip file is damaged"):
        datasets.MNIST(tmp_path / "root")
    assert len(datasets.MNIST(tmp_path / "root", download=True)) == 12
    assert np.array_equal(read_idx(broken), contents()[0])


def test_download_prefers_a_good_file_over_a_damaged_flat_one(tmp_path, mirror):
    flat = fill(tmp_path / "root" / "mnist")
    mine = flat / f"{NAMES[1]}.gz"
    mine.write_bytes(b"not gzip")
    assert len(datasets.MNIST(tmp_path / "root", download=True)) == 12
    assert mine.read_bytes() == b"not gzip"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], r"expected \d+ bytes, got \d+"),
        (lambda raw: raw + b"x", r"expected \d+ bytes, got more"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "expected SHA-256"),
        (None, "No such file"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(tmp_path, mirror, damage, message):
    source = mirror / f"{NAMES[0]}.gz"
    if damage is None:
        source.unlink()
    else:
        source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(DownloadError, match=message) as error:
        datasets.MNIST(tmp_path / "root", download=True)
    raw = tmp_path / "root" / "MNIST" / "raw"
    assert str(raw / f"{NAMES[0]}.gz") in str(error.value)
    assert list(raw.iterdir()) == []


def test_the_next_mirror_is_tried(tmp_path, mirror, monkeypatch):
    nowhere = (tmp_path / "nowhere").as_uri() + "/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", (nowhere, *datasets.MNIST.mirrors))
    assert len(datasets.MNIST(tmp_path / "root", download=True)) == 12


def test_offline(tmp_path, monkeypatch):
    # Port 9 of this machine (discard): nobody listens there, so this is what no network looks like.
    monkeypatch.setattr(datasets.MNIST, "mirrors", ("http://127.0.0.1:9/",))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError) as error:
        datasets.MNIST(tmp_path, download=True)
    text = str(error.value)
    for word in ("could not download train-images-idx3-ubyte.gz (9,912,422 bytes)", "http://127.0.0.1:9/", "put it at"):
        assert word in text


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, mirror, monkeypatch):
    class Interrupted(io.BytesIO):
        def read(self, size=-1):
            raise KeyboardInterrupt

    monkeypatch.setattr(files.urllib.request, "urlopen", lambda *args, **kwargs: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        datasets.MNIST(tmp_path / "root", download=True)
    assert list((tmp_path / "root" / "MNIST" / "raw").iterdir()) == []


def test_a_bar_on_a_terminal(tmp_path, mirror, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    datasets.MNIST(tmp_path / "root", download=True)
    assert f"{NAMES[0]}.gz" in screen.getvalue()


def test_files_that_do_not_belong(tmp_path):
    folder = fill(tmp_path / "mnist")
    labels = folder / f"{NAMES[1]}.gz"
    write_idx(labels, np.zeros(11, np.uint8))
    with pytest.raises(DataFileError, match="not as many labels"):
        datasets.MNIST(tmp_path)
    write_idx(labels, np.full(12, 10, np.uint8))
    with pytest.raises(DataFileError, match=r"a label is out of range(.|\n)*0 to 9(.|\n)*10, at position 0"):
        datasets.MNIST(tmp_path)
    write_idx(labels, contents()[0])
    with pytest.raises(DataFileError, match=r"labels: 1 axis(.|\n)*shape \(12, 4, 4\)"):
        datasets.MNIST(tmp_path)
    labels.write_bytes(gzip.compress(b"\0\0\x08\x01"))
    with pytest.raises(DataFileError, match="inside its header"):
        datasets.MNIST(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [datasets.MNIST, datasets.FashionMNIST])
def test_the_real_sets(data_root, kind):
    train, test = kind(data_root), kind(data_root, train=False)
    assert tuple(train.data.shape) == (60000, 28, 28)
    assert tuple(test.data.shape) == (10000, 28, 28)
    mean, std = (0.1307, 0.3081) if kind is datasets.MNIST else (0.2860, 0.3530)
    pixels = train.data.numpy() / 255
    assert abs(pixels.mean() - mean) < 5e-5
    assert abs(pixels.std() - std) < 5e-5
    if kind is datasets.MNIST:
        counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert np.bincount(test.targets.numpy()).tolist() == counts
    else:
        assert np.bincount(train.targets.numpy()).tolist() == [6000] * 10
    for resource in kind.resources:
        found = train._find(resource)
        assert files.sha256_of(found) == resource.sha256
        assert found.stat().st_size == resource.size
