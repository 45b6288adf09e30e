"""``chainrule.cond`` and ``chainrule.scan``: branches and loops that stay branches and loops in a compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.control.blocks import avals_of, trace, watched, written_argument
from chainrule.compiler.control.branches import choose, known
from chainrule.compiler.control.loops import WHAT, loop, steps
from chainrule.core import dtypes, trees
from chainrule.core.errors import DTypeError, ShapeError, explain
from chainrule.ir.graph import describe_type
from chainrule.ir.op import Aval
from chainrule.tape.clock import CLOCK, written_since
from chainrule.tensors.apply import constant, up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.functions.shape import stack
from chainrule.tensors.namespace import Number, cast
from chainrule.tensors.tensor import Tensor

_SHAPED = "return from the function what it was given, in the same structure"


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """``true_fn(*operands)`` if ``pred`` holds, else ``false_fn(*operands)``.

    Eager mode runs the chosen function, and its history is that of what ran. Inside :func:`chainrule.compile` both are
    captured and the program branches when it runs, so the choice may depend on the data. Under ``vmap``, where members
    of the batch may differ in ``pred``, both functions run, with all they do, and each member takes its own result.

    The derivative is that of the chosen function; ``pred`` has none. Random draws and writes to tensors from outside
    (under ``no_grad``) belong to the branch that is taken.

    Args:
        pred: a boolean or number, or a tensor of zero dimensions; numbers are true unless zero.
        true_fn, false_fn: functions of the operands that return tensors, or trees of them, of the same structure,
            shapes and dtypes.
        operands: tensors, or trees of them. What the functions name from outside is used as it is.

    Raises:
        ValueError: if ``pred`` has dimensions, or the results differ in structure, shape or dtype.
        TypeError: if a result is no tensor or number.
        TracerError: in a capture, if a branch writes a tensor from outside that requires a gradient, or ``.grad``.

    The semantics are those of ``jax.lax.cond``.
    """
    pred = _predicate(pred)
    if isinstance(pred, bool):
        return _tensors((true_fn if pred else false_fn)(*operands))
    if watched():
        return _captured_cond(pred, true_fn, false_fn, operands)
    truth = known(pred)
    if truth is not None:
        return _tensors((true_fn if truth else false_fn)(*operands))
    results = [_flat("cond: the result", f(*operands)) for f in (true_fn, false_fn)]
    _check_branches(*results)
    (a, structure), (b, _) = results
    return trees.unflatten(structure, [TENSORS.where(pred, x, y) for x, y in zip(a, b, strict=True)])


def _tensors(tree: Any) -> Any:
    """A result with its numbers as tensors, as a compiled program would give it."""
    return tree if isinstance(tree, Tensor) else trees.map(lambda leaf: _tensor("cond: the result", leaf), tree)


def _predicate(pred: Any) -> Any:
    """A truth value that Python knows, or a boolean scalar."""
    if isinstance(pred, Number):
        return bool(pred)
    if isinstance(pred, np.ndarray):
        pred = constant(pred)
    if not isinstance(pred, Tensor):
        raise TypeError(
            explain(
                "cond: the predicate decides between two functions",
                expected="a boolean, or a tensor of zero dimensions",
                got=type(pred).__name__,
            )
        )
    if pred._d.shape != ():
        raise ShapeError(
            explain(
                "cond: the predicate is one truth value",
                expected="a tensor of zero dimensions",
                got=f"shape {tuple(pred._d.shape)}",
                fix="reduce it with .any() or .all(), choose element by element with chainrule.where, or map cond over "
                "it with chainrule.func.vmap",
            )
        )
    return cast(pred, np.dtype(bool))


def _captured_cond(pred: Tensor, true_fn: Any, false_fn: Any, operands: tuple[Any, ...]) -> Any:
    found: list[tuple[list[Aval], trees.Structure]] = []

    def flat(function: Callable[..., Any]) -> Callable[[list[Tensor]], list[Tensor]]:
        def branch(_: list[Tensor]) -> list[Tensor]:
            leaves, structure = _flat("cond: the result", function(*operands))
            found.append((avals_of(leaves), structure))
            return leaves

        return branch

    outs = choose(pred, flat(true_fn), flat(false_fn), [], lambda: _check_types(*found), tracked=True)
    return trees.unflatten(found[0][1], outs)


def _check_branches(a: tuple[list[Tensor], trees.Structure], b: tuple[list[Tensor], trees.Structure]) -> None:
    _check_types((avals_of(a[0]), a[1]), (avals_of(b[0]), b[1]))


def _check_types(a: tuple[list[Aval], trees.Structure], b: tuple[list[Aval], trees.Structure]) -> None:
    if a != b:
        raise ShapeError(
            explain(
                "cond: both functions must return the same structure, shapes and dtypes",
                expected=f"{_describe(*a)}, as true_fn gives",
                got=f"{_describe(*b)} from false_fn",
                fix="convert or reshape what one of them returns",
            )
        )


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """A loop that carries a value and collects outputs::

        carry = init
        for i in range(length):                   # from the last to the first with reverse
            carry, ys[i] = f(carry, xs[i])
        return carry, ys

    Eager mode runs that loop, with ordinary history. Inside :func:`chainrule.compile` ``f`` is captured once, as one
    step, and the program holds a real loop, however long; its backward pass is a loop in the other direction, which
    computes each step again from its carry, but for what is costly, which the first loop keeps. ``f`` may be called
    more than once while it is captured. It is also captured where there are no steps, to learn what it returns.

    Args:
        f: a function of the carry and a slice of ``xs`` that returns the new carry and an output.
        init: the first carry: a tensor, or a tree of tensors and numbers. The carry keeps its structure, shapes and
            dtypes.
        xs: a tensor, or a tree of them, sliced along the first dimension; None: ``f`` is given None.
        length: how many steps; may be left out if ``xs`` says so.
        reverse: go from the last slice to the first; ``ys[i]`` still belongs to ``xs[i]``.

    Returns:
        The final carry, and the outputs stacked along a new first dimension, as the tree that ``f`` returns.

    Raises:
        ValueError: if neither ``xs`` nor ``length`` gives a length or they disagree; if the structure or the shapes of
            the carry change, or those of the outputs.
        TypeError: if ``f`` does not return a pair, if a leaf is no tensor or number, or the carry changes its dtype.
        TracerError: if ``f`` writes its arguments in place; in a capture also if it writes a tensor from outside that
            requires a gradient, or ``.grad``.

    The semantics are those of ``jax.lax.scan``.
    """
    first, structure = _flat("scan: init", init)
    first = [up_to_date(t) for t in first]
    slices, xs_structure = _flat("scan: xs", xs)
    count = _length(slices, length)
    outputs: list[tuple[list[Aval], trees.Structure]] = []
    avals = avals_of(first)

    def step(carry: list[Tensor], x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        result = f(trees.unflatten(structure, carry), trees.unflatten(xs_structure, x))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                explain(
                    "scan: the function must return two values",
                    expected="(new carry, output); the output may be None",
                    got=f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__,
                )
            )
        new = _carry(result[0], avals, structure)
        ys, ys_structure = _flat("scan: the output", result[1])
        outputs.append((avals_of(ys), ys_structure))
        if outputs[-1] != outputs[0]:
            raise ShapeError(
                explain(
                    "scan: the output must be of the same structure, shapes and dtypes in every step",
                    expected=_describe(*outputs[0]),
                    got=_describe(*outputs[-1]),
                )
            )
        del outputs[1:]
        return new, ys

    if watched():
        carry, ys = loop(lambda c, x, _: step(c, x), first, slices, [], count, reverse, tracked=True)
    else:
        carry, ys = _run(step, first, slices, count, reverse, outputs)
    return trees.unflatten(structure, carry), trees.unflatten(outputs[0][1], ys)


def _run(
    step: Any, carry: list[Tensor], xs: list[Tensor], length: int, reverse: bool, outputs: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """The loop in eager mode, or under transforms alone. Without steps one is captured, to learn what it returns."""
    if not length:
        n = len(carry)
        given = [*avals_of(carry), *(Aval(a.shape[1:], a.dtype) for a in avals_of(xs))]

        def once(*ts: Tensor) -> list[Tensor]:
            new, ys = step(list(ts[:n]), list(ts[n:]))
            return [*new, *ys]

        trace(WHAT, once, given, [False] * len(given))
        return carry, [TENSORS.zeros((0, *a.shape), a.dtype) for a in outputs[0][0]]
    rows = []
    for i in steps(length, reverse):
        x = [TENSORS.getitem(t, (i,)) for t in xs]
        given = [(t, t._d) for t in (*carry, *x)]
        began = CLOCK.now
        carry, y = step(carry, x)
        if any(t._d is not d for t, d in given) or (
            CLOCK.now != began and any(written_since(d, began) for _, d in given)
        ):
            raise written_argument(WHAT)
        rows.append(y)
    if reverse:
        rows.reverse()
    return carry, [stack(column) for column in zip(*rows, strict=True)]


def _carry(result: Any, avals: list[Aval], structure: trees.Structure) -> list[Tensor]:
    """The new carry, if it is like the old one."""
    leaves, found = trees.flatten(result)
    if found != structure:
        raise ShapeError(
            explain(
                "scan: the carry must keep its structure",
                expected=_describe(avals, structure),
                got=_describe([], found) if not leaves else _shape_of(leaves, found),
                fix=_SHAPED,
            )
        )
    new = [_kept(t, a) for t, a in zip(leaves, avals, strict=True)]
    for t, a in zip(new, avals, strict=True):
        got = Aval(tuple(t._d.shape), t._d.dtype)
        if got != a:
            kind = DTypeError if got.shape == a.shape else ShapeError
            fix = f"convert it: .to(chainrule.{dtypes.from_numpy(a.dtype).name})"
            raise kind(
                explain(
                    "scan: the carry must keep its shapes and dtypes",
                    expected=describe_type(a.dtype, a.shape),
                    got=describe_type(got.dtype, got.shape),
                    fix=fix if got.shape == a.shape else "start with a carry of the shape that the function returns",
                )
            )
    return new


def _kept(leaf: Any, aval: Aval) -> Tensor:
    """A leaf as a tensor; a number takes the carry's dtype where that is of its category or a higher one."""
    if isinstance(leaf, Number) and dtypes.category(dtypes.python_dtype(leaf)) <= dtypes.category(aval.dtype):
        return constant(leaf, aval.dtype)
    return _tensor("scan: the carry", leaf)


