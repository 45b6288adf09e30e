"""Calling an object that holds parameters as a pure function of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chainrule.core.errors import did_you_mean, explain
from chainrule.tape.node import Leaf
from chainrule.tensors.functions.shape import stack
from chainrule.tensors.tensor import Tensor, wrap

_TABLES = ("_parameters", "_buffers")
_ABSENT = object()


def _named(module: Any, remove_duplicate: bool) -> dict[str, Tensor]:
    """Parameters and buffers by dotted path."""
    out: dict[str, Tensor] = {}
    for walk in (module.named_parameters, module.named_buffers):
        out.update(walk() if remove_duplicate else walk(remove_duplicate=False))
    return out


def _merge(dictionaries: Any) -> dict[str, Tensor]:
    if isinstance(dictionaries, Mapping):
        return dict(dictionaries)
    if not isinstance(dictionaries, (tuple, list)) or not all(isinstance(d, Mapping) for d in dictionaries):
        raise TypeError(
            explain(
                "functional_call takes a dictionary of tensors, or a tuple of dictionaries", got=repr(dictionaries)[:80]
            )
        )
    merged: dict[str, Tensor] = {}
    for d in dictionaries:
        twice = merged.keys() & d.keys()
        if twice:
            raise ValueError(f"functional_call: {sorted(twice)} appear in more than one dictionary")
        merged.update(d)
    return merged


def _replacements(module: Any, given: dict[str, Tensor], tie_weights: bool, strict: bool) -> dict[str, Tensor]:
    """What to put where: the given tensors, and the same ones at all other names of a tied parameter."""
    every = _named(module, False)
    unknown = [name for name in given if name not in every]
    if unknown:
        raise KeyError(
            f"functional_call: the module has no parameter or buffer {unknown[0]!r}{did_you_mean(unknown[0], every)}"
        )
    names: dict[int, list[str]] = {}
    for name, t in every.items():
        names.setdefault(id(t), []).append(name)
    out = dict(given)
    for group in names.values():
        inside = [name for name in group if name in given]
        if tie_weights and inside:
            first = given[inside[0]]
            if any(given[name] is not first for name in inside):
                raise ValueError(
                    f"functional_call: {inside} are one tied tensor in the module but different ones here\n"
                    "  fix: give one of the names, or pass tie_weights=False"
                )
            out.update(dict.fromkeys(group, first))
    missing = [group[0] for group in names.values() if not any(name in out for name in group)]
    if strict and missing:
        raise KeyError(f"functional_call(strict=True): no value was given for {missing}")
    return out


@contextmanager
def _swapped(module: Any, values: dict[str, Tensor]) -> Iterator[None]:
    """The module with these tensors in place of its own; restored on leaving, also on errors."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for path, value in values.items():
            owner = module
            *parents, name = path.split(".")
            for part in parents:
                owner = getattr(owner, part)
            own = owner.__dict__
            table = next((own[t] for t in _TABLES if name in own.get(t, ())), own)
            undo.append((table, name, table.get(name, _ABSENT)))
            table[name] = value
        yield
    finally:
        for table, name, old in reversed(undo):
            if old is _ABSENT:
                table.pop(name, None)
            else:
                table[name] = old


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` computed with other parameters and buffers than its own.

    With it a module is a function of its parameters, as transforms need::

        params = dict(net.named_parameters())
        loss = lambda p, x, y: mse_loss(functional_call(net, p, (x,)), y)
        per_sample = vmap(grad(loss), in_dims=(None, 0, 0))(params, X, Y)

    Args:
        module: any object with ``named_parameters`` and ``named_buffers``; called with args and kwargs.
        parameter_and_buffer_dicts: tensors by dotted path, one dictionary or a tuple of them; names left out keep the
            module's own tensors.
        args: a tuple of arguments, or one argument.
        tie_weights: a tensor that the module has under several names is replaced under all of them.
        strict: require every parameter and buffer to be given.

    Raises:
        KeyError: for a name that the module does not have, or with ``strict`` one that is missing.
        ValueError: for different values of a tied tensor, or a name that is in two dictionaries.
    """
    given = _merge(parameter_and_buffer_dicts)
    positional = () if args is None else tuple(args) if isinstance(args, (tuple, list)) else (args,)
    with _swapped(module, _replacements(module, given, tie_weights, strict)):
        return module(*positional, **(kwargs or {}))


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of several modules of one make, each stacked along a new first axis.

    For ensembles: ``vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), (0, 0, None))(*stacked, x)``. The stacked
    parameters are leaves of their own.

    Raises:
        ValueError: without modules, or if they differ in class or names.
    """
    if not models:
        raise ValueError("stack_module_state needs at least one module")
    first = models[0]
    if any(type(m) is not type(first) for m in models):
        raise ValueError(
            explain("the modules differ in class", got=", ".join(sorted({type(m).__name__ for m in models})))
        )

    def stacked(which: str, leaf: bool) -> dict[str, Tensor]:
        tables = [dict(getattr(m, which)()) for m in models]
        if any(t.keys() != tables[0].keys() for t in tables):
            raise ValueError(f"the modules differ in {which}: they must be built alike")
        out = {}
        for name in tables[0]:
            together = stack([t[name].detach() for t in tables])
            needs = leaf and tables[0][name].requires_grad
            out[name] = wrap(together._d, Leaf()) if needs else together
        return out

    return stacked("named_parameters", True), stacked("named_buffers", False)
