"""Errors that teach, and the user's line they speak of."""

from __future__ import annotations

import difflib
import linecache
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType

_PACKAGE = str(Path(__file__).parent.parent) + os.sep  # spelled as code objects spell it: links are not followed
_inside: dict[str, bool] = {}


class ShapeError(RuntimeError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(RuntimeError, TypeError):
    """Data types that an operation does not take."""


class GradError(RuntimeError):
    """A derivative that cannot be had: no graph, a freed graph, a stale saved value, a missing rule."""


class TracerError(RuntimeError):
    """A traced value used where a number is needed, or after its transform ended."""


class MissingRuleError(GradError, NotImplementedError):
    """An op lacks the rule that a transformation asks for; the message names the method to write."""


def is_internal(filename: str) -> bool:
    """Whether a source file belongs to the package."""
    known = _inside.get(filename)
    if known is None:
        known = _inside[filename] = filename.startswith(_PACKAGE)
    return known


def user_frame() -> FrameType | None:
    """The innermost frame that is not the package's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_place(frame: FrameType | None = None) -> tuple[CodeType, int] | None:
    """Code object and instruction of the user's line, from ``frame`` outwards; decoded by :func:`describe_place`."""
    if frame is None:
        frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        inside = _inside.get(code.co_filename)
        if inside is None:
            inside = is_internal(code.co_filename)
        if not inside:
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def describe_place(place: tuple[CodeType, int] | None) -> str:
    """``file:line: source`` of a place taken earlier, or words that say it is unknown."""
    if place is None:
        return "an unknown line"
    code, instruction = place
    line: int | None = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end:
            line = number
    text = linecache.getline(code.co_filename, line or 0).strip()
    return f"{code.co_filename}:{line}" + (f": {text}" if text else "")


def explain(what: str, *, expected: str = "", got: str = "", fix: str = "") -> str:
    """An error text in the house form: what happened, expected, got, the user's line, the likely fix."""
    parts = [what]
    if expected:
        parts.append(f"  expected: {expected}")
    if got:
        parts.append(f"  got:      {got}")
    place = user_place()
    if place is not None:
        parts.append(f"  at:       {describe_place(place)}")
    if fix:
        parts.append(f"  fix:      {fix}")
    return "\n".join(parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
