"""Applying an op to tensors: compute, or ask the current interpreter; then write history down."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import DTypeError, TracerError, explain, user_place
from chainrule.ir.interpreter import Tracer, escaped
from chainrule.ir.op import REGISTRY, Op
from chainrule.ir.state import get_state
from chainrule.tape.node import pick, record
from chainrule.tensors.tensor import Tensor, wrap
from chainrule.tensors.views import Lens, refresh


def look(parent: Tensor, lens: Lens) -> Tensor:
    """``parent`` through a lens."""
    out: Tensor = apply(REGISTRY[lens.name], (parent,), lens.params)
    return out


def up_to_date(t: Tensor) -> Tensor:
    """``t`` itself, after looking again if the base of a view was written; a capture looks for itself."""
    v = t._view
    if v is not None and v.stale:
        interpreter = get_state().interpreter
        if interpreter is None or not interpreter.keeps(t):
            refresh(t, look)
    return t


def _compute(op: Op, payloads: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, Any]:
    if Tracer in map(type, payloads):
        raise TracerError(escaped(next(p for p in payloads if type(p) is Tracer)))
    try:
        out = (op.eager or op.kernel)(*payloads, **params)
    except TypeError as error:
        if op.kind in ("function", "control"):  # the user's own code failed
            raise
        kinds = " and ".join(str(dtypes.from_numpy(p.dtype)) for p in payloads)
        raise DTypeError(explain(f"{op.name} does not take these dtypes", got=kinds, fix=str(error))) from error
    return out if op.residual else (out, None)


def apply(op: Op, xs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
    """The result of an op: a Tensor, or a tuple of them for an op with several results."""
    interpreter, grad = get_state()
    for x in xs:
        v = x._view
        if v is not None and v.stale:
            up_to_date(x)
    residual = None
    if interpreter is None:
        payloads = tuple([x._d for x in xs])
        value, residual = _compute(op, payloads, params)
        out: Any = wrap(value) if op.outputs == 1 else tuple([wrap(v) for v in value])
    elif interpreter.watches and op.kind == "function":
        out = op.expand(xs)
    else:
        out, mine = interpreter.process(op, xs, params, apply)
        if not mine:
            return out
    if grad:
        for x in xs:
            if x._node is not None:
                if interpreter is not None:
                    payloads = tuple([interpreter.payload(x) for x in xs])
                _record(op, xs, payloads, out, residual, params)
                break
    return out


def _record(op: Op, xs: tuple[Tensor, ...], payloads: tuple[Any, ...], out: Any, residual: Any, params: Any) -> None:
    edges = tuple([x._node for x in xs])
    single = op.outputs == 1
    if single and out._d.dtype.kind != "f":
        return
    place = user_place(sys._getframe(2))
    results = out._d if single else tuple([o._d for o in out])
    node = record(op, edges, payloads, results, residual, params, place)
    if node is None:
        return
    if single:
        out._node = node
        return
    for i, o in enumerate(out):
        if o._d.dtype.kind == "f":
            o._node = pick(node, i, len(out))


def constant(value: Any, dtype: Any = None) -> Tensor:
    """A tensor made from data inside the library; levels that watch are told of it."""
    kind = None if dtype is None else dtypes.as_numpy(dtype)
    try:
        t = wrap(np.asarray(value, kind))
    except OverflowError:
        raise OverflowError(
            explain(
                f"the number {value} does not fit the dtype it is used with",
                got=str(dtypes.int64 if kind is None else dtypes.from_numpy(kind)),
                fix="convert the tensor to a wider dtype first, for example with .long() or .double()",
            )
        ) from None
    interpreter = get_state().interpreter
    if interpreter is not None:
        interpreter.born(t)
    return t
