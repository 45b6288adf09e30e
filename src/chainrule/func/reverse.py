"""Reverse mode as function transforms: grad, vjp, Jacobians and Hessians.

NOTE [a reverse scope is no level]. ``grad`` cuts the tape with an alias of its input owned by the current level,
enables grad, and differentiates with the ordinary engine. Afterwards it looks at the leaves that were reached: if all
belong to this scope, the result's history is dropped; if an outer leaf was reached (a closed-over parameter), it is
kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from chainrule.core import trees
from chainrule.core.errors import GradError, explain
from chainrule.func.batch import vmap
from chainrule.func.forward import jvp
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import enable_grad, get_state
from chainrule.tape.engine import leaves
from chainrule.tape.node import CLOSED, Leaf
from chainrule.tensors.apply import constant
from chainrule.tensors.backward import run
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor, wrap


class _Scope:
    """One reverse-mode scope: the inputs cut from what lies outside, and the way to close it again."""

    def __init__(self, inputs: Any) -> None:
        self.interpreter, self.outside_grad = get_state()
        flat, self.structure = trees.flatten(inputs)
        self.inputs: list[Tensor] = []
        for t in flat:
            if not isinstance(t, Tensor) or t._d.dtype.kind != "f":
                got = f"a tensor of {t.dtype}" if isinstance(t, Tensor) else type(t).__name__
                raise TypeError(explain("only floating tensors can be differentiated with respect to", got=got))
            with enable_grad():
                owned = self.interpreter is None or t._node is not None  # what has history keeps it
                x = TENSORS.alias(t if owned else self.interpreter.lift(t))
            if x._node is None:
                x._node = Leaf(self.interpreter)
            self.inputs.append(x)
        self.nodes = [x._node for x in self.inputs]

    def tree(self) -> Any:
        """The inputs for the function."""
        return trees.unflatten(self.structure, self.inputs)

    def foreign(self, outputs: list[Tensor]) -> bool:
        """Whether an output depends on a leaf that is not of this scope, nor of one that has ended."""
        return any(
            leaf.level is not CLOSED and leaf not in self.nodes
            for y in outputs
            if y._node is not None
            for leaf in leaves(y._node)
        )

    def pull(self, outputs: list[Tensor], seeds: list[Any], create: bool, retain: bool) -> list[Tensor]:
        """The cotangents of the inputs from those of the outputs."""
        want: dict[Any, Any] = dict.fromkeys(self.nodes)
        pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y._node is not None]
        if pairs:
            run([y for y, _ in pairs], [s for _, s in pairs], want, retain, create, False)
        found = [want[n] for n in self.nodes]
        return [TENSORS.zeros_like(x) if g is None else g for g, x in zip(found, self.inputs, strict=True)]

    def end(self) -> None:
        """Nobody outside can ask for derivatives with respect to this scope's own leaves any more."""
        for node in self.nodes:
            if type(node) is Leaf:
                node.level = CLOSED

    def close(self, t: Tensor, foreign: bool) -> Tensor:
        """A result for the outside: with history only if it depends on something there, and grad mode was on there."""
        if not foreign:
            return self._cut(t)
        if t._node is None:
            return t
        return t if self.outside_grad else TENSORS.detach(t)  # type: ignore[no-any-return]

    def _cut(self, t: Tensor) -> Tensor:
        """``t`` without history, also at the levels outside as far as that leads to nothing but ended scopes."""
        d = t._d
        if isinstance(d, Tracer) and isinstance(d.value, Tensor):
            value, extra = (
                self._cut(v) if isinstance(v, Tensor) and not self.foreign([v]) else v for v in (d.value, d.extra)
            )
            if value is not d.value or extra is not d.extra:
                d = Tracer(d.interpreter, value, extra, d.shape, d.dtype)
        return t if d is t._d and t._node is None else wrap(d)


