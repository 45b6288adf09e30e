"""The current interpreter and the grad mode, together in one context variable.

A context variable belongs to a thread (and to an asyncio task), so a capture in one thread never sees the ops of
another. The state is an immutable pair; entering a scope sets a new one and leaving restores the old, also on errors.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from chainrule.ir.interpreter import Interpreter

F = TypeVar("F", bound=Any)


class State(NamedTuple):
    """What applying an op asks: who interprets (None: eager), and whether the tape records."""

    interpreter: Interpreter | None
    grad: bool


EAGER = State(None, True)
EAGER_NO_GRAD = State(None, False)
_state: ContextVar[State] = ContextVar("chainrule_state", default=EAGER)
get_state = _state.get
set_state = _state.set
reset_state = _state.reset


def make_state(interpreter: Interpreter | None, grad: bool) -> State:
    """The state of that pair; the two eager ones are shared objects."""
    if interpreter is None:
        return EAGER if grad else EAGER_NO_GRAD
    return State(interpreter, grad)


class _GradMode:
    """A grad mode as a context manager and as a decorator."""

    __slots__ = ("_tokens", "mode")

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._tokens: list[Token[State]] = []

    def __enter__(self) -> None:
        self._tokens.append(set_state(make_state(get_state().interpreter, self.mode)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reset_state(self._tokens.pop())

    def __call__(self, function: F) -> F:
        mode = self.mode

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _GradMode(mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Within it nothing is recorded for the backward pass. Use as ``with no_grad():`` or ``@no_grad()``."""

    __slots__ = ()

    def __new__(cls, function: Any = None) -> Any:
        return cls()(function) if callable(function) else super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(no_grad):
    """Within it the tape records, also inside :class:`no_grad`."""

    __slots__ = ()

    def __init__(self) -> None:
        _GradMode.__init__(self, True)


class inference_mode(no_grad):
    """As :class:`no_grad`; ``inference_mode(False)`` is :class:`enable_grad`."""

    __slots__ = ()

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        _GradMode.__init__(self, not mode)


class set_grad_enabled(_GradMode):
    """Sets the grad mode at once; as a context manager it restores the earlier mode on leaving."""

    __slots__ = ()

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._tokens.append(set_state(make_state(get_state().interpreter, self.mode)))

    def __enter__(self) -> None:
        pass


def is_grad_enabled() -> bool:
    """Whether the tape records here."""
    return get_state().grad
