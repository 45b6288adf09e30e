"""Activation functions: values and derivatives against their formulas, and where they saturate.

At 0, where it has a kink, relu takes the subgradient 0; leaky relu and prelu take the slope of the negative
side, PyTorch's choices.
"""

import math

from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn as nn
import chainrule.nn.functional as F

POINTS = (-3.0, -0.5, 0.0, 0.5, 3.0)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def normal_pdf(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def selu_slope(x: float) -> float:
    return SELU_SCALE if x > 0 else SELU_SCALE * SELU_ALPHA * math.exp(x)


FORMULAS = [  # name, function, its formula, the formula of its derivative
    ("relu", F.relu, lambda x: max(x, 0), lambda x: float(x > 0)),
    ("leaky relu, .01", F.leaky_relu, lambda x: x if x > 0 else 0.01 * x, lambda x: 1 if x > 0 else 0.01),
    ("elu", F.elu, lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x)),
    ("selu", F.selu, lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x)), selu_slope),
    ("gelu", F.gelu, lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
    ("silu", F.silu, lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    ("softplus", F.softplus, lambda x: math.log1p(math.exp(x)), sigmoid),
    ("sigmoid", F.sigmoid, sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    ("log sigmoid", F.logsigmoid, lambda x: math.log(sigmoid(x)), lambda x: 1 - sigmoid(x)),
    ("tanh", F.tanh, math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    ("hardtanh", F.hardtanh, lambda x: min(max(x, -1), 1), lambda x: float(-1 < x < 1)),
]


def values_and_slopes(function, points) -> tuple[cr.Tensor, cr.Tensor]:
    x = cr.tensor(points, dtype=cr.float64, requires_grad=True)
    y = function(x)
    y.sum().backward()
    return y, x.grad


def main() -> list[Row]:
    report = Report(f"Activations at {POINTS}")
    for name, function, formula, derivative in FORMULAS:
        value, slope = values_and_slopes(function, POINTS)
        report.equal(name, value, [formula(x) for x in POINTS], 1e-12, digits=4)
        report.equal(f"{name}, derivative", slope, [derivative(x) for x in POINTS], 1e-12, digits=4)

    report.equal("relu, subgradient at 0", values_and_slopes(F.relu, [0.0])[1], [0.0])
    report.equal("|x|, subgradient at 0", values_and_slopes(cr.abs, [0.0])[1], [0.0])

    # Parametrized relu learns its slope: the gradient of the slope is the sum of the negative inputs.
    prelu = nn.PReLU(init=0.2, dtype=cr.float64)
    value, slope = values_and_slopes(prelu, POINTS)
    report.equal("prelu, slope .2", value, [x if x > 0 else 0.2 * x for x in POINTS], 1e-12, digits=4)
    report.equal("prelu, derivative", slope, [1 if x > 0 else 0.2 for x in POINTS], 1e-12, digits=4)
    report.equal("prelu, gradient of the slope", prelu.weight.grad, [-3.5], 1e-12)

    # Saturation: the largest slopes are at 0, and far out nothing passes.
    report.equal("sigmoid: slopes at 0 and +-40", values_and_slopes(F.sigmoid, [0.0, 40, -40])[1], [0.25, 0, 0], 1e-12)
    report.equal("tanh: slopes at 0 and +-40", values_and_slopes(F.tanh, [0.0, 40, -40])[1], [1.0, 0, 0], 1e-12)
    value, slope = values_and_slopes(F.softplus, [1e3, -1e3])
    report.equal("softplus at 1e3 and -1e3", value, [1e3, 0.0])
    report.equal("softplus there, derivative", slope, [1.0, 0.0])
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
