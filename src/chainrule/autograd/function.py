"""``Function``: an operation whose forward and backward are written by hand, with PyTorch's interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from chainrule.autograd.call import Call, VmapInfo
from chainrule.autograd.context import FunctionCtx
from chainrule.autograd.vectorize import vectorize
from chainrule.core.errors import GradError
from chainrule.ir.state import get_state, no_grad
from chainrule.tensors.apply import apply
from chainrule.tensors.tensor import Tensor


class Function:
    """Base class of operations with a derivative written by hand, called with ``apply`` and never instantiated.

    Either write ``forward(ctx, *args)``, or ``forward(*args)`` with ``setup_context(ctx, inputs, output)`` (needed
    inside ``func`` transforms that batch)::

        class Cube(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x * x

            @staticmethod
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                return 3 * x * x * g

    ``backward`` gets one cotangent per output and returns one per argument, None for arguments that are no tensors.
    If it is made of differentiable tensor functions, second and higher derivatives follow. Optional staticmethods:
    ``jvp(ctx, *tangents)`` for forward mode; ``vmap(info, in_dims, *args) -> (output, out_dims)`` for batching, or
    ``generate_vmap_rule = True`` to have it made.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The value."""
        raise NotImplementedError("a Function must define the staticmethod forward")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what ``backward`` needs; defining it means that ``forward`` takes no ctx."""
        raise NotImplementedError("this Function defines no setup_context")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The cotangents of the arguments from those of the outputs."""
        raise NotImplementedError("a Function must define the staticmethod backward to be differentiated")

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The tangents of the outputs from those of the arguments."""
        raise NotImplementedError("this Function defines no jvp")

    @staticmethod
    def vmap(info: VmapInfo, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """The outputs for a whole batch, and where their batch dimensions are."""
        raise NotImplementedError("this Function defines no vmap")

    @classmethod
    def defines(cls, name: str) -> bool:
        """Whether a subclass wrote the staticmethod of that name."""
        return getattr(cls, name) is not getattr(Function, name)

    @classmethod
    def vectorized(cls, size: int, batched: Sequence[bool]) -> Any:
        """The Function of whole batches that ``generate_vmap_rule`` stands for."""
        return vectorize(cls, Function, size, batched)

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run it on ``args`` (tensors and anything else) and record it."""
        op = Call(cls, args)
        xs = op.given
        assert xs is not None
        try:
            out = apply(op, xs, {})
        finally:
            op.given = None  # the op lives as long as the graph, the tensors need not
        assert op.layout is not None
        tensors = (out,) if op.outputs == 1 else out
        if op.ctx is not None:
            for j in op.ctx._unreached:
                tensors[j]._node = None
        return op.layout.build(tensors)


class _Once(Function):
    """Identity whose derivative is an error: the end of a chain that was promised to be differentiated once."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, name: str) -> Tensor:
        ctx.name = name  # type: ignore[attr-defined]
        return x.clone()  # type: ignore[attr-defined, no-any-return]

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        raise GradError(
            f"{ctx.name} is marked once_differentiable, but its result is differentiated again\n"  # type: ignore[attr-defined]
            "  fix: remove the decorator and write backward with differentiable tensor functions"
        )


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a ``backward`` that is not made of differentiable functions: a second derivative raises."""

    @wraps(backward)
    def wrapped(ctx: FunctionCtx, *gs: Any) -> Any:
        with no_grad():
            found = backward(ctx, *gs)
        if not get_state().grad:
            return found
        parts = found if isinstance(found, tuple) else (found,)
        name = backward.__qualname__

        def guard(g: Any) -> Any:
            if not isinstance(g, Tensor):
                return g
            return _Once.apply(g if g._node is not None else g.detach().requires_grad_(), name)  # type: ignore[attr-defined]

        guarded = tuple([guard(g) for g in parts])
        return guarded if isinstance(found, tuple) else guarded[0]

    return wrapped
