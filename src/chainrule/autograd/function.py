"""``Function``: an operation whose forward and backward are written by hand, with PyTorch's interface.

NOTE [one call, one op]. Every call of ``apply`` makes an unregistered general op that goes through the ordinary ``apply`` of
tensors, so a Function is recorded, interpreted and differentiated like any other op. What ``save_for_backward`` keeps is
noted as "input i" or "output j" where it is one: the tape saves those, checks them for in-place writes, and hands them
to ``backward`` with their history, which is what makes a second derivative right. Other saved tensors are constants
for second derivatives, unless ``setup_context`` is defined: then it runs again on the values being differentiated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import GradError, MissingRuleError, describe_place, explain
from chainrule.core.shapes import normalize_axis
from chainrule.func.batch import Batch
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, General
from chainrule.ir.state import get_state, make_state, no_grad, reset_state, set_state
from chainrule.tape.clock import CLOCK, owner, written_since
from chainrule.tensors.apply import apply, up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor, wrap


class VmapInfo(NamedTuple):
    """What a ``vmap`` staticmethod is told: the size of the batch, and how random draws are to behave."""

    batch_size: int
    randomness: str


class FunctionCtx:
    """What ``forward`` leaves for ``backward``. Anything that is not a tensor may simply be set as an attribute.

    Attributes:
        needs_input_grad: per argument of ``forward``, whether its gradient is asked for.
    """

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._for_jvp: tuple[Any, ...] = ()
        self._fixed: tuple[Tensor, ...] = ()
        self._unreached: frozenset[int] = frozenset()
        self._materialize = True
        self._xs: Sequence[Any] = ()
        self._ys: Sequence[Any] = ()
        self._forward_mode = False

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs, or values computed on the way) for ``backward``."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward takes tensors and None, got {type(t).__name__}; set other values as attributes"
                )
        self._saved = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``jvp``; without it ``jvp`` sees what was saved for backward."""
        self._for_jvp = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Declare outputs that no gradient flows through."""
        self._fixed = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether gradients that did not arrive come as zeros (the default) or as None."""
        self._materialize = bool(value)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, inputs and outputs with their history."""
        held = self._for_jvp if self._forward_mode and self._for_jvp else self._saved
        return tuple([s.of(self) if isinstance(s, _Slot) else s for s in held])

    def _seal(self, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> FunctionCtx:
        """Note which saved tensors are inputs or outputs, by identity."""

        def slot(t: Any) -> Any:
            for output, group in ((False, xs), (True, ys)):
                for i, member in enumerate(group):
                    if t is member:
                        return _Slot(output, i)
            return t

        self._saved = tuple([slot(t) for t in self._saved])
        self._for_jvp = tuple([slot(t) for t in self._for_jvp])
        self._unreached = frozenset(j for j, y in enumerate(ys) if any(y is t for t in self._fixed))
        self._fixed = ()
        return self

    def _bound(self, xs: Sequence[Any], ys: Sequence[Any], forward_mode: bool = False) -> FunctionCtx:
        """A copy whose saved inputs and outputs are these."""
        out = copy.copy(self)
        out._xs, out._ys, out._forward_mode = xs, ys, forward_mode
        return out


class _Slot(NamedTuple):
    """A saved tensor that is input or output number ``index``."""

    output: bool
    index: int

    def of(self, ctx: FunctionCtx) -> Any:
        return (ctx._ys if self.output else ctx._xs)[self.index]


class _Layout(NamedTuple):
    """How a function's result is made of tensors: alone or in a tuple, and the values that are no tensors."""

    alone: bool
    others: tuple[Any, ...]

    def build(self, tensors: Sequence[Any]) -> Any:
        if self.alone:
            return tensors[0]
        rest = iter(tensors)
        return tuple([next(rest) if o is _TENSOR else o for o in self.others])


_TENSOR = object()


def _lay_out(name: str, result: Any) -> tuple[list[Tensor], _Layout]:
    """The tensors of what ``forward`` returned, and how to put it together again."""
    if isinstance(result, Tensor):
        return [result], _Layout(True, ())
    parts = tuple(result) if isinstance(result, (tuple, list)) else ()
    tensors = [p for p in parts if isinstance(p, Tensor)]
    if not tensors:
        raise TypeError(
            explain(f"{name}.forward must return a Tensor, or a tuple with some", got=type(result).__name__)
        )
    return tensors, _Layout(False, tuple([_TENSOR if isinstance(p, Tensor) else p for p in parts]))


@contextmanager
def _quiet() -> Any:
    """The current interpreter with grad mode off."""
    token = set_state(make_state(get_state().interpreter, False))
    try:
        yield
    finally:
        reset_state(token)


