"""Checks of derivatives against differences of function values.

For each input x and output y, the Jacobian by reverse mode (one pass per output element), by forward mode (one per
input element), and by central differences (f(x + h e) - f(x - h e)) / 2h, whose error is O(h^2) from the truncated
series plus O(u/h) from rounding with unit u (Press et al., "Numerical Recipes", 5.7). No single h suits every function,
so several are tried and an entry passes if one of them agrees. Large inputs are checked along random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import MissingRuleError, explain
from chainrule.func.forward import jvp
from chainrule.func.reverse import vjp
from chainrule.ir.state import no_grad
from chainrule.tape.node import Leaf
from chainrule.tensors.backward import run
from chainrule.tensors.tensor import Tensor, wrap

#: steps tried in turn, relative to max(1, |x|)
STEPS = (1e-5, 1e-4, 1e-6, 1e-3)
#: more input elements than this are checked along random directions
FULL = 400
DIRECTIONS = 6

Array = np.ndarray[Any, Any]


class GradcheckError(RuntimeError):
    """A derivative that differs from the differences of the function's values."""


class _Problem:
    """A function of float64 arrays, made of the user's function and inputs."""

    def __init__(self, func: Callable[..., Any], inputs: Any) -> None:
        self.func = func
        given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        self.args = [self._double(a) for a in given]
        self.checked = [
            i for i, a in enumerate(given) if isinstance(a, Tensor) and a._node is not None and a._d.dtype.kind == "f"
        ]
        if not self.checked:
            raise ValueError(
                explain(
                    "gradcheck needs an input that requires a gradient, and there is none",
                    fix="make the inputs to be checked with requires_grad=True",
                )
            )
        self.points = [np.array(self.args[i]._d) for i in self.checked]
        with no_grad():
            self.values = self.evaluate(self.points)
            self.again = self.evaluate(self.points)
        self.last_op = ""

    @staticmethod
    def _double(a: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        d = np.array(a.numpy(force=True))
        return wrap(d.astype(np.float64) if d.dtype.kind == "f" else d)

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The floating outputs of the user's function at these inputs."""
        args = list(self.args)
        for i, t in zip(self.checked, tensors, strict=True):
            args[i] = t
        result = self.func(*args)
        found = list(result) if isinstance(result, (tuple, list)) else [result]
        outputs = [y for y in found if isinstance(y, Tensor) and y._d.dtype.kind == "f"]
        if not outputs:
            raise ValueError(explain("gradcheck: the function returned no floating tensor", got=repr(result)[:80]))
        return outputs

    def evaluate(self, points: Sequence[Array]) -> list[Array]:
        """The outputs as float64 arrays of their own."""
        return [np.array(y.numpy(force=True), np.float64) for y in self.call([wrap(p.copy()) for p in points])]

    def name(self) -> str:
        """The function, and the op that made its first output."""
        leaves = [wrap(p.copy(), Leaf()) for p in self.points]
        node = self.call(leaves)[0]._node
        op = "" if node is None or isinstance(node, Leaf) else f" (last op: {node.name()}, {node.where()})"
        called = getattr(self.func, "__qualname__", None) or type(self.func).__name__
        return f"{called}{op}"


class _Slices(NamedTuple):
    """Directions in the input space: one array of shape (directions, *input shape) per checked input."""

    arrays: list[Array]
    full: bool


def _directions(points: Sequence[Array], fast: bool, rng: np.random.Generator) -> _Slices:
    total = sum(p.size for p in points)
    if fast or total > FULL:
        rows = [rng.standard_normal((DIRECTIONS, *p.shape)) for p in points]
        norm = np.sqrt(sum((r.reshape(DIRECTIONS, -1) ** 2).sum(1) for r in rows))
        return _Slices([r / norm.reshape(-1, *(1,) * (r.ndim - 1)) for r in rows], False)
    eye = np.eye(total)
    cuts = np.cumsum([0, *(p.size for p in points)])
    return _Slices(
        [eye[:, a:b].reshape(total, *p.shape) for p, a, b in zip(points, cuts[:-1], cuts[1:], strict=True)], True
    )


def _differences(problem: _Problem, dirs: _Slices, step: float) -> list[Array]:
    """Per output, (directions, *output shape): central differences along each direction."""
    rows = []
    for k in range(len(dirs.arrays[0])):
        ds = [d[k] for d in dirs.arrays]
        reach = max(
            (float(np.abs(p[d != 0]).max()) for p, d in zip(problem.points, ds, strict=True) if d.any()), default=1
        )
        h = step * max(1.0, reach)
        with no_grad():
            up = problem.evaluate([p + h * d for p, d in zip(problem.points, ds, strict=True)])
            down = problem.evaluate([p - h * d for p, d in zip(problem.points, ds, strict=True)])
        rows.append([(a - b) / (2 * h) for a, b in zip(up, down, strict=True)])
    return [np.stack([row[j] for row in rows]) for j in range(len(problem.values))]


def _reverse(problem: _Problem, dirs: _Slices) -> list[Array]:
    """The same by reverse mode: every row of every Jacobian, then its product with the directions."""
    leaves = [wrap(p.copy(), Leaf()) for p in problem.points]
    outputs = problem.call(leaves)
    found = []
    for y in outputs:
        rows = np.zeros((int(np.prod(y._d.shape)), len(dirs.arrays[0])))
        for i in range(len(rows)):
            if y._node is None:
                break
            seed = np.zeros(y._d.shape)
            seed.reshape(-1)[i] = 1
            want: dict[Any, Any] = {leaf._node: None for leaf in leaves}
            run([y], [wrap(seed)], want, True, False, False)
            for leaf, d in zip(leaves, dirs.arrays, strict=True):
                g = want[leaf._node]
                if g is not None:
                    rows[i] += d.reshape(len(d), -1) @ g._d.reshape(-1)
        found.append(rows.T.reshape(len(dirs.arrays[0]), *y._d.shape))
    return found


def _forward(problem: _Problem, dirs: _Slices) -> list[Array]:
    """The same by forward mode."""
    rows = []
    for k in range(len(dirs.arrays[0])):
        tangents = tuple(wrap(d[k].copy()) for d in dirs.arrays)
        primals = tuple(wrap(p.copy()) for p in problem.points)
        _, ts = jvp(lambda *xs: tuple(problem.call(xs)), primals, tangents)
        rows.append([np.array(t.numpy(force=True), np.float64) for t in ts])
    return [np.stack([row[j] for row in rows]) for j in range(len(problem.values))]


def _compare(
    problem: _Problem, dirs: _Slices, modes: dict[str, list[Array]], steps: Sequence[float], atol: float, rtol: float
) -> str | None:
    """The report of the worst entry, or None if every entry agrees with one of the steps."""
    best: dict[str, list[Any]] = {}
    for step in steps:
        numeric = _differences(problem, dirs, step)
        for mode, analytic in modes.items():
            for j, (a, b) in enumerate(zip(analytic, numeric, strict=True)):
                with np.errstate(invalid="ignore"):
                    excess = np.abs(a - b) - (atol + rtol * np.abs(b))
                excess = np.where(np.isnan(excess), np.inf, excess)
                excess = np.where((a == b) | (np.isnan(a) & np.isnan(b)), -1.0, excess)
                held = best.setdefault(mode, [None] * len(analytic))
                if held[j] is None:
                    held[j] = [excess, np.array(b), np.full(b.shape, step)]
                else:
                    closer = excess < held[j][0]
                    for k, new in enumerate((excess, b, np.full(b.shape, step))):
                        held[j][k] = np.where(closer, new, held[j][k])
        if all((h[0] <= 0).all() for held in best.values() for h in held):
            return None
    worst: tuple[float, str, int, int] | None = None
    for mode, held in best.items():
        for j, h in enumerate(held):
            if h[0].size and float(h[0].max()) > (0.0 if worst is None else worst[0]):
                worst = (float(h[0].max()), mode, j, int(h[0].argmax()))
    assert worst is not None
    _, mode, j, flat = worst
    excess, numeric_j, used = best[mode][j]
    at = np.unravel_index(flat, excess.shape)
    where = tuple(int(i) for i in at[1:])
    wrong = sum(int((h[0] > 0).sum()) for h in best[mode])
    return "\n".join(
        [
            f"the {mode}-mode derivative of {problem.name()} differs from finite differences",
            f"  worst entry:  d output {j}{list(where)} / d {_input_entry(problem, dirs, int(at[0]))}",
            f"  {mode + ' mode:':13} {modes[mode][j][at]:.10g}",
            f"  differences:  {numeric_j[at]:.10g} (step {used[at]:g})",
            f"  tolerance:    atol={atol:g}, rtol={rtol:g}; {wrong} entries differ",
            f"  inputs:       {', '.join(f'shape {p.shape}' for p in problem.points)}",
            f"  outputs:      {', '.join(f'shape {v.shape}' for v in problem.values)}",
        ]
    )


def _input_entry(problem: _Problem, dirs: _Slices, k: int) -> str:
    if not dirs.full:
        return f"random direction {k}"
    for i, p in zip(problem.checked, problem.points, strict=True):
        if k < p.size:
            return f"input {i}{[int(v) for v in np.unravel_index(k, p.shape)] if p.shape else []}"
        k -= p.size
    raise AssertionError("a direction beyond the last input")


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_forward_ad: bool | None = None,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether the derivatives of ``func`` agree with differences of its values.

    Inputs are copied to float64 first, so ordinary float32 tensors may be given. Those that require a gradient are
    checked. Jacobians are compared in full for up to 400 input elements, along random directions beyond that or with
    ``fast_mode``.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments, a tensor or a tuple.
        eps: the one step to use, in place of several.
        atol, rtol: an entry passes if |analytic - numeric| <= atol + rtol |numeric| for one of the steps.
        raise_exception: raise on failure, otherwise return False.
        nondet_tol: how far two evaluations at the same point may differ.
        check_forward_ad: check forward mode; None: if every op used has a forward rule.
        check_backward_ad: check reverse mode.
        fast_mode: random directions, for any size.

    Raises:
        GradcheckError: naming the function, the worst entry with its index and both values, and the shapes.
        ValueError: if no input requires a gradient.
    """
    problem = _Problem(func, inputs)
    message = _failure(problem, eps, atol, rtol, nondet_tol, check_forward_ad, check_backward_ad, fast_mode)
    if message is None:
        return True
    if raise_exception:
        raise GradcheckError(message)
    return False


def _failure(
    problem: _Problem,
    eps: float | None,
    atol: float,
    rtol: float,
    nondet_tol: float,
    forward: bool | None,
    backward: bool,
    fast: bool,
) -> str | None:
    for j, (a, b) in enumerate(zip(problem.values, problem.again, strict=True)):
        if a.shape != b.shape or (
            a.size and not (np.abs(a - b) <= nondet_tol).all() and not np.array_equal(a, b, True)
        ):
            return (
                f"{problem.name()} is not deterministic: output {j} differs between two calls at the same point\n"
                "  fix: seed random draws inside the function, or pass nondet_tol"
            )
    dirs = _directions(problem.points, fast, np.random.default_rng(0))
    modes: dict[str, list[Array]] = {}
    if backward:
        modes["reverse"] = _reverse(problem, dirs)
    if forward is not False:
        try:
            modes["forward"] = _forward(problem, dirs)
        except MissingRuleError:
            if forward:
                raise
    return _compare(problem, dirs, modes, STEPS if eps is None else (eps,), atol, rtol) if modes else None


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float | None = None,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_fwd_over_rev: bool | None = None,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether the second derivatives of ``func`` agree with differences of its first ones.

    :func:`gradcheck` of the function (inputs, v) -> v^T J, reverse over reverse and forward over reverse.

    Args:
        grad_outputs: v, one tensor per output; random numbers if left out.

    Raises:
        GradcheckError: as :func:`gradcheck`.
    """
    problem = _Problem(func, inputs)
    count = len(problem.checked)
    if grad_outputs is None:
        rng = np.random.default_rng(1)
        vs = [wrap(rng.standard_normal(v.shape), Leaf()) for v in problem.values]
    else:
        vs = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
        vs = [wrap(np.array(v.numpy(force=True), np.float64), Leaf()) for v in vs]

    def pulled(*args: Tensor) -> tuple[Tensor, ...]:
        _, pull = vjp(lambda *xs: tuple(problem.call(xs)), *args[:count])
        return pull(tuple(args[count:]))  # type: ignore[no-any-return]

    pulled.__qualname__ = f"the gradient of {getattr(func, '__qualname__', type(func).__name__)}"
    points = [wrap(p.copy(), Leaf()) for p in problem.points]
    return gradcheck(
        pulled,
        (*points, *vs),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
    )
