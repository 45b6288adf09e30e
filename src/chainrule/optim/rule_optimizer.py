"""Optimizers given by one pure update rule; everything around the rule is written here, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from chainrule.core.errors import user_place
from chainrule.ir.interpreter import Interpreter
from chainrule.ir.state import get_state, make_state, reset_state, set_state
from chainrule.optim.native import NativeSteps, address
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.program import compile_rule
from chainrule.tape.clock import stamp
from chainrule.tensors.apply import constant
from chainrule.tensors.namespace import TENSORS, cast
from chainrule.tensors.tensor import Tensor, wrap

__all__ = ["RuleOptimizer"]

Group = dict[str, Any]
Options = frozenset[str]


class ScalarMath:
    """The math namespace for Python numbers. Powers go through NumPy so that they round as those of tensors do."""

    sqrt = staticmethod(math.sqrt)

    @staticmethod
    def pow(x: float, y: float) -> float:
        return float(np.power(x, y))

    @staticmethod
    def maximum(x: float, y: float) -> float:
        return max(x, y)

    @staticmethod
    def where(condition: bool, x: float, y: float) -> float:
        return x if condition else y


class RuleOptimizer(Optimizer):
    """An optimizer whose update is the pure function ``rule``.

    A subclass gives:

    - ``hyper``: names of the numbers in a group that the rule needs; ``beta1`` and ``beta2`` are the two of ``betas``.
    - ``switches``: names of group values that choose between variants of the rule; the true ones are its ``options``.
    - ``scalars(options)``: names of the counters kept per parameter; ``step`` counts by itself.
    - ``slots(options)``: names of the state arrays, each of the parameter's shape.
    - ``initial(name, group)``: what a counter or state array is filled with at first; 0 unless defined.
    - ``coefficients(m, s, h, options)``: from counters ``s`` (already advanced) and numbers ``h`` everything that does
      not depend on the arrays. Entries named like a scalar are its new value.
    - ``rule(m, p, g, s, c, options)``: the new parameter and a dictionary of the new state arrays, elementwise.

    The last two use operators and ``m.sqrt, m.abs, m.maximum, m.where, m.pow`` only, so the same text computes on NumPy
    arrays in place (:mod:`chainrule.optim.program`), and on tensors, which is how a training step is captured.
    """

    hyper: ClassVar[tuple[str, ...]] = ("lr",)
    switches: ClassVar[tuple[str, ...]] = ("maximize", "weight_decay")
    _native: NativeSteps | None = None

    @staticmethod
    def scalars(options: Options) -> tuple[str, ...]:
        """Names of the counters."""
        return ("step",)

    @staticmethod
    def slots(options: Options) -> tuple[str, ...]:
        """Names of the state arrays."""
        return ()

    @staticmethod
    def coefficients(m: Any, s: Mapping[str, Any], h: Mapping[str, Any], options: Options) -> dict[str, Any]:
        """Scalars of this step."""
        raise NotImplementedError("an optimizer made of a rule must define coefficients(m, s, h, options)")

    @staticmethod
    def rule(
        m: Any, p: Any, g: Any, s: Mapping[str, Any], c: Mapping[str, Any], options: Options
    ) -> tuple[Any, dict[str, Any]]:
        """New parameter and new state arrays."""
        raise NotImplementedError("an optimizer made of a rule must define rule(m, p, g, s, c, options)")

    def initial(self, name: str, group: Group) -> float:
        """What the counter or state array ``name`` is filled with before the first step."""
        return 0.0

    def check_group(self, group: Group) -> None:
        if group.get("differentiable"):
            raise ValueError(
                f"{type(self).__name__}: differentiable=True is not supported; to differentiate through an update, "
                "write it with tensors: new = p - lr * grad"
            )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: computes the loss anew (with gradients), calls ``backward`` and returns the loss; optional.

        Returns:
            The loss that ``closure`` returned, or None.
        """
        loss = self._loss_of(closure)
        interpreter = get_state().interpreter
        native = interpreter is None and self._native_steps().wanted(self._sizes)
        token = set_state(make_state(interpreter, False))  # as no_grad(), which takes a microsecond more
        try:
            with np.errstate(all="ignore"):
                for group in self.param_groups:
                    options = frozenset([name for name in self.switches if group[name]])
                    if native and self._step_native(group, options):
                        continue
                    if interpreter is None:
                        self._step_arrays(group, options)
                    else:
                        for p in group["params"]:
                            if p.grad is not None:
                                self._step_tensor(p, group, options, interpreter)
        finally:
            reset_state(token)
        return loss

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """Of every parameter: its elements, and how many state arrays it has."""
        for group in self.param_groups:
            slots = len(self.slots(frozenset([name for name in self.switches if group[name]])))
            yield from ((p._d.size, slots) for p in group["params"])

    def _native_steps(self) -> NativeSteps:
        if self._native is None:
            self._native = NativeSteps()
        return self._native

    def _step_native(self, group: Group, options: Options) -> bool:
        """A group as one call of machine code (NOTE [native updates]); False if that does not cover its parameters."""
        slots, scalars = self.slots(options), self.scalars(options)
        found = [(p, g) for p in group["params"] if (g := p.grad) is not None]
        if not found:
            return True
        params, names, native = [p for p, _ in found], (*slots, *scalars), self._native_steps()
        states = [self.state[p] for p in params] if names else []
        if not all(s.keys() >= {*names} for s in states):  # the first step of some of them
            return False
        rows = native.rows(group, params, [[s[name] for name in names] for s in states], len(slots))
        counts = None if rows is None else rows.counts()
        if rows is None or counts is None or not rows.point([g._d for _, g in found]):
            return False
        h = {name: _float(group, name) for name in self.hyper}
        c, after = self._numbers(dict(zip(scalars, counts, strict=True)), h, scalars, options)
        run = native.code(self.rule, slots, tuple(c), options, rows)
        numbers = np.array(list(c.values()), rows.dtype)
        run(address(rows.table), len(params), address(numbers))
        rows.written([after[name] for name in scalars], user_place())
        return True

    def _numbers(
        self, s: dict[str, float], h: dict[str, float], scalars: tuple[str, ...], options: Options
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The coefficients of this step and the new counters, from the old ones."""
        if "step" in s:
            s["step"] += 1
        c = self.coefficients(ScalarMath, s, h, options)
        return c, {name: c.pop(name, s[name]) for name in scalars}

    def _step_arrays(self, group: Group, options: Options) -> None:
        """Eager mode: NumPy on raw arrays, in place."""
        slots, scalars, place = self.slots(options), self.scalars(options), user_place()
        needed = {*slots, *scalars}
        h = {name: _float(group, name) for name in self.hyper}
        known: dict[Any, tuple[Any, tuple[np.ndarray[Any, Any], ...], dict[str, Any]]] = {}
        for p in group["params"]:
            gradient = p.grad
            if gradient is None:
                continue
            value, view = p._d, p._view
            if needed:
                state = self.state[p]
                if not needed <= state.keys():
                    self._fill_state(p, state, group, options)
                slot_arrays = [state[name]._d for name in slots]
                counters = [state[name]._d for name in scalars]
                key = (value.dtype, *[c.item() for c in counters])
            else:
                slot_arrays = counters = []
                key = (value.dtype,)
            is_view = view is not None and view.parent is not None
            if is_view or type(value) is not np.ndarray or not value.flags.writeable:
                self._step_tensor(p, group, options, None)  # copy_ knows what to do, or raises
                continue
            made = known.get(key)
            if made is None:
                c, after = self._numbers(dict(zip(scalars, key[1:], strict=True)), h, scalars, options)
                program = compile_rule(self.rule, slots, tuple(c), options)
                made = known[key] = program, tuple([np.array(x, value.dtype) for x in c.values()]), after
            program, coefficients, after = made
            program((value, gradient._d, *slot_arrays), coefficients)
            if counters:
                for name, counter in zip(scalars, counters, strict=True):
                    counter[...] = after[name]
            stamp(value, place)
            if view is not None:
                view.generation += 1

    def _step_tensor(self, p: Tensor, group: Group, options: Options, interpreter: Interpreter | None) -> None:
        """Under an interpreter: the same rule on tensors, its numbers inputs of the program that is captured."""
        slots, scalars = self.slots(options), self.scalars(options)
        state = self.state[p] if slots or scalars else {}
        self._fill_state(p, state, group, options)
        h: dict[str, Any] = {}
        for name in self.hyper:
            value = number(group, name)
            if interpreter is not None and not isinstance(value, Tensor):
                value = interpreter.scalar(partial(_float, group, name))
            h[name] = value if isinstance(value, Tensor) else constant(value, np.float64)
        s: dict[str, Any] = {name: state[name] for name in scalars}
        if "step" in s:
            s["step"] = s["step"] + 1
        c = self.coefficients(TENSORS, s, h, options)
        for name in scalars:
            state[name].copy_(c.pop(name, s[name]))
        c = {name: cast(x, p._d.dtype) for name, x in c.items()}
        new_p, new_state = self.rule(TENSORS, p, p.grad, {name: state[name] for name in slots}, c, options)
        p.copy_(new_p)
        for name, new in new_state.items():
            state[name].copy_(new)

    def _fill_state(self, p: Tensor, state: dict[str, Any], group: Group, options: Options) -> None:
        """Creates the state that is missing, as plain tensors outside of any interpreter."""
        for name in self.scalars(options):
            if name not in state:
                state[name] = wrap(np.array(self.initial(name, group), np.float64))
        for name in self.slots(options):
            if name not in state:
                state[name] = wrap(np.full(tuple(p.shape), self.initial(name, group), p.dtype.numpy))

    def init_state(self) -> None:
        """Creates the state of every parameter now instead of at its first step."""
        for group in self.param_groups:
            options = frozenset([name for name in self.switches if group[name]])
            for p in group["params"] if self.slots(options) or self.scalars(options) else ():
                self._fill_state(p, self.state[p], group, options)


def number(group: Group, name: str) -> Any:
    """A number of a parameter group by its name in a rule."""
    if name in ("beta1", "beta2"):
        return group["betas"][name == "beta2"]
    return group[name]


def _float(group: Group, name: str) -> float:
    return float(number(group, name))
