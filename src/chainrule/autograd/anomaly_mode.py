"""Anomaly mode: find the op whose backward rule makes the first gradient that is not finite."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType

from chainrule.tape.anomaly import WATCHING


class detect_anomaly:
    """Within it, a backward pass raises at the first gradient that is NaN or infinite.

    The error names the op, the entry, and the line of the forward computation. ``check_nan=False`` does not look.

    Raises:
        RuntimeError: from ``backward()`` or ``autograd.grad``.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._mode = bool(check_nan)
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(WATCHING.set(self._mode))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        WATCHING.reset(self._tokens.pop())


class set_detect_anomaly(detect_anomaly):
    """Turn anomaly mode on or off at once; as a context manager it restores the earlier mode on leaving."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(bool(mode) and bool(check_nan))
        self._tokens.append(WATCHING.set(self._mode))

    def __enter__(self) -> None:
        """Nothing to do: the mode was set when this was made."""


def is_anomaly_enabled() -> bool:
    """Whether backward passes look for gradients that are not finite."""
    return WATCHING.get()
