"""Logistic regression as a computation graph: multiply, add, sigmoid, cross-entropy.

    q = W x        z = q + b        L = -(y log s(z) + (1 - y) log(1 - s(z)))

The backward pass collapses to dL/dz = s(z) - y, so dL/dW = (s(z) - y) x and dL/db = s(z) - y, averaged over the
samples. With labels -1 and +1 and L = 1/2 |w|^2 - lambda log s(y w x), the gradient is w - lambda (1 - s(y w
x)) y x.
"""

from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn.functional as F


def cross_entropy(z: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
    p = cr.sigmoid(z)
    return -(y * cr.log(p) + (1 - y) * cr.log(1 - p)).mean()


def main() -> list[Row]:
    report = Report("Logistic regression as a graph")
    generator = cr.Generator().manual_seed(3)
    x = cr.randn(50, 2, dtype=cr.float64, generator=generator)
    noise = cr.randn(50, dtype=cr.float64, generator=generator)
    y = (x[:, 0] - 2 * x[:, 1] + 0.5 + noise > 0).to(cr.float64)

    # The graph, one operation at a time, watched from inside.
    w = cr.tensor([0.3, -0.2], dtype=cr.float64, requires_grad=True)
    b = cr.tensor(0.1, dtype=cr.float64, requires_grad=True)
    q = x @ w
    z = q + b
    loss = cross_entropy(z, y)
    for node in (q, z):
        node.retain_grad()
    loss.backward()

    residual = (cr.sigmoid(z) - y).detach() / len(y)
    report.equal("dL/dz = (s(z) - y) / N", z.grad, residual, 1e-12)
    report.equal("dL/dq: addition hands it on", q.grad, residual, 1e-12)
    report.equal("dL/dW = mean (s(z) - y) x", w.grad, residual @ x, 1e-12)
    report.equal("dL/db = mean (s(z) - y)", b.grad, residual.sum(), 1e-12)

    # The same loss as one operation on z, which stays exact where s(z) rounds to 0 or 1.
    w.grad, b.grad = None, None
    F.binary_cross_entropy_with_logits(x @ w + b, y).backward()
    report.equal("dL/dW, from the logits", w.grad, residual @ x, 1e-12)
    extreme = F.binary_cross_entropy_with_logits(cr.tensor([1e4, -1e4]), cr.tensor([1.0, 1.0]), reduction="none")
    report.equal("L at z = 1e4 and -1e4, y = 1", extreme, [0.0, 1e4])

    # Labels -1 and +1, a penalty on the weights, one sample at a time.
    strength = 0.7
    for label in (1.0, -1.0):
        v = cr.tensor([0.4, -1.1], dtype=cr.float64, requires_grad=True)
        sample = x[0]
        p = cr.sigmoid(label * (v @ sample))
        (0.5 * (v @ v) - strength * cr.log(p)).backward()
        closed_form = (v - strength * (1 - p) * label * sample).detach()
        report.equal(f"w - lambda (1 - p) y x, y = {label:+.0f}", v.grad, closed_form, 1e-12)

    # Gradient descent until the gradient is zero: the optimum of a convex loss.
    with cr.no_grad():
        w.zero_()
        b.zero_()
    for _ in range(3000):
        w.grad, b.grad = None, None
        F.binary_cross_entropy_with_logits(x @ w + b, y).backward()
        with cr.no_grad():
            w -= 4.0 * w.grad
            b -= 4.0 * b.grad
    report.equal("gradient after descent", cr.cat([w.grad, b.grad.reshape(1)]), [0.0, 0.0, 0.0], 1e-9)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
