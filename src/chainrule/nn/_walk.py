"""Walking a tree of modules, without recursion and in the order of registration (a parent before its children)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.nn.module import Module


def named_modules(root: Module, prefix: str = "", unique: bool = True) -> Iterator[tuple[str, Module]]:
    """``(path, module)`` for ``root`` and everything below it; a module reached twice counts once if ``unique``."""
    seen: set[int] = set()
    stack: list[tuple[str, Module]] = [(prefix, root)]
    while stack:
        path, module = stack.pop()
        if unique:
            if id(module) in seen:
                continue
            seen.add(id(module))
        yield path, module
        at = f"{path}." if path else ""
        stack.extend((at + name, child) for name, child in reversed(module._modules.items()) if child is not None)


def named_members(
    modules: Iterable[tuple[str, Module]], table: Callable[[Module], dict[str, Any]], unique: bool = True
) -> Iterator[tuple[str, Any]]:
    """``(path, tensor)`` for each entry of ``table(module)`` that is not None; shared tensors once if ``unique``."""
    seen: set[int] = set()
    for path, module in modules:
        for name, member in table(module).items():
            if member is None or (unique and id(member) in seen):
                continue
            seen.add(id(member))
            yield (f"{path}.{name}" if path else name), member
