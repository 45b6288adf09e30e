"""Hooks of a Module and the slow path of a call that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from chainrule.tape.hooks import RemovableHandle

if TYPE_CHECKING:
    from chainrule.nn.module import Module


class Hook(NamedTuple):
    """One registered callable and how it wants to be called."""

    fn: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


def register(hooks: dict[int, Hook], hook: Hook, prepend: bool) -> RemovableHandle:
    """Add ``hook`` at the end of the table (at the front with ``prepend``) and return its handle."""
    if not callable(hook.fn):
        raise TypeError(f"a hook must be callable, got {type(hook.fn).__name__}")
    handle = RemovableHandle(hooks)
    later = dict(hooks) if prepend else {}
    for key in later:
        del hooks[key]
    hooks[handle.id] = hook
    hooks.update(later)
    return handle


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``forward`` between the pre-hooks and the forward hooks of ``module``.

    A pre-hook may return new arguments, a forward hook a new result; ``None`` leaves them as they are. When ``forward``
    or a hook raises, the forward hooks with ``always_call=True`` that did not run yet run before the error goes on.
    """
    done: set[int] = set()
    result = None
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        result = module.forward(*args, **kwargs)
        for key, hook in list(module._forward_hooks.items()):
            done.add(key)
            result = _run_forward_hook(module, hook, args, kwargs, result)
        return result
    except BaseException:
        for key, hook in list(module._forward_hooks.items()):
            if hook.always_call and key not in done:
                result = _run_forward_hook(module, hook, args, kwargs, result)
        raise


def _run_pre_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    for hook in list(module._forward_pre_hooks.values()):
        if hook.with_kwargs:
            changed = hook.fn(module, args, kwargs)
            if changed is None:
                continue
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(
                    "a forward pre-hook registered with_kwargs=True must return None or (new_args, new_kwargs), "
                    f"got {type(changed).__name__}"
                )
            args, kwargs = changed
        else:
            changed = hook.fn(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def _run_forward_hook(module: Module, hook: Hook, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
    changed = hook.fn(module, args, kwargs, result) if hook.with_kwargs else hook.fn(module, args, result)
    return result if changed is None else changed
