"""Random tensors from counter-based generators: a draw depends on the seed and on what was drawn before alone."""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core import random as bits
from chainrule.core.errors import explain
from chainrule.core.shapes import Shape, flatten_sizes, size_of
from chainrule.ir.op import REGISTRY
from chainrule.ir.state import no_grad
from chainrule.tensors.apply import apply, constant
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.inplace import write
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import CPU, Tensor, device, wrap


class Generator:
    """A stream of random numbers: a seed and the position reached, both tensors, so that capture carries them on."""

    def __init__(self, device: Any = "cpu") -> None:
        self._seed = wrap(np.array(67280421310721, np.int64))
        self._offset = wrap(np.array(0, np.int64))

    device = CPU

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed`` at its beginning."""
        self._go_to(int(seed) & 0x7FFFFFFFFFFFFFFF, 0)
        return self

    def _go_to(self, seed: int, offset: int) -> None:
        with no_grad():
            write(self._seed, constant(seed, np.int64))
            write(self._offset, constant(offset, np.int64))

    def seed(self) -> int:
        """Start the stream of a seed from the operating system's entropy, and return it."""
        value = secrets.randbits(63)
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return int(self._seed)

    def get_state(self) -> Tensor:
        """Seed and position, as a tensor for :meth:`set_state`."""
        return wrap(np.array([int(self._seed), int(self._offset)], np.int64))

    def set_state(self, state: Tensor) -> None:
        """Go to the seed and position that :meth:`get_state` returned."""
        self._go_to(*state.tolist())

    def draw(self, op: str, count: int, itemsize: int, **params: Any) -> Tensor:
        """Apply a random op at the current position and move on."""
        with no_grad():
            start = self._offset.clone()
            write(self._offset, TENSORS.add(self._offset, bits.blocks(count, itemsize)))
            out: Tensor = apply(REGISTRY[op], (self._seed, start), params)
        return out


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system's entropy."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: Tensor) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(state)


def uniform(shape: Shape, dtype: np.dtype[Any], generator: Generator | None = None) -> Tensor:
    """Numbers in [0, 1) of a floating dtype."""
    g = default_generator if generator is None else generator
    return g.draw("uniform", size_of(shape), dtype.itemsize, shape=shape, dtype=dtype)


def normal_numbers(shape: Shape, dtype: np.dtype[Any], generator: Generator | None = None) -> Tensor:
    """Standard normal numbers by the method of Box & Muller (1958), two uniform numbers for two normal ones.

    sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v), with u in (0, 1] so that the logarithm is finite.
    """
    n = size_of(shape)
    half = (n + 1) // 2
    work = np.dtype(np.float32) if dtype.itemsize < 8 else dtype
    u = uniform((2, half), work, generator)
    with no_grad():
        m = TENSORS
        radius = m.sqrt(m.log(1 - m.getitem(u, (0,))) * -2.0)
        angle = m.getitem(u, (1,)) * (2 * math.pi)
        both = m.cat(radius * m.cos(angle), radius * m.sin(angle), axis=0)
        return cast(m.reshape(m.getitem(both, (slice(0, n),)), shape), dtype)


def _kind(dtype: Any) -> np.dtype[Any]:
    kind = dtypes.get_default_dtype().numpy if dtype is None else dtypes.as_numpy(dtype)
    if kind.kind != "f":
        raise RuntimeError(explain("random real numbers need a floating dtype", got=str(dtypes.from_numpy(kind))))
    return kind


def _sizes(size: tuple[Any, ...]) -> Shape:
    return tuple(int(s) for s in flatten_sizes(size))


def _out(t: Tensor, dev: Any, requires_grad: bool) -> Tensor:
    if dev is not None:
        device(dev)
    return t.requires_grad_() if requires_grad else t


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return _out(uniform(_sizes(size), _kind(dtype), generator), device, requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal numbers."""
    return _out(normal_numbers(_sizes(size), _kind(dtype), generator), device, requires_grad)


def rand_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers of the shape and dtype of ``input``."""
    return rand(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers of the shape and dtype of ``input``."""
    return randn(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), each equally likely; ``randint(high, size)`` starts at 0.

    Raises:
        RuntimeError: for an empty range.
    """
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise RuntimeError(explain("randint needs a range that is not empty", got=f"low {low}, high {high}"))
    shape = tuple(int(s) for s in size)
    g = default_generator if generator is None else generator
    words = g.draw("random_bits", size_of(shape), 8, shape=shape)
    out = TENSORS.remainder(words, high - low) + low
    out = cast(out, dtypes.as_numpy(dtype if dtype is not None else dtypes.int64))
    return _out(out, device, False)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """A random order of 0 ... n-1: the order of n random words."""
    g = default_generator if generator is None else generator
    words = g.draw("random_bits", n, 8, shape=(n,))
    out = TENSORS.argsort(words, axis=0, descending=False)
    return _out(cast(out, dtypes.as_numpy(dtype)) if dtype is not None else out, device, False)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers with the given means and standard deviations (numbers, or tensors that broadcast)."""
    if size is not None:
        shape = tuple(int(s) for s in size)
    else:
        shape = np.broadcast_shapes(*(v._d.shape for v in (mean, std) if isinstance(v, Tensor)))
    given = next((v._d.dtype for v in (mean, std) if isinstance(v, Tensor)), None)
    out: Tensor = normal_numbers(shape, given or _kind(None), generator) * std + mean
    return out


def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that ``input`` gives, else 0."""
    with no_grad():
        hit = uniform(tuple(input._d.shape), input._d.dtype, generator) < input
        return cast(hit, input._d.dtype)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with probabilities proportional to the rows of ``input``.

    Without replacement by exponential races (Efraimidis & Spirakis, 2006): the smallest of E_i / w_i.

    Raises:
        RuntimeError: for negative or non-finite weights, a row of zeros, or more draws than nonzero weights.
    """
    weights = input.numpy(force=True)
    rows = np.atleast_2d(weights).astype(np.float64)
    if not np.isfinite(rows).all() or (rows < 0).any() or (rows.sum(1) <= 0).any():
        raise RuntimeError(explain("multinomial needs finite weights >= 0, not all zero in a row"))
    if not replacement and (np.count_nonzero(rows, axis=1) < num_samples).any():
        raise RuntimeError(
            explain("multinomial without replacement cannot draw more samples than there are nonzero weights",
                    got=f"{num_samples} samples", fix="pass replacement=True, or draw fewer")
        )  # fmt: skip
    f8 = np.dtype(np.float64)
    if replacement:
        u = uniform((len(rows), num_samples), f8, generator).numpy()
        edges = np.cumsum(rows, 1)
        found = np.stack([np.searchsorted(e, v * e[-1], side="right") for e, v in zip(edges, u, strict=True)])
        found = np.minimum(found, rows.shape[1] - 1)
    else:
        u = uniform(rows.shape, f8, generator).numpy()
        with np.errstate(divide="ignore"):
            races = -np.log1p(-u) / rows
        found = np.argsort(races, 1, kind="stable")[:, :num_samples]
    return wrap(found.astype(np.int64).reshape((*weights.shape[:-1], num_samples)))
