"""L-BFGS: a quasi-Newton method for smooth problems whose loss can be evaluated as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.errors import TracerError
from chainrule.ir.state import enable_grad, get_state, no_grad
from chainrule.optim.optimizer import Optimizer, check_options
from chainrule.tensors.tensor import Tensor, wrap

__all__ = ["LBFGS"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Point:
    """A point on the search line: step ``t``, loss ``f``, gradient ``g`` and slope ``g . d`` along the line."""

    t: float
    f: float
    g: Array
    slope: float


class LBFGS(Optimizer):
    r"""L-BFGS: steps along ``-H g``, with the inverse Hessian ``H`` estimated from the last steps and gradients.

    In every iteration, with ``s = p_k - p_(k-1)`` and ``y = g_k - g_(k-1)`` of up to ``history_size`` iterations back::

        q = g;  for the pairs, newest first:  a_i = s_i . q / (s_i . y_i);  q = q - a_i * y_i
        q = q * (s . y) / (y . y) of the newest pair
        for the pairs, oldest first:  q = q + s_i * (a_i - y_i . q / (s_i . y_i))
        p = p - t * q

    where ``t`` is ``lr``, at first at most ``lr / sum|g|``; or the result of a line search that starts from there.

    Args:
        params: parameters; one group only, since all of them move along one line.
        lr: length of a step in units of the quasi-Newton step.
        max_iter: iterations per call of ``step``.
        max_eval: evaluations of the closure per call of ``step``; 1.25 times max_iter unless given.
        tolerance_grad: done when no entry of the gradient is larger.
        tolerance_change: done when neither parameters nor loss change by more.
        history_size: number of pairs that are kept, each as large as all parameters.
        line_search_fn: None or ``"strong_wolfe"``.

    Raises:
        ValueError: more than one group, an option out of range, or an unknown line search.

    Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4, 3.5 and 3.6.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )

    def check_group(self, group: dict[str, Any]) -> None:
        if self.param_groups:
            raise ValueError("LBFGS takes one parameter group only: all parameters move along one line")
        check_options("LBFGS", group, "lr", "tolerance_grad", "tolerance_change", positive=("history_size",))
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(f"LBFGS: line_search_fn must be None or 'strong_wolfe', got {group['line_search_fn']!r}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to ``max_iter`` iterations; returns the loss before the first of them.

        Args:
            closure: clears the gradients, computes the loss, calls ``backward`` and returns the loss. It is called many
                times and must compute the same function each time (the same batch, no dropout).
        """
        if closure is None:
            raise TypeError("LBFGS.step needs a closure that computes the loss anew: optimizer.step(closure)")
        if get_state().interpreter is not None:
            raise TracerError("LBFGS decides by values how often to evaluate the loss, so its step cannot be traced")
        self._stepped = True
        with no_grad():
            return self._iterate(closure)

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, state = float(group["lr"]), self.state[group["params"][0]]
        first, f = self._evaluate(closure)
        g, evaluations = self._gradient(), 1
        state["func_evals"] = state.get("func_evals", 0) + 1
        if _largest(g) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] = state.get("n_iter", 0) + 1
            d = self._direction(state, g, group["history_size"])
            t = lr if state["n_iter"] > 1 else min(1.0, 1.0 / float(np.abs(g).sum())) * lr
            slope, old_f = float(g @ d), f
            state["prev_flat_grad"], state["prev_loss"], state["d"], state["t"] = wrap(g), f, wrap(d), t
            if slope > -group["tolerance_change"]:
                break
            used = 0
            if group["line_search_fn"] is not None:
                start = self._parameters()

                def evaluate(t: float, d: Array = d, start: Array = start) -> Point:
                    self._move_to(start + t * d)
                    _, f = self._evaluate(closure)
                    g = self._gradient()
                    return Point(t, f, g, float(g @ d))

                best, used = strong_wolfe(evaluate, Point(0.0, f, g, slope), t, d, group["tolerance_change"])
                self._move_to(start + best.t * d)
                f, g, t = best.f, best.g, best.t
                state["t"] = t
            else:
                self._move_to(self._parameters() + t * d)
                if iteration < group["max_iter"]:
                    _, f = self._evaluate(closure)
                    g, used = self._gradient(), 1
            evaluations += used
            state["func_evals"] += used
            if (
                evaluations >= group["max_eval"]
                or _largest(g) <= group["tolerance_grad"]
                or _largest(d * t) <= group["tolerance_change"]
                or (used and abs(f - old_f) < group["tolerance_change"])
            ):
                break
        return first

    def _direction(self, state: dict[str, Any], g: Array, history_size: int) -> Array:
        """The quasi-Newton direction, after taking the last step into the history."""
        if "prev_flat_grad" not in state:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -g
        y, s = g - state["prev_flat_grad"]._d, state["d"]._d * g.dtype.type(state["t"])
        ys = float(y @ s)
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        if ys > 1e-10:
            if len(changes) == history_size:
                del changes[0], steps[0], ro[0]
            changes.append(wrap(y))
            steps.append(wrap(s))
            ro.append(1.0 / ys)
            state["H_diag"] = ys / float(y @ y)
        q, shares = -g, []
        for y, s, r in zip(reversed(changes), reversed(steps), reversed(ro), strict=True):
            shares.append(float(s._d @ q) * r)
            q = q - shares[-1] * y._d
        q = q * state["H_diag"]
        for y, s, r, share in zip(changes, steps, ro, reversed(shares), strict=True):
            q = q + (share - float(y._d @ q) * r) * s._d
        return q

    @staticmethod
    def _evaluate(closure: Callable[[], Any]) -> tuple[Any, float]:
        with enable_grad():
            loss = closure()
        return loss, float(loss)

    def _gradient(self) -> Array:
        parts = []
        for p in self.param_groups[0]["params"]:
            g = np.zeros(tuple(p.shape), p.dtype.numpy) if p.grad is None else p.grad.numpy()
            parts.append(g.reshape(-1))
        return np.concatenate(parts)

    def _parameters(self) -> Array:
        return np.concatenate([p.detach().numpy().reshape(-1) for p in self.param_groups[0]["params"]])

    def _move_to(self, flat: Array) -> None:
        offset = 0
        for p in self.param_groups[0]["params"]:
            size = math.prod(p.shape)
            p.copy_(wrap(flat[offset : offset + size].reshape(tuple(p.shape))))
            offset += size


def _largest(x: Array) -> float:
    return float(np.abs(x).max())


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """The minimum, within [low, high], of the cubic through the losses and slopes at ``a`` and ``b``."""
    if a.t > b.t:
        a, b = b, a
    k = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = k * k - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    root = math.sqrt(square)
    t = b.t - (b.t - a.t) * ((b.slope + root - k) / (b.slope - a.slope + 2 * root))
    return min(max(t, low), high)


def strong_wolfe(
    evaluate: Callable[[float], Point], start: Point, t: float, d: Array, tolerance: float, most: int = 25
) -> tuple[Point, int]:
    """A point with enough decrease, ``f <= f0 + c1 t slope0``, and a flat slope, ``|slope| <= c2 |slope0|``.

    First the step grows until such points must lie between two others, then the bracket shrinks around them; steps are
    chosen by cubic interpolation. ``c1 = 1e-4`` and ``c2 = 0.9``.

    Returns:
        The best point found and the number of evaluations.
    """

    def too_high(x: Point) -> bool:
        return x.f > start.f + 1e-4 * x.t * start.slope

    def flat(x: Point) -> bool:
        return abs(x.slope) <= -0.9 * start.slope

    last, new, count = start, evaluate(t), 0
    while True:
        if count == most:
            last = start
            break
        if too_high(new) or (count > 1 and new.f >= last.f):
            break
        if flat(new):
            return new, count + 1
        if new.slope >= 0:
            break
        t = cubic_minimum(last, new, new.t + 0.01 * (new.t - last.t), 10 * new.t)
        last, new, count = new, evaluate(t), count + 1
    best, other = (last, new) if last.f <= new.f else (new, last)
    stuck, width = False, _largest(d)
    while count < most and abs(best.t - other.t) * width >= tolerance:
        low, high = min(best.t, other.t), max(best.t, other.t)
        t = cubic_minimum(best, other, low, high)
        margin = 0.1 * (high - low)
        near = min(high - t, t - low) < margin
        if near and (stuck or t >= high or t <= low):  # twice in a row close to an end: move away from it
            t = high - margin if abs(t - high) < abs(t - low) else low + margin
            stuck = False
        else:
            stuck = near
        new, count = evaluate(t), count + 1
        if too_high(new) or new.f >= best.f:
            best, other = (best, new) if best.f <= new.f else (new, best)
            continue
        if flat(new):
            return new, count + 1
        best, other = new, (best if new.slope * (other.t - best.t) >= 0 else other)
    return best, count + 1
