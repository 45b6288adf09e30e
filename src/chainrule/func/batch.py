"""vmap: an interpreter that carries a batch axis in front of the values that depend on the mapped inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from chainrule.core import trees
from chainrule.core.errors import explain
from chainrule.core.shapes import normalize_axis
from chainrule.ir.interpreter import Interpreter, Tracer
from chainrule.ir.op import Elementwise, General, Multilinear, Op
from chainrule.tensors.apply import apply, constant
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor, wrap


class Batch(Interpreter):
    """Values for every member of a batch at once."""

    what = "vmap"

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__()
        self.size, self.randomness = size, randomness

    def wrap(self, tensor: Tensor, axis: int | None = 0) -> Tensor:
        """A tensor with a batch axis as a value of this level; ``axis`` None: the same for all members."""
        if axis is None:
            return tensor
        if axis:
            rest = tuple(i for i in range(len(tensor._d.shape)) if i != axis)
            tensor = TENSORS.permute(tensor, (axis, *rest))
        return self._batched(tensor)

    def _batched(self, tensor: Tensor) -> Tensor:
        shape, dtype = tensor._d.shape[1:], tensor._d.dtype
        return wrap(Tracer(self, tensor, True, shape, dtype))

    def lift(self, tensor: Tensor) -> Tensor:
        """A constant: the same for all members."""
        if self.owns(tensor._d):
            return tensor
        return wrap(Tracer(self, tensor, False, tensor._d.shape, tensor._d.dtype))

    def out(self, y: Tensor, axis: int = 0) -> Tensor:
        """A result at the level outside, with its batch axis at ``axis``."""
        if self.owns(y._d):
            y, batched = y._d.value, y._d.extra
        else:
            batched = False
        if not batched:
            y = TENSORS.broadcast_to(y, (self.size, *y._d.shape))
        rank = len(y._d.shape)
        at = normalize_axis(axis, rank)
        if at:
            y = TENSORS.permute(y, (*range(1, at + 1), 0, *range(at + 1, rank)))
        return y

    def process(self, op: Op, xs: Sequence[Any], params: dict[str, Any], apply: Callable[..., Any]) -> tuple[Any, bool]:
        """As all levels; random ops draw for the whole batch, or once for all members, as asked for."""
        if op.random:
            if self.randomness == "error":
                raise RuntimeError(
                    explain(
                        "a random draw inside vmap: the same numbers for all members, or different ones?",
                        fix="say so with vmap(..., randomness='different') or 'same'",
                    )
                )
            if self.randomness == "different":
                wide, mine = super().process(op, xs, {**params, "shape": (self.size, *params["shape"])}, apply)
                return (wide, mine) if mine else (self._batched(wide), True)
        return super().process(op, xs, params, apply)

    def rule(self, op: Op, xs: Sequence[Any], payloads: Sequence[Any], params: dict[str, Any]) -> Any:
        """The op on whole batches."""
        own = [self.owns(d) for d in payloads]
        batched = [o and d.extra for d, o in zip(payloads, own, strict=True)]
        vs = [d.value if o else x for d, o, x in zip(payloads, own, xs, strict=True)]
        if not any(batched):
            y = apply(op, tuple(vs), params)
            return self.lift(y) if op.outputs == 1 else tuple(self.lift(o) for o in y)
        if isinstance(op, Elementwise):  # a batch axis in front and equal ranks: ordinary broadcasting does it
            return self._batched(getattr(TENSORS, op.name)(*vs))
        assert isinstance(op, (Multilinear, General))
        y = op.batch(TENSORS, self.size, vs, batched, **params)
        return self._batched(y) if op.outputs == 1 else tuple(self._batched(o) for o in y)


def _axis_per_leaf(tree: Any, axes: Any) -> list[int | None]:
    """``axes`` (a number, None, or a tree prefix) spread over the leaves of ``tree``."""
    if axes is None or isinstance(axes, int):
        return [axes] * len(trees.flatten(tree)[0])
    parts = zip(tree, axes, strict=True) if isinstance(tree, (tuple, list)) else ((tree[k], axes[k]) for k in tree)
    return [a for part, ax in parts for a in _axis_per_leaf(part, ax)]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """``func`` mapped over a dimension of its inputs, without a loop: every op runs once on whole batches.

    Args:
        func: a function of tensors (or trees of them) written for one member.
        in_dims: the mapped dimension of each argument, None for arguments that are shared; one number, or a tree.
        out_dims: where the batch dimension goes in the results.
        randomness: "error", "different" (each member draws for itself) or "same".
        chunk_size: at most so many members at a time; results are joined.

    Raises:
        ValueError: if no input is mapped, or the mapped sizes differ.
    """
    if randomness not in ("error", "different", "same"):
        raise ValueError(f"randomness must be 'error', 'different' or 'same', got {randomness!r}")

    @wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = trees.flatten(args)
        axes = _axis_per_leaf(args, in_dims)
        tensors = [v if isinstance(v, Tensor) or a is None else constant(v) for v, a in zip(leaves, axes, strict=True)]
        axes = [a if a is None else normalize_axis(a, len(t._d.shape)) for t, a in zip(tensors, axes, strict=True)]
        keyword, keyword_structure = trees.flatten(kwargs)
        keyword_axes = [0 if isinstance(v, Tensor) else None for v in keyword]
        every = list(zip([*tensors, *keyword], [*axes, *keyword_axes], strict=True))
        sizes = {t._d.shape[a] if t._d.shape else -1 for t, a in every if a is not None}
        if len(sizes) != 1 or -1 in sizes:
            raise ValueError(
                explain(
                    "vmap needs inputs whose mapped dimensions have one size",
                    expected="at least one mapped input with dimensions, all mapped sizes equal",
                    got=f"sizes {sorted(sizes)}" if sizes else "no mapped input",
                    fix="check in_dims",
                )
            )
        size = sizes.pop()

        def run(pairs: Sequence[tuple[Any, int | None]], n: int) -> Any:
            level = Batch(n, randomness)
            ins = [level.wrap(t, a) if a is not None else t for t, a in pairs]
            k = len(tensors)
            with level:
                y = func(*trees.unflatten(structure, ins[:k]), **trees.unflatten(keyword_structure, ins[k:]))
            flat, shape = trees.flatten(y)
            to = _axis_per_leaf(y, out_dims)
            wrong = next((v for v in flat if not isinstance(v, Tensor)), None)
            if wrong is not None:
                raise TypeError(explain("vmap: the function must return tensors", got=type(wrong).__name__))
            return trees.unflatten(shape, [level.out(v, a or 0) for v, a in zip(flat, to, strict=True)])

        if chunk_size is None or chunk_size >= size:
            return run(every, size)
        pieces = []
        for start in range(0, size, chunk_size):
            stop = min(start + chunk_size, size)
            part = [
                (t, a) if a is None else (TENSORS.getitem(t, (*(slice(None),) * a, slice(start, stop))), a)
                for t, a in every
            ]
            pieces.append(run(part, stop - start))
        flat_pieces = [trees.flatten(p)[0] for p in pieces]
        shape = trees.flatten(pieces[0])[1]
        to = _axis_per_leaf(pieces[0], out_dims)
        joined = [
            TENSORS.cat(*column, axis=normalize_axis(a or 0, len(column[0]._d.shape)))
            for column, a in zip(zip(*flat_pieces, strict=True), to, strict=True)
        ]
        return trees.unflatten(shape, joined)

    return mapped