def _tensor(what: str, leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, (*Number, np.ndarray)):
        return constant(leaf)
    raise TypeError(explain(f"{what} holds a {type(leaf).__name__}", expected="tensors and numbers, or trees of them"))


def _flat(what: str, tree: Any) -> tuple[list[Tensor], trees.Structure]:
    leaves, structure = trees.flatten(tree)
    return [_tensor(what, leaf) for leaf in leaves], structure


def _length(xs: Sequence[Tensor], length: int | None) -> int:
    scalar = next((t for t in xs if not t._d.shape), None)
    if scalar is not None:
        raise ShapeError(
            explain(
                "scan: xs is sliced along the first dimension, and a leaf of it has none",
                got=describe_type(scalar._d.dtype, ()),
                fix="pass what every step needs by name, from outside, or with the carry",
            )
        )
    lengths = {int(t._d.shape[0]) for t in xs}
    given = set() if length is None else {int(length)}
    if len(lengths | given) != 1 or min(lengths | given) < 0:
        raise ShapeError(
            explain(
                "scan needs one number of steps",
                expected="leaves of xs with one size along the first dimension, equal to length if that is given",
                got=f"sizes {sorted(lengths)}, length {length}",
            )
        )
    return (lengths | given).pop()


def _describe(avals: list[Aval], structure: trees.Structure) -> str:
    return str(_Tree.grow(structure, iter([describe_type(a.dtype, a.shape) for a in avals])))


def _shape_of(leaves: list[Any], structure: trees.Structure) -> str:
    words = [
        describe_type(t._d.dtype, tuple(t._d.shape)) if isinstance(t, Tensor) else type(t).__name__ for t in leaves
    ]
    return str(_Tree.grow(structure, iter(words)))


class _Tree(str):
    """A word that is shown without quotes, so that a tree of types reads like the tree itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def grow(cls, structure: trees.Structure, words: Any) -> Any:
        """The tree of that structure with these words."""
        return trees.unflatten(structure, [cls(w) for w in words])
