"""``Module``: the base class of everything that holds parameters, with PyTorch's interface and conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from chainrule import tensors as ct
from chainrule.core import dtypes
from chainrule.core.changes import MODULES, Tracked, counting
from chainrule.nn import _convert, _hooks, _registry, _state_dict, _walk
from chainrule.nn.parameter import Buffer, Parameter
from chainrule.tape.hooks import RemovableHandle


class Module:
    """Base class of all neural network modules.

    A subclass calls ``super().__init__()``, assigns parameters and submodules as attributes, and defines ``forward``::

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden = nn.Linear(4, 8)

            def forward(self, x):
                return F.relu(self.hidden(x))

    Calling the module, ``net(x)``, runs ``forward`` and the hooks around it.
    """

    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            got = ", ".join([repr(a) for a in args] + [f"{k}=..." for k in kwargs])
            raise TypeError(f"{type(self).__name__}: Module.__init__() takes no arguments, got {got}")
        own = self.__dict__
        own["training"] = True
        own["_parameters"] = Tracked()
        own["_buffers"] = Tracked()
        own["_non_persistent_buffers_set"] = set()
        own["_forward_pre_hooks"] = Tracked()
        own["_forward_hooks"] = Tracked()
        own["_modules"] = Tracked()

    # ---- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation of this module. Every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_hooks or self._forward_pre_hooks:
            return _hooks.call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Run ``hook(module, args)`` before ``forward``; what it returns, if not None, replaces the arguments.

        With ``with_kwargs=True`` the call is ``hook(module, args, kwargs)`` and the result ``None`` or ``(args,
        kwargs)``.
        """
        return _hooks.register(self._forward_pre_hooks, _hooks.Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Run ``hook(module, args, output)`` after ``forward``; what it returns, if not None, replaces the output.

        With ``with_kwargs=True`` the call is ``hook(module, args, kwargs, output)``. With ``always_call=True`` the hook
        also runs (with output None) when ``forward`` raised.
        """
        return _hooks.register(self._forward_hooks, _hooks.Hook(hook, with_kwargs, always_call), prepend)

    # ---- attributes

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for table in _registry.TABLES:
            if table in own and name in own[table]:
                return own[table][name]
        message = f"'{type(self).__name__}' object has no attribute '{name}'"
        if "_modules" not in own and not name.startswith("__"):
            message += f" ({_registry.init_hint(self)})"
        raise AttributeError(message, name=name, obj=self)

    @counting
    def __setattr__(self, name: str, value: Any) -> None:
        MODULES.now += 1
        own = self.__dict__
        if isinstance(value, Parameter):
            _registry.require_init(self, "a parameter", name)
            _registry.check_parameter(name, value)
            _registry.assign(self, "_parameters", name, value)
        elif isinstance(value, Module):
            _registry.require_init(self, "a module", name)
            _registry.assign(self, "_modules", name, value)
        elif isinstance(value, Buffer):
            _registry.require_init(self, "a buffer", name)
            _registry.assign(self, "_buffers", name, value)
            if not value.persistent:
                own["_non_persistent_buffers_set"].add(name)
        elif "_modules" not in own:
            object.__setattr__(self, name, value)
        elif name in own["_parameters"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' (chainrule.nn.Parameter or None "
                    f"expected); wrap the value in nn.Parameter, or write into it with {name}.copy_() under no_grad()"
                )
            own["_parameters"][name] = None
        elif name in own["_modules"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as child module '{name}' "
                    "(chainrule.nn.Module or None expected)"
                )
            own["_modules"][name] = None
        elif name in own["_buffers"]:
            _registry.check_buffer(name, value)
            own["_buffers"][name] = value
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        MODULES.now += 1
        for table in _registry.TABLES:
            if name in self.__dict__.get(table, ()):
                del self.__dict__[table][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = set(object.__dir__(self))
        for table in _registry.TABLES:
            names.update(self.__dict__.get(table, ()))
        return sorted(name for name in names if not name[:1].isdigit())

    # ---- registration

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; ``None`` reserves the name, as for a layer without bias."""
        _registry.require_init(self, "a parameter", name)
        _registry.check_parameter(name, param)
        _registry.register(self, "_parameters", name, param)

    def register_buffer(self, name: str, tensor: ct.Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter, such as a running mean.

        Buffers follow the module through ``to()`` and, if ``persistent``, appear in ``state_dict()``.
        """
        _registry.require_init(self, "a buffer", name)
        _registry.check_buffer(name, tensor)
        _registry.register(self, "_buffers", name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under ``name``."""
        _registry.require_init(self, "a module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        _registry.register(self, "_modules", name, module)

    register_module = add_module

    # ---- walking the tree

    def named_modules(
        self, memo: None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """``(dotted path, module)`` for this module (path ``prefix``) and all below it."""
        return _walk.named_modules(self, prefix, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, each once unless ``remove_duplicate=False``."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """``(name, module)`` for the immediate children, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The immediate children, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """``(dotted path, parameter)``; a parameter that is shared appears once unless ``remove_duplicate=False``."""
        tree = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        return _walk.named_members(tree, lambda module: module._parameters, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and (with ``recurse``) of all below it: what an optimizer is given."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, ct.Tensor]]:
        """``(dotted path, buffer)``; a buffer that is shared appears once unless ``remove_duplicate=False``."""
        tree = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        return _walk.named_members(tree, lambda module: module._buffers, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[ct.Tensor]:
        """The buffers of this module and (with ``recurse``) of all below it."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, such as ``"encoder.0"``; ``""`` is this one. AttributeError if there is none."""
        module: Module = self
        for name in target.split(".") if target else ():
            if name not in module._modules or module._modules[name] is None:
                have = ", ".join(module._modules) or "none"
                raise AttributeError(
                    f"{module._get_name()} has no submodule `{name}` (path {target!r}); it has: {have}"
                )
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path, such as ``"encoder.0.weight"``. AttributeError if there is none."""
        return self._get_member(target, "_parameters", "parameter")

    def get_buffer(self, target: str) -> ct.Tensor:
        """The buffer at a dotted path. AttributeError if there is none."""
        return self._get_member(target, "_buffers", "buffer")

    def _get_member(self, target: str, table: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if module.__dict__[table].get(name) is None:
            have = ", ".join(module.__dict__[table]) or "none"
            raise AttributeError(f"{module._get_name()} has no {what} `{name}` (path {target!r}); it has: {have}")
        return module.__dict__[table][name]

    # ---- state

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted path, as detached tensors that share memory with the module.

        ``keep_vars=True`` gives the parameters themselves. Copy the tensors to freeze a moment of training:
        ``{k: v.clone() for k, v in net.state_dict().items()}``.
        """
        return _state_dict.save(self, destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _state_dict.IncompatibleKeys:
        """Copy the tensors of ``state_dict`` into this module.

        With ``strict`` every key has to match. A wrong shape is an error always. All mistakes are listed in one
        RuntimeError, and then nothing was written (PyTorch writes those that fit). ``assign=True`` puts the given
        tensors themselves in place of copying, so dtypes may change. Returns the missing and the unexpected keys.
        """
        return _state_dict.load(self, state_dict, strict, assign)

    def get_extra_state(self) -> Any:
        """Override, with ``set_extra_state``, to store more than tensors in ``state_dict()``."""
        raise RuntimeError(f"{type(self).__name__} was asked for extra state but does not define get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Override, with ``get_extra_state``, to read back what that returned."""
        raise RuntimeError(f"{type(self).__name__} found extra state but does not define set_extra_state()")

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    # ---- modes and gradients

    def train(self, mode: bool = True) -> Self:
        """Set ``training`` here and in every submodule; dropout, for one, acts only while training."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {type(mode).__name__}")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """The same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or free all parameters."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or write zeros into them with ``set_to_none=False``."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad = param.grad.detach().zero_()

    # ---- conversion

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every submodule, children first, then on this module: the way to initialize a network."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[ct.Tensor], ct.Tensor]) -> Self:
        """Replace every parameter's contents, every gradient and buffer by ``fn`` of it; parameters stay objects."""
        _convert.replace_tensors(self, fn)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert floating point parameters and buffers in place: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``,
        ``to(other_tensor)``. Integer tensors keep their dtype, parameters stay the same objects."""
        device, dtype = _convert.parse_to(*args, **kwargs)
        if device is not None:
            self._apply(lambda t: t.to(device))
        return self if dtype is None else self._cast(dtype)

    def _cast(self, dtype: Any) -> Self:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integer ones too, to ``dst_type``."""
        return self._apply(lambda t: t.to(dst_type))

    def float(self) -> Self:
        """Cast floating point parameters and buffers to float32."""
        return self._cast(dtypes.float32)

    def double(self) -> Self:
        """Cast floating point parameters and buffers to float64."""
        return self._cast(dtypes.float64)

    def half(self) -> Self:
        """Cast floating point parameters and buffers to float16."""
        return self._cast(dtypes.float16)

    def cpu(self) -> Self:
        """This module: tensors live on the CPU already."""
        return self.to("cpu")

    # ---- text

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands in the parentheses of the repr; override it to show settings."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indent(repr(child), 2)}" for name, child in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def indent(text: str, spaces: int) -> str:
    """``text`` with all lines but the first moved right."""
    return text.replace("\n", "\n" + " " * spaces)
