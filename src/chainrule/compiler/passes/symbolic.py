"""A math namespace that writes instructions: handed to a rule as ``m``, it turns the rule into a piece of graph.

Passes use it to replace an op by simpler ones. Values are wrapped with the operators that rules may use; operands are
broadcast explicitly, and Python numbers become constants of the other operand's dtype, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.shapes import Shape, broadcast_shapes, size_of
from chainrule.ir.graph import Constant, Graph, Instruction, Place, Value
from chainrule.ir.namespace import Namespace
from chainrule.ir.op import REGISTRY, Aval, Elementwise


class Symbol:
    """A value of a graph that is being written, with the operators of the rule protocol."""

    __slots__ = ("m", "value")
    __array_ufunc__ = None

    def __init__(self, m: Writer, value: Value) -> None:
        self.m, self.value = m, value

    @property
    def shape(self) -> Shape:
        """Sizes."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype."""
        return self.value.dtype

    def __neg__(self) -> Symbol:
        return self.m.apply("neg", self)


def _operator(name: str, flip: bool) -> Callable[[Symbol, Any], Symbol]:
    def method(self: Symbol, other: Any) -> Symbol:
        return self.m.apply(name, other, self) if flip else self.m.apply(name, self, other)

    return method


for _python, _op in {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow",
    "gt": "gt", "ge": "ge", "lt": "lt", "le": "le",
}.items():  # fmt: skip
    setattr(Symbol, f"__{_python}__", _operator(_op, False))
    if _python not in ("gt", "ge", "lt", "le"):
        setattr(Symbol, f"__r{_python}__", _operator(_op, True))


class Writer(Namespace):
    """Collects instructions and constants; numbers its values after those of the graph it starts from."""

    def __init__(self, graph: Graph) -> None:
        self.instructions: list[Instruction] = []
        self.constants: list[Constant] = list(graph.constants)
        numbers = [v.number for v in graph.inputs] + [c.value.number for c in graph.constants]
        numbers += [v.number for i in graph.instructions for v in i.results]
        self._next = max(numbers, default=-1) + 1
        self._numbers: dict[tuple[Any, Any], Symbol] = {}
        self.place: Place = None

    def __getattr__(self, name: str) -> Any:
        if name not in REGISTRY:
            return super().__getattr__(name)
        return lambda *args, **params: self.apply(name, *args, **params)

    def value(self, aval: Aval) -> Value:
        """A new value."""
        self._next += 1
        return Value(self._next - 1, tuple(aval.shape), np.dtype(aval.dtype))

    def constant(self, array: Any, dtype: Any = None) -> Symbol:
        """A constant; equal numbers of zero dimensions are one value."""
        a = np.asarray(array, None if dtype is None else dtypes.as_numpy(dtype))
        key = (a.dtype, a.tobytes()) if not a.shape else None
        if key is not None and key in self._numbers:
            return self._numbers[key]
        found = Symbol(self, self.value(Aval(a.shape, a.dtype)))
        self.constants.append(Constant(found.value, a, self.place))
        if key is not None:
            self._numbers[key] = found
        return found

    def full(self, shape: Shape, value: Any, dtype: Any) -> Symbol:
        """A constant number, broadcast."""
        one = self.constant(value, dtype)
        return self.apply("broadcast_to", one, shape=shape) if shape else one

    def iota(self, size: int) -> Symbol:
        """0, 1, ..., size - 1."""
        return self.constant(np.arange(size))

    def apply(self, name: str, *args: Any, **params: Any) -> Any:
        """Write one instruction and return its result (a tuple for several)."""
        op = REGISTRY[name]
        if op.arity is not None and len(args) > op.arity:
            params.update(zip(op.params, args[op.arity :], strict=False))
            args = args[: op.arity]
        xs = self._operands(op, args) if isinstance(op, Elementwise) else list(args)
        if name in ("reshape", "broadcast_to"):
            shape = params["shape"]
            if -1 in shape:
                rest = size_of([d for d in shape if d != -1])
                shape = tuple(size_of(xs[0].shape) // max(rest, 1) if d == -1 else d for d in shape)
            if shape == xs[0].shape:
                return xs[0]
            params["shape"] = shape
        if name == "cast":
            params["dtype"] = dtypes.as_numpy(params["dtype"])
            if params["dtype"] == xs[0].dtype:
                return xs[0]
        return self.emit(op, [x.value for x in xs], params)

    def emit(self, op: Any, inputs: Sequence[Value], params: dict[str, Any]) -> Any:
        """Write one instruction on values that fit it."""
        inferred = op.infer(*(v.aval for v in inputs), **params)
        results = tuple(self.value(a) for a in ((inferred,) if op.outputs == 1 else inferred))
        self.instructions.append(Instruction(op, tuple(inputs), params, results, self.place))
        symbols = tuple(Symbol(self, v) for v in results)
        return symbols[0] if op.outputs == 1 else symbols

    def _operands(self, op: Elementwise, args: Sequence[Any]) -> list[Symbol]:
        first = 1 if op.name == "where" else 0
        kind = next((a.dtype for a in args[first:] if isinstance(a, Symbol)), dtypes.get_default_dtype().numpy)
        xs = [a if isinstance(a, Symbol) else self.constant(a, kind) for a in args]
        shape = broadcast_shapes(*(x.shape for x in xs))
        return [x if x.shape == shape else self.apply("broadcast_to", x, shape=shape) for x in xs]
