"""The interpreter protocol: applying an op asks the current interpreter what to do.

A :class:`Tracer` is the payload of a Tensor shell and holds Tensors *of the level outside*. ``process`` unwraps the
current interpreter's own tracers, treats every other Tensor as a constant, makes the outer level current and runs the
rule there; if nothing belongs to this level, the outer result passes through.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from chainrule.core.errors import TracerError
from chainrule.core.shapes import Shape
from chainrule.ir.op import Op
from chainrule.ir.state import State, get_state, make_state, reset_state, set_state


class Tracer:
    """A value that an interpreter follows instead of computing it.

    Attributes:
        interpreter: the level it belongs to.
        value: what that level holds for it (a Tensor of the level outside, or a graph value).
        extra: the second half of what it holds (a tangent, or whether there is a batch axis).
    """

    __slots__ = ("dtype", "extra", "interpreter", "shape", "value")
    __array_ufunc__ = None

    def __init__(self, interpreter: Interpreter, value: Any, extra: Any, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.interpreter, self.value, self.extra = interpreter, value, extra
        self.shape, self.dtype = shape, dtype

    def __repr__(self) -> str:
        return f"<value of {self.interpreter.what}, shape {self.shape}, {self.dtype}>"


class Interpreter:
    """A level of interpretation; a context manager that makes itself current."""

    what: ClassVar[str] = "a transform"
    #: whether tensors born from data inside are of interest to this level (capture)
    watches: ClassVar[bool] = False

    def __init__(self) -> None:
        self.outer: Interpreter | None = None
        self.outer_grad = True
        self.alive = False
        self._token: Token[State] | None = None
        self._born: dict[int, weakref.ref[Any]] = {}

    def __enter__(self) -> Any:
        state = get_state()
        self.outer, self.outer_grad, self.alive = state.interpreter, state.grad, True
        self._token = set_state(State(self, state.grad))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alive = False
        if self._token is not None:
            reset_state(self._token)
            self._token = None

    def owns(self, payload: Any) -> bool:
        """Whether a payload is a tracer of this very level."""
        return isinstance(payload, Tracer) and payload.interpreter is self

    def born(self, tensor: Any) -> None:
        """A tensor was made from data inside: this level may write traced values into it."""
        self._born[id(tensor)] = weakref.ref(tensor)
        if self.outer is not None:
            self.outer.born(tensor)

    def bore(self, tensor: Any) -> bool:
        """Whether a tensor was made inside this level."""
        found = self._born.get(id(tensor))
        return found is not None and found() is tensor

    def rebind(self, tensor: Any, value: Any) -> None:
        """Give a tensor another value; levels that watch keep the user's tensors as they are and note it."""
        tensor._d = value._d

    def scalar(self, read: Callable[[], float]) -> Any:
        """A Python number that may change between runs (a learning rate): its value, or an input under capture."""
        return read() if self.outer is None else self.outer.scalar(read)

    def read_grad(self, leaf: Any, tensor: Any = None) -> Any:
        """``.grad`` of a leaf (and the tensor it belongs to, if known) as this level sees it."""
        return leaf.grad if leaf.level is self or self.outer is None else self.outer.read_grad(leaf, tensor)

    def write_grad(self, leaf: Any, value: Any, tensor: Any = None) -> None:
        """Set ``.grad`` of a leaf; of a tensor from outside only capture allows it, which notes it."""
        if leaf.level is not self:
            raise TracerError(
                f"{self.what}: backward() would store a traced gradient in a tensor from outside; "
                "use chainrule.autograd.grad(...) or chainrule.func.grad(...) inside the transform instead"
            )
        leaf.grad = value

    def keeps(self, tensor: Any) -> bool:
        """Whether a level that watches holds the current value of a tensor (or a view's root) in place of its own."""
        return self.outer is not None and self.outer.keeps(tensor)

    def payload(self, tensor: Any) -> Any:
        """What may be saved of a tensor for later: its payload, or the value that a level that watches holds for it."""
        return tensor._d if self.outer is None else self.outer.payload(tensor)

    def guard_number(self, tensor: Any) -> None:
        """Called before the numbers of a tensor are read; levels that watch refuse those that may change."""
        if self.outer is not None:
            self.outer.guard_number(tensor)

    def guard_write(self, base: Any, tracked: bool) -> None:
        """Called on the accepting level before ``base`` is written; ``tracked``: the new value would have history."""

    def lift(self, tensor: Any) -> Any:
        """``tensor`` as a constant of this level."""
        raise NotImplementedError

    def rule(self, op: Op, xs: Sequence[Any], payloads: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result of ``op`` at this level, computed with the outer level current."""
        raise NotImplementedError

    def process(self, op: Op, xs: Sequence[Any], params: dict[str, Any], apply: Callable[..., Any]) -> tuple[Any, bool]:
        """Interpret one op. Returns the result and whether it belongs to this level."""
        payloads = [x._d for x in xs]
        mine = False
        for p in payloads:
            if isinstance(p, Tracer):
                if p.interpreter is self:
                    mine = True
                elif not p.interpreter.alive:
                    raise TracerError(escaped(p))
        token = set_state(make_state(self.outer, get_state().grad and self.outer_grad))
        try:
            if not mine:
                out = apply(op, xs, params)
                for t in out if isinstance(out, tuple) else (out,):
                    self._born[id(t)] = weakref.ref(t)
                return out, False
            return self.rule(op, xs, payloads, params), True
        finally:
            reset_state(token)


def escaped(tracer: Tracer) -> str:
    """The message for a tracer that is used after its transform ended."""
    return (
        f"{tracer!r} escaped its transform: {tracer.interpreter.what} has ended, so the value stands for nothing. "
        "Return it from the transformed function instead of keeping it in a variable, list or attribute outside."
    )
