"""Makers of sample inputs, from which the tests of every op are generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from chainrule.ir.op import Sample

Array = np.ndarray[Any, Any]
Maker: TypeAlias = "Callable[[np.random.Generator], Array]"  # quoted: numpy.random is loaded when it is needed


def real(*shape: int) -> Maker:
    """Standard normal numbers."""
    return lambda rng: np.asarray(rng.standard_normal(shape))


def between(low: float, high: float, *shape: int) -> Maker:
    """Uniform numbers in [low, high)."""
    return lambda rng: np.asarray(rng.uniform(low, high, shape))


def away(gap: float, *shape: int) -> Maker:
    """Numbers at least ``gap`` from zero, and from each other for finite differences across kinks."""

    def make(rng: np.random.Generator) -> Array:
        x = rng.standard_normal(shape)
        return np.asarray(x + np.copysign(gap, x))

    return make


def distinct(*shape: int) -> Maker:
    """Numbers at least 0.1 apart, in random order."""

    def make(rng: np.random.Generator) -> Array:
        n = int(np.prod(shape))
        return np.asarray((rng.permutation(n) * 0.2 - n * 0.1 + 0.03).reshape(shape))

    return make


def integers(low: int, high: int, *shape: int) -> Maker:
    """Integers in [low, high)."""
    return lambda rng: np.asarray(rng.integers(low, high, shape))


def booleans(*shape: int) -> Maker:
    """True or false."""
    return lambda rng: np.asarray(rng.random(shape) < 0.5)


def sample(*makers: Maker, **params: Any) -> Sample:
    """One sample: a maker per array argument, then the static parameters."""
    return Sample(makers, params)


def unary(maker: Callable[..., Maker] = real) -> tuple[Sample, ...]:
    """A matrix, a vector and a scalar."""
    return sample(maker(3, 4)), sample(maker(5)), sample(maker())


def unary_between(low: float, high: float) -> tuple[Sample, ...]:
    """As :func:`unary`, inside an interval."""
    return unary(lambda *shape: between(low, high, *shape))


def binary(left: Callable[..., Maker] = real, right: Callable[..., Maker] | None = None) -> tuple[Sample, ...]:
    """Equal shapes, and the shapes that broadcast."""
    right = right or left
    return (
        sample(left(3, 4), right(3, 4)),
        sample(left(3, 4), right(4)),
        sample(left(3, 1), right(1, 4)),
        sample(left(), right(2, 3)),
    )
