"""A computation graph is recorded while ordinary Python runs: branches, loops, functions, recursion.

Each operation adds one node as it happens, so the graph is always the path that was really taken, and it can go on
growing after a gradient was asked for: even the gradient itself can become part of it.
"""

import math

from _report import Report, Row, exit_code

import chainrule as cr


def collatz_like(x: cr.Tensor, steps: int) -> cr.Tensor:
    """A loop with a branch that depends on the data: halve what is above 4, otherwise compute 3 x + 1."""
    for _ in range(steps):
        x = x / 2 if x > 4 else 3 * x + 1
    return x


def continued_fraction(x: cr.Tensor, depth: int) -> cr.Tensor:
    """x + 1 / (x + 1 / (x + ...)): one function that calls itself."""
    return x if depth == 0 else x + 1 / continued_fraction(x, depth - 1)


def slope(function, at: float) -> float:
    x = cr.tensor(at, dtype=cr.float64, requires_grad=True)
    function(x).backward()
    return x.grad.item()


def main() -> list[Row]:
    report = Report("Graphs recorded from running Python")

    # 3 -> 10 -> 5 -> 2.5 -> 8.5 takes other branches than 5 -> 2.5 -> 8.5 -> 4.25 -> 2.125.
    report.equal("branches in a loop, from 3", slope(lambda x: collatz_like(x, 4), 3.0), 3 * 0.5 * 0.5 * 3, 1e-12)
    report.equal("branches in a loop, from 5", slope(lambda x: collatz_like(x, 4), 5.0), 0.5 * 3 * 0.5 * 0.5, 1e-12)

    # y = x + 1/y' gives dy = 1 - dy'/y'^2, unrolled by hand.
    value, derivative = 1.5, 1.0
    for _ in range(12):
        value, derivative = 1.5 + 1 / value, 1 - derivative / value**2
    report.equal("a recursive function", slope(lambda x: continued_fraction(x, 12), 1.5), derivative, 1e-12)

    # Ask for a gradient, then go on building on the same nodes.
    x = cr.tensor(2.0, dtype=cr.float64, requires_grad=True)
    y = x * x
    (first,) = cr.autograd.grad(y, x, retain_graph=True)
    z = y * cr.sin(x)  # new nodes on top of the old one
    (second,) = cr.autograd.grad(z, x)
    report.equal("d(x^2)/dx at 2", first, 4.0)
    report.equal("then d(x^2 sin x)/dx", second, 4 * math.sin(2) + 4 * math.cos(2), 1e-12)

    # A gradient that was recorded is a value like any other: penalize its square.
    x = cr.tensor(2.0, dtype=cr.float64, requires_grad=True)
    y = x**3
    (gradient,) = cr.autograd.grad(y, x, create_graph=True)
    (y + gradient**2).backward()
    report.equal("d(x^3 + (dx^3/dx)^2)/dx", x.grad, 3 * 4.0 + 36 * 8.0, 1e-12)

    # Nothing is recorded where nothing is asked for.
    with cr.no_grad():
        silent = x * x
    report.equal("recorded under no_grad", silent.requires_grad, False)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
