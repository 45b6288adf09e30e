"""Saving a tree of modules as a flat dictionary and loading it back, all or nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule import tensors as ct
from chainrule.ir.state import no_grad
from chainrule.nn.parameter import Parameter

if TYPE_CHECKING:
    from chainrule.nn.module import Module

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` returns: the keys it did not find and the keys it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def save(module: Module, destination: dict[str, Any] | None, prefix: str, keep_vars: bool) -> dict[str, Any]:
    """Write parameters, persistent buffers and extra state of the whole tree into ``destination``."""
    out: dict[str, Any] = OrderedDict() if destination is None else destination
    for path, child in module.named_modules(remove_duplicate=False):
        at = f"{prefix}{path}." if path else prefix
        for name, tensor in _own_tensors(child).items():
            if tensor is not None:
                out[at + name] = tensor if keep_vars else tensor.detach()
        if child._has_extra_state():
            out[at + EXTRA_STATE] = child.get_extra_state()
    return out


def load(module: Module, state: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Copy (``assign=True``: put) the tensors of ``state`` into ``module``.

    Everything is looked at first: if anything is wrong, one error names all of it and the module is as it was.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict must be a mapping from names to tensors, got {type(state).__name__}")
    missing: list[str] = []
    expected: set[str] = set()
    errors: list[str] = []
    tensors: list[tuple[Module, str, Any, Any]] = []
    extras: list[tuple[Module, Any]] = []
    for path, child in module.named_modules(remove_duplicate=False):
        at = f"{path}." if path else ""
        for name, target in _own_tensors(child).items():
            if target is None:
                continue
            key = at + name
            expected.add(key)
            if key not in state:
                missing.append(key)
            elif _fits(key, target, state[key], errors):
                tensors.append((child, name, target, state[key]))
        if child._has_extra_state():
            key = at + EXTRA_STATE
            expected.add(key)
            if key in state:
                extras.append((child, state[key]))
            else:
                missing.append(key)
    unexpected = [key for key in state if key not in expected]
    if strict:
        errors = _key_errors(missing, unexpected) + errors
    if errors:
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(errors))
    with no_grad():
        for child, name, target, value in tensors:
            _put(child, name, target, value, assign)
    for child, value in extras:
        child.set_extra_state(value)
    return IncompatibleKeys(missing, unexpected)


def _own_tensors(module: Module) -> dict[str, Any]:
    """Parameters, then persistent buffers, of this one module (not of its children)."""
    skip = module._non_persistent_buffers_set
    return {**module._parameters, **{name: b for name, b in module._buffers.items() if name not in skip}}


def _fits(key: str, target: Any, value: Any, errors: list[str]) -> bool:
    if not isinstance(value, (ct.Tensor, np.ndarray)):
        errors.append(f'"{key}" must be a tensor or a NumPy array, the state_dict has {type(value).__name__}.')
        return False
    if tuple(value.shape) != tuple(target.shape):
        errors.append(
            f"size mismatch for {key}: copying a param with shape {tuple(value.shape)} from checkpoint, "
            f"the shape in current model is {tuple(target.shape)}."
        )
        return False
    return True


def _key_errors(missing: list[str], unexpected: list[str]) -> list[str]:
    lines = []
    if missing:
        lines.append("Missing key(s) in state_dict: " + ", ".join(f'"{key}"' for key in missing) + ".")
    if unexpected:
        lines.append("Unexpected key(s) in state_dict: " + ", ".join(f'"{key}"' for key in unexpected) + ".")
    if missing and unexpected:
        lines.extend(_prefix_hint(missing, unexpected))
    return lines


def _prefix_hint(missing: list[str], unexpected: list[str]) -> list[str]:
    """The commonest mistake: every key carries one prefix too many or too few, from a wrapper such as a Trainer."""
    for longer, shorter, what in ((unexpected, missing, "remove it from"), (missing, unexpected, "add it to")):
        prefix = longer[0][: -len(shorter[0])] if longer[0].endswith("." + shorter[0]) else ""
        if prefix and {key.removeprefix(prefix) for key in longer} == set(shorter):
            return [f'The keys differ only by the prefix "{prefix}": {what} the keys of the state_dict.']
    return []


def _put(module: Module, name: str, target: Any, value: Any, assign: bool) -> None:
    value = ct.as_tensor(value)
    if not assign:
        target.copy_(value)
    elif name in module._parameters:
        if not isinstance(value, Parameter):
            value = Parameter(value.detach(), requires_grad=target.requires_grad)
        module._parameters[name] = value
    else:
        module._buffers[name] = value
