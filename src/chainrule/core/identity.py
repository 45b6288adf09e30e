"""Comparing objects by identity."""

from __future__ import annotations

from typing import Any


class Same:
    """An object compared by identity; holding it keeps its address from being given to another."""

    __slots__ = ("it",)

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)

    def __repr__(self) -> str:
        return f"{type(self.it).__name__} object"
