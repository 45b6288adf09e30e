"""Jacobians, Hessians and their products as functions of a function and its inputs (``torch.autograd.functional``).

The same computations as :mod:`chainrule.func`, called with values instead of returning a function. With
``create_graph=False`` results carry no history; with True they can be differentiated further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.autograd.grad import grad
from chainrule.core import trees
from chainrule.core.errors import GradError, explain
from chainrule.func import reverse
from chainrule.func.forward import jvp as forward_jvp
from chainrule.ir.state import enable_grad
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor


def _inputs(inputs: Any, create_graph: bool) -> tuple[tuple[Tensor, ...], bool]:
    """The inputs as a tuple, cut from their history unless it is to be kept; and whether a tuple was given."""
    several = isinstance(inputs, (tuple, list))
    given = tuple(inputs) if several else (inputs,)
    for i, x in enumerate(given):
        if not isinstance(x, Tensor):
            raise TypeError(explain(f"input {i} is no tensor", expected="a Tensor or a tuple", got=type(x).__name__))
    return given if create_graph else tuple(TENSORS.detach(x) for x in given), several


def _result(value: Any, create_graph: bool) -> Any:
    return value if create_graph else trees.map(lambda t: TENSORS.detach(t) if t._node is not None else t, value)


def _scalar(func: Callable[..., Any], what: str) -> Callable[..., Tensor]:
    """``func`` with a result of one element made zero-dimensional."""

    def checked(*xs: Tensor) -> Tensor:
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:  # type: ignore[attr-defined]
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise GradError(explain(f"{what} needs a function with one number as result", got=got))
        return y.reshape(())  # type: ignore[attr-defined, no-any-return]

    return checked


def _require_dependence(func: Callable[..., Any], xs: tuple[Tensor, ...], what: str) -> None:
    """Raise if an output does not depend on an input (``strict=True``)."""
    with enable_grad():
        fresh = [TENSORS.detach(x).requires_grad_() for x in xs]
        outputs = trees.flatten(func(*fresh))[0]
        for j, y in enumerate(outputs):
            if y._node is None:
                raise GradError(f"{what}: output {j} of the function does not depend on the inputs (strict=True)")
            found = grad(y, fresh, TENSORS.zeros_like(y), retain_graph=True, allow_unused=True)
            for i, g in enumerate(found):
                if g is None:
                    raise GradError(f"{what}: output {j} of the function does not depend on input {i} (strict=True)")


def _direction(v: Any, like: tuple[Tensor, ...], what: str) -> tuple[Tensor, ...]:
    if v is None:
        if len(like) == 1 and like[0].numel() == 1:  # type: ignore[attr-defined]
            return (TENSORS.full(tuple(like[0].shape), 1, like[0]._d.dtype),)
        raise GradError(explain(f"{what}: v may be left out only where there is a single number", fix="pass v"))
    vs = tuple(v) if isinstance(v, (tuple, list)) else (v,)
    if len(vs) != len(like) or any(tuple(a.shape) != tuple(b.shape) for a, b in zip(vs, like, strict=False)):
        raise GradError(
            explain(
                f"{what}: v has other shapes than what it multiplies",
                expected=str([tuple(b.shape) for b in like]),
                got=str([tuple(a.shape) for a in vs]),
            )
        )
    return vs


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of ``func`` at ``inputs``: entry [i..., j...] is d out[i...] / d in[j...].

    A tensor for one input and one output; for a tuple of inputs a tuple, for a tuple of outputs a tuple of those.
    Always computed for all rows at once, whatever ``vectorize`` says.

    Args:
        strategy: "reverse-mode" or "forward-mode".

    Raises:
        RuntimeError: with ``strict``, if an output does not depend on an input.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"strategy must be 'reverse-mode' or 'forward-mode', got {strategy!r}")
    xs, several = _inputs(inputs, create_graph)
    if strict:
        _require_dependence(func, xs, "jacobian")
    argnums = tuple(range(len(xs))) if several else 0
    derived = (reverse.jacrev if strategy == "reverse-mode" else reverse.jacfwd)(func, argnums)
    return _result(derived(*xs), create_graph)


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function with one number as result; for a tuple of inputs a tuple of tuples.

    Raises:
        RuntimeError: if the result is not one number, or with ``strict`` if a derivative is independent of an input.
    """
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(
            f"outer_jacobian_strategy must be 'reverse-mode' or 'forward-mode', got {outer_jacobian_strategy!r}"
        )
    xs, several = _inputs(inputs, create_graph)
    argnums = tuple(range(len(xs))) if several else 0
    inner = reverse.grad(_scalar(func, "hessian"), argnums)
    if strict:
        _require_dependence(func, xs, "hessian")
        _require_dependence(inner, xs, "hessian, of the gradient")
    outer = reverse.jacrev if outer_jacobian_strategy == "reverse-mode" else reverse.jacfwd
    return _result(outer(inner, argnums)(*xs), create_graph)


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(*inputs), v^T J)``: one reverse pass."""
    xs, several = _inputs(inputs, create_graph)
    if strict:
        _require_dependence(func, xs, "vjp")
    value, pull = reverse.vjp(func, *xs)
    outputs, structure = trees.flatten(value)
    seeds = trees.unflatten(structure, list(_direction(v, tuple(outputs), "vjp")))
    answer = pull(seeds)
    return _result((value, answer if several else answer[0]), create_graph)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(*inputs), J v)``: one forward pass."""
    xs, _ = _inputs(inputs, create_graph)
    if strict:
        _require_dependence(func, xs, "jvp")
    return _result(forward_jvp(func, xs, _direction(v, xs, "jvp")), create_graph)


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(*inputs), v^T H)`` for a function with one number as result: reverse over reverse."""
    xs, several = _inputs(inputs, create_graph)
    scalar = _scalar(func, "vhp")
    inner = reverse.grad(scalar, tuple(range(len(xs))))
    if strict:
        _require_dependence(func, xs, "vhp")
        _require_dependence(inner, xs, "vhp, of the gradient")
    _, pull = reverse.vjp(inner, *xs)
    answer = pull(_direction(v, xs, "vhp"))
    return _result((func(*xs), answer if several else answer[0]), create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(*inputs), H v)`` for a function with one number as result: forward over reverse (Pearlmutter, 1994)."""
    xs, several = _inputs(inputs, create_graph)
    inner = reverse.grad(_scalar(func, "hvp"), tuple(range(len(xs))))
    if strict:
        _require_dependence(func, xs, "hvp")
        _require_dependence(inner, xs, "hvp, of the gradient")
    _, found = forward_jvp(inner, xs, _direction(v, xs, "hvp"))
    return _result((func(*xs), tuple(found) if several else found[0]), create_graph)
