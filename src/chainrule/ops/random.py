"""Random numbers as a pure function of a seed and a position, so that they can be captured and replayed."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core import random
from chainrule.core.shapes import Shape
from chainrule.ir.op import Aval, General, register
from chainrule.ops.samples import integers, sample


class Uniform(General):
    """Numbers in [0, 1) from a counter-based generator (see ``core.random``)."""

    name = "uniform"
    arity = 2
    differentiable = (False, False)
    params = ("shape", "dtype")
    doc = "uniform numbers in [0, 1) at a position of a seeded stream"
    random = True
    samples = (sample(integers(0, 9), integers(0, 9), shape=(3, 2), dtype=np.dtype("f8")),)

    @staticmethod
    def kernel(seed: Any, offset: Any, shape: Shape, dtype: Any) -> Any:
        """The numbers at that position."""
        return random.uniform(int(seed), int(offset), shape, dtype)

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """As asked for."""
        return Aval(params["shape"], np.dtype(params["dtype"]))


class RandomBits(General):
    """Unsigned 64-bit words as int64, from which integers and permutations are made."""

    name = "random_bits"
    arity = 2
    differentiable = (False, False)
    params = ("shape",)
    doc = "63 random bits each, at a position of a seeded stream"
    random = True
    samples = (sample(integers(0, 9), integers(0, 9), shape=(3, 2)),)

    @staticmethod
    def kernel(seed: Any, offset: Any, shape: Shape) -> Any:
        """The words at that position, their top bit dropped."""
        words = random.bits(int(seed), int(offset), int(np.prod(shape, dtype=np.int64)), 8)
        return (words >> np.uint64(1)).astype(np.int64).reshape(shape)

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """int64."""
        return Aval(params["shape"], np.dtype(np.int64))


uniform = register(Uniform())
random_bits = register(RandomBits())
