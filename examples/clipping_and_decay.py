"""Gradient clipping, weight decay, and sparse weights.

    clipping by norm        g' = min(1, c / |g|) g
    L2 penalty, in the SGD  w <- (1 - eta lambda) w - eta g
    L1 penalty, proximal    w <- sign(w - eta g) max(|w - eta g| - eta alpha, 0), which makes exact zeros
    decoupled decay, AdamW  w <- w - eta lambda w - eta m / (sqrt(v) + eps)

Gradient descent with the L2 penalty reaches ridge regression, with the L1 penalty the lasso; the intercept is exempt.
"""

import math

import numpy as np
from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn as nn
import chainrule.optim as optim

SAMPLES, FEATURES = 80, 6


def make_data() -> tuple[cr.Tensor, cr.Tensor]:
    """A linear relation in which half of the features play no part, with an intercept of 1.5."""
    generator = cr.Generator().manual_seed(11)
    x = cr.randn(SAMPLES, FEATURES, dtype=cr.float64, generator=generator)
    weights = cr.tensor([2.0, -1.0, 0.5, 0.0, 0.0, 0.0], dtype=cr.float64)
    return x, x @ weights + 1.5 + 0.3 * cr.randn(SAMPLES, dtype=cr.float64, generator=generator)


def half_mean_square(x: cr.Tensor, y: cr.Tensor, w: cr.Tensor, b: cr.Tensor) -> cr.Tensor:
    return ((x @ w + b - y) ** 2).mean() / 2


def clipping(report: Report) -> None:
    gradient = cr.tensor([3.0, -4.0, 12.0], dtype=cr.float64)  # norm 13, over two parameters
    for limit in (6.5, 26.0):
        parameters = [nn.Parameter(cr.zeros(size, dtype=cr.float64)) for size in (2, 1)]
        for parameter, part in zip(parameters, gradient.split([2, 1]), strict=True):
            parameter.grad = part.clone()
        before = nn.utils.clip_grad_norm_(parameters, max_norm=limit)
        clipped = cr.cat([parameter.grad for parameter in parameters])
        report.equal(f"norm before clipping at {limit:g}", before, 13.0, 1e-12)
        # PyTorch divides by |g| + 1e-6 so that a zero gradient stays finite: hence the tolerance.
        report.equal(f"clipped at {limit:g}: min(1, c/|g|) g", clipped, min(1, limit / 13) * gradient, 1e-5)
    parameter = nn.Parameter(cr.zeros(3, dtype=cr.float64))
    parameter.grad = gradient.clone()
    nn.utils.clip_grad_value_([parameter], clip_value=3.5)
    report.equal("clipped by value at 3.5", parameter.grad, [3.0, -3.5, 3.5])


def one_step(kind, w: float, g: float, **options: float) -> float:
    """The value of a single parameter after one step of an optimizer."""
    parameter = nn.Parameter(cr.tensor([w], dtype=cr.float64))
    parameter.grad = cr.tensor([g], dtype=cr.float64)
    kind([parameter], **options).step()
    return parameter.item()


def decay_steps(report: Report) -> None:
    w, g, eta, strength, eps = 2.0, 0.5, 0.1, 0.3, 1e-8
    sgd = one_step(optim.SGD, w, g, lr=eta, weight_decay=strength)
    report.equal("SGD: (1 - eta lambda) w - eta g", sgd, (1 - eta * strength) * w - eta * g, 1e-12)
    # In its first step Adam divides the gradient by its own size: a penalty put into the gradient is lost ...
    penalized = g + strength * w
    adam = one_step(optim.Adam, w, g, lr=eta, weight_decay=strength, eps=eps)
    report.equal("Adam, penalty in the gradient", adam, w - eta * penalized / (abs(penalized) + eps), 1e-12)
    # ... and decay decoupled from the gradient is not.
    adamw = one_step(optim.AdamW, w, g, lr=eta, weight_decay=strength, eps=eps)
    report.equal("AdamW, decoupled decay", adamw, w - eta * strength * w - eta * g / (abs(g) + eps), 1e-12)


