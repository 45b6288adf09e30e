"""The cases that op tests are generated from: every sample of every op in the registry, as arrays and as functions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr
from chainrule.ir.op import REGISTRY, Elementwise, Op
from chainrule.tensors.fastpath import TENSORS
from op_oracles import ORACLES

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """One sample of one op."""

    op: Op
    number: int

    def __repr__(self) -> str:
        return f"{self.op.name}-{self.number}"

    @property
    def params(self) -> dict[str, Any]:
        return self.op.samples[self.number].params

    def arrays(self, draw: int = 0) -> list[Array]:
        """The sample's arrays; other draws have other numbers in the same shapes."""
        rng = np.random.default_rng([zlib.crc32(self.op.name.encode()), self.number, draw])
        return [make(rng) for make in self.op.samples[self.number].arrays]

    def wide(self, draw: int = 0) -> list[Array]:
        """As :meth:`arrays`, broadcast for an elementwise op: its declared rules are about equal shapes."""
        arrays = self.arrays(draw)
        return [np.array(a) for a in np.broadcast_arrays(*arrays)] if isinstance(self.op, Elementwise) else arrays

    @property
    def function(self) -> Callable[..., Any]:
        """The op as people reach it: a function of tensors."""
        apply, params = getattr(TENSORS, self.op.name), self.params
        return lambda *xs: apply(*xs, **params)

    @property
    def varied(self) -> tuple[int, ...]:
        """The arguments that a derivative flows through: floating ones of a differentiable op."""
        floats = [a.dtype.kind == "f" for a in self.arrays()]
        return tuple(i for i, f in enumerate(floats) if f and self.op.flows(i))

    def over(self, arrays: list[Array]) -> Callable[..., Any]:
        """The op as a function of its varied arguments alone, the others constant."""
        call, varied = self.function, self.varied

        def function(*xs: cr.Tensor) -> Any:
            full: list[Any] = [cr.from_numpy(a) for a in arrays]
            for i, x in zip(varied, xs, strict=True):
                full[i] = x
            return call(*full)

        return function

    def scalar(self, arrays: list[Array]) -> Callable[..., cr.Tensor]:
        """A scalar of the varied arguments: the results times fixed random weights, and a square, summed."""
        inner = self.over(arrays)

        def function(*xs: cr.Tensor) -> cr.Tensor:
            y = inner(*xs)
            w = cr.from_numpy(np.asarray(np.random.default_rng(7).standard_normal(tuple(y.shape))))
            return (y * w + y * y * 0.5).sum()

        return function


def cases(wanted: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """All samples of all ops for which ``wanted`` holds."""
    every = [Case(op, number) for op in REGISTRY.values() for number in range(len(op.samples))]
    return [case for case in every if wanted(case)]


def deterministic(case: Case) -> bool:
    return not case.op.random


def differentiable(case: Case) -> bool:
    """Whether a derivative flows from a floating argument to a floating result."""
    return (
        deterministic(case) and bool(case.varied) and kernel(case.op)(*case.arrays(), **case.params).dtype.kind == "f"
    )


def kernel(op: Op) -> Callable[..., Any]:
    """The value of an op on arrays, without the residual that some kernels return beside it."""
    return (lambda *xs, **params: op.kernel(*xs, **params)[0]) if getattr(op, "residual", False) else op.kernel


def oracle(op: Op) -> Callable[..., Any] | None:
    """How the value is known independently of the kernel."""
    return ORACLES.get(op.name) or op.reference


def tensors(arrays: list[Array], requires_grad: bool = False) -> list[cr.Tensor]:
    return [cr.tensor(a, requires_grad=requires_grad and a.dtype.kind == "f") for a in arrays]


def directions(arrays: list[Array], seed: int = 1) -> list[Array]:
    """A random direction of the shapes of ``arrays``."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(a.shape)) for a in arrays]


def moved(arrays: list[Array], steps: list[Array], h: float) -> list[Array]:
    return [a + h * s for a, s in zip(arrays, steps, strict=True)]


def inner(a: list[Any], b: list[Any]) -> float:
    """The sum of all products of two lists of arrays."""
    return float(sum(np.sum(np.asarray(x) * np.asarray(y)) for x, y in zip(a, b, strict=True)))
