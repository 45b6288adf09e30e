"""Transforms of images, with torchvision's names and results.

An image enters as a NumPy array of shape (H, W) or (H, W, C) (or a PIL image, which NumPy reads) and leaves
:class:`ToTensor` as a tensor of shape (C, H, W). Every transform but :class:`Lambda` also works on a whole batch at
once, with bit-identical results: NOTE [Transforms on whole batches] in chainrule/data/images.py. Settings of a
transform cannot be changed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.data.images import batch_form
from chainrule.tensors import Tensor, from_numpy

Array = np.ndarray[Any, Any]
BatchForm = Callable[[Array], Array]


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def batch_form(self) -> BatchForm | None:
        """All batch forms one after the other; None if one of the transforms has none."""
        forms = [batch_form(transform) for transform in self.transforms]
        if any(form is None for form in forms):
            return None

        def run(images: Array) -> Array:
            for form in forms:
                images = form(images)  # type: ignore[misc]
            return images

        return run

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *(f"    {t!r}" for t in self.transforms), ")"])


class ToImage:
    """An image as a tensor of shape (C, H, W), values and dtype unchanged."""

    def __call__(self, image: Any) -> Tensor:
        return from_numpy(_channels_first(_one_image(type(self).__name__, image)[None])[0])

    def batch_form(self) -> BatchForm | None:
        """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""
        return _channels_first

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ToTensor:
    """An image as a tensor of shape (C, H, W): uint8 values divided by 255 in the default dtype, others unchanged."""

    def __call__(self, image: Any) -> Tensor:
        return from_numpy(_to_tensor(_one_image(type(self).__name__, image)[None])[0])

    def batch_form(self) -> BatchForm | None:
        """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""
        return _to_tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True, eq=False, repr=False)
class Normalize:
    """(x - mean) / std for each channel of a float tensor of shape (..., C, H, W).

    ``mean`` and ``std`` are one number per channel, or one for all. Raises ValueError if a std is zero.
    """

    mean: Sequence[float] | float
    std: Sequence[float] | float
    inplace: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # a copy, so that nobody changes it from outside
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, (int, float)) else tuple(float(v) for v in value))

    def __call__(self, image: Any) -> Tensor:
        if not isinstance(image, Tensor):
            raise TypeError(
                explain(
                    "Normalize takes tensors",
                    expected="a float tensor of shape (C, H, W)",
                    got=type(image).__name__,
                    fix="put ToTensor() before Normalize(...) in Compose",
                )
            )
        mean, std = self._parameters(tuple(image.shape), dtypes.as_numpy(image.dtype))
        if self.inplace:
            return image.sub_(from_numpy(mean)).div_(from_numpy(std))
        return (image - from_numpy(mean)) / from_numpy(std)

    def batch_form(self) -> BatchForm | None:
        """(N, C, H, W) to the same."""

        def run(images: Array) -> Array:
            mean, std = self._parameters(images.shape, images.dtype)
            images -= mean
            images /= std
            return images

        return run

    def _parameters(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> tuple[Array, Array]:
        """Mean and std as arrays that fit images of this shape and dtype."""
        if kind.kind != "f":
            raise TypeError(
                explain(
                    "Normalize needs floating-point values",
                    expected="a float tensor",
                    got=f"dtype {kind}",
                    fix="put ToTensor() (or ToDtype(float32, scale=True)) before Normalize(...) in Compose",
                )
            )
        if len(shape) < 3:
            raise ValueError(f"Normalize: expected a tensor of shape (..., C, H, W), got {shape}")
        mean, std = (np.atleast_1d(np.asarray(v, dtype=kind)) for v in (self.mean, self.std))
        if not np.all(std):
            raise ValueError(f"Normalize: std must not be zero (it would divide by zero), got {self.std} in {kind}")
        for name, value in (("mean", mean), ("std", std)):
            if value.ndim != 1 or len(value) not in (1, shape[-3]):
                raise ValueError(
                    f"Normalize: {name} must be one number per channel ({shape[-3]} here), or one for all, "
                    f"got {getattr(self, name)}"
                )
        return mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


@dataclass(frozen=True, eq=False, repr=False)
class ToDtype:
    """Another dtype; with ``scale`` values are stretched between the ranges of the dtypes.

    The range is [0, 1] for floats and 0 to the largest value for integers: integer to float divides by that value,
    float to integer multiplies by (largest value + 1 - 1e-3) and cuts off, integer to integer shifts, as torchvision
    does.
    """

    dtype: Any
    scale: bool = False

    @property
    def _kind(self) -> np.dtype[Any]:
        return dtypes.as_numpy(self.dtype)

    def __call__(self, image: Any) -> Tensor:
        if not isinstance(image, Tensor):
            raise TypeError(
                explain(
                    f"{type(self).__name__} takes tensors",
                    expected="a tensor",
                    got=type(image).__name__,
                    fix=f"put ToImage() before {type(self).__name__}(...) in Compose",
                )
            )
        if image.requires_grad:
            if (self.scale and dtypes.as_numpy(image.dtype).kind != "f") or self._kind.kind != "f":
                raise TypeError(
                    f"{type(self).__name__}: a tensor that requires grad can only become another float dtype"
                )
            return image.to(self.dtype)
        return from_numpy(self._convert(image.numpy()))

    def batch_form(self) -> BatchForm | None:
        """Any shape to the same shape."""
        return self._convert

    def _convert(self, values: Array) -> Array:
        return _scaled(values, self._kind) if self.scale else values.astype(self._kind)

    def __repr__(self) -> str:
        return f"ToDtype({self.dtype}, scale={self.scale})"


class ConvertImageDtype(ToDtype):
    """``ToDtype(dtype, scale=True)`` under its older name."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype, scale=True)

    def __repr__(self) -> str:
        return f"ConvertImageDtype({self.dtype})"


