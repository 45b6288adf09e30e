"""What a captured program took for granted about Python, and whether it still holds.

NOTE [guards]. Before a program is used again, these are compared with what they were at capture:

* the structure of the arguments; the values of numbers and texts among them, the identity of other objects;
* of every tensor that is read or written: shape, dtype, whether it requires grad; whether ``.grad`` is None where it
  is read before it is set;
* grad mode and default dtype;
* what the function itself names: closure variables, defaults, globals, bound arguments of a partial, ``self`` of a
  method. Of a number or text the value, of a tuple, list or dictionary its contents (up to 1000 entries), of an object
  its identity; of a module (an object with ``modules()``) also, for it and all modules within, the ``training`` flag
  and other attributes that are numbers or texts, its hooks, and which tensors its parameters and buffers are; of an
  optimizer (an
  object with ``param_groups``) also which options are on. Functions of the same Python file that it names are looked
  into too; those of a method that is bound by a partial likewise.

Not compared: attributes of other objects, the contents of arrays, what functions of other files read, the environment,
files, clocks. A function that decides by such things has to be given them as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from chainrule.compiler.watch import Watch, switches
from chainrule.core import dtypes
from chainrule.core.changes import COUNTING, Tracked
from chainrule.core.errors import is_internal
from chainrule.core.identity import Same
from chainrule.ir.state import is_grad_enabled
from chainrule.tensors.tensor import Tensor

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
#: a longer tuple, list or dictionary is compared by identity and length
MOST = 1000
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic, dtypes.dtype)


def observe(function: Callable[..., Any], leaves: Sequence[Any], watch: Watch | None = None) -> dict[str, Any]:
    """What :ref:`NOTE [guards]` compares, by a name for people; tensors are the program's own business.

    ``watch`` is told of every container that is looked into.
    """
    found: dict[str, Any] = {"grad mode": is_grad_enabled(), "default dtype": repr(dtypes.get_default_dtype())}
    todo: list[tuple[str, Any]] = [("the function", function)]
    todo += [(f"argument {i}", v) for i, v in enumerate(leaves) if not isinstance(v, (Tensor, *_PLAIN))]
    seen: set[int] = set()
    homes = [getattr(_plain_function(function), "__globals__", None)]
    while todo:
        name, v = todo.pop()
        if isinstance(v, _PLAIN):
            found[name] = (type(v), repr(v))
            continue
        found[name] = Same(v)
        if id(v) in seen:
            continue
        seen.add(id(v))
        if isinstance(v, (tuple, list, dict)) and len(v) > MOST:
            found[name] = (Same(v), len(v))
        elif isinstance(v, (tuple, list)):
            found[name] = (type(v), len(v))
            todo += [(f"{name}[{i}]", x) for i, x in enumerate(v)]
            if watch is not None and isinstance(v, list):
                watch.sequence(v)
        elif type(v) is dict:
            found[name] = (dict, tuple(map(repr, v)))
            todo += [(f"{name}[{k!r}]", x) for k, x in v.items()]
            if watch is not None:
                watch.mapping(v)
        elif isinstance(v, MethodType):
            found[name] = Same(v.__func__)
            todo += [(f"{name}'s self", v.__self__), (f"{name}'s code", v.__func__)]
        elif isinstance(v, partial):
            todo += [(f"{name}'s {i}. bound argument", x) for i, x in enumerate(v.args)]
            todo += [(f"{name}'s bound {k}", x) for k, x in v.keywords.items()]
            homes += [x.__func__.__globals__ for x in v.args if isinstance(x, MethodType)]
            todo.append((f"{name}'s function", v.func))
        elif v is function and not isinstance(v, FunctionType):
            todo += [(name, vars(type(v)).get("__call__"))]
            found.update(_switches(name, v, watch))
        elif isinstance(v, FunctionType):
            if not is_internal(v.__code__.co_filename) and any(v.__globals__ is h for h in homes):
                named = _named_by(v)
                todo += named
                if watch is not None and named:
                    watch.variables(v, _globals_of(v))
        else:
            found.update(_switches(name, v, watch))
    return found


def _plain_function(function: Any) -> Any:
    while not isinstance(function, FunctionType):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            function = vars(type(function)).get("__call__")
            if not isinstance(function, FunctionType):
                return None
    return function


def _named_by(function: FunctionType) -> list[tuple[str, Any]]:
    """The variables outside of a function that its code names, and its defaults."""
    code, who = function.__code__, function.__qualname__
    found = [(f"default {i} of {who}", v) for i, v in enumerate(function.__defaults__ or ())]
    found += [(f"default {k} of {who}", v) for k, v in (function.__kwdefaults__ or {}).items()]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((f"variable {name} of {who}", cell.cell_contents))
        except ValueError:  # not assigned yet
            found.append((f"variable {name} of {who}", None))
    found += [(f"global {n}", function.__globals__[n]) for n in _globals_of(function)]
    return found


def _globals_of(function: FunctionType) -> list[str]:
    """The globals that a function's code names, functions inside it included."""
    code, space = function.__code__, function.__globals__
    inner = [c.co_names for c in code.co_consts if hasattr(c, "co_names")]
    names = dict.fromkeys([*code.co_names, *(n for group in inner for n in group)])
    return [n for n in names if n in space]


def _switches(name: str, v: Any, watch: Watch | None = None) -> dict[str, Any]:
    """Flags, numbers and tensors of a module; the options that are on in an optimizer."""
    found: dict[str, Any] = {}
    if isinstance(v, type):
        return found
    groups = getattr(v, "param_groups", None)
    if hasattr(v, "training") and callable(getattr(v, "modules", None)):
        for i, m in enumerate(v.modules()):
            who = f"{name}" if i == 0 else f"{type(m).__name__} (module {i} of {name})"
            found[f"training flag of {who}"] = bool(m.training)
            numbers = {k: repr(x) for k, x in vars(m).items() if k[0] != "_" and isinstance(x, _PLAIN)}
            found[f"attributes of {who}"] = numbers
            space = vars(m)
            tables = [t for t in space.values() if type(t) is Tracked]
            found[f"hooks of {who}"] = tuple(Same(h) for n in _HOOKS for h in space.get(n, {}).values())
            if watch is not None:
                tracked = type(m).__setattr__ in COUNTING
                for table in (space, *tables):
                    watch.mapping(table, tracked)
        for kind in ("parameters", "buffers"):
            if callable(getattr(v, kind, None)):
                found[f"{kind} of {name}"] = tuple(Same(t) for t in getattr(v, kind)())
    if isinstance(groups, list):
        for i, group in enumerate(groups):
            if watch is not None:
                watch.options(group)
            on = tuple((k, x) for k, x in zip(group, switches(group), strict=True) if isinstance(x, _PLAIN))
            found[f"options of group {i} of {name}"] = (on, tuple(Same(p) for p in group.get("params", ())))
    return found


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first thing that changed, in words, or None."""
    if before == now:
        return None
    for name in {**before, **now}:
        a, b = before.get(name), now.get(name)
        if a != b:
            return f"{name} changed from {_show(a)} to {_show(b)}"
    return None


def _show(v: Any) -> str:
    return (
        v[1] if isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], type) and isinstance(v[1], str) else repr(v)
    )
