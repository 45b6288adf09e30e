"""Ctrl-C during training: the first finishes the batch that is running, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class InterruptGuard:
    """Inside the block, SIGINT sets :attr:`pressed` instead of raising in the middle of an optimizer step.

    Only in the main thread, and only where nobody else handles SIGINT; otherwise KeyboardInterrupt comes as usual.
    """

    def __init__(self) -> None:
        self.pressed = 0
        self._installed = False

    def __enter__(self) -> InterruptGuard:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        if self.pressed > 1:
            raise KeyboardInterrupt
