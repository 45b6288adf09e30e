"""Transforms: torchvision's results on one image, and the same bits on a batch."""

import copy
import pickle

import numpy as np
import pytest

import chainrule
from chainrule.data import ImageDataset, images
from chainrule.utils.data import DataLoader
from chainrule.vision import transforms as T

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 4, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)


class Images(ImageDataset):
    """Images made here, with their numbers as labels."""

    def __init__(self, raw, transform=None):
        self.raw = raw
        super().__init__(None, transform=transform)

    def _load(self, download):
        return self.raw.copy(), np.arange(len(self.raw))


def batch_of(data, size=9):
    return next(iter(DataLoader(data, size)))[0]


def test_to_tensor():
    image = T.ToTensor()(COLOUR[0])
    assert image.dtype == chainrule.float32
    assert tuple(image.shape) == (3, 4, 5)
    assert np.array_equal(image.numpy(), COLOUR[0].transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert tuple(T.ToTensor()(GREY[0]).shape) == (1, 4, 5)
    unscaled = T.ToTensor()(np.full((2, 2), 7.0))
    assert unscaled.dtype == chainrule.float64
    assert unscaled.tolist() == [[[7.0, 7.0], [7.0, 7.0]]]
    with pytest.raises(TypeError, match=r"ToTensor takes images, not tensors(.|\n)*leave ToTensor\(\) out"):
        T.ToTensor()(chainrule.zeros(2, 2))
    with pytest.raises(TypeError, match=r"no image(.|\n)*shape \(1, 2, 2, 3\)"):
        T.ToTensor()(np.zeros((1, 2, 2, 3)))


def test_normalize():
    image = T.ToTensor()(COLOUR[0])
    out = T.Normalize([0.1, 0.2, 0.3], (0.5, 0.25, 2.0))(image)
    expected = (image.numpy().astype(np.float64) - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape(
        [0.5, 0.25, 2.0], (3, 1, 1)
    )
    assert np.allclose(out.numpy(), expected, atol=1e-6)
    kept = image.numpy().copy()
    assert np.array_equal(image.numpy(), kept)
    same = T.Normalize(0.5, 0.5, inplace=True)(image)
    assert same is image
    assert np.allclose(image.numpy(), (kept - 0.5) / 0.5, atol=1e-6)


def test_normalize_refuses():
    for f, error, message in [
        (lambda: T.Normalize(0.5, 0.5)(GREY[0]), TypeError, "put ToTensor"),
        (lambda: T.Normalize(0.5, 0.5)(T.ToImage()(GREY[0])), TypeError, "got: +dtype uint8"),
        (lambda: T.Normalize(0.5, 0.0)(T.ToTensor()(GREY[0])), ValueError, "std must not be zero"),
        (lambda: T.Normalize([0.5] * 2, [0.5] * 3)(T.ToTensor()(COLOUR[0])), ValueError, "mean must be one number per"),
        (lambda: T.Normalize(0.5, 0.5)(chainrule.zeros(4, 5)), ValueError, r"got \(4, 5\)"),
    ]:
        with pytest.raises(error, match=message):
            f()


def test_dtypes():
    image = T.ToImage()(GREY[0])
    assert image.dtype == chainrule.uint8
    assert np.array_equal(T.ToDtype(chainrule.float32)(image).numpy(), image.numpy().astype(np.float32))
    scaled = T.ToDtype(chainrule.float32, scale=True)(image)
    assert np.array_equal(scaled.numpy(), T.ToTensor()(GREY[0]).numpy())
    assert np.array_equal(T.ConvertImageDtype(chainrule.uint8)(scaled).numpy(), image.numpy())
    wide = T.ConvertImageDtype(chainrule.int32)(image)
    assert np.array_equal(wide.numpy(), image.numpy().astype(np.int32) * 2**23)
    assert np.array_equal(T.ConvertImageDtype(chainrule.uint8)(wide).numpy(), image.numpy())
    with pytest.raises(TypeError, match="float32 cannot tell the values of int32 apart"):
        T.ConvertImageDtype(chainrule.int32)(scaled)
    with pytest.raises(TypeError, match="put ToImage"):
        T.ToDtype(chainrule.float32)(GREY[0])


PIPELINES = [
    T.ToTensor(),
    T.ToImage(),
    T.Compose([T.ToTensor(), T.Normalize(0.1307, 0.3081)]),
    T.Compose([T.ToTensor(), T.Normalize(0.1307, 0.3081), T.Flatten()]),
    T.Compose([T.ToImage(), T.ToDtype(chainrule.float32, scale=True), T.Flatten()]),
    T.Compose([T.Compose([T.ToTensor()]), T.ConvertImageDtype(chainrule.float64)]),
    T.Compose([T.Flatten()]),
    T.Compose([T.ToTensor(), T.Lambda(lambda x: x * 2)]),
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: " ".join(repr(p).split()))
@pytest.mark.parametrize("raw", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "batchwise"])
def test_a_batch_has_the_bits_of_its_images(monkeypatch, pipeline, raw, keep):
    monkeypatch.setattr(images, "_BLOCK", 4)
    if not keep:
        monkeypatch.setattr(images, "KEEP_BYTES", 0)
    data = Images(raw, pipeline)
    order = [3, 1, 8, 8, 0]
    singles = [np.asarray(data[i][0]) for i in order]
    loader = DataLoader(data, batch_sampler=[order, order])
    for batch, labels in loader:  # twice: the second time from what was kept
        assert labels.tolist() == order
        assert batch.numpy().dtype == singles[0].dtype
        assert np.array_equal(batch.numpy(), np.stack(singles))
    assert np.array_equal(np.asarray(data[3][0]), singles[0])


def test_without_a_transform_a_batch_is_the_raw_images():
    batch = batch_of(Images(GREY))
    assert batch.dtype == chainrule.uint8
    assert np.array_equal(batch.numpy(), GREY)


def test_changes_of_the_data_set_are_seen():
    data = Images(GREY, T.ToTensor())
    batch_of(data)
    data.data[0] = 255
    assert batch_of(data).numpy()[0].min() == 1.0
    data.transform = T.Compose([T.ToTensor(), T.Flatten()])
    assert tuple(batch_of(data).shape) == (9, 20)
    data.transform.transforms.pop()
    assert tuple(batch_of(data).shape) == (9, 1, 4, 5)
    data.data = data.data[:2]
    assert tuple(batch_of(data).shape) == (2, 1, 4, 5)
    data.targets = chainrule.tensor([5, 6])
    assert next(iter(DataLoader(data, 2)))[1].tolist() == [5, 6]


def test_changes_behind_its_back_are_seen_or_raise():
    pipeline = T.Compose([T.ToTensor()])
    data = Images(GREY, pipeline)
    held = data.data.numpy()
    batch_of(data)
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1
    pipeline.transforms.append(T.Flatten())
    assert tuple(batch_of(data).shape) == (9, 20)
    pipeline.transforms.append(T.Lambda(lambda x: x + 1))
    assert batch_of(data).numpy().min() >= 1
    held[0] = 1  # Lambda keeps nothing, so writing is free again
    with pytest.raises(AttributeError):
        T.Normalize(0.5, 0.5).mean = 0.1


def test_the_default_dtype_is_followed():
    data = Images(GREY, T.ToTensor())
    assert batch_of(data).dtype == chainrule.float32
    chainrule.set_default_dtype(chainrule.float64)
    try:
        assert batch_of(data).dtype == chainrule.float64
    finally:
        chainrule.set_default_dtype(chainrule.float32)


def test_workers_share_what_is_kept():
    data = Images(GREY, T.ToTensor())
    batches = [b for b, _ in DataLoader(data, 2, num_workers=3)]
    assert np.array_equal(np.concatenate([b.numpy() for b in batches])[:, 0], GREY / np.float32(255))
    data.data[0] = 3  # free to write again


def test_copies_do_not_share():
    data = Images(GREY, T.ToTensor())
    batch_of(data)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        other.data[0] = 255
        assert batch_of(other).numpy()[0].min() == 1.0
    assert np.array_equal(data.data.numpy(), GREY)


def test_a_batch_is_a_copy_of_what_is_kept():
    data = Images(GREY, T.ToTensor())
    batch_of(data)[:] = 9.0
    assert batch_of(data).numpy().max() <= 1.0


def test_a_subclass_that_overrides_call_is_not_passed_over():
    class Inverted(T.ToTensor):
        def __call__(self, image):
            return 1 - super().__call__(image)

    for pipeline in (Inverted(), T.Compose([Inverted()])):
        assert np.array_equal(batch_of(Images(GREY, pipeline)).numpy()[:, 0], 1 - GREY / np.float32(255))


def test_a_subclass_that_overrides_getitem_is_not_passed_over():
    class Noisy(Images):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image + 1, label

    assert batch_of(Noisy(GREY, T.ToTensor())).numpy().min() >= 1


def test_lambda_and_repr():
    with pytest.raises(TypeError, match="Lambda takes a function, got int"):
        T.Lambda(3)
    text = repr(T.Compose([T.ToTensor(), T.Normalize((0.5,), (0.25,)), T.Flatten()]))
    assert text == "Compose(\n    ToTensor()\n    Normalize(mean=(0.5,), std=(0.25,))\n    Flatten()\n)"
