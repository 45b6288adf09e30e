"""In-place writes: the one function through which the value of a tensor changes (see NOTE [views and writes])."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import DTypeError, GradError, ShapeError, TracerError, explain, user_place
from chainrule.core.shapes import size_of
from chainrule.ir.interpreter import Interpreter, Tracer
from chainrule.ir.op import REGISTRY
from chainrule.ir.state import get_state
from chainrule.tape.clock import owner, stamp
from chainrule.tape.node import Leaf, Node, record
from chainrule.tensors.apply import up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.namespace import as_operand, cast
from chainrule.tensors.tensor import Tensor, wrap
from chainrule.tensors.views import root_of, set_history


def _check_history(t: Tensor) -> None:
    """Raise if history forbids a write to ``t``: to a leaf, or through a view that was made without history."""
    v = t
    while True:
        if type(v._node) is Leaf:
            raise GradError(
                explain(
                    f"{'a leaf' if v is t else 'a view of a leaf'} that requires a gradient was written in place",
                    fix="write under `with chainrule.no_grad():`, or write to a clone()",
                )
            )
        lens = v._view
        if lens is None or lens.parent is None or lens.name == "detach":
            if type(v._node) is Node and v._node.op.name == "alias":  # made by a reverse transform for its input
                raise GradError(
                    explain("a function transform's input was written in place", fix="write to a clone() of it")
                )
            return
        parent = lens.parent
        if v._node is None and type(parent._node) is Node and v._d.dtype.kind == "f" and not lens.stale:
            raise GradError(
                explain(
                    "a view that was made under no_grad was written with grad mode on: should its base know of it?",
                    fix="make the view and write to it both under no_grad, or both outside",
                )
            )
        v = parent


def _check_shape(t: Tensor, value: Tensor) -> None:
    have, want = tuple(value._d.shape), tuple(t._d.shape)
    lead = len(want) - len(have)
    if lead < 0 or any(d not in (1, want[lead + i]) for i, d in enumerate(have)):
        raise ShapeError(
            explain(
                "a value does not fit the place it is written to",
                expected=f"shape {want}, or one that broadcasts to it",
                got=f"shape {have}",
            )
        )


def _check_category(t: Tensor, new: Tensor) -> None:
    have, want = new._d.dtype, t._d.dtype
    if dtypes.category(have) > dtypes.category(want):
        raise DTypeError(
            explain(
                f"a result of type {dtypes.from_numpy(have)} cannot be written into a tensor of type {t.dtype}",
                fix="use the out-of-place operation, or convert the tensor first",
            )
        )


def write(t: Tensor, value: Tensor) -> Tensor:
    """The value of ``t`` becomes ``value``, also for every tensor that shares its memory.

    Eager tensors are copied into the shared buffer; traced ones are rebound, functionally.

    Raises:
        RuntimeError: for a leaf that requires a gradient while grad mode is on, for an expanded view, for a traced
            value written into a tensor from outside the transform, or a value of a higher dtype category.
    """
    interpreter, grad = get_state()
    up_to_date(t)
    base = root_of(t)
    if grad:
        _check_history(t)
    _check_category(t, value)
    new = cast(value, t._d.dtype)
    if new._d.shape != t._d.shape:
        _check_shape(t, new)
        new = TENSORS.broadcast_to(new, tuple(t._d.shape))
    level = _accepting_level(interpreter, base, new)
    eager = level is None and not isinstance(base._d, Tracer)
    if eager:
        buffer = t.numpy_payload()
        if not buffer.flags.writeable:
            raise _unwritable()
        np.copyto(buffer, new._d, casting="unsafe")
        stamp(buffer)
    elif _expands(t):
        raise _unwritable()
    elif interpreter is not None and type(new._d) is np.ndarray:
        held = interpreter.payload(new)  # a constant that replaces a traced value must not share the constant's memory
        new = wrap(held.copy() if held is new._d else held, new._node)
    track = grad and (new._node is not None or t._node is not None)
    if level is not None:
        level.guard_write(base, track)
    _propagate(t, new, eager, track, level)
    return t


def _unwritable() -> RuntimeError:
    return RuntimeError(
        explain(
            "the memory of this tensor cannot be written: several of its elements are one, or it is read-only",
            fix="call .clone() or .contiguous() first",
        )
    )


def _expands(t: Tensor) -> bool:
    """Whether a view shows an element of its root several times (a traced value has no memory that could tell)."""
    while t._view is not None and t._view.parent is not None:
        if t._view.name == "broadcast_to" and size_of(t._d.shape) > size_of(t._view.parent._d.shape):
            return True
        t = t._view.parent
    return False


def _accepting_level(interpreter: Interpreter | None, base: Tensor, new: Tensor) -> Interpreter | None:
    """The level at which a write is functional, or None if nothing symbolic is written."""
    if interpreter is None:
        return None
    traced = isinstance(new._d, Tracer)
    level: Interpreter | None = interpreter
    while level is not None:
        if level.watches:
            return level
        if level.owns(base._d) or (traced and level.bore(base)):
            return level
        if traced and new._d.interpreter is level:
            break
        level = level.outer
    if not traced:
        return None
    raise TracerError(
        explain(
            f"inside {interpreter.what}, a traced value was written into a tensor from outside",
            fix="return the value instead, or create the tensor inside the function",
        )
    )


def _propagate(t: Tensor, new: Tensor, eager: bool, track: bool, level: Interpreter | None) -> None:
    """Carry the new value from a view to its root, without recursion."""
    while t._view is not None and t._view.parent is not None:
        lens = t._view
        parent = up_to_date(lens.parent)
        if lens.name == "detach":
            up, up_track = new, False
        elif eager:
            up, up_track = wrap(parent._d), track
            if track:
                up._node = _put_node(parent, new, lens.view)
        else:
            up, up_track = TENSORS.put(parent, new, view=lens.view), track
        if track:
            set_history(t, new._node)
        if not eager:
            _rebind(t, new, level)
        t, new, track = parent, up, up_track
    if track:
        node = new._node
        if eager and node is None:  # a constant over everything: it still requires a gradient, which is zero
            node = _put_node(t, new, ("alias", ()))
        set_history(t, node)
    if not eager:
        _rebind(t, new, level)
    if t._view is not None and (level is None or not level.keeps(t)):
        t._view.generation += 1


def _put_node(base: Tensor, new: Tensor, view: Any) -> Node | None:
    """The history of ``base`` after ``new`` was written through a view of it."""
    edges, payloads = (base._node, new._node), (base._d, new._d)
    return record(REGISTRY["put"], edges, payloads, None, None, {"view": view}, user_place())


def _rebind(target: Tensor, value: Tensor, level: Interpreter | None) -> None:
    if level is not None and level.watches:
        level.rebind(target, value)
    else:
        target._d = value._d
        if level is not None and not isinstance(value._d, Tracer):
            level.born(target)  # a constant now, but still one of this level's own


def _own_saved(new: Tensor, target: Tensor, inputs: Iterable[Any]) -> None:
    """Give the nodes between ``inputs`` and ``new`` copies of what they saved from memory that ``target`` will lose."""
    memory = owner(target._d)
    seen = {x._node for x in inputs if isinstance(x, Tensor)}
    stack = [new._node]
    while stack:
        n = stack.pop()
        if type(n) is not Node or n in seen:
            continue
        seen.add(n)
        if any(type(x) is np.ndarray and owner(x) is memory for x in n.xs):
            n.xs = tuple([x.copy() if type(x) is np.ndarray and owner(x) is memory else x for x in n.xs])
        stack.extend(n.edges or ())


def in_place(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """The method ``name_`` of a function: writes its result into the first argument and returns that."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        new = function(self, *args, **kwargs)
        if new._d.shape != self._d.shape:
            raise RuntimeError(
                explain(
                    f"{name}: the result does not fit the tensor that is written",
                    expected=f"shape {tuple(self._d.shape)}",
                    got=f"shape {tuple(new._d.shape)}",
                )
            )
        if type(new._node) is Node and type(self._d) is np.ndarray and get_state().interpreter is None:
            _own_saved(new, self, (self, *args, *kwargs.values()))
        return write(self, new)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place version of ``{function.__name__}``."
    return method


def copy_(self: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Copy the values of ``source`` (broadcast, converted) into this tensor."""
    value = as_operand(source, "copy_")
    value = value if isinstance(value, Tensor) else cast(value, self._d.dtype)
    return write(self, cast(value, self._d.dtype))


def check_unshared(t: Tensor, name: str) -> None:
    """Raise for a view or a base of views, whose shape cannot change under the others."""
    if t._view is not None:
        raise RuntimeError(explain(f"{name}: this tensor is a view, or has views", fix="use the out-of-place method"))
    interpreter, grad = get_state()
    if interpreter is not None and interpreter.keeps(t):
        raise TracerError(
            explain(
                f"{name}: inside {interpreter.what} the shape of a tensor from outside cannot change",
                fix="use the out-of-place method",
            )
        )
    if type(t._node) is Leaf and grad:
        raise GradError(explain(f"{name} on a leaf that requires a gradient", fix="use the out-of-place method"))
