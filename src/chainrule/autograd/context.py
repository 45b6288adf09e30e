"""What a Function's forward leaves for its backward, and how its result is made of tensors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from chainrule.core.errors import explain
from chainrule.tensors.tensor import Tensor


class FunctionCtx:
    """What ``forward`` leaves for ``backward``. Anything that is not a tensor may simply be set as an attribute.

    Attributes:
        needs_input_grad: per argument of ``forward``, whether its gradient is asked for.
    """

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._for_jvp: tuple[Any, ...] = ()
        self._fixed: tuple[Tensor, ...] = ()
        self._unreached: frozenset[int] = frozenset()
        self._materialize = True
        self._xs: Sequence[Any] = ()
        self._ys: Sequence[Any] = ()
        self._forward_mode = False

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs, or values computed on the way) for ``backward``."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward takes tensors and None, got {type(t).__name__}; set other values as attributes"
                )
        self._saved = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``jvp``; without it ``jvp`` sees what was saved for backward."""
        self._for_jvp = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Declare outputs that no gradient flows through."""
        self._fixed = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether gradients that did not arrive come as zeros (the default) or as None."""
        self._materialize = bool(value)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, inputs and outputs with their history."""
        held = self._for_jvp if self._forward_mode and self._for_jvp else self._saved
        return tuple([s.of(self) if isinstance(s, Slot) else s for s in held])

    def seal(self, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> FunctionCtx:
        """Note which saved tensors are inputs or outputs, by identity."""

        def slot(t: Any) -> Any:
            for output, group in ((False, xs), (True, ys)):
                for i, member in enumerate(group):
                    if t is member:
                        return Slot(output, i)
            return t

        self._saved = tuple([slot(t) for t in self._saved])
        self._for_jvp = tuple([slot(t) for t in self._for_jvp])
        self._unreached = frozenset(j for j, y in enumerate(ys) if any(y is t for t in self._fixed))
        self._fixed = ()
        return self

    def bound(self, xs: Sequence[Any], ys: Sequence[Any], forward_mode: bool = False) -> FunctionCtx:
        """A copy whose saved inputs and outputs are these."""
        out = copy.copy(self)
        out._xs, out._ys, out._forward_mode = xs, ys, forward_mode
        return out


class Slot(NamedTuple):
    """A saved tensor that is input or output number ``index``."""

    output: bool
    index: int

    def of(self, ctx: FunctionCtx) -> Any:
        return (ctx._ys if self.output else ctx._xs)[self.index]


class Layout(NamedTuple):
    """How a function's result is made of tensors: alone or in a tuple, and the values that are no tensors."""

    alone: bool
    others: tuple[Any, ...]

    def build(self, tensors: Sequence[Any]) -> Any:
        if self.alone:
            return tensors[0]
        rest = iter(tensors)
        return tuple([next(rest) if o is TENSOR else o for o in self.others])


TENSOR = object()


def lay_out(name: str, result: Any) -> tuple[list[Tensor], Layout]:
    """The tensors of what ``forward`` returned, and how to put it together again."""
    if isinstance(result, Tensor):
        return [result], Layout(True, ())
    parts = tuple(result) if isinstance(result, (tuple, list)) else ()
    tensors = [p for p in parts if isinstance(p, Tensor)]
    if not tensors:
        raise TypeError(
            explain(f"{name}.forward must return a Tensor, or a tuple with some", got=type(result).__name__)
        )
    return tensors, Layout(False, tuple([TENSOR if isinstance(p, Tensor) else p for p in parts]))


def scatter(count: int, where: Sequence[int], values: Sequence[Any], rest: Any) -> list[Any]:
    """``count`` entries: ``values`` at the positions ``where``, ``rest`` elsewhere."""
    out = [rest] * count
    for i, v in zip(where, values, strict=True):
        out[i] = v
    return out