class _Call(General):
    """One call of a Function as an op (see NOTE [one call, one op])."""

    arity = None
    residual = True
    keeps_output = True
    samples = ()

    def __init__(self, function: type[Function], args: tuple[Any, ...]) -> None:
        self.function, self.name, self.doc = function, function.__name__, function.__doc__ or ""
        self.where = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        self.args = tuple([None if isinstance(a, Tensor) else a for a in args])
        self.given: tuple[Tensor, ...] | None = tuple([up_to_date(args[i]) for i in self.where])
        self.inputs = [Aval(tuple(t._d.shape), t._d.dtype) for t in self.given]
        self.needed = tuple([t._node is not None and get_state().grad for t in self.given])
        self.results: list[Aval] = []
        self.layout: _Layout | None = None
        self.ctx: FunctionCtx | None = None
        self.runs_setup = function.setup_context is not Function.setup_context
        self.again = False

    def fill(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of the call with these tensors in their places."""
        out = list(self.args)
        for i, t in zip(self.where, tensors, strict=True):
            out[i] = t
        return tuple(out)

    def _set_results(self, ys: Sequence[Tensor], layout: _Layout) -> None:
        self.outputs, self.layout = len(ys), layout
        self.results = [Aval(tuple(y._d.shape), y._d.dtype) for y in ys]

    def kernel(self, *payloads: Any, **_: Any) -> Any:
        """Runs the user's ``forward`` without recording it."""
        given = self.given
        same = given is not None and all(t._d is p for t, p in zip(given, payloads, strict=True))
        xs = given if same and given is not None else tuple([wrap(p) for p in payloads])
        args, began = self.fill(xs), CLOCK.now
        ctx = FunctionCtx()
        ctx.needs_input_grad = self.fill_flags(self.needed)
        token = set_state(make_state(None, False))
        try:
            if self.runs_setup:
                result = self.function.forward(*args)
            else:
                result = self.function.forward(ctx, *args)
            ys, layout = _lay_out(self.name, result)
            if self.runs_setup:
                self.function.setup_context(ctx, args, result)
        finally:
            reset_state(token)
        self._set_results(ys, layout)
        self._check_unchanged(payloads, began)
        self.ctx = ctx._seal(xs, ys)
        constants = self._plan(ctx, len(xs))
        owners = {id(owner(p)) for p in payloads if type(p) is np.ndarray}
        values = []
        for y in ys:
            d = up_to_date(y).numpy_payload()
            values.append(d.copy() if id(owner(d)) in owners else d)
        return (values[0] if len(values) == 1 else tuple(values)), constants

    def fill_flags(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """Per argument, from one flag per tensor argument."""
        return tuple([bool(f) for f in _scatter(len(self.args), self.where, flags, False)])

    def _plan(self, ctx: FunctionCtx, count: int) -> tuple[Any, ...]:
        """Decide what the tape keeps; returns the payloads of other saved tensors, to be watched for writes."""
        held = (*ctx._saved, *ctx._for_jvp)
        constants = tuple([t._d for t in held if isinstance(t, Tensor)])
        self.again = self.runs_setup and any(d.dtype.kind == "f" for d in constants)
        if not self.again:
            kept = {s.index for s in held if isinstance(s, _Slot) and not s.output}
            self.keeps_inputs = tuple([i in kept for i in range(count)])
            self.keeps_output = any(isinstance(s, _Slot) and s.output for s in held)
        return constants

    def _check_unchanged(self, payloads: Sequence[Any], began: int) -> None:
        for i, p in enumerate(payloads):
            place = written_since(p, began)
            if place:
                raise GradError(
                    f"{self.name}.forward changed its tensor argument {i} in place\n"
                    f"  changed at: {describe_place(place if isinstance(place, tuple) else None)}\n"
                    "  fix:        compute a new tensor and return it"
                )

    def infer(self, *avals: Aval, **params: Any) -> Any:
        """Not known before it runs."""
        raise MissingRuleError(
            f"the Function {self.name} cannot be captured: its forward is Python code that needs numbers\n"
            "  fix: leave it out of the captured function, or declare an op for it"
        )

    def context(self, xs: Sequence[Any], ys: Sequence[Any], forward_mode: bool = False) -> FunctionCtx:
        """The context of this call, with these tensors as inputs and outputs."""
        state = get_state()
        further = state.grad or state.interpreter is not None  # the derivative may itself be differentiated
        if self.ctx is not None and not (self.again and further):
            return self.ctx._bound(xs, ys, forward_mode)
        if not self.runs_setup:
            raise MissingRuleError(
                f"the Function {self.name} cannot be differentiated inside vmap: its forward saves values on ctx itself\n"
                "  fix: write forward(*args) without ctx, and a staticmethod setup_context(ctx, inputs, output)"
            )
        assert self.layout is not None
        ctx = FunctionCtx()
        ctx.needs_input_grad = self.fill_flags([True] * len(xs))
        self.function.setup_context(ctx, self.fill(xs), self.layout.build(ys))
        return ctx._seal(xs, ys)._bound(xs, ys, forward_mode)

    def back(self, n: Any, g: Any) -> tuple[Any, ...]:
        """The backward rule on arrays; a method, since an attribute that holds ``vjp`` would make a reference cycle."""
        return self.vjp(NUMPY, g, n.y, n.r, [e is not None for e in n.edges], *n.xs)

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """The user's ``backward``, its result checked."""
        raw = m is NUMPY

        def shell(d: Any) -> Any:
            return wrap(d) if raw and d is not None else d

        inputs = [shell(x) for x in xs]
        several = self.outputs > 1
        outputs = [None] * self.outputs if y is None else [shell(d) for d in (y if several else (y,))]
        gs = [shell(part) for part in (g if several else (g,))]
        if not raw:
            return self._backward(inputs, outputs, gs, needs)
        with _quiet():
            found = self._backward(inputs, outputs, gs, needs)
        # views, so that the engine never takes an array for its own that the function may still hold
        return tuple([None if v is None else np.asarray(v._d).view() for v in found])

    def _backward(self, xs: list[Any], ys: list[Any], gs: list[Any], needs: Sequence[bool]) -> tuple[Any, ...]:
        ctx = self.context(xs, ys)
        ctx.needs_input_grad = self.fill_flags(needs)
        gs = [None if j in ctx._unreached else g for j, g in enumerate(gs)]
        if all(g is None for g in gs):
            return (None,) * len(xs)
        if ctx._materialize:
            gs = [TENSORS.zeros(a.shape, a.dtype) if g is None else g for g, a in zip(gs, self.results, strict=True)]
        assert self.layout is not None
        incoming = (gs[0],) if self.layout.alone else self.layout._replace(
            others=tuple([o if o is _TENSOR else None for o in self.layout.others])
        ).build(gs)  # fmt: skip
        found = self.function.backward(ctx, *incoming)
        return self._checked(found if isinstance(found, tuple) else (found,), needs)

    def _checked(self, found: tuple[Any, ...], needs: Sequence[bool]) -> tuple[Any, ...]:
        """One gradient per tensor argument, of its shape and dtype."""
        n = len(self.args)
        if len(found) < n or any(v is not None for v in found[n:]):
            raise GradError(
                explain(
                    f"{self.name}.backward returned a wrong number of gradients",
                    expected=f"{n}, one per argument of forward (None for those that are no tensors)",
                    got=str(len(found)),
                )
            )
        out: list[Any] = []
        for i, v in enumerate(found[:n]):
            if i not in self.where:
                if v is not None:
                    raise GradError(
                        explain(f"{self.name}.backward returned a gradient for argument {i}, which is no tensor",
                                expected="None there")
                    )  # fmt: skip
                continue
            k = len(out)
            out.append(self._fitted(v, self.inputs[k], f"gradient {i} of {self.name}.backward") if needs[k] else None)
        return tuple(out)

    def _fitted(self, v: Any, aval: Aval, what: str) -> Any:
        if v is None:
            return None
        if not isinstance(v, Tensor):
            raise TypeError(explain(f"{what} is no Tensor", expected="a Tensor or None", got=type(v).__name__))
        v = up_to_date(v)
        shape = tuple(v._d.shape)
        if shape != aval.shape:
            lead = len(shape) - len(aval.shape)
            if lead < 0 or any(a not in (1, b) for a, b in zip(aval.shape, shape[lead:], strict=True)):
                raise GradError(explain(f"{what} has a wrong shape", expected=str(aval.shape), got=str(shape)))
            v = TENSORS.unbroadcast(v, aval.shape)
        return cast(v, aval.dtype)

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """The user's ``jvp``, its result checked."""
        if self.function.jvp is Function.jvp:
            raise MissingRuleError(
                f"the Function {self.name} has no forward-mode rule: write a staticmethod jvp(ctx, *tangents) in it"
            )
        several = self.outputs > 1
        ctx = self.context(list(xs), list(y) if several else [y], True)
        if ctx._materialize:
            ts = [TENSORS.zeros(a.shape, a.dtype) if t is None else t for t, a in zip(ts, self.inputs, strict=True)]
        found = self.function.jvp(ctx, *_scatter(len(self.args), self.where, ts, None))
        assert self.layout is not None
        parts = list(found) if isinstance(found, (tuple, list)) else [found]
        if not self.layout.alone:
            expected = len(self.layout.others)
            parts = [p for p, o in zip(parts, self.layout.others, strict=False) if o is _TENSOR]
        else:
            expected = 1
        if len(parts) != self.outputs:
            raise GradError(
                explain(f"{self.name}.jvp returned a wrong number of tangents", expected=str(expected),
                        got=str(len(parts)))
            )  # fmt: skip
        out = [
            None
            if j in ctx._unreached or a.dtype.kind != "f"
            else self._fitted(t, a, f"tangent {j} of {self.name}.jvp")
            for j, (t, a) in enumerate(zip(parts, self.results, strict=True))
        ]
        return tuple(out) if several else out[0]

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """The user's ``vmap``, or a generated one."""
        if self.function.vmap is not Function.vmap:
            dims = tuple(_scatter(len(self.args), self.where, [0 if b else None for b in batched], None))
            answer = self.function.vmap(VmapInfo(size, "error"), dims, *self.fill(xs))
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise TypeError(explain(f"{self.name}.vmap must return (output, out_dims)", got=type(answer).__name__))
            result, out_dims = answer
            ys, layout = _lay_out(self.name, result)
            if layout.alone or not isinstance(out_dims, (tuple, list)):
                axes = [out_dims] * len(ys)
            else:
                axes = [d for d, o in zip(out_dims, layout.others, strict=True) if o is _TENSOR]
            front = [_to_front(y, d, size) for y, d in zip(ys, axes, strict=True)]
        elif self.function.generate_vmap_rule:
            if not self.runs_setup:
                raise MissingRuleError(f"{self.name}: generate_vmap_rule needs a staticmethod setup_context")
            mask = tuple(_scatter(len(self.args), self.where, batched, False))
            front, layout = _lay_out(self.name, _vectorized(self.function, size, mask).apply(*self.fill(xs)))
        else:
            raise MissingRuleError(
                f"the Function {self.name} cannot run under vmap\n"
                "  fix: write a staticmethod vmap(info, in_dims, *args) that returns (output, out_dims), or set\n"
                "       generate_vmap_rule = True if forward, backward and jvp use differentiable tensor functions only"
            )
        self.outputs, self.layout = len(front), layout
        self.results = [Aval(tuple(y._d.shape[1:]), y._d.dtype) for y in front]
        return front[0] if len(front) == 1 else tuple(front)


def _scatter(count: int, where: Sequence[int], values: Sequence[Any], rest: Any) -> list[Any]:
    """``count`` entries: ``values`` at the positions ``where``, ``rest`` elsewhere."""
    out = [rest] * count
    for i, v in zip(where, values, strict=True):
        out[i] = v
    return out


def _to_front(y: Tensor, axis: int | None, size: int) -> Tensor:
    if axis is None:
        return TENSORS.expand_front(y, size)  # type: ignore[no-any-return]
    rank = len(y._d.shape)
    at = normalize_axis(axis, rank)
    return TENSORS.permute(y, (at, *(i for i in range(rank) if i != at))) if at else y


def _vectorized(function: type[Function], size: int, batched: Sequence[bool]) -> type[Function]:
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
        xs = [next(saved) if a is _TENSOR else a for a in args.inputs]
        ys = args.layout.build(list(saved))
        xs = list(inside(level, xs))
        ys = level.wrap(ys) if args.layout.alone else tuple(all_in(level, ys))
        inner = FunctionCtx()
        inner.needs_input_grad = ctx.needs_input_grad
        function.setup_context(inner, tuple(xs), ys)
        tensors = [x for x in xs if isinstance(x, Tensor)]
        results = [ys] if args.layout.alone else [y for y in ys if isinstance(y, Tensor)]
        return inner._seal(tensors, results)._bound(tensors, results, forward_mode)

    class Vectorized(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args: Any) -> Any:
            level = Batch(size)
            with level:
                result = function.forward(*inside(level, args))
            return out(level, result)

        @staticmethod
        def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
            tensors, layout = _lay_out(function.__name__, output)
            ctx.call = _Saved(tuple([_TENSOR if isinstance(a, Tensor) else a for a in inputs]), layout)  # type: ignore[attr-defined]
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
    if function.jvp is Function.jvp:
        Vectorized.jvp = Function.jvp  # type: ignore[method-assign]
    return Vectorized


class _Saved(NamedTuple):
    """The arguments of a vectorized call (a marker where a tensor stood) and the layout of its result."""

    inputs: tuple[Any, ...]
    layout: _Layout


class Function:
    """Base class of operations with a derivative written by hand. Call them with ``apply``, never by making an instance.

    Either write ``forward(ctx, *args)``, or ``forward(*args)`` with ``setup_context(ctx, inputs, output)`` (needed inside
    ``func`` transforms that batch)::

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
    def apply(cls, *args: Any) -> Any:
        """Run it on ``args`` (tensors and anything else) and record it."""
        op = _Call(cls, args)
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
