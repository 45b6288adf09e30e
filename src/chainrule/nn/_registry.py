"""The tables of a module (parameters, buffers, submodules) and the rules for putting something into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainrule import tensors as ct
from chainrule.nn.parameter import Parameter

if TYPE_CHECKING:
    from chainrule.nn.module import Module

# In the order in which a name is looked up.
TABLES = ("_parameters", "_buffers", "_modules")


def check_parameter(name: str, param: Any) -> None:
    """Raise unless ``param`` is None or a Parameter that is a leaf."""
    if param is None:
        return
    if not isinstance(param, Parameter):
        raise TypeError(
            f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
            "(chainrule.nn.Parameter or None required)"
        )
    if not param.is_leaf:
        raise ValueError(
            f"cannot assign a tensor that was computed (it has a grad_fn) to parameter '{name}': parameters are leaves."
            " To express it as a function of another tensor, compute it in forward()"
        )


def check_buffer(name: str, tensor: Any) -> None:
    """Raise unless ``tensor`` is None or a Tensor."""
    if tensor is not None and not isinstance(tensor, ct.Tensor):
        raise TypeError(
            f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (chainrule.Tensor or None required)"
        )


def init_hint(module: Module) -> str:
    """What to do about a module whose base class was not initialized."""
    return f"call super().__init__() first in {type(module).__name__}.__init__"


def require_init(module: Module, what: str, name: str) -> None:
    """Raise if the tables do not exist yet."""
    if "_modules" not in module.__dict__:
        raise AttributeError(f"cannot assign {what} ('{name}') before Module.__init__() call: {init_hint(module)}")


def register(module: Module, table: str, name: str, value: Any) -> None:
    """Put ``value`` under a new ``name``; a name that is taken by something else is an error."""
    what = table[1:-1]
    if not isinstance(name, str):
        raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
    if "." in name:
        raise KeyError(f'{what} name can\'t contain ".", got: {name}')
    if name == "":
        raise KeyError(f'{what} name can\'t be empty string ""')
    if hasattr(module, name) and name not in module.__dict__[table]:
        raise KeyError(f"attribute '{name}' already exists")
    module.__dict__[table][name] = value


def assign(module: Module, table: str, name: str, value: Any) -> None:
    """Put ``value`` under ``name`` as attribute assignment does: the name leaves every other place where it stood."""
    own = module.__dict__
    own.pop(name, None)
    for other in TABLES:
        if other != table:
            own[other].pop(name, None)
    own["_non_persistent_buffers_set"].discard(name)
    own[table][name] = value
