"""Initial weights: what each scheme draws, why equal weights never part, and what variance does layer by layer.

A unit that sums P inputs of variance 1 with weights from N(0, 1) has variance P. Glorot's variance 2 / (n_in +
n_out) keeps it near 1, forward and backward; He's 2 / n_in makes up for the half that relu cuts away.
"""

import math

from _report import Report, Row, exit_code, print_table

import chainrule as cr
import chainrule.nn as nn
import chainrule.optim as optim

UNITS = 512


def schemes(report: Report, generator: cr.Generator) -> None:
    """Standard deviation (or bound) of each scheme on a 512 x 256 weight; 131,072 draws, so within about 1 %."""
    n_out, n_in = UNITS, 256
    glorot, he = math.sqrt(2 / (n_in + n_out)), math.sqrt(2 / n_in)
    init = nn.init
    cases = [
        ("Gaussian, std .05", lambda w: init.normal_(w, std=0.05, generator=generator), 0.05),
        ("uniform on (-.1, .1)", lambda w: init.uniform_(w, -0.1, 0.1, generator=generator), 0.1 / math.sqrt(3)),
        ("Glorot normal", lambda w: init.xavier_normal_(w, generator=generator), glorot),
        ("Glorot uniform", lambda w: init.xavier_uniform_(w, generator=generator), glorot),
        ("He normal", lambda w: init.kaiming_normal_(w, nonlinearity="relu", generator=generator), he),
        ("He uniform", lambda w: init.kaiming_uniform_(w, nonlinearity="relu", generator=generator), he),
    ]
    for name, fill, std in cases:
        w = cr.empty(n_out, n_in)
        fill(w)
        report.equal(f"{name}: standard deviation", w.std(), std, 0.02 * std, digits=4)
        report.equal(f"{name}: mean", w.mean(), 0.0, 0.02 * std, digits=2)
    w = init.xavier_uniform_(cr.empty(n_out, n_in), generator=generator)
    bound = math.sqrt(6 / (n_in + n_out)) * (1 + 1e-6)  # float32 rounds the bound
    report.at_most("Glorot uniform: largest |w|, sqrt(6 / (n_in + n_out))", w.abs().max(), bound)
    w = init.orthogonal_(cr.empty(64, 32), generator=generator)
    report.equal("orthogonal: Q^T Q = I", w.T @ w, cr.eye(32), 1e-5)


def variances(report: Report, generator: cr.Generator) -> None:
    """Variance of the hidden values, and of the gradient that comes back, after one layer of 512 units."""
    x = cr.randn(2000, UNITS, generator=generator)
    for name, fill, expected in (
        ("N(0, 1)", lambda w: nn.init.normal_(w, generator=generator), float(UNITS)),
        ("Glorot", lambda w: nn.init.xavier_normal_(w, generator=generator), 1.0),
    ):
        w = cr.empty(UNITS, UNITS)
        fill(w)
        inputs = x.clone().requires_grad_()
        hidden = inputs @ w.T
        hidden.backward(cr.randn(2000, UNITS, generator=generator))
        within = 0.03 * expected
        report.equal(f"{name} weights: variance of the hidden values", hidden.var(), expected, within, digits=4)
        report.equal(f"{name} weights: variance of the gradient", inputs.grad.var(), expected, within, digits=4)

    lines = []
    for name, fill, activation in (
        ("N(0, 1), linear", lambda w: nn.init.normal_(w, generator=generator), lambda h: h),
        ("Glorot, linear", lambda w: nn.init.xavier_normal_(w, generator=generator), lambda h: h),
        ("Glorot, relu", lambda w: nn.init.xavier_normal_(w, generator=generator), cr.relu),
        ("He, relu", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=generator), cr.relu),
    ):
        h, row = x, [name]
        for _ in range(5):
            w = cr.empty(UNITS, UNITS)
            fill(w)
            h = activation(h @ w.T)
            row.append(f"{(h * h).mean().item():.3g}")
        lines.append(row)
    print_table(("mean square of the hidden values, layer", "1", "2", "3", "4", "5"), lines)


def symmetry(report: Report, generator: cr.Generator) -> None:
    """Two hidden units that start alike stay alike for ever; a random start lets them part."""
    x = cr.randn(64, 3, dtype=cr.float64, generator=generator)
    y = cr.sin(x.sum(1, keepdim=True)) + x[:, :1]
    for name in ("equal", "random"):
        model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).to(cr.float64)
        for parameter in model.parameters():
            if name == "equal":
                nn.init.constant_(parameter, 0.4)
            else:
                nn.init.normal_(parameter, std=0.4, generator=generator)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(400):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        first = model[0].weight
        gap = (first[0] - first[1]).abs().max()
        if name == "equal":
            report.equal("equal start: the units differ by", gap, 0.0, 1e-12)
            stuck = loss.item()
        else:
            report.at_least("random start: the units differ by", gap, 0.1)
            report.at_most("random start: loss, against the equal start's", loss, stuck)


def main() -> list[Row]:
    report = Report("Initialization")
    generator = cr.Generator().manual_seed(4)
    schemes(report, generator)
    variances(report, generator)
    symmetry(report, generator)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
