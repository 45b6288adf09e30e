"""Containers of modules. Those of parameters stand in ``parameter_container``."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Self, overload

from chainrule.nn.module import Module, indent


def position(index: Any, length: int) -> int:
    """``index`` as a number from 0 to length - 1, negative ones counted from the end. Raises IndexError."""
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexError(f"index {i} is out of range for a container of {length}")
    return i % length


class _ModuleSequence(Module):
    """What Sequential and ModuleList share: submodules named "0", "1", ... that can be indexed, sliced and edited."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def _key(self, index: Any) -> str:
        return list(self._modules)[position(index, len(self))]

    def _replace_all(self, modules: Iterable[Module | None]) -> None:
        new = list(modules)
        self._modules.clear()
        for i, module in enumerate(new):
            self.add_module(str(i), module)

    @overload
    def __getitem__(self, index: slice) -> Self: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._of(list(self._modules.items())[index])
        return self._modules[self._key(index)]

    def _of(self, items: list[tuple[str, Any]]) -> Self:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        gone = set(names[index]) if isinstance(index, slice) else {self._key(index)}
        self._replace_all([module for name, module in self._modules.items() if name not in gone])

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{self._get_name()}.extend takes an iterable of modules, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before the one at ``index``."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._replace_all(modules)
        return self

    def pop(self, key: int | slice) -> Any:
        """Take a module out and give it back."""
        found = self[key]
        del self[key]
        return found

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]


class Sequential(_ModuleSequence):
    """Modules called one after another: ``Sequential(a, b)(x) = b(a(x))``. Also takes one dict of named modules."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], Mapping) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def _of(self, items: list[tuple[str, Any]]) -> Self:
        return type(self)(dict(items))

    def __delitem__(self, index: int | slice) -> None:
        named = [name for name in self._modules if not name.isdigit()]
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [self._key(index)]:
            del self._modules[name]
        if not named:
            self._replace_all(self._modules.values())

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def __mul__(self, times: int) -> Sequential:
        if not isinstance(times, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(times)}")
        if times <= 0:
            raise ValueError(f"Non-positive multiplication factor {times} for {type(self)}")
        return Sequential(*(module for _ in range(times) for module in self))

    def __rmul__(self, times: int) -> Sequential:
        return self * times


class ModuleList(_ModuleSequence):
    """A list of modules whose parameters are found. It is not called; index or iterate over it in ``forward``."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _of(self, items: list[tuple[str, Any]]) -> Self:
        return type(self)(module for _, module in items)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def insert(self, index: int, module: Module) -> None:
        """Put a module before the one at ``index``."""
        super().insert(index, module)

    def __repr__(self) -> str:
        """Equal neighbours are shown once, with their range and number, as PyTorch does."""
        if not self._modules:
            return f"{self._get_name()}()"
        lines, start = [], 0
        for text, group in groupby(repr(module) for module in self):
            count = len(list(group))
            key = f"({start})" if count == 1 else f"({start}-{start + count - 1})"
            lines.append(f"{key}: {indent(text if count == 1 else f'{count} x {text}', 2)}")
            start += count
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """A dictionary of modules, in order of insertion, whose parameters are found."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module | None) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Take a module out and give it back."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """``(name, module)`` pairs."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, replacing those of the same name."""
        for key, module in named_items(modules, "ModuleDict.update"):
            self[key] = module


def named_items(values: Any, where: str) -> list[tuple[str, Any]]:
    """``values``, a mapping or an iterable of pairs, as a list of pairs. Raises TypeError or ValueError."""
    if hasattr(values, "items"):
        return list(values.items())
    if not isinstance(values, Iterable):
        raise TypeError(f"{where} should be called with a mapping or an iterable of pairs, got {type(values).__name__}")
    pairs = list(values)
    for i, pair in enumerate(pairs):
        if not isinstance(pair, Iterable) or len(list(pair)) != 2:
            raise ValueError(f"{where}: element #{i} should be a (name, value) pair, got {pair!r}")
    return [tuple(pair) for pair in pairs]
