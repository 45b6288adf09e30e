"""Clipping of gradients, by their joint norm or element by element.

Each formula stands once, against the math namespace ``m`` that it is handed: NumPy on the raw arrays in eager mode,
which is several times faster, and tensors under a transform or where the gradients themselves have a history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import numpy as np

from chainrule import tensors as ct
from chainrule.core.errors import user_place
from chainrule.ir.namespace import NUMPY
from chainrule.ir.state import get_state, no_grad
from chainrule.tape.clock import stamp
from chainrule.tensors.namespace import TENSORS
from chainrule.tensors.tensor import wrap

Tensor = ct.Tensor


def _norm(m: Any, xs: list[Any], p: float) -> Any:
    """(sum |x|^p)^(1/p) over all elements of all ``xs``, of which there is at least one."""

    def over_all(fold: Callable[..., Any], x: Any) -> Any:
        return fold(x, tuple(range(len(x.shape))), False)

    if math.isinf(p):
        fold, pick = (m.amax, m.maximum) if p > 0 else (m.amin, m.minimum)
        return reduce(pick, [over_all(fold, m.abs(x)) for x in xs])
    if p == 2:
        return m.sqrt(reduce(m.add, [over_all(m.sum, x * x) for x in xs]))
    if p == 1:
        return reduce(m.add, [over_all(m.sum, m.abs(x)) for x in xs])
    return m.pow(reduce(m.add, [over_all(m.sum, m.pow(m.abs(x), p)) for x in xs]), 1 / p)


def _factor(m: Any, total: Any, bound: float) -> Any:
    """min(1, bound / total); 1 where the total is 0, so that zero gradients stay zero also for bound = 0."""
    none = m.eq(total, 0.0)
    return m.where(none, 1.0, m.minimum(bound / m.where(none, 1.0, total), 1.0))


def _as_list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, ct.Tensor) else list(parameters)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [grad for p in _as_list(parameters) if (grad := p.grad) is not None]


def _is_plain(t: Tensor) -> bool:
    """Whether the array of ``t`` may be read and written as it is: no view, no history, no tracer."""
    return type(t._d) is np.ndarray and t._node is None and t._view is None and t._d.flags.writeable


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of all ``tensors``, as if they were one vector: (sum |x|^p)^(1/p), p = ``norm_type``.

    ``float("inf")`` gives the largest |x|. Zero if there are no elements. With ``error_if_nonfinite`` raises
    RuntimeError when the norm is NaN or infinite. ``foreach`` is accepted and has no effect.
    """
    p = float(norm_type)
    if p == 0:
        raise ValueError("norm_type must not be 0; use 1, 2, another power or float('inf')")
    xs = [t for t in _as_list(tensors) if 0 not in t._d.shape]
    with no_grad():
        if not xs:
            total = ct.tensor(0.0)
        elif get_state().interpreter is None and all(map(_is_plain, xs)):
            with np.errstate(all="ignore"):
                total = wrap(_norm(NUMPY, [x._d for x in xs], p))
        else:
            total = _norm(TENSORS, [x.detach() for x in xs], p)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(
                f"The total norm of order {p} for gradients from `parameters` is non-finite ({total.item()}), "
                "so it cannot be clipped. To disable this error and scale the gradients by the non-finite norm "
                "anyway, set `error_if_nonfinite=False`"
            )
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Multiply the gradients of ``parameters`` in place by min(1, max_norm / total_norm)."""
    grads, bound = _gradients(parameters), float(max_norm)
    with no_grad(), np.errstate(all="ignore"):
        if get_state().interpreter is None and all(map(_is_plain, grads)):
            factor = _factor(NUMPY, total_norm.numpy_payload(), bound)
            if factor != 1.0:
                place = user_place()
                for grad in grads:
                    np.multiply(grad._d, factor, out=grad._d, casting="same_kind")
                    stamp(grad._d, place)
        else:
            scale = _factor(TENSORS, total_norm, bound)
            for grad in grads:
                grad.mul_(scale)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by min(1, c / ||g||), so that their joint norm is at most c = ``max_norm``; in place.

    Returns ||g|| as it was before. Parameters without a gradient are left out. PyTorch divides by ||g|| + 1e-6; this
    is the formula itself, so the norm afterwards is c and not a little less. Source: Pascanu et al. 2013, algorithm 1.
    """
    parameters = _as_list(parameters)
    total_norm = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total_norm)
    return total_norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Cut every element of every gradient off to [-clip_value, clip_value], in place."""
    grads, bound = _gradients(parameters), float(clip_value)
    with no_grad():
        if get_state().interpreter is None and all(map(_is_plain, grads)):
            place = user_place()
            for grad in grads:
                np.clip(grad._d, -bound, bound, out=grad._d)
                stamp(grad._d, place)
        else:
            for grad in grads:
                grad.copy_(ct.clamp(grad, -bound, bound))