def _select(args: tuple[Any, ...], argnums: int | tuple[int, ...]) -> Any:
    try:
        return args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in argnums)
    except IndexError:
        raise ValueError(
            explain("argnums names an argument that was not given", got=f"{argnums} of {len(args)}")
        ) from None


def _replace(args: tuple[Any, ...], argnums: int | tuple[int, ...], new: Any) -> tuple[Any, ...]:
    out = list(args)
    for i, v in [(argnums, new)] if isinstance(argnums, int) else zip(argnums, new, strict=True):
        out[i] = v
    return tuple(out)


def _call(func: Callable[..., Any], has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    with enable_grad():
        result = func(*args, **kwargs)
    return result if has_aux else (result, None)


def _close_aux(scope: _Scope, aux: Any) -> Any:
    return trees.map(lambda a: scope.close(a, scope.foreign([a])) if isinstance(a, Tensor) else a, aux)


def grad_and_value(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Any:
    """As :func:`grad`, returning ``(gradient, value)``, or ``(gradient, (value, aux))``."""

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        scope = _Scope(_select(args, argnums))
        y, aux = _call(func, has_aux, _replace(args, argnums, scope.tree()), kwargs)
        if not isinstance(y, Tensor) or int(np.prod(y._d.shape)) != 1 or len(y._d.shape) > 0:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise GradError(
                explain(
                    "grad needs a function with a scalar result",
                    expected="a tensor of zero dimensions",
                    got=got,
                    fix="reduce it, for example with .sum(), or use jacrev",
                )
            )
        foreign = scope.foreign([y])
        extra = [a for a in trees.flatten(aux)[0] if isinstance(a, Tensor)]
        gs = scope.pull([y], [None], foreign or scope.interpreter is not None, bool(extra) and scope.foreign(extra))
        result = trees.unflatten(scope.structure, [scope.close(g, foreign) for g in gs])
        value = scope.close(y, foreign)
        aux = _close_aux(scope, aux)
        scope.end()
        return result, (value, aux) if has_aux else value

    return derived


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function with respect to one or several arguments (tensors or trees of them).

    Raises:
        RuntimeError: if the function's result is not a scalar tensor.
    """
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        g, value = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return derived


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``(func(*primals), pull)`` where ``pull(v)`` is v^T J: one reverse pass, J is never formed.

    ``pull`` may be called many times, also under vmap; it returns a tuple, one cotangent per primal.
    """
    scope = _Scope(tuple(primals))
    y, aux = _call(func, has_aux, scope.tree(), {})
    outputs, shape = trees.flatten(y)
    foreign = scope.foreign(outputs)

    def pull(*cotangents: Any) -> Any:
        seeds, given = trees.flatten(cotangents[0] if len(cotangents) == 1 else tuple(cotangents))
        if given.leaves != shape.leaves:
            raise GradError(explain("vjp: one cotangent per result", expected=str(shape.leaves), got=str(given.leaves)))
        traced = get_state().interpreter is not None or any(s._node is not None for s in seeds)
        gs = scope.pull(outputs, seeds, foreign or traced, True)
        keep = foreign or any(s._node is not None for s in seeds)
        return trees.unflatten(scope.structure, [scope.close(g, keep) for g in gs])

    value = trees.unflatten(shape, [scope.close(o, foreign) for o in outputs])
    aux = _close_aux(scope, aux)
    scope.end()
    return (value, pull, aux) if has_aux else (value, pull)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of ``func(*primals)``, and the linear function of tangents that is its derivative there.

    ``func`` runs once. Its recorded reverse pass, v -> J^T v, is linear in v, so the reverse pass of that is
    t -> J t; the derivative can be applied to many tangents without running ``func`` again.
    """
    value, pull = vjp(func, *primals)
    outputs, structure = trees.flatten(value)
    points, inner = trees.flatten(tuple(primals))

    def pulled(*seeds: Tensor) -> Any:
        found = pull(trees.unflatten(structure, list(seeds)))
        return tuple(trees.flatten(found)[0])

    _, push = vjp(pulled, *(TENSORS.zeros_like(o) for o in outputs))

    def derivative(*tangents: Any) -> Any:
        given, shape = trees.flatten(tuple(tangents))
        if shape != inner or any(t.shape != p.shape for t, p in zip(given, points, strict=True)):
            raise GradError(
                explain(
                    "linearize: the derivative takes one tangent per primal, of the same shape",
                    expected=str([tuple(p.shape) for p in points]),
                    got=str([tuple(t.shape) for t in given]),
                )
            )
        return trees.unflatten(structure, list(push(tuple(given))))

    return value, derivative


def _basis(t: Tensor) -> Tensor:
    """All unit tensors of the shape of ``t``, along a new first axis."""
    n = math.prod(t._d.shape)
    return constant(np.eye(n, dtype=t._d.dtype).reshape((n, *t._d.shape)))


def jacrev(
    func: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The Jacobian by reverse mode: one pass per output element, all at once under vmap.

    Entry ``[i..., j...]`` is d out[i...] / d in[j...]. Cheaper than :func:`jacfwd` when outputs are fewer than inputs.
    """

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        scope = _Scope(_select(args, argnums))
        y, aux = _call(func, has_aux, _replace(args, argnums, scope.tree()), kwargs)
        outputs, shape = trees.flatten(y)
        foreign = scope.foreign(outputs)
        create = foreign or scope.interpreter is not None
        rows = []
        for o in outputs:

            def row(seed: Tensor, o: Tensor = o) -> Any:
                return tuple(scope.pull([o], [seed], create, True))

            with enable_grad():
                columns = vmap(row, chunk_size=chunk_size)(_basis(o))
                blocks = [
                    TENSORS.reshape(c, (*o._d.shape, *x._d.shape)) for c, x in zip(columns, scope.inputs, strict=True)
                ]
            rows.append(trees.unflatten(scope.structure, [scope.close(b, foreign) for b in blocks]))
        result = trees.unflatten(shape, rows)
        aux = _close_aux(scope, aux)
        scope.end()
        return (result, aux) if has_aux else result

    return derived


def jacfwd(
    func: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The Jacobian by forward mode: one pass per input element, all at once under vmap.

    Cheaper than :func:`jacrev` when inputs are fewer than outputs.
    """

    @wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        flat, structure = trees.flatten(_select(args, argnums))
        sizes = [math.prod(t._d.shape) for t in flat]
        eye = np.eye(sum(sizes))
        cuts = np.cumsum([0, *sizes])
        directions = [
            constant(eye[:, a:b].astype(t._d.dtype).reshape((-1, *t._d.shape)))
            for t, a, b in zip(flat, cuts[:-1], cuts[1:], strict=True)
        ]

        def along(*tangents: Tensor) -> Any:
            def selected(*leaves: Tensor) -> Any:
                return func(*_replace(args, argnums, trees.unflatten(structure, list(leaves))), **kwargs)

            return jvp(selected, tuple(flat), tuple(tangents), has_aux=has_aux)[1:]

        result = vmap(along, chunk_size=chunk_size, randomness=randomness)(*directions)

        def blocks(column: Tensor) -> Any:
            rank = len(column._d.shape)
            moved = TENSORS.permute(column, (*range(1, rank), 0))
            parts = [
                TENSORS.reshape(
                    TENSORS.getitem(moved, (Ellipsis, slice(int(a), int(b)))), (*moved._d.shape[:-1], *t._d.shape)
                )
                for t, a, b in zip(flat, cuts[:-1], cuts[1:], strict=True)
            ]
            return trees.unflatten(structure, parts)

        jacobian = trees.map(blocks, result[0])
        return (jacobian, trees.map(lambda a: TENSORS.getitem(a, (0,)), result[1])) if has_aux else jacobian

    return derived


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Second derivatives of a scalar function: forward over reverse, ``jacfwd(jacrev(func))``."""
    return jacfwd(jacrev(func, argnums), argnums)
