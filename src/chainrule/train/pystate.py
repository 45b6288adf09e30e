"""The Python state that a module holds: what it is now, whether it changed, and putting it back.

Looked into, in the module and all modules within: attributes; of lists, tuples, dictionaries, sets and deques the
entries; of plain objects (dataclasses, namespaces) the attributes; of random generators the state. Of tensors,
functions and everything else the identity. Tensors' contents are the business of a capture, not of this.
"""

from __future__ import annotations

import pickle
import random
import types
from collections import deque
from typing import Any

import numpy as np

from chainrule import nn
from chainrule import tensors as ct
from chainrule.core.identity import Same
from chainrule.tape import hooks

_DEEPEST = 4  # levels of containers and objects in each other
_MOST = 1000  # entries of a container; a longer one is compared by identity and length
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OPAQUE = (ct.Tensor, nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType, np.ndarray)
_HIDDEN = ("_trainer", "_parameters", "_buffers", "_modules")


def _entries(container: Any) -> Any:
    """What is compared by identity; a generator has nothing of the kind, its state is compared by value."""
    if isinstance(container, dict):
        return container.values()
    return () if isinstance(container, random.Random | np.random.BitGenerator) else container


def parameters_with_hooks(module: Any) -> list[str]:
    """The names of the parameters on which functions are registered that see their gradients."""
    if not hooks.registered():
        return []
    return [name for name, p in module.named_parameters() if p._node is not None and hooks.HOOKS.get(p._node)]


class Snapshot:
    """The Python state of a module, of Python's and of NumPy's random generator."""

    def __init__(self, module: Any) -> None:
        self.found: dict[str, Any] = {}
        self._back: list[tuple[Any, Any]] = []
        seen: set[int] = set()
        for name, m in module.named_modules():
            space = vars(m)
            self._back.append((space, dict(space)))
            who = f"{name}." if name else "self."
            for k, v in space.items():
                if k not in _HIDDEN:
                    self._look(f"{who}{k}", v, 0, seen)
            for k in _HIDDEN[1:]:
                inner = space.get(k)
                if inner is not None:
                    self._back.append((inner, dict(inner)))
                    self.found[f"the {k[1:]} of {name or 'the module'}"] = [(n, Same(t)) for n, t in inner.items()]
        self.found["the hooks of parameters"] = parameters_with_hooks(module)
        self.found["Python's random generator"] = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002 - it is what users' steps may draw from
        self.found["NumPy's random generator"] = pickle.dumps(self._numpy)
        self._ids = [tuple(map(id, _entries(c))) for c, _ in self._back]

    def _look(self, name: str, v: Any, depth: int, seen: set[int]) -> None:
        if isinstance(v, _PLAIN):
            self.found[name] = (type(v), repr(v))
            return
        self.found[name] = Same(v)
        if depth >= _DEEPEST or id(v) in seen or isinstance(v, _OPAQUE):
            return
        seen.add(id(v))
        if isinstance(v, np.random.Generator):
            state = v.bit_generator.state
            self._back.append((v.bit_generator, state))
            self.found[f"the state of {name}"] = pickle.dumps(state)
        elif isinstance(v, random.Random):
            self._back.append((v, v.getstate()))
            self.found[f"the state of {name}"] = v.getstate()
        elif isinstance(v, list | tuple | deque | set | frozenset | dict):
            if isinstance(v, list | deque | set | dict):
                self._back.append((v, v.copy()))
            self.found[f"the length of {name}"] = len(v)
            if len(v) <= _MOST:
                items = v.items() if isinstance(v, dict) else enumerate(v)
                for k, x in items:
                    key = repr(k) if isinstance(k, _PLAIN) else f"{type(k).__name__} at {id(k)}"
                    self._look(f"{name}[{key}]", x, depth + 1, seen)
        elif type(getattr(v, "__dict__", None)) is dict and not type(v).__module__.startswith("chainrule."):
            self._back.append((vars(v), dict(vars(v))))
            for k, x in list(vars(v).items()):
                self._look(f"{name}.{k}", x, depth + 1, seen)

    def difference(self, later: Snapshot) -> str | None:
        """The name of the first thing that is not as it was, or None."""
        a, b = self.found, later.found
        if a == b:
            return None
        return next(name for name in {**a, **b} if name not in a or name not in b or a[name] != b[name])

    def restore(self) -> None:
        """Put everything back as it was."""
        for thing, content in self._back:
            if isinstance(thing, random.Random):
                thing.setstate(content)
            elif isinstance(thing, np.random.BitGenerator):
                thing.state = content
            elif isinstance(thing, dict):
                if list(thing) != list(content) or any(thing[k] is not content[k] for k in content):
                    thing.clear()
                    thing.update(content)
            elif isinstance(thing, list):
                thing[:] = content
            else:
                thing.clear()
                thing.extend(content) if isinstance(thing, deque) else thing.update(content)
        random.setstate(self.found["Python's random generator"])
        np.random.set_state(self._numpy)  # noqa: NPY002 - see above

    def surely_unchanged(self) -> bool:
        """A quick look: every container holds the very objects it held. False means that nothing is known."""
        return [tuple(map(id, _entries(c))) for c, _ in self._back] == self._ids


class OptimizerSnapshot:
    """The Python side of an optimizer: numbers in its state, its options and its attributes."""

    def __init__(self, optimizer: Any) -> None:
        self._state = optimizer.state
        self._states = {key: dict(state) for key, state in optimizer.state.items()}
        self._back = [(d, dict(d)) for d in (vars(optimizer), *optimizer.param_groups)]
        self._numbers = {
            f"{k!r} in the optimizer's state of parameter {i}": v
            for i, state in enumerate(optimizer.state.values())
            for k, v in state.items()
            if isinstance(v, int | float | complex)
        }
        for i, (d, _) in enumerate(self._back):
            who = "the optimizer's" if i == 0 else f"the optimizer's option group {i - 1}:"
            plain = {k: v for k, v in d.items() if isinstance(v, int | float | complex) and k != "_stepped"}
            self._numbers.update({f"{who} {k}": v for k, v in plain.items()})

    def difference(self, later: OptimizerSnapshot) -> str | None:
        """The name of the first number that is new or another one, or None."""
        return next((k for k, v in later._numbers.items() if self._numbers.get(k) != v), None)

    def restore(self) -> None:
        """Put back what was there; state made since is forgotten."""
        for d, content in self._back:
            d.clear()
            d.update(content)
        for key in list(self._state):
            if key not in self._states:
                del self._state[key]
            else:
                self._state[key].clear()
                self._state[key].update(self._states[key])
