"""The base class of Tensor that carries, for type checkers, the methods attached at import (see surface.pyi)."""


class Surface:
    """Nothing at run time."""

    __slots__ = ()
