"""The base of all optimizers: parameter groups, state, and saving both; PyTorch's interface."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from chainrule.ir.state import enable_grad, no_grad
from chainrule.tensors.tensor import Tensor, wrap

__all__ = ["Optimizer", "required"]


class _Required:
    """The default of an option that every group must give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required: Any = _Required()


class Optimizer:
    """Holds parameters in groups, each with its own options, and a state for each parameter.

    Args:
        params: tensors to optimize; or ``(name, tensor)`` pairs such as ``model.named_parameters()``; or dictionaries,
            one per group, with the key ``"params"`` and any options that differ from the defaults.
        defaults: option values of groups that do not give their own.

    Attributes:
        param_groups: list of dictionaries: ``"params"`` and the options. May be changed between steps.
        state: dictionary from parameter to a dictionary of its state; filled at the parameter's first step.

    Raises:
        TypeError: ``params`` is one tensor, a set (its order is not fixed), or holds something that is no tensor.
        ValueError: no parameters, a tensor that is not a leaf, or one given twice.

    To write an optimizer of your own, derive from this class and define ``step``; or derive from
    :class:`chainrule.optim.RuleOptimizer` and give only the update rule.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._stepped = False  # a scheduler asks, to warn when it is stepped first
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__}: params must be an iterable of tensors or of dictionaries, got one tensor; "
                "pass [tensor] or model.parameters()"
            )
        groups = params if isinstance(params, set | frozenset) else list(params)
        if len(groups) == 0:
            raise ValueError(
                f"{type(self).__name__} got an empty parameter list. A generator such as model.parameters() can be "
                "read only once: was it used up before? Are the model's layers attributes, or in a ModuleList?"
            )
        if not (isinstance(groups, list) and isinstance(groups[0], dict)):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group: a dictionary with ``"params"`` and any options that differ from the defaults.

        Useful to let layers that were frozen take part later on. Raises as the constructor does; nothing is added then.
        """
        who = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeError(f"{who}: a parameter group must be a dictionary, got {type(param_group).__name__}")
        if "params" not in param_group:
            raise ValueError(f"{who}: a parameter group needs the key 'params', got the keys {sorted(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, set | frozenset):
            raise TypeError(f"{who}: parameters must come in a fixed order, got a set; use a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and all(isinstance(p, tuple) and len(p) == 2 for p in params):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        if any(("param_names" in group) != ("param_names" in other) for other in self.param_groups):
            raise ValueError(f"{who}: either all parameter groups have names for their parameters or none has")
        group["params"] = params
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"{who} can only optimize tensors, but parameter {i} is a {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"{who} can't optimize a tensor that is not a leaf: parameter {i} of shape {tuple(p.shape)} is the "
                    "result of a computation. Pass the tensor it was computed from, or use .detach().requires_grad_()"
                )
            if id(p) in known:
                raise ValueError(
                    f"{who}: parameter {i} of shape {tuple(p.shape)} appears more than once, in one group or in "
                    "several; it would be updated twice per step. List a shared weight once"
                )
            known.add(id(p))
        for name, default in self.defaults.items():
            if group.setdefault(name, default) is required:
                raise ValueError(f"{who}: a parameter group gives no value for the required option {name!r}")
        self.check_group(group)
        self.param_groups.append(group)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raises ValueError for an option out of range. For subclasses; called for every new group."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters; with ``set_to_none=False`` fills them with zeros in place."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = p.grad.detach()
                    p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient. ``closure`` computes the loss anew and returns it."""
        raise NotImplementedError(f"{type(self).__name__} must define step(self, closure=None)")

    def _loss_of(self, closure: Callable[[], Any] | None) -> Any:
        """What ``closure`` returns, with gradients enabled; None without a closure."""
        self._stepped = True
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {i: {...}}, "param_groups": [...]}`` with parameters replaced by their running number ``i``.

        The tensors are those of the optimizer itself, not copies: save them, or copy before the next step.
        """
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                number.setdefault(id(p), len(number))
            groups.append({**group, "params": [number[id(p)] for p in group["params"]]})
        state = {number[id(p)] if isinstance(p, Tensor) else p: s for p, s in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over a copy of what :meth:`state_dict` gave; parameters are matched by their order.

        State tensors are cast to the dtype of their parameter, counters to float64. Tensors of PyTorch and NumPy
        arrays are taken as well, so a state that PyTorch saved can be loaded. Groups and fitting state tensors
        remain the same objects with new contents, so whoever holds them (a compiled step) goes on with what was loaded.

        Raises:
            ValueError: another number of groups, or another number of parameters in a group.
        """
        who = type(self).__name__
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"{who}: the loaded state has {len(saved)} parameter groups, "
                f"this optimizer has {len(self.param_groups)}"
            )
        mine: dict[Any, Tensor] = {}
        for i, (old, new) in enumerate(zip(saved, self.param_groups, strict=True)):
            if len(old["params"]) != len(new["params"]):
                raise ValueError(
                    f"{who}: group {i} of the loaded state has {len(old['params'])} parameters, "
                    f"this optimizer's has {len(new['params'])}"
                )
            mine.update(zip(old["params"], new["params"], strict=True))
        state: dict[Any, dict[str, Any]] = {}
        for key, values in state_dict["state"].items():
            p = mine.get(key)
            if p is None:
                state[key] = copy.deepcopy(values)
            else:
                state[p] = {name: _own_copy(name, v, p) for name, v in values.items() if v is not None}
        for old, new in zip(saved, self.param_groups, strict=True):
            options = {name: copy.deepcopy(v) for name, v in old.items() if name not in ("params", "param_names")}
            new.update({**self.defaults, **options})
        for p, values in state.items():
            for name, have in self.state.get(p, {}).items():
                if _fits(have, values.get(name)):
                    with no_grad():
                        values[name] = have.copy_(values[name])
        self.state.clear()
        self.state.update(state)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._stepped = False

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _fits(have: Any, new: Any) -> bool:
    """Whether both are tensors of one shape and dtype."""
    both = isinstance(have, Tensor) and isinstance(new, Tensor)
    return both and have.shape == new.shape and have.dtype == new.dtype


def _own_copy(name: str, value: Any, p: Tensor) -> Any:
    """A copy of a state value that this optimizer may change."""
    if isinstance(value, list):
        return [_own_copy(name, v, p) for v in value]
    if not hasattr(value, "__array__"):
        return copy.deepcopy(value)
    array = np.array(value.detach().numpy() if hasattr(value, "detach") else value)
    scalar = array.ndim == 0 and (name == "step" or p.ndim > 0)
    dtype = np.dtype(np.float64) if scalar else np.dtype(p.dtype.numpy)
    return wrap(array.astype(dtype))


def check_options(who: str, group: Mapping[str, Any], *names: str, positive: tuple[str, ...] = ()) -> None:
    """Raises ValueError unless the named options are numbers that are not negative (``positive``: above zero)."""
    for name in (*names, *positive):
        value = float(group[name])
        if not (value > 0 if name in positive else value >= 0):
            what = "above 0" if name in positive else "0 or more"
            raise ValueError(f"{who}: {name} must be {what}, got {group[name]!r}")


def check_fractions(who: str, name: str, values: Iterable[Any]) -> None:
    """Raises ValueError unless every value lies in [0, 1)."""
    values = list(values)
    if not all(0 <= float(v) < 1 for v in values):
        shown = values[0] if len(values) == 1 else tuple(values)
        raise ValueError(f"{who}: {name} must lie in [0, 1), got {shown!r}")
