"""Calling a compiled function on one entry of its arguments after another, in few calls of machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.program import Output
from chainrule.compiler.runtime import BoundProgram
from chainrule.core import trees
from chainrule.core.errors import explain
from chainrule.tensors.functions.shape import stack
from chainrule.tensors.tensor import Tensor, wrap


def entries(name: str, leaves: Sequence[Any]) -> int:
    """How many entries the arguments have along their first dimension.

    Raises:
        TypeError: for an argument that is no tensor.
        ValueError: without arguments, or if they have no entries or not equally many.
    """
    others = [type(v).__name__ for v in leaves if not isinstance(v, Tensor)]
    if others:
        raise TypeError(
            explain(
                f"{name}.map takes tensors, whose entries along the first dimension are the arguments of the steps",
                got=", ".join(others),
                fix="let the function find what stays the same by itself, as in map(lambda x: f(x, 3))",
            )
        )
    counts = {v.shape[0] if v.ndim else 0 for v in leaves}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            explain(
                f"{name}.map takes tensors with equally many entries along the first dimension, at least one",
                got=", ".join(f"shape {tuple(v.shape)}" for v in leaves) or "no argument",
            )
        )
    return int(counts.pop())


class Results:
    """What the steps return, stacked: tensors by entries, everything else as the first step returned it.

    Args:
        count: of entries.
        watched: end with the step at which the first tensor of the result, one float, is not finite.

    Attributes:
        done: how many steps were done.
    """

    def __init__(self, count: int, watched: bool = False) -> None:
        self._count, self._watched = count, watched
        self.done = 0
        self._rows: list[list[Any]] = []
        self._structure: Any = None
        self._arrays: list[np.ndarray[Any, Any] | None] | None = None

    def append(self, result: Any) -> None:
        """The result of a step."""
        leaves, self._structure = trees.flatten(result)
        self._rows.append(leaves)
        self.done += 1

    @property
    def ended(self) -> bool:
        """Whether the last step was the last one."""
        return self.done == self._count or (self._watched and not np.isfinite(self._first(self._rows[-1])._d))

    @staticmethod
    def _first(leaves: Sequence[Any]) -> Any:
        return next(x for x in leaves if isinstance(x, Tensor | Output))

    def rest(self, bound: BoundProgram, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        """All steps that are left, in machine code."""
        self._arrays = [
            np.empty((self._count, *leaf.shape), leaf._d.dtype) if isinstance(leaf, Tensor) else None
            for leaf in self._rows[0]
        ]
        stacks: dict[int, np.ndarray[Any, Any]] = {}
        twins = []
        for place, (a, leaf) in enumerate(zip(self._arrays, bound.program.leaves, strict=True)):
            if a is None or not isinstance(leaf, Output):
                continue
            for n, row in enumerate(self._rows):
                a[n] = row[place]._d
            if stacks.setdefault(leaf.index, a) is not a:
                twins.append((a, stacks[leaf.index]))
        watched = self._first(bound.program.leaves).index if self._watched else None
        self.done += bound.repeat(arrays, self.done, stacks, watched)
        for a, twin in twins:
            a[...] = twin

    def stacked(self) -> Any:
        """Everything that was returned."""
        if self._arrays is not None:
            leaves = [
                x if a is None else wrap(a[: self.done]) for a, x in zip(self._arrays, self._rows[0], strict=True)
            ]
        else:
            columns = list(zip(*self._rows, strict=True))
            leaves = [stack(list(c)) if isinstance(c[0], Tensor) else c[0] for c in columns]
        return trees.unflatten(self._structure, leaves)
