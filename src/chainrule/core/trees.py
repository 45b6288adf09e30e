"""Nested containers (tuple, list, dict, namedtuple, registered classes) as flat lists of leaves plus a structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Structure(NamedTuple):
    """How a tree was built: the container, its keys, and the structures below. A leaf has kind None."""

    kind: type | None
    keys: Any
    children: tuple[Structure, ...]

    @property
    def leaves(self) -> int:
        """How many leaves hang below."""
        return 1 if self.kind is None else sum(c.leaves for c in self.children)


LEAF = Structure(None, None, ())
_flatten: dict[type, Callable[[Any], tuple[Sequence[Any], Any]]] = {
    tuple: lambda x: (x, None),
    list: lambda x: (x, None),
    dict: lambda x: (list(x.values()), tuple(x)),
    type(None): lambda x: ((), None),
}
_build: dict[type, Callable[[Any, Sequence[Any]], Any]] = {
    tuple: lambda _, xs: tuple(xs),
    list: lambda _, xs: list(xs),
    dict: lambda keys, xs: dict(zip(keys, xs, strict=True)),
    type(None): lambda _, xs: None,
}


def register(
    kind: type,
    flatten: Callable[[Any], tuple[Sequence[Any], Any]],
    build: Callable[[Any, Sequence[Any]], Any],
) -> None:
    """Teach trees about a class: ``flatten(x) -> (children, keys)`` and ``build(keys, children) -> x``."""
    _flatten[kind], _build[kind] = flatten, build


def _namedtuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that :func:`unflatten` needs."""
    kind = type(tree)
    if kind in _flatten:
        children, keys = _flatten[kind](tree)
    elif _namedtuple(kind):
        children, keys = tree, None
    else:
        return [tree], LEAF
    leaves: list[Any] = []
    below = []
    for child in children:
        found, structure = flatten(child)
        leaves += found
        below.append(structure)
    return leaves, Structure(kind, keys, tuple(below))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The tree of that structure with these leaves; raises ``ValueError`` if their number differs."""
    if structure.leaves != len(leaves):
        raise ValueError(f"a tree of {structure.leaves} leaves cannot be built from {len(leaves)}")
    return _grow(structure, iter(leaves))


def _grow(structure: Structure, rest: Iterator[Any]) -> Any:
    # not nested in unflatten: a function that calls itself by name is a reference cycle that would hold the leaves
    kind = structure.kind
    if kind is None:
        return next(rest)
    children = [_grow(c, rest) for c in structure.children]
    return _build[kind](structure.keys, children) if kind in _build else kind(*children)


def map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply ``f`` leaf by leaf over one or several trees of the same structure."""
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in others:
        found, same = flatten(other)
        if same != structure:
            raise ValueError(f"the trees differ in structure: {structure} and {same}")
        columns.append(found)
    return unflatten(structure, [f(*row) for row in zip(*columns, strict=True)])
