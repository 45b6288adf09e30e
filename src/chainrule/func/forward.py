"""Forward mode: an interpreter that carries a tangent beside every value (dual numbers)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.core import trees
from chainrule.core.errors import explain
from chainrule.ir.interpreter import Interpreter, Tracer
from chainrule.ir.op import Elementwise, General, Multilinear, Op
from chainrule.tensors.apply import apply
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor, wrap


class Dual(Interpreter):
    """Values with tangents. A tangent of None is zero and costs nothing."""

    what = "jvp"

    def wrap(self, primal: Tensor, tangent: Tensor | None) -> Tensor:
        """A value of this level."""
        shape, dtype = primal._d.shape, primal._d.dtype
        return wrap(Tracer(self, primal, tangent, shape, dtype))

    def lift(self, tensor: Tensor) -> Tensor:
        """A constant: a value without a tangent."""
        return tensor if self.owns(tensor._d) else self.wrap(tensor, None)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Value and tangent of a result, at the level outside."""
        if not self.owns(y._d):
            return y, TENSORS.zeros_like(y)
        tangent = y._d.extra
        return y._d.value, TENSORS.zeros_like(y._d.value) if tangent is None else tangent

    def rule(self, op: Op, xs: Sequence[Any], payloads: Sequence[Any], params: dict[str, Any]) -> Any:
        """The op on the values, and its derivative's action on the tangents."""
        own = [self.owns(d) for d in payloads]
        ps = tuple([d.value if o else x for d, o, x in zip(payloads, own, xs, strict=True)])
        ts = [d.extra if o and op.flows(i) else None for i, (d, o) in enumerate(zip(payloads, own, strict=True))]
        y = apply(op, ps, params)
        if all(t is None for t in ts):
            return self.wrap(y, None) if op.outputs == 1 else tuple(self.wrap(o, None) for o in y)
        if op.outputs > 1:
            assert isinstance(op, General)
            tangents = op.jvp(TENSORS, ts, y, *ps, **params)
            return tuple(self.wrap(o, t) for o, t in zip(y, tangents, strict=True))
        if y._d.dtype.kind != "f":
            return self.wrap(y, None)
        return self.wrap(y, _tangent(op, ts, y, ps, params))


def _tangent(op: Op, ts: list[Any], y: Tensor, ps: tuple[Tensor, ...], params: dict[str, Any]) -> Tensor | None:
    out: Any = None
    if isinstance(op, Elementwise):
        for t, p in zip(ts, op.partials, strict=True):
            if t is not None and p is not None:
                a = p(TENSORS, t, y, *ps)
                out = a if out is None else out + a
        return out  # type: ignore[no-any-return]
    if isinstance(op, Multilinear):
        if op.joint:
            filled = [
                p if not op.flows(i) else TENSORS.zeros_like(p) if ts[i] is None else ts[i] for i, p in enumerate(ps)
            ]
            return apply(op, tuple(filled), params)  # type: ignore[no-any-return]
        for i, t in enumerate(ts):
            if t is not None:
                a = apply(op, (*ps[:i], t, *ps[i + 1 :]), params)
                out = a if out is None else out + a
        return out  # type: ignore[no-any-return]
    assert isinstance(op, General)
    return op.jvp(TENSORS, ts, y, *ps, **params)  # type: ignore[no-any-return]


def jvp(
    func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of ``func(*primals)`` and its derivative in the direction of ``tangents``, in one pass.

    Computes J v without forming J (Griewank & Walther, 2008, "Evaluating derivatives", chapter 3). Arguments and
    results may be trees of tensors.

    Raises:
        RuntimeError: if primals and tangents differ in structure or shape.
    """
    flat, structure = trees.flatten(tuple(primals))
    directions, other = trees.flatten(tuple(tangents))
    if structure != other or any(p.shape != t.shape for p, t in zip(flat, directions, strict=True)):
        raise RuntimeError(
            explain(
                "jvp needs a tangent for every primal, of the same shape",
                expected=str([tuple(p.shape) for p in flat]),
                got=str([tuple(t.shape) for t in directions]),
            )
        )
    level = Dual()
    with level:
        ins = [level.wrap(p, t) for p, t in zip(flat, directions, strict=True)]
        result = func(*trees.unflatten(structure, ins))
        aux = None
        if has_aux:
            result, aux = result
    out, shape = trees.flatten(result)
    pairs = [level.split(y) for y in out]
    answer = trees.unflatten(shape, [p for p, _ in pairs]), trees.unflatten(shape, [t for _, t in pairs])
    if not has_aux:
        return answer
    return (*answer, trees.map(lambda a: level.split(a)[0] if isinstance(a, Tensor) else a, aux))
