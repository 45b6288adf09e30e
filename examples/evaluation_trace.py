"""The evaluation trace: every intermediate value of a function with its tangents and its adjoint.

f = ln x1 + x1 x2 - sin x2 at (2, 5). Forward mode fills the tangent columns from the top down, one column per
input; reverse mode fills the adjoint column from the bottom up, once for all inputs.
"""

import math

from _report import Report, Row, exit_code, print_table

import chainrule as cr
from chainrule.func import jvp

FORMULAS = ("x1", "x2", "ln v1", "v1 v2", "sin v2", "v3 + v4", "v6 - v5")


def trace(x1: cr.Tensor, x2: cr.Tensor) -> tuple[cr.Tensor, ...]:
    """All the values v1 ... v7 that f goes through, its inputs first and its result last."""
    logarithm = cr.log(x1)
    product = x1 * x2
    sine = cr.sin(x2)
    total = logarithm + product
    return x1, x2, logarithm, product, sine, total, total - sine


def adjoints(x1: float, x2: float) -> list[float]:
    """df/dv of every intermediate v, from one backward pass."""
    inputs = [cr.tensor(value, dtype=cr.float64, requires_grad=True) for value in (x1, x2)]
    values = trace(*inputs)
    for value in values:
        value.retain_grad()
    values[-1].backward()
    return [value.grad.item() for value in values]


def main() -> list[Row]:
    report = Report("Evaluation trace of f = ln x1 + x1 x2 - sin x2 at (2, 5)")
    point = (cr.tensor(2.0, dtype=cr.float64), cr.tensor(5.0, dtype=cr.float64))
    one, zero = cr.tensor(1.0, dtype=cr.float64), cr.tensor(0.0, dtype=cr.float64)
    primal, tangent_1 = jvp(trace, point, (one, zero))
    _, tangent_2 = jvp(trace, point, (zero, one))
    adjoint = adjoints(2.0, 5.0)

    lines = []
    for index, formula in enumerate(FORMULAS):
        numbers = (primal[index].item(), tangent_1[index].item(), tangent_2[index].item(), adjoint[index])
        lines.append((f"v{index + 1}", formula, *(f"{number:9.4f}" for number in numbers)))
    print_table(("", "formula", "primal", "tangent, x1", "tangent, x2", "adjoint"), lines)

    ln2, sin5, cos5 = math.log(2), math.sin(5), math.cos(5)
    expected = {  # primal, tangent for x1, tangent for x2, adjoint
        "x1": (2, 1, 0, 5.5),
        "x2": (5, 0, 1, 2 - cos5),
        "ln v1": (ln2, 0.5, 0, 1),
        "v1 v2": (10, 5, 2, 1),
        "sin v2": (sin5, 0, cos5, -1),
        "v3 + v4": (ln2 + 10, 5.5, 2, 1),
        "v6 - v5": (ln2 + 10 - sin5, 5.5, 2 - cos5, 1),
    }
    for index, formula in enumerate(FORMULAS):
        row = [primal[index].item(), tangent_1[index].item(), tangent_2[index].item(), adjoint[index]]
        report.equal(f"v{index + 1} = {formula}", row, list(expected[formula]), 1e-12, digits=5)
    report.equal("f to the digits given", primal[-1], 11.6521, 5e-5)
    report.equal("df/dx1: both modes agree", tangent_1[-1], adjoint[0], 1e-12)
    report.equal("df/dx2: both modes agree", tangent_2[-1], adjoint[1], 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
