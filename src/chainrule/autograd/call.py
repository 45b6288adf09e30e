"""One call of a Function as an op.

NOTE [one call, one op]. Every call of ``apply`` makes an unregistered general op that goes through the ordinary
``apply`` of tensors, so a Function is recorded, interpreted and differentiated like any other op. What
``save_for_backward`` keeps is noted as "input i" or "output j" where it is one: the tape saves those, checks them for
in-place writes, and hands them to ``backward`` with their history, which is what makes a second derivative right. Other
saved tensors are constants for second derivatives, unless ``setup_context`` is defined: then it runs again on the
values being differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from chainrule.autograd.context import TENSOR, FunctionCtx, Layout, Slot, lay_out, scatter
from chainrule.core.errors import GradError, MissingRuleError, describe_place, explain
from chainrule.core.shapes import normalize_axis
from chainrule.ir.interpreter import Tracer
from chainrule.ir.namespace import NUMPY
from chainrule.ir.op import Aval, General
from chainrule.ir.state import get_state, make_state, reset_state, set_state
from chainrule.tape.clock import CLOCK, owner, written_since
from chainrule.tensors.apply import up_to_date
from chainrule.tensors.fastpath import TENSORS
from chainrule.tensors.namespace import cast
from chainrule.tensors.tensor import Tensor, wrap


class VmapInfo(NamedTuple):
    """What a ``vmap`` staticmethod is told: the size of the batch, and how random draws are to behave."""

    batch_size: int
    randomness: str


@contextmanager
def _quiet() -> Any:
    """The current interpreter with grad mode off."""
    token = set_state(make_state(get_state().interpreter, False))
    try:
        yield
    finally:
        reset_state(token)


class Call(General):
    """One call of a Function as an op (see NOTE [one call, one op])."""

    kind = "function"
    arity = None
    residual = True
    keeps_output = True
    samples = ()

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
        self.function, self.name, self.doc = function, function.__name__, function.__doc__ or ""
        self.where = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        self.args = tuple([None if isinstance(a, Tensor) else a for a in args])
        self.given: tuple[Tensor, ...] | None = tuple([up_to_date(args[i]) for i in self.where])
        self.inputs = [Aval(tuple(t._d.shape), t._d.dtype) for t in self.given]
        self.needed = tuple([t._node is not None and get_state().grad for t in self.given])
        self.results: list[Aval] = []
        self.layout: Layout | None = None
        self.ctx: FunctionCtx | None = None
        self.runs_setup = function.defines("setup_context")
        self.again = False

    def fill(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of the call with these tensors in their places."""
        out = list(self.args)
        for i, t in zip(self.where, tensors, strict=True):
            out[i] = t
        return tuple(out)

    def _set_results(self, ys: Sequence[Tensor], layout: Layout) -> None:
        self.outputs, self.layout = len(ys), layout
        self.results = [Aval(tuple(y._d.shape), y._d.dtype) for y in ys]

    def kernel(self, *payloads: Any, **_: Any) -> Any:
        """Runs the user's ``forward`` without recording it."""
        given = self.given
        same = given is not None and all(t._d is p for t, p in zip(given, payloads, strict=True))
        xs = given if same and given is not None else tuple([wrap(p) for p in payloads])
        began = CLOCK.now
        with _quiet():
            ys, constants = self._forward(xs)
        self._check_unchanged(payloads, began)
        owners = {id(owner(p)) for p in payloads if type(p) is np.ndarray}
        values = []
        for y in ys:
            d = up_to_date(y).numpy_payload()
            values.append(d.copy() if id(owner(d)) in owners else d)
        return (values[0] if len(values) == 1 else tuple(values)), constants

    def expand(self, xs: tuple[Tensor, ...]) -> Any:
        """The result by the ops that ``forward`` is made of, for a level that writes ops down."""
        with _quiet():
            ys, _ = self._forward(xs)
            own = [
                y if isinstance(y._d, Tracer) and y._node is None and not any(y is x for x in xs) else TENSORS.copy(y)
                for y in ys
            ]
        return own[0] if len(own) == 1 else tuple(own)

    def _forward(self, xs: tuple[Tensor, ...]) -> tuple[list[Tensor], tuple[Any, ...]]:
        """The user's ``forward`` at the current level: its tensors, and the payloads to be watched for writes."""
        args, ctx = self.fill(xs), FunctionCtx()
        ctx.needs_input_grad = self.fill_flags(self.needed)
        result = self.function.forward(*(args if self.runs_setup else (ctx, *args)))
        ys, layout = lay_out(self.name, result)
        if self.runs_setup:
            self.function.setup_context(ctx, args, result)
        self._set_results(ys, layout)
        self.ctx = ctx.seal(xs, ys)
        return ys, self._plan(ctx, len(xs))

    def fill_flags(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """Per argument, from one flag per tensor argument."""
        return tuple([bool(f) for f in scatter(len(self.args), self.where, flags, False)])

    def _plan(self, ctx: FunctionCtx, count: int) -> tuple[Any, ...]:
        """Decide what the tape keeps; returns the payloads of other saved tensors, to be watched for writes."""
        held = (*ctx._saved, *ctx._for_jvp)
        constants = tuple([t._d for t in held if isinstance(t, Tensor)])
        self.again = self.runs_setup and any(d.dtype.kind == "f" for d in constants)
        if not self.again:
            kept = {s.index for s in held if isinstance(s, Slot) and not s.output}
            self.keeps_inputs = tuple([i in kept for i in range(count)])
            self.keeps_output = any(isinstance(s, Slot) and s.output for s in held)
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

    def context(self, xs: Sequence[Any], ys: Sequence[Any], forward_mode: bool = False) -> FunctionCtx:
        """The context of this call, with these tensors as inputs and outputs."""
        state = get_state()
        further = state.grad or state.interpreter is not None  # the derivative may itself be differentiated
        if self.ctx is not None and not (self.again and further):
            return self.ctx.bound(xs, ys, forward_mode)
        if not self.runs_setup:
            raise MissingRuleError(
                f"the Function {self.name} cannot be differentiated inside vmap: its forward saves on ctx itself\n"
                "  fix: write forward(*args) without ctx, and a staticmethod setup_context(ctx, inputs, output)"
            )
        assert self.layout is not None
        ctx = FunctionCtx()
        ctx.needs_input_grad = self.fill_flags([True] * len(xs))
        self.function.setup_context(ctx, self.fill(xs), self.layout.build(ys))
        return ctx.seal(xs, ys).bound(xs, ys, forward_mode)

    def back(self, n: Any, g: Any) -> tuple[Any, ...]:
        """The backward rule on arrays; a method, as an attribute that holds ``vjp`` would be a reference cycle."""
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
            others=tuple([o if o is TENSOR else None for o in self.layout.others])
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
        if not self.function.defines("jvp"):
            raise MissingRuleError(
                f"the Function {self.name} has no forward-mode rule: write a staticmethod jvp(ctx, *tangents) in it"
            )
        several = self.outputs > 1
        ctx = self.context(list(xs), list(y) if several else [y], True)
        if ctx._materialize:
            ts = [TENSORS.zeros(a.shape, a.dtype) if t is None else t for t, a in zip(ts, self.inputs, strict=True)]
        found = self.function.jvp(ctx, *scatter(len(self.args), self.where, ts, None))
        assert self.layout is not None
        parts = list(found) if isinstance(found, (tuple, list)) else [found]
        if not self.layout.alone:
            expected = len(self.layout.others)
            parts = [p for p, o in zip(parts, self.layout.others, strict=False) if o is TENSOR]
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
        if self.function.defines("vmap"):
            dims = tuple(scatter(len(self.args), self.where, [0 if b else None for b in batched], None))
            answer = self.function.vmap(VmapInfo(size, "error"), dims, *self.fill(xs))
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise TypeError(explain(f"{self.name}.vmap must return (output, out_dims)", got=type(answer).__name__))
            result, out_dims = answer
            ys, layout = lay_out(self.name, result)
            if layout.alone or not isinstance(out_dims, (tuple, list)):
                axes = [out_dims] * len(ys)
            else:
                axes = [d for d, o in zip(out_dims, layout.others, strict=True) if o is TENSOR]
            front = [_to_front(y, d, size) for y, d in zip(ys, axes, strict=True)]
        elif self.function.generate_vmap_rule:
            if not self.runs_setup:
                raise MissingRuleError(f"{self.name}: generate_vmap_rule needs a staticmethod setup_context")
            mask = tuple(scatter(len(self.args), self.where, batched, False))
            front, layout = lay_out(self.name, self.function.vectorized(size, mask).apply(*self.fill(xs)))
        else:
            raise MissingRuleError(
                f"the Function {self.name} cannot run under vmap\n"
                "  fix: write a staticmethod vmap(info, in_dims, *args) that returns (output, out_dims), or set\n"
                "       generate_vmap_rule = True if forward, backward and jvp use differentiable tensor functions only"
            )
        self.outputs, self.layout = len(front), layout
        self.results = [Aval(tuple(y._d.shape[1:]), y._d.dtype) for y in front]
        return front[0] if len(front) == 1 else tuple(front)


def _to_front(y: Tensor, axis: int | None, size: int) -> Tensor:
    if axis is None:
        return TENSORS.expand_front(y, size)  # type: ignore[no-any-return]
    rank = len(y._d.shape)
    at = normalize_axis(axis, rank)
    return TENSORS.permute(y, (at, *(i for i in range(rank) if i != at))) if at else y