def ridge(report: Report, x: cr.Tensor, y: cr.Tensor, strength: float) -> None:
    w = nn.Parameter(cr.zeros(FEATURES, dtype=cr.float64))
    b = nn.Parameter(cr.zeros((), dtype=cr.float64))
    groups = [{"params": [w], "weight_decay": strength}, {"params": [b], "weight_decay": 0.0}]  # the bias is exempt
    optimizer = optim.SGD(groups, lr=0.3)
    for _ in range(600):
        optimizer.zero_grad()
        half_mean_square(x, y, w, b).backward()
        optimizer.step()
    # Normal equations of the centred data: (X^T X / N + lambda I) w = X^T y / N.
    xc, yc = (x - x.mean(0)).numpy(), (y - y.mean()).numpy()
    gram = xc.T @ xc / SAMPLES + strength * np.eye(FEATURES)
    solution = np.linalg.solve(gram, xc.T @ yc / SAMPLES)
    report.equal("L2 by gradient descent = ridge", w, solution, 1e-9, digits=3)
    report.equal("its intercept, not penalized", b, (y.mean() - x.mean(0) @ cr.tensor(solution)).item(), 1e-9)
    try:
        from sklearn.linear_model import Ridge
    except ImportError:
        return
    reference = Ridge(alpha=SAMPLES * strength).fit(x.numpy(), y.numpy())
    report.equal("the same from scikit-learn's Ridge", w, reference.coef_, 1e-4, digits=3)


def lasso(report: Report, x: cr.Tensor, y: cr.Tensor, strength: float) -> None:
    w = nn.Parameter(cr.zeros(FEATURES, dtype=cr.float64))
    b = nn.Parameter(cr.zeros((), dtype=cr.float64))
    optimizer = optim.SGD([w, b], lr=0.3)
    for _ in range(600):
        optimizer.zero_grad()
        half_mean_square(x, y, w, b).backward()
        optimizer.step()
        with cr.no_grad():  # the proximal step of the penalty alpha |w|
            w.copy_(cr.sign(w) * cr.clamp(cr.abs(w) - 0.3 * strength, min=0.0))
    # Optimality: where w_i is not 0 the gradient balances the penalty, elsewhere it is smaller than the penalty.
    gradient, weights = w.grad.numpy(), w.detach().numpy()
    used = weights != 0
    report.equal("L1: features with a weight of exactly 0", int((~used).sum()), 3)
    balance = -strength * np.sign(weights[used])
    report.equal("L1: gradient = -alpha sign(w) where used", gradient[used], balance, 1e-9, digits=3)
    report.at_most("L1: largest gradient where unused", np.abs(gradient[~used]).max(), strength)
    try:
        from sklearn.linear_model import Lasso
    except ImportError:
        return
    reference = Lasso(alpha=strength, tol=1e-10).fit(x.numpy(), y.numpy())
    report.equal("L1 by proximal steps = scikit-learn's Lasso", w, reference.coef_, 1e-4, digits=3)
    report.equal("its intercept, not penalized", b, reference.intercept_, 1e-4)


def explosion(report: Report) -> None:
    """Ten layers of one linear unit: (1 + e)^D in the gradient throws plain descent away, a clipped step is safe."""
    for clip in (False, True):
        weights = nn.Parameter(cr.full((10,), 1.6, dtype=cr.float64))
        optimizer = optim.SGD([weights], lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            loss = (weights.prod() - 1.0) ** 2
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_([weights], max_norm=1.0)
            optimizer.step()
            if not math.isfinite(loss.item()) or loss.item() > 1e12:
                break
        if clip:
            report.at_most("10-layer chain, clipped: final loss", loss, 1e-6)
        else:
            report.at_least("10-layer chain, not clipped: loss explodes", loss, 1e12)


def main() -> list[Row]:
    report = Report("Clipping and decay")
    x, y = make_data()
    clipping(report)
    explosion(report)
    decay_steps(report)
    ridge(report, x, y, strength=0.2)
    lasso(report, x, y, strength=0.2)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
