"""The pure graph: what a captured program is, its text, and the verifier that every test runs.

A :class:`Graph` is a list of instructions in single assignment form. Each :class:`Value` has a shape and a dtype and is
defined exactly once, as an input, a constant or the result of an instruction; an instruction is an op of the registry
(or a loop or branch, whose blocks are graphs), the values it reads, and static parameters. Nothing here has an effect:
writes of the program that was captured are outputs, and who reads the inputs and commits the outputs is the business of
``compiler.program``. Passes make new graphs. Everything walks lists; nothing recurses, but for blocks within blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import describe_place, did_you_mean
from chainrule.core.shapes import size_of
from chainrule.ir.op import REGISTRY, Aval, Elementwise, Op

Place = tuple[CodeType, int] | None


class GraphError(RuntimeError):
    """A graph that breaks a rule of the representation; the message names the instruction."""


class Value:
    """One value of a graph. Two values are the same only if they are the same object; ``number`` is for people."""

    __slots__ = ("dtype", "number", "shape")

    def __init__(self, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.number, self.shape, self.dtype = number, shape, dtype

    @property
    def aval(self) -> Aval:
        """Shape and dtype."""
        return Aval(self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes when stored densely."""
        return size_of(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"%{self.number}"

    def describe(self) -> str:
        """``%3: float32[8, 20]``."""
        return f"%{self.number}: {describe_type(self.dtype, self.shape)}"


class Instruction(NamedTuple):
    """``results = op(inputs, **params)``.

    ``place`` is the user's line, if known. ``recorded`` is whether grad mode was on: a program that is itself
    differentiated treats what was computed under ``no_grad`` as constant, as eager mode does.
    """

    op: Op
    inputs: tuple[Value, ...]
    params: dict[str, Any]
    results: tuple[Value, ...]
    place: Place = None
    recorded: bool = True

    def __str__(self) -> str:
        left = ", ".join(r.describe() for r in self.results)
        right = ", ".join([*map(repr, self.inputs), *(f"{k}={show_param(v)}" for k, v in self.params.items())])
        return f"{left} = {self.op.name}({right})"


class Constant(NamedTuple):
    """A value known when the program was captured; the array is never written."""

    value: Value
    array: np.ndarray[Any, Any]
    place: Place = None


class Graph(NamedTuple):
    """A pure program: inputs and constants, then instructions in order, then which values are its outputs."""

    inputs: tuple[Value, ...]
    constants: tuple[Constant, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Value, ...]

    def __str__(self) -> str:
        return render(self)


class Block:
    """A graph as a static parameter: the body of a loop, or a branch. Two blocks are the same only as objects."""

    __slots__ = ("graph",)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __repr__(self) -> str:
        g = self.graph
        return f"<block: {len(g.inputs)} inputs, {len(g.instructions)} instructions, {len(g.outputs)} outputs>"


def blocks(instruction: Instruction) -> list[tuple[str, Block]]:
    """The blocks among an instruction's parameters, with their names."""
    if instruction.op.kind != "control":
        return []
    return [(k, v) for k, v in instruction.params.items() if isinstance(v, Block)]


# ---- text
def describe_type(dtype: np.dtype[Any], shape: Sequence[int]) -> str:
    """``float32[8, 20]``."""
    return f"{dtype.name}[{', '.join(map(str, shape))}]"


def describe_size(nbytes: int) -> str:
    """``512 B``, ``31.4 kB`` or ``2.0 MB`` (powers of ten)."""
    if nbytes < 1000:
        return f"{nbytes} B"
    amount, unit = (
        (nbytes / 1e3, "kB") if nbytes < 1e6 else (nbytes / 1e6, "MB") if nbytes < 1e9 else (nbytes / 1e9, "GB")
    )
    return f"{amount:.1f} {unit}"


class _Closing:
    """The end of a tuple of ``count`` entries, while :func:`show_param` walks."""

    def __init__(self, count: int) -> None:
        self.count = count


def show_param(value: Any) -> str:
    """A static parameter, slices and dtypes in their short forms. Nested tuples are rendered without recursion."""
    parts: list[str] = []
    todo: list[Any] = [value]
    while todo:
        v = todo.pop()
        if isinstance(v, _Closing):
            parts[-1] = parts[-1].rstrip() if v.count == 1 else parts[-1].removesuffix(", ")
            parts.append("), ")
        elif isinstance(v, tuple):
            parts.append("(")
            todo += [_Closing(len(v)), *reversed(v)]
        elif isinstance(v, slice):
            start, stop, step = ("" if x is None else str(x) for x in (v.start, v.stop, v.step))
            parts.append(f"{start}:{stop}{':' + step if step else ''}, ")
        elif isinstance(v, np.dtype):
            parts.append(f"{v.name}, ")
        else:
            parts.append("..., " if v is Ellipsis else f"{v!r}, ")
    return "".join(parts).removesuffix(", ")


def _comment(nbytes: int, note: str) -> str:
    return f"  # {describe_size(nbytes)}" + (f"; {note}" if note else "")


def render(graph: Graph, notes: dict[Value, str] | None = None) -> str:
    """One line per input, constant and instruction: types, sizes, and the user's source line as a comment.

    The blocks of a loop or a branch follow its line, indented; there is a level of Python recursion per nesting.

    Args:
        graph: what to print.
        notes: words about inputs, such as what they are read from.
    """
    notes = notes or {}
    lines = [f"input {v.describe()}{_comment(v.nbytes, notes.get(v, ''))}" for v in graph.inputs]
    for value, array, place in graph.constants:
        body = f" = {array.item()!r}" if array.size == 1 else ""
        lines.append(
            f"constant {value.describe()}{body}{_comment(value.nbytes, describe_place(place) if place else '')}"
        )
    for instruction in graph.instructions:
        line = describe_place(instruction.place) if instruction.place else ""
        lines.append(f"{instruction}{_comment(sum(r.nbytes for r in instruction.results), line)}")
        for name, block in blocks(instruction):
            lines.append(f"  {name}:")
            lines += [f"    {inner}" for inner in render(block.graph).splitlines()]
    lines.append(f"return {', '.join(map(repr, graph.outputs))}")
    return "\n".join(lines)


# ---- the verifier
_PARAM_TYPES = (bool, int, float, str, type(None), type(Ellipsis), slice, np.dtype, np.number, np.bool_, Block)


def verify(graph: Graph) -> Graph:
    """``graph`` itself, if it keeps all rules of the representation.

    Checked: every value is defined once and before it is read; ops are those of the registry and get the number of
    inputs and the parameters they declare; parameters are static (numbers, strings, dtypes, slices, tuples of them, and
    blocks, which keep the rules too); operands of elementwise ops have equal shapes; recorded shapes and dtypes are
    those that ``op.infer`` gives; constants are arrays of the recorded type; outputs exist.

    Raises:
        GraphError: naming the first instruction that breaks a rule.
    """
    defined: set[Value] = set()
    for v in graph.inputs:
        _define(defined, v, "an input")
    for value, held, _ in graph.constants:
        _define(defined, value, "a constant")
        array: Any = held
        if not isinstance(array, np.ndarray) or array.shape != value.shape or array.dtype != value.dtype:
            raise GraphError(f"the constant {value.describe()} holds {_describe_array(array)}")
    for position, instruction in enumerate(graph.instructions):
        where = f"instruction {position}, {instruction}"
        for v in instruction.inputs:
            if v not in defined:
                raise GraphError(f"{where}: {v!r} is read before it is defined" + _at(instruction))
        _check_op(instruction, where)
        _check_types(instruction, where)
        for v in instruction.results:
            _define(defined, v, where)
    for v in graph.outputs:
        if v not in defined:
            raise GraphError(f"the output {v.describe()} is defined nowhere")
    return graph


def _define(defined: set[Value], value: Any, where: str) -> None:
    if value in defined:
        raise GraphError(f"{where}: {value!r} is defined a second time")
    if not isinstance(value.dtype, np.dtype) or not all(isinstance(d, int) and d >= 0 for d in value.shape):
        raise GraphError(f"{where}: {value!r} has no valid type: shape {value.shape!r}, dtype {value.dtype!r}")
    defined.add(value)


def _describe_array(array: Any) -> str:
    return describe_type(array.dtype, array.shape) if isinstance(array, np.ndarray) else type(array).__name__


def _at(instruction: Instruction) -> str:
    return f"\n  at: {describe_place(instruction.place)}" if instruction.place else ""


def _check_op(instruction: Instruction, where: str) -> None:
    op = instruction.op
    if REGISTRY.get(op.name) is not op and op.kind != "control":
        raise GraphError(
            f"{where}: {op.name!r} is no op of the registry" + did_you_mean(op.name, REGISTRY) + _at(instruction)
        )
    given, arity = len(instruction.inputs), op.arity
    if given != arity if arity is not None else given < 1:
        raise GraphError(f"{where}: {op.name} takes {arity or 'one or more'} inputs, got {given}" + _at(instruction))
    if len(instruction.results) != op.outputs:
        raise GraphError(
            f"{where}: {op.name} has {op.outputs} results, {len(instruction.results)} are recorded" + _at(instruction)
        )
    if set(instruction.params) != set(op.params):
        raise GraphError(
            f"{where}: {op.name} has the parameters {tuple(op.params)}, got {tuple(instruction.params)}"
            + _at(instruction)
        )
    for name, value in instruction.params.items():
        bad = next(_not_static(value), None)
        if bad is not None:
            raise GraphError(
                f"{where}: the parameter {name} holds a {type(bad).__name__}; parameters are numbers, strings, dtypes, "
                "slices and tuples of them" + _at(instruction)
            )
    for _, block in blocks(instruction):
        verify(block.graph)


def _not_static(value: Any) -> Iterator[Any]:
    todo = [value]
    while todo:
        v = todo.pop()
        if isinstance(v, tuple):
            todo += v
        elif isinstance(v, slice):
            todo += [v.start, v.stop, v.step]
        elif not isinstance(v, _PARAM_TYPES):
            yield v


def _check_types(instruction: Instruction, where: str) -> None:
    op = instruction.op
    if isinstance(op, Elementwise) and len({v.shape for v in instruction.inputs}) > 1:
        shapes = ", ".join(v.describe() for v in instruction.inputs)
        raise GraphError(
            f"{where}: an elementwise op got different shapes ({shapes}); broadcasting is an op of its own"
            + _at(instruction)
        )
    if isinstance(op, Elementwise) and len({v.dtype for v in instruction.inputs[op.name == "where" :]}) > 1:
        types = ", ".join(v.describe() for v in instruction.inputs)
        raise GraphError(
            f"{where}: an elementwise op got different dtypes ({types}); conversion is an op of its own"
            + _at(instruction)
        )
    try:
        inferred = op.infer(*(v.aval for v in instruction.inputs), **instruction.params)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise GraphError(f"{where}: {op.name} does not take these inputs: {error}" + _at(instruction)) from error
    for v, a in zip(instruction.results, (inferred,) if op.outputs == 1 else inferred, strict=True):
        if tuple(a.shape) != v.shape or np.dtype(a.dtype) != v.dtype:
            raise GraphError(
                f"{where}: {v!r} is recorded as {describe_type(v.dtype, v.shape)}, but {op.name} gives "
                f"{describe_type(np.dtype(a.dtype), a.shape)}" + _at(instruction)
            )
