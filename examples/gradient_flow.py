"""Primitive operations and what they do to a gradient: downstream = local derivative x upstream gradient.

Addition hands its gradient to both inputs, multiplication swaps the inputs, max lets it through to the selected input
alone, and a value used twice receives the sum over both paths.
"""

import math

from _report import Report, Row, exit_code

import chainrule as cr

LOCAL_DERIVATIVES = [  # name, operation, derivative by the rules of calculus
    ("exp", cr.exp, math.exp),
    ("log", cr.log, lambda x: 1 / x),
    ("sin", cr.sin, math.cos),
    ("cos", cr.cos, lambda x: -math.sin(x)),
    ("sqrt", cr.sqrt, lambda x: 0.5 / math.sqrt(x)),
    ("tanh", cr.tanh, lambda x: 1 - math.tanh(x) ** 2),
    ("sigmoid", cr.sigmoid, lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2),
    ("reciprocal", cr.reciprocal, lambda x: -1 / x**2),
    ("x^3", lambda x: x**3, lambda x: 3 * x**2),
    ("|x|", cr.abs, lambda x: math.copysign(1, x)),
]


def gradients(function, *values: float, upstream: float = 1.0) -> list[float]:
    """Gradients of `function` at `values` when `upstream` arrives from above."""
    inputs = [cr.tensor(value, dtype=cr.float64, requires_grad=True) for value in values]
    output = function(*inputs)
    output.backward(cr.tensor(upstream, dtype=cr.float64))
    return [leaf.grad.item() for leaf in inputs]


def main() -> list[Row]:
    report = Report("Local derivatives and how gradients flow (an upstream gradient of 3 arrives at each operation)")

    for name, operation, derivative in LOCAL_DERIVATIVES:
        (downstream,) = gradients(operation, 0.7, upstream=3.0)
        report.equal(f"{name} at 0.7: local x 3", downstream, derivative(0.7) * 3.0, 1e-12)

    report.equal("x + y distributes", gradients(lambda x, y: x + y, 2.0, 5.0, upstream=3.0), [3.0, 3.0])
    report.equal("x - y distributes with the sign", gradients(lambda x, y: x - y, 2.0, 5.0, upstream=3.0), [3.0, -3.0])
    report.equal("x * y switches (at 2, 5)", gradients(lambda x, y: x * y, 2.0, 5.0, upstream=3.0), [15.0, 6.0])
    report.equal("max(5, 1) selects", gradients(cr.maximum, 5.0, 1.0), [1.0, 0.0])
    report.equal("min(5, 1) selects", gradients(cr.minimum, 5.0, 1.0), [0.0, 1.0])
    report.equal("max(2, 2): a tie is shared", gradients(cr.maximum, 2.0, 2.0), [0.5, 0.5])

    # x reaches the output on two paths; its gradient is the sum of what each path brings.
    report.equal("x * x + sin x: sum over paths", gradients(lambda x: x * x + cr.sin(x), 2.0), [4 + math.cos(2)], 1e-12)

    # A chain, seen from inside: each stage multiplies its local derivative onto what comes from above.
    x = cr.tensor(0.5, dtype=cr.float64, requires_grad=True)
    q = x * 3
    z = cr.tanh(q)
    loss = z**2
    for node in (q, z):
        node.retain_grad()
    loss.backward()
    report.equal("dL/dz = 2 z", z.grad, 2 * math.tanh(1.5), 1e-12)
    report.equal("dL/dq = (1 - z^2) dL/dz", q.grad, (1 - z.item() ** 2) * z.grad.item(), 1e-12)
    report.equal("dL/dx = 3 dL/dq", x.grad, 3 * q.grad.item(), 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