class Flatten:
    """All values of an image along one axis: (C, H, W) to (C H W,). torchvision has no such transform."""

    def __call__(self, image: Any) -> Any:
        return image.reshape(-1)

    def batch_form(self) -> BatchForm | None:
        """(N, ...) to (N, the rest)."""
        return lambda images: images.reshape(len(images), -1)

    def __repr__(self) -> str:
        return "Flatten()"


class Lambda:
    """Any function as a transform. It is applied to one image at a time; Flatten() is the fast way to flatten."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Lambda takes a function, got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)

    def __repr__(self) -> str:
        return "Lambda()"


def _one_image(name: str, image: Any) -> Array:
    if isinstance(image, Tensor):
        raise TypeError(
            explain(
                f"{name} takes images, not tensors",
                expected="a NumPy array of shape (H, W) or (H, W, C), or a PIL image",
                got=f"a tensor of shape {tuple(image.shape)}",
                fix=f"leave {name}() out, the values are a tensor already; ToDtype(float32, scale=True) scales them",
            )
        )
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif":
        raise TypeError(
            explain(
                f"{name}: this is no image",
                expected="a NumPy array of numbers of shape (H, W) or (H, W, C), or a PIL image",
                got=f"{type(image).__name__}, an array of shape {array.shape} and dtype {array.dtype}",
                fix="give it one image at a time",
            )
        )
    return array


def _channels_first(images: Array) -> Array:
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _to_tensor(images: Array) -> Array:
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8:
        return np.ascontiguousarray(images)
    kind = dtypes.as_numpy(dtypes.get_default_dtype())
    values = images.astype(kind, order="C")
    values /= kind.type(255)  # faster than a division that converts on the way
    return values


def _scaled(values: Array, kind: np.dtype[Any]) -> Array:
    """Values stretched from the range of their dtype to that of ``kind``."""
    old = values.dtype
    if old == kind or (old.kind == "f" and kind.kind == "f"):
        return values.astype(kind)
    if kind.kind == "f":
        return values.astype(kind) / kind.type(np.iinfo(old).max)
    largest = int(np.iinfo(kind).max)
    if old.kind == "f":
        if (old.itemsize < 8 and kind.itemsize >= 4) or kind.itemsize == 8:
            raise TypeError(f"ToDtype: {old} cannot tell the values of {kind} apart; scale to uint8 or int16 instead")
        return (values * old.type(largest + 1 - 1e-3)).astype(kind)
    before = int(np.iinfo(old).max)
    if before > largest:
        return (values // old.type((before + 1) // (largest + 1))).astype(kind)
    return values.astype(kind) * kind.type((largest + 1) // (before + 1))
