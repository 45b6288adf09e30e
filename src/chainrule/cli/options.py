"""Types of options: what is accepted, and what a wrong value is told."""

from __future__ import annotations

import math
from typing import Any

import click


class _Number(click.ParamType):
    """A finite number within limits that a subclass states."""

    name = "number"
    wanted = "a number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails with a sentence otherwise."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number) or not self.fits(number):
            self.fail(f"{value} is out of range: give {self.wanted}", param, ctx)
        return number

    def fits(self, number: float) -> bool:
        """Whether the number is within the limits."""
        raise NotImplementedError(f"{type(self).__name__} must define fits(self, number)")


class Positive(_Number):
    """More than 0."""

    wanted = "a number above 0"

    def fits(self, number: float) -> bool:
        return number > 0


class NonNegative(_Number):
    """0 or more."""

    wanted = "0 or more"

    def fits(self, number: float) -> bool:
        return number >= 0


class Share(_Number):
    """From 0 up to, and not including, 1."""

    name = "share"
    wanted = "a number from 0 to below 1"

    def fits(self, number: float) -> bool:
        return 0 <= number < 1


class Whole(click.ParamType):
    """A whole number from ``lowest`` to ``highest``."""

    name = "n"

    def __init__(self, lowest: int = 1, highest: int = 2**31 - 1) -> None:
        self.lowest, self.highest = lowest, highest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails with a sentence otherwise."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)
        if not self.lowest <= number <= self.highest:
            self.fail(f"{value} is out of range: give {self.lowest} to {self.highest:,}", param, ctx)
        return number


class Widths(click.ParamType):
    """Widths of layers, separated by commas: ``128,128``; ``none`` for no layer."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The widths; fails with a sentence otherwise."""
        if isinstance(value, tuple):
            return value
        if value.strip().lower() == "none":
            return ()
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} are no widths: give whole numbers with commas, as 128,128, or 'none'", param, ctx)
        if any(not 1 <= width <= 100_000 for width in widths):
            self.fail(f"{value!r}: widths must lie between 1 and 100,000", param, ctx)
        return widths


class Names(click.ParamType):
    """Names, separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names; fails where there is none."""
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names:
            self.fail("give at least one name", param, ctx)
        return names
