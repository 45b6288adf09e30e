"""Eager fast paths, generated from the declarations: the common case of unary and binary ops in one short function.

The general path of an op (promotion, interpreters, views, errors) costs several times PyTorch's. These functions
handle what is nearly always asked for, two plain float tensors of one dtype or a tensor and a number, outside any
interpreter, and hand everything else to the general path. The rules are the same: value, what to save and the edges all
come from the declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any

from numpy import asarray, ndarray

from chainrule.core.errors import _inside, user_place
from chainrule.ir.interpreter import Tracer
from chainrule.ir.op import REGISTRY, Aval, Elementwise, Multilinear, Op, saved_for
from chainrule.ir.state import get_state
from chainrule.tape.clock import CLOCK
from chainrule.tape.node import Node
from chainrule.tensors.apply import apply
from chainrule.tensors.namespace import TENSORS, add_shortcuts
from chainrule.tensors.tensor import Tensor
from chainrule.tensors.views import Lens, Root, attach

__all__ = ["TENSORS", "VIEWS", "binary", "plain"]

_new = object.__new__
_aval: Any = tuple.__new__  # makes an Aval without the Python function that a NamedTuple's constructor is
_NONE: dict[str, Any] = {}
_NOTHING = (None,)


def binary(
    op: Op, slow: Callable[..., Tensor], rank: int | None = None, kernel: Callable[[Any, Any], Any] | None = None
) -> Callable[[Any, Any], Tensor]:
    """The fast path of an op with two inputs.

    ``rank`` None: elementwise, the second may be a Python number; else both must have that many dimensions, and
    ``kernel`` may be a quicker form of the op's own for that case.
    """
    kernel = kernel or op.kernel
    flows = (op.flows(0), op.flows(1))
    (both, both_y), (left, left_y), (right, right_y) = (
        saved_for(op, (a and flows[0], b and flows[1])) for a, b in ((True, True), (True, False), (False, True))
    )
    differentiable, first, second = any(flows), *flows
    broadcasts = isinstance(op, Elementwise)
    number_types = (float, int) if rank is None else ()
    frame_of, tensor = _getframe, Tensor

    def fast(a: Any, b: Any) -> Tensor:
        interpreter, grad = get_state()
        if interpreter is not None or type(a) not in _PLAIN:
            return slow(a, b)
        x = a._d
        v = a._view
        if v is not None and v.stale:
            return slow(a, b)
        if type(b) in _PLAIN:
            y = b._d
            v = b._view
            if x.dtype is not y.dtype or (v is not None and v.stale) or (promotes and x.dtype.kind != "f"):
                return slow(a, b)
            if rank is not None and (len(x.shape) != rank or len(y.shape) != rank):
                return slow(a, b)
            q = b._node
        elif type(b) in number_types and x.dtype.kind == "f":
            y = b
            q = None
        else:
            return slow(a, b)
        try:
            z = kernel(x, y)
        except (
            TypeError,
            ValueError,
            OverflowError,
        ):  # an escaped tracer, shapes, a huge integer: let the general path explain
            return slow(a, b)
        o = _new(tensor)
        o._d = z
        o._view = None
        p = a._node
        if differentiable and grad and (p is not None or q is not None):
            p = p if first else None
            q = q if second else None
            if p is None:
                if q is None:
                    o._node = None
                    return o
                (kx, ky), kz = right, right_y
            elif q is None:
                (kx, ky), kz = left, left_y
            else:
                (kx, ky), kz = both, both_y
            n = o._node = _new(Node)
            n.op = op
            n.params = _NONE
            n.clock = CLOCK.now
            n.edges = (p, q)
            n.xs = (x if kx else None, y if ky else None)
            n.y = z if kz else None
            n.r = None
            n.avals = (x.shape, y.shape if q is not None else None) if broadcasts else None
            frame = frame_of(1)
            code = frame.f_code
            n.place = user_place(frame) if _inside.get(code.co_filename, True) else (code, frame.f_lasti)
        else:
            o._node = None
        return o

    promotes = isinstance(op, Elementwise) and op.promotes == "float"
    fast.__name__ = fast.__qualname__ = op.name
    fast.__doc__ = op.doc
    return fast


def unary(op: Elementwise, slow: Callable[..., Tensor]) -> Callable[[Any], Tensor]:
    """The fast path of an elementwise op with one input."""
    kernel = op.kernel
    differentiable = op.flows(0)
    ((kx,), kz) = saved_for(op, (differentiable,))
    floats_only = op.promotes == "float"

    def fast(a: Any) -> Tensor:
        interpreter, grad = get_state()
        if interpreter is not None or type(a) not in _PLAIN:
            return slow(a)
        x = a._d
        v = a._view
        if (v is not None and v.stale) or (floats_only and x.dtype.kind != "f"):
            return slow(a)
        try:
            z = kernel(x)
        except TypeError:
            return slow(a)
        o = _new(Tensor)
        o._d = z
        o._view = None
        p = a._node
        if p is not None and grad and differentiable:
            n = o._node = _new(Node)
            n.op = op
            n.params = _NONE
            n.clock = CLOCK.now
            n.edges = (p,)
            n.xs = (x if kx else None,)
            n.y = z if kz else None
            n.r = n.avals = None
            frame = _getframe(1)
            code = frame.f_code
            n.place = user_place(frame) if _inside.get(code.co_filename, True) else (code, frame.f_lasti)
        else:
            o._node = None
        return o

    fast.__name__ = fast.__qualname__ = op.name
    fast.__doc__ = op.doc
    return fast


def single(op: Op) -> Callable[..., Tensor]:
    """An op with one input and static parameters, by position or name, on its fast path."""
    direct, names = SINGLE[op.name], op.params

    def fast(a: Tensor, *args: Any, **params: Any) -> Tensor:
        if args:
            params.update(zip(names, args, strict=False))
        return direct(a, params)

    fast.__name__ = fast.__qualname__ = op.name
    fast.__doc__ = op.doc
    return fast


def parametric(op: Op) -> Callable[[Tensor, dict[str, Any]], Tensor]:
    """The fast path of an op with one input, called as ``f(x, params)``: shapes, axes, reductions, softmax."""
    kernel = op.eager or op.kernel
    ((keep,), keep_out) = saved_for(op, (True,))
    differentiable, linear = op.flows(0), isinstance(op, Multilinear)

    def fast(a: Tensor, params: dict[str, Any]) -> Tensor:
        interpreter, grad = get_state()
        v = a._view
        x = a._d
        if interpreter is not None or (v is not None and v.stale) or type(x) is Tracer:
            return apply(op, (a,), params)  # type: ignore[no-any-return]
        z = kernel(x, **params)
        o = _new(Tensor)
        o._d = z
        o._view = None
        p = a._node
        if p is not None and grad and differentiable and z.dtype.kind == "f":
            n = o._node = _new(Node)
            n.op = op
            n.params = params
            n.clock = CLOCK.now
            n.edges = (p,)
            n.xs = (x if keep else None,)
            n.y = z if keep_out else None
            n.r = None
            n.avals = (_aval(Aval, (x.shape, x.dtype)),) if linear else None
            n.place = user_place(_getframe(1))
        else:
            o._node = None
        return o

    return fast


def several(op: Op) -> Callable[..., Tensor]:
    """The fast path of an op with a fixed number of inputs and one result: linear, cross-entropy, where, gather."""
    kernel, names, arity, residual = op.eager or op.kernel, op.params, op.arity, op.residual
    assert arity is not None
    flows = tuple([op.flows(i) for i in range(arity)])
    linear, all_flow = isinstance(op, Multilinear), all(flows)
    plans: dict[tuple[bool, ...], tuple[tuple[bool, ...], bool]] = {}

    def fast(*args: Any, **params: Any) -> Tensor:
        if len(args) > arity:
            params.update(zip(names, args[arity:], strict=False))
            args = args[:arity]
        interpreter, grad = get_state()
        if interpreter is not None:
            return apply(op, args, params)  # type: ignore[no-any-return]
        recorded = False
        ds = []
        for a in args:
            v = a._view
            d = a._d
            if (v is not None and v.stale) or type(d) is Tracer:
                return apply(op, args, params)  # type: ignore[no-any-return]
            if a._node is not None:
                recorded = grad
            ds.append(d)
        r = None
        if residual:
            z, r = kernel(*ds, **params)
        else:
            z = kernel(*ds, **params)
        o = _new(Tensor)
        o._d = z
        o._view = o._node = None
        if recorded and z.dtype.kind == "f":
            edges = tuple([a._node for a in args])
            if not all_flow:
                edges = tuple([e if f else None for e, f in zip(edges, flows, strict=True)])
            needed = tuple([e is not None for e in edges])
            plan = plans.get(needed)
            if plan is None:
                plan = plans[needed] = saved_for(op, needed)
            if True in needed:
                keep, keep_out = plan
                n = o._node = _new(Node)
                n.op = op
                n.params = params
                n.clock = CLOCK.now
                n.edges = edges
                n.xs = tuple([d if k else None for d, k in zip(ds, keep, strict=True)]) if False in keep else tuple(ds)
                n.y = z if keep_out else None
                n.r = r
                n.avals = tuple([Aval(d.shape, d.dtype) for d in ds]) if linear else None
                n.place = user_place(_getframe(1))
        return o

    fast.__name__ = fast.__qualname__ = op.name
    fast.__doc__ = op.doc
    return fast


def view(op: Op) -> Callable[[Tensor, dict[str, Any]], Tensor]:
    """The fast path of a view op, called as ``f(x, params)``: the result remembers ``x`` if it shares its memory."""
    kernel, reshapes = op.kernel, op.name == "reshape"
    differentiable = op.flows(0)

    def slow(a: Tensor, params: dict[str, Any]) -> Tensor:
        if type(a._d) is not Tracer and type(a._d) is not ndarray:
            a._d = asarray(a._d)
        return attach(apply(op, (a,), params), a, op.name, params)

    def fast(a: Tensor, params: dict[str, Any]) -> Tensor:
        interpreter, grad = get_state()
        held = a._view
        x = a._d
        if interpreter is not None or type(x) is not ndarray or (held is not None and held.stale):
            return slow(a, params)
        z = kernel(x, **params)
        o = _new(Tensor)
        o._d = z
        if reshapes and z.base is not x and (z.base is None or z.base is not x.base):
            o._view = None  # the layout needed a copy
        else:
            if held is None:
                held = a._view = Root()
            lens = o._view = _new(Lens)
            lens.parent = a
            lens.name = op.name
            lens.params = params
            root = lens.root = held if held.parent is None else held.root
            lens.seen = root.generation
        if a._node is not None and grad and differentiable:
            n = o._node = _new(Node)
            n.op = op
            n.params = params
            n.clock = CLOCK.now
            n.edges = (a._node,)
            n.xs = _NOTHING
            n.y = n.r = None
            n.avals = (_aval(Aval, (x.shape, x.dtype)),)
            n.place = user_place(_getframe(1))
        else:
            o._node = None
        return o

    return fast


#: classes whose shells the fast paths read; a subclass enters itself with :func:`plain`
_PLAIN: set[type] = {Tensor}


def plain(cls: type) -> type:
    """Let the fast paths read shells of a subclass of Tensor."""
    _PLAIN.add(cls)
    return cls


#: the ops with one input and static parameters, called as ``f(x, params)``: a function that has checked its arguments
#: saves the half microsecond of packing and unpacking them
SINGLE: dict[str, Callable[[Tensor, dict[str, Any]], Tensor]] = {}


def _install() -> None:
    for op in REGISTRY.values():
        slow = getattr(TENSORS, op.name)
        if isinstance(op, Elementwise) and op.name != "detach" and op.arity == 1:
            setattr(TENSORS, op.name, unary(op, slow))
        elif isinstance(op, Elementwise) and op.arity == 2:
            setattr(TENSORS, op.name, binary(op, slow))
        elif op.arity == 1 and op.outputs == 1 and not isinstance(op, Elementwise):
            SINGLE[op.name] = parametric(op)
            setattr(TENSORS, op.name, single(op))
        elif op.arity and op.outputs == 1 and not isinstance(op, Elementwise):
            setattr(TENSORS, op.name, several(op))
    add_shortcuts()


_install()
VIEWS = {name: view(REGISTRY[name]) for name in ("alias", "broadcast_to", "detach", "getitem", "permute", "reshape")}
