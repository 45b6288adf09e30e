"""The Tensor that people hold: a mutable shell around a payload, a place in the graph, and a way to look at its base.

NOTE [shell]. ``_d`` is the payload: a NumPy array, a NumPy scalar (results of zero dimensions; made an array when
someone needs its memory), or a tracer. ``_node`` is None, a ``Leaf`` or a ``Node``. ``_view`` is None, a ``Root`` once
views of it exist, or the ``Lens`` of a view. Arithmetic, functions and most methods are attached by
``tensors.methods`` from the one place where each is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import GradError, TracerError, explain
from chainrule.core.shapes import size_of
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import get_state
from chainrule.tape import hooks
from chainrule.tape.node import Leaf, Node
from chainrule.tensors import kept
from chainrule.tensors.surface import Surface


class Size(tuple[int, ...]):
    """A shape: a tuple that also counts its elements. Parts of it, sums and multiples are shapes again."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if type(index) is slice else found

    def __add__(self, other: Any) -> Any:
        out = tuple.__add__(self, other)
        return Size(out)

    def __mul__(self, count: Any) -> Any:
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def numel(self) -> int:
        """Number of elements."""
        return size_of(self)

    def __repr__(self) -> str:
        return f"chainrule.Size({list(self)})"


class device:
    """Where a tensor lives; eager tensors live on ``cpu``.

    Raises:
        RuntimeError: for any other type of device.
    """

    __slots__ = ("index", "type")
    index: int | None
    type: str

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        name, _, number = str(type.type if isinstance(type, device) else type).partition(":")
        if name != "cpu":
            fix = "use device='cpu', or leave it out"
            if name in dtypes.NAMES:
                fix = f"a dtype is an object rather than a text: chainrule.{name}"
            raise RuntimeError(explain(f"device {name!r} is not available", expected="'cpu'", fix=fix))
        self.type, self.index = name, int(number) if number else index

    def __repr__(self) -> str:
        return (
            f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and self.type == other.type

    def __hash__(self) -> int:
        return hash(self.type)


CPU = device("cpu")


class Tensor(Surface):
    """A multidimensional array that remembers how it was made.

    Make one with :func:`chainrule.tensor`, :func:`chainrule.from_numpy` or a creation function such as
    :func:`chainrule.zeros`.
    """

    __slots__ = ("__weakref__", "_d", "_node", "_view")
    __array_priority__ = 1000

    _d: Any
    _node: Any
    _view: Any
    #: ``apply.up_to_date``, attached by ``tensors.methods`` because it stands above
    _current: Any

    def __new__(cls, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """``Tensor(data)`` copies data as the default dtype; ``Tensor(2, 3)`` is a shape without values to rely on."""
        return from_data(cls, data, args)

    @property
    def _history(self) -> Any:
        """``_node``, of a view after looking at its base again if that was written."""
        return self._node if self._view is None else self._current()._node

    # ---- what it is
    @property
    def shape(self) -> Size:
        """The sizes along each dimension."""
        return Size(self._d.shape)

    @property
    def dtype(self) -> dtypes.dtype:
        """The type of the elements."""
        return dtypes.from_numpy(self._d.dtype)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._d.shape)

    @property
    def device(self) -> device:
        """Always the CPU in eager mode."""
        return CPU

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to or through it."""
        return self._history is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Make a leaf require a gradient, or no longer.

        Raises:
            RuntimeError: for a dtype that is not floating, or a tensor that is the result of an op.
        """
        if type(self._history) is Node:
            if requires_grad:
                return self
            raise GradError(
                explain(
                    "only leaf tensors can stop requiring a gradient", fix="use .detach() for a copy without history"
                )
            )
        if requires_grad and self._d.dtype.kind != "f":
            raise GradError(
                explain(
                    "only floating-point tensors can require gradients",
                    expected="float16, float32 or float64",
                    got=str(self.dtype),
                    fix="convert first, for example with .float()",
                )
            )
        if not requires_grad:
            if self._history is not None:
                kept.park(self, self._node.grad)
            self._node = None
        elif self._node is None:
            self._node = Leaf(get_state().interpreter)
            self._node.grad = kept.parked(self)
            kept.park(self, None)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than by an op that is recorded."""
        return type(self._history) is not Node

    @property
    def grad_fn(self) -> Any:
        """The node that made it, or None for a leaf."""
        return node if type(node := self._history) is Node else None

    @property
    def grad(self) -> Any:
        """The gradient accumulated by ``backward``: a Tensor of the same shape, or None."""
        node = self._history
        if type(node) is Leaf:
            interpreter = get_state().interpreter
            return node.grad if interpreter is None else interpreter.read_grad(node, self)
        return kept.parked(self) if node is None else kept.of_node(node)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            self._check_grad(value)
        node = self._history
        if type(node) is Leaf:
            _set_grad(self, value)
        elif node is None:
            kept.park(self, value)
        else:
            kept.set_of_node(node, value, _own)

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def _check_grad(self, value: Any) -> None:
        """Raise unless ``value`` can be the gradient of this tensor."""
        if not isinstance(value, Tensor):
            raise TypeError(
                explain(".grad takes a Tensor or None", got=type(value).__name__, fix="make one with tensor(...)")
            )
        if value._d.shape != self._d.shape or value._d.dtype != self._d.dtype:
            raise GradError(
                explain(
                    ".grad must be like the tensor it belongs to",
                    expected=f"shape {tuple(self._d.shape)}, {self.dtype}",
                    got=f"shape {tuple(value._d.shape)}, {value.dtype}",
                )
            )

    @property
    def data(self) -> Any:
        """The same memory without history; prefer ``detach`` and ``no_grad``.

        Unlike PyTorch's, a write to it is seen: ``backward`` raises if a value that it needs was overwritten.
        """
        if get_state().interpreter is not None:
            return self.detach()
        return wrap(self.numpy_payload())

    @data.setter
    def data(self, value: Any) -> None:
        interpreter = get_state().interpreter
        if interpreter is not None and (interpreter.keeps(self) or isinstance(self._d, Tracer)):
            self.detach().copy_(value)
            return
        self._d = value.numpy_payload() if isinstance(value, Tensor) else np.asarray(value)
        self._view = None  # other memory than its base and its views have

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``.grad`` during the next backward passes."""
        node = self._history
        if node is None:
            raise GradError(explain("retain_grad on a tensor that does not require a gradient"))
        if type(node) is Node:
            kept.retain(node, _own)

    @property
    def retains_grad(self) -> bool:
        """Whether :meth:`retain_grad` was called on this result of an op."""
        return type(self._history) is Node and self._history in kept.RETAINED

    def register_hook(self, hook: Callable[[Any], Any]) -> hooks.RemovableHandle:
        """Call ``hook(grad)`` in every backward pass; a returned tensor replaces the gradient."""
        if self._history is None:
            raise GradError(explain("register_hook on a tensor that does not require a gradient"))

        def adapt(g: Any) -> Any:
            new = hook(g if isinstance(g, Tensor) else wrap(g))
            if new is None:
                return None
            if not isinstance(new, Tensor):
                raise TypeError(f"a hook must return a Tensor or None, got {type(new).__name__}")
            return new if isinstance(g, Tensor) else new._d

        return hooks.register(self._node, adapt)

    # ---- numbers out of it
    def numpy_payload(self) -> Any:
        """The NumPy array (a scalar result is made an array first); raises ``TracerError`` for a traced value."""
        d = self._d
        if type(d) is not np.ndarray:
            if isinstance(d, Tracer):
                raise TracerError(no_value(d))
            d = self._d = np.asarray(d)
        _guard_number(self)
        return d

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The values as a NumPy array that shares memory.

        Writing into the array changes the tensor. The tape does not see such a write, so make it before, not after, the
        values were used in a computation that is to be differentiated.

        Raises:
            RuntimeError: if the tensor requires a gradient and ``force`` is false.
        """
        if self._history is not None and not force:
            raise GradError(
                explain(
                    "numpy() on a tensor that requires a gradient would lose its history", fix="use .detach().numpy()"
                )
            )
        out: np.ndarray[Any, Any] = self.numpy_payload()
        return out

    def item(self) -> Any:
        """The only element, as a Python number."""
        d = self._d
        if isinstance(d, Tracer):
            raise TracerError(no_value(d))
        _guard_number(self)
        if d.size != 1:
            raise RuntimeError(
                explain(
                    "item() needs exactly one element", got=f"shape {d.shape}", fix="reduce first, or use .tolist()"
                )
            )
        return d.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.numpy_payload().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        d = self.numpy()
        if dtype is not None and np.dtype(dtype) != d.dtype:
            if copy is False:
                raise ValueError("a conversion needs a copy")
            return d.astype(dtype)
        return d.copy() if copy else d

    def __bool__(self) -> bool:
        if isinstance(self._d, Tracer):
            raise TracerError(
                explain(
                    f"the truth of {self._d!r} is not known: it has no value while it is traced",
                    fix="choose element by element with chainrule.where(condition, a, b), choose what is computed with "
                    "chainrule.cond(condition, true_fn, false_fn, *operands), loop with chainrule.scan(f, init, xs), "
                    "or branch outside, on the result",
                )
            )
        if self._d.size != 1:
            raise RuntimeError(
                explain(
                    f"a tensor of {self._d.size} elements is neither true nor false",
                    expected="one element",
                    got=f"shape {tuple(self._d.shape)}",
                    fix="say .any() or .all(); & and | instead of `and` and `or`",
                )
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._d.dtype.kind not in "biu":
            raise TypeError(f"only an integer tensor of one element can be an index, got {self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if not self._d.shape:
            raise TypeError("len() of a tensor of zero dimensions")
        return int(self._d.shape[0])

    def __iter__(self) -> Iterator[Any]:
        if not self._d.shape:
            raise TypeError("iteration over a tensor of zero dimensions")
        return iter([self[i] for i in range(self._d.shape[0])])

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if type(self._history) is Node:
            raise RuntimeError(
                explain(
                    "only leaf tensors can be copied deeply", fix="use .detach().clone(), or .clone() to keep history"
                )
            )
        out = object.__new__(type(self))
        memo[id(self)] = out
        out._d, out._view, out._node = np.array(self.numpy_payload()), None, None
        if self._node is not None:
            out._node = Leaf()
            if self._node.grad is not None:
                out._node.grad = wrap(np.array(self._node.grad.numpy_payload()))
        return out

    def __contains__(self, item: Any) -> bool:
        if not isinstance(item, (Tensor, bool, int, float, np.generic)):
            raise RuntimeError(explain("`in` a tensor takes a Tensor or a number", got=type(item).__name__))
        return bool((self == item).any())

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.numpy_payload(), self._history is not None)


def rebuild(cls: type[Tensor], array: Any, requires_grad: bool) -> Any:
    """A tensor of class ``cls`` around an array (used by pickle)."""
    out = object.__new__(cls)
    out._d, out._view, out._node = array, None, Leaf() if requires_grad else None
    return out


def _own(g: Any) -> Tensor:
    """A cotangent as a Tensor with memory of its own."""
    return g if isinstance(g, Tensor) else wrap(np.array(g))


def _set_grad(t: Tensor, value: Tensor | None) -> None:
    interpreter = get_state().interpreter
    if interpreter is None:
        t._node.grad = value
    else:
        interpreter.write_grad(t._node, value, t)


def _guard_number(t: Tensor) -> None:
    interpreter = get_state().interpreter
    if interpreter is not None:
        interpreter.guard_number(t)


def no_value(tracer: Tracer) -> str:
    """The message for asking a traced value for its number."""
    what = tracer.interpreter.what
    state = "it stands for a value that is not computed yet" if tracer.interpreter.alive else "its transform has ended"
    return explain(
        f"{tracer!r} has no number: {state}",
        fix=f"compute with tensors inside {what} and read numbers from the result, outside; where a number chooses "
        "what is computed use chainrule.where or chainrule.cond, or split the function at that line",
    )


_new = object.__new__


def wrap(payload: Any, node: Any = None) -> Tensor:
    """A Tensor shell around a payload."""
    t = _new(Tensor)
    t._d = payload
    t._node = node
    t._view = None
    return t


def from_data(cls: type, data: Any, rest: tuple[Any, ...], kind: np.dtype[Any] | None = None) -> Any:
    """What ``Tensor(...)`` means: data to copy, or sizes; ``kind`` is the default dtype unless given."""
    kind = dtypes.get_default_dtype().numpy if kind is None else kind
    out: Any = _new(cls)
    if isinstance(data, Size):
        out._d = np.zeros(data, kind)
    elif isinstance(data, str):
        raise TypeError(explain("text cannot become a tensor", expected="numbers, or lists of them", got=repr(data)))
    elif isinstance(data, (int, np.integer)) or (data is None and not rest):
        sizes = () if data is None else (int(data), *rest)
        out._d = np.zeros((0,) if data is None else sizes, kind)
    else:
        out._d = np.array(data.numpy(force=True) if isinstance(data, Tensor) else data, kind)
    out._node = out._view = None
    return out
