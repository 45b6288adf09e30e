"""Containers of parameters (and of anything else; tensors that are put in become parameters)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from chainrule import tensors as ct
from chainrule.nn.module import Module, indent
from chainrule.nn.modules.container import named_items, position
from chainrule.nn.parameter import Parameter


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, ct.Tensor) and not isinstance(value, Parameter) else value


def _describe(key: Any, value: Any) -> str:
    if isinstance(value, ct.Tensor):
        size = "x".join(str(n) for n in value.shape)
        kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
        return f"({key}): {kind} containing: [{value.dtype} of size {size}]"
    if isinstance(value, Module):
        return f"({key}): {indent(repr(value), 2)}"
    return f"({key}): Object of type: {type(value).__name__}"


class ParameterList(Module):
    """A list of parameters that the module finds. Plain tensors that are put in are made parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self._size))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)([self[i] for i in range(*index.indices(self._size))])
        return getattr(self, str(position(index, self._size)))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(position(index, self._size)), _as_parameter(value))

    def append(self, value: Any) -> Self:
        """Add a value at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add values at the end."""
        if not isinstance(values, Iterable) or isinstance(values, ct.Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take a value out and give it back; those after it move up."""
        values = list(self)
        found = values.pop(index)
        for i in range(self._size):
            delattr(self, str(i))
        self._size = 0
        self.extend(values)
        return found

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def extra_repr(self) -> str:
        return "\n".join("  " + _describe(i, value) for i, value in enumerate(self))

    def __repr__(self) -> str:
        return f"{self._get_name()}(\n{self.extra_repr()}\n)" if self._size else f"{self._get_name()}()"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dictionary of parameters, in order of insertion, that the module finds. Plain tensors are made parameters."""

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self._names: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def _attribute(self, key: Any) -> str:
        if not isinstance(key, str):
            raise TypeError(f"Index given to ParameterDict cannot be used as a key as it is not a string, got {key!r}")
        return key

    def __getitem__(self, key: str) -> Any:
        if key not in self._names:
            raise KeyError(key)
        return getattr(self, self._attribute(key))

    def __setitem__(self, key: str, value: Any) -> None:
        name = self._attribute(key)
        if name not in self._names and hasattr(self, name):
            raise KeyError(f"'{name}' is an attribute of ParameterDict already; choose another name")
        self._names[name] = None
        setattr(self, name, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._names[key]
        delattr(self, self._attribute(key))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._names))

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def keys(self) -> Any:
        """The names."""
        return self._names.keys()

    def values(self) -> Iterator[Any]:
        """The values."""
        return (self[key] for key in self._names)

    def items(self) -> Iterator[tuple[str, Any]]:
        """``(name, value)`` pairs."""
        return ((key, self[key]) for key in self._names)

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, or ``default``."""
        return self[key] if key in self._names else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, set to ``default`` first if there is none."""
        if key not in self._names:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take a value out and give it back."""
        found = self[key]
        del self[key]
        return found

    def popitem(self) -> tuple[str, Any]:
        """Take the last pair out and give it back."""
        if not self._names:
            raise KeyError("popitem(): the ParameterDict is empty")
        key = next(reversed(self._names))
        return key, self.pop(key)

    def clear(self) -> None:
        """Take everything out."""
        for key in list(self._names):
            del self[key]

    def copy(self) -> ParameterDict:
        """A new ParameterDict with the same parameters."""
        return ParameterDict(dict(self.items()))

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add values, replacing those of the same name."""
        for key, value in named_items(parameters, "ParameterDict.update"):
            self[key] = value

    def __or__(self, other: Mapping[str, Any] | ParameterDict) -> ParameterDict:
        return ParameterDict({**dict(self.items()), **dict(other.items())})

    def __ior__(self, other: Mapping[str, Any] | ParameterDict) -> Self:
        self.update(dict(other.items()))
        return self

    def extra_repr(self) -> str:
        return "\n".join("  " + _describe(key, value) for key, value in self.items())

    def __repr__(self) -> str:
        return f"{self._get_name()}(\n{self.extra_repr()}\n)" if self._names else f"{self._get_name()}()"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterDict should not be called.")
