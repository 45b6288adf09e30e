"""Reverse mode: one pass forward, one pass backward, a sum over all paths.

f(x1, x2) = ln x1 + x1 x2 - sin x2 at (2, 5), the standard small example of the subject. The backward pass is
also written out by hand here: walk the nodes in reverse topological order and add (local derivative x adjoint)
to each input.
"""

import math

from _report import Report, Row, exit_code

import chainrule as cr


def f(x1: cr.Tensor, x2: cr.Tensor) -> cr.Tensor:
    return cr.log(x1) + x1 * x2 - cr.sin(x2)


def two_passes_by_hand(x1: float, x2: float) -> tuple[float, dict[str, float]]:
    """Value and adjoints of f. Each entry is: name, value, {input: local derivative}, in topological order."""
    trace = [
        ("x1", x1, {}),
        ("x2", x2, {}),
        ("log", math.log(x1), {"x1": 1 / x1}),
        ("product", x1 * x2, {"x1": x2, "x2": x1}),
        ("sin", math.sin(x2), {"x2": math.cos(x2)}),
        ("sum", math.log(x1) + x1 * x2, {"log": 1.0, "product": 1.0}),
        ("f", math.log(x1) + x1 * x2 - math.sin(x2), {"sum": 1.0, "sin": -1.0}),
    ]
    adjoint = dict.fromkeys((name for name, _, _ in trace), 0.0)
    adjoint["f"] = 1.0
    for name, _, local in reversed(trace):
        for source, derivative in local.items():
            adjoint[source] += derivative * adjoint[name]
    return trace[-1][1], adjoint


def main() -> list[Row]:
    report = Report("Reverse mode on f = ln x1 + x1 x2 - sin x2 at (2, 5)")
    x1 = cr.tensor(2.0, dtype=cr.float64, requires_grad=True)
    x2 = cr.tensor(5.0, dtype=cr.float64, requires_grad=True)
    value = f(x1, x2)
    value.backward()
    report.equal("f", value, 11.6521, 5e-5)
    report.equal("df/dx1", x1.grad, 5.5, 5e-5)
    report.equal("df/dx2", x2.grad, 1.7163, 5e-5)
    report.equal("df/dx2 = 2 - cos 5", x2.grad, 2 - math.cos(5), 1e-12, digits=12)

    by_hand, adjoint = two_passes_by_hand(2.0, 5.0)
    report.equal("f, two passes by hand", value, by_hand, 1e-12)
    report.equal("df/dx1, two passes by hand", x1.grad, adjoint["x1"], 1e-12)
    report.equal("df/dx2, two passes by hand", x2.grad, adjoint["x2"], 1e-12)

    # Give every use of an input its own leaf, and the two paths can be seen apart.
    uses = [cr.tensor(start, dtype=cr.float64, requires_grad=True) for start in (2.0, 2.0, 5.0, 5.0)]
    in_log, in_product_1, in_product_2, in_sin = uses
    (cr.log(in_log) + in_product_1 * in_product_2 - cr.sin(in_sin)).backward()
    paths = [leaf.grad.item() for leaf in uses]
    report.equal("x1 through ln, through the product", paths[:2], [0.5, 5.0], 1e-12)
    report.equal("x2 through the product, through sin", paths[2:], [2.0, -math.cos(5)], 1e-12)
    report.equal("df/dx1, sum over the paths", sum(paths[:2]), x1.grad, 1e-12)
    report.equal("df/dx2, sum over the paths", sum(paths[2:]), x2.grad, 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
