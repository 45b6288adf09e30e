"""Writes src/chainrule/tensors/surface.pyi: the methods of Tensor, for type checkers and editors.

Methods are attached when the package is imported, each from the one place where its function stands, so a type checker
cannot see them. This program looks at the finished class and writes their signatures down. Run it after adding or
changing a function: ``python tools/make_surface.py``; a test compares the file with what it would write.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from chainrule.tensors import Tensor
from chainrule.tensors.tensor import Tensor as Declared

TARGET = Path(__file__).resolve().parents[1] / "src" / "chainrule" / "tensors" / "surface.pyi"
HEAD = '''"""The methods that are attached to Tensor. Written by tools/make_surface.py: do not edit."""

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.tape import hooks
from chainrule.tensors.random import Generator
from chainrule.tensors.tensor import Size, Tensor, device

class Surface:
'''
_KNOWN = {"Any", "None", "bool", "int", "float", "str", "Tensor", "tuple", "list", "Sequence", "Callable", "Size"}
_KNOWN |= {"dict", "Generator", "values_indices", "np", "dtypes", "device", "object", "slice"}


def _annotation(text: Any) -> str:
    """An annotation in words that the stub knows; anything else is Any."""
    if text is inspect.Parameter.empty:
        return "Any"
    if not isinstance(text, str):
        text = getattr(text, "__name__", "Any")
    text = text.replace("values_indices", "Any")
    if not set(re.findall(r"[A-Za-z_]+", re.sub(r"\.\w+", "", text))) <= _KNOWN:
        return "Any"
    return re.sub(r"\b(bool|int|float)\b", r"builtins.\1", text)  # Tensor has methods of these names


def _parameter(p: inspect.Parameter) -> str:
    stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    default = "" if p.default is p.empty else " = ..."
    return f"{stars}{p.name}: {_annotation(p.annotation)}{default}"


def _method(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    parts = ["self"]
    keyword_only = False
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            keyword_only = True
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        parts.append(_parameter(p))
    result = _annotation(signature.return_annotation)
    return f"    def {name}({', '.join(parts)}) -> {result}: ..."


def surface() -> str:
    """The text of the stub."""
    declared = inspect.getsource(Declared)
    lines = []
    for name in sorted(vars(Tensor)):
        value = inspect.getattr_static(Tensor, name)
        if re.search(rf"^    (def {re.escape(name)}\(|{re.escape(name)}\b.*[:=])", declared, re.MULTILINE):
            continue  # written in the class itself
        if isinstance(value, property):
            lines += ["    @property", f"    def {name}(self) -> {'Tensor' if name in ('T', 'mT') else 'Any'}: ..."]
        elif inspect.isfunction(value):
            lines.append(_method(name, value))
        elif isinstance(value, (bool, int, str)) and not name.startswith("__"):
            lines.append(f"    {name}: builtins.{type(value).__name__}")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(surface(), encoding="utf-8")
    print(f"{TARGET.name}: {surface().count('def ')} methods")
