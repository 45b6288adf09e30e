"""A Function of whole batches, made from one for a single member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chainrule.autograd.context import TENSOR, FunctionCtx, Layout, lay_out
from chainrule.func.batch import Batch
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.tensor import Tensor


class _Saved(NamedTuple):
    """The arguments of a vectorized call (a marker where a tensor stood) and the layout of its result."""

    inputs: tuple[Any, ...]
    layout: Layout


def vectorize(function: Any, base: Any, size: int, batched: Sequence[bool]) -> Any:
    """The Function of whole batches: forward, backward and jvp of ``function`` run under vmap."""

    def inside(level: Batch, args: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([level.wrap(a) if b else a for a, b in zip(args, batched, strict=True)])

    def all_in(level: Batch, values: Sequence[Any]) -> list[Any]:
        return [level.wrap(v) if isinstance(v, Tensor) else v for v in values]

    def out(level: Batch, values: Any) -> Any:
        if isinstance(values, (tuple, list)):
            return tuple([level.out(v) if isinstance(v, Tensor) else v for v in values])
        return level.out(values)

    def context(ctx: FunctionCtx, level: Batch, forward_mode: bool) -> FunctionCtx:
        args: Any = ctx.call  # type: ignore[attr-defined]
        saved = iter(ctx.saved_tensors)
        xs = [next(saved) if a is TENSOR else a for a in args.inputs]
        ys = args.layout.build(list(saved))
        xs = list(inside(level, xs))
        ys = level.wrap(ys) if args.layout.alone else tuple(all_in(level, ys))
        inner = FunctionCtx()
        inner.needs_input_grad = ctx.needs_input_grad
        function.setup_context(inner, tuple(xs), ys)
        tensors = [x for x in xs if isinstance(x, Tensor)]
        results = [ys] if args.layout.alone else [y for y in ys if isinstance(y, Tensor)]
        return inner.seal(tensors, results).bound(tensors, results, forward_mode)

    class Vectorized(base):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args: Any) -> Any:
            level = Batch(size)
            with level:
                result = function.forward(*inside(level, args))
            return out(level, result)

        @staticmethod
        def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
            tensors, layout = lay_out(function.__name__, output)
            ctx.call = _Saved(tuple([TENSOR if isinstance(a, Tensor) else a for a in inputs]), layout)  # type: ignore[attr-defined]
            ctx.save_for_backward(*(a for a in inputs if isinstance(a, Tensor)), *tensors)

        @staticmethod
        def backward(ctx: FunctionCtx, *gs: Any) -> Any:
            level = Batch(size)
            with level:
                found = function.backward(context(ctx, level, False), *all_in(level, gs))
            found = out(level, found if isinstance(found, tuple) else (found,))
            return tuple(
                [
                    g if g is None or i >= len(batched) or batched[i] else TENSORS.sum(g, (0,), False)
                    for i, g in enumerate(found)
                ]
            )

        @staticmethod
        def jvp(ctx: FunctionCtx, *ts: Any) -> Any:
            level = Batch(size)
            with level:
                found = function.jvp(context(ctx, level, True), *inside(level, ts))
            return out(level, found)

    Vectorized.__name__ = Vectorized.__qualname__ = f"vmap({function.__name__})"
    if not function.defines("jvp"):
        del Vectorized.jvp  # type: ignore[method-assign]
    return Vectorized
