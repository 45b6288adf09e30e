"""Softmax, log-softmax and cross-entropy: stable for any logits, with a gradient that is just softmax - y.

log softmax(z)_k = z_k - log sum_j exp(z_j), and the sum is computed after subtracting the largest logit (log-
sum-exp), so nothing overflows and no logarithm of a rounded zero is taken.
"""

import numpy as np
from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn as nn
import chainrule.nn.functional as F


def main() -> list[Row]:
    report = Report("Softmax, log-softmax and cross-entropy")
    generator = cr.Generator().manual_seed(2)
    logits = cr.randn(6, 4, dtype=cr.float64, generator=generator)
    classes = cr.tensor([0, 3, 1, 2, 2, 0])
    distribution = F.softmax(cr.randn(6, 4, dtype=cr.float64, generator=generator), dim=1)

    # Values against the definition, in NumPy.
    z = logits.numpy()
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    one_hot = np.eye(4)[classes.numpy()]
    report.equal("softmax", F.softmax(logits, dim=1), p, 1e-12)
    report.equal("log-softmax", F.log_softmax(logits, dim=1), np.log(p), 1e-12)
    by_hand = -(one_hot * np.log(p)).sum(1).mean()
    report.equal("cross-entropy, class indices", F.cross_entropy(logits, classes), by_hand, 1e-12)
    by_hand = -(distribution.numpy() * np.log(p)).sum(1).mean()
    report.equal("cross-entropy, label distributions", F.cross_entropy(logits, distribution), by_hand, 1e-12)
    report.equal("softmax(z + 100) = softmax(z)", F.softmax(logits + 100, dim=1), p, 1e-12)

    # NLL on LogSoftmax is cross-entropy on logits.
    nll = nn.NLLLoss()(nn.LogSoftmax(dim=1)(logits), classes)
    report.equal("NLL(LogSoftmax(z)) = CrossEntropy(z)", nll, nn.CrossEntropyLoss()(logits, classes).item(), 1e-12)

    # Gradients: softmax - y, for one-hot labels and for distributions alike.
    for name, target, y in (
        ("class indices", classes, one_hot),
        ("label distributions", distribution, distribution.numpy()),
    ):
        leaf = logits.clone().requires_grad_()
        F.cross_entropy(leaf, target, reduction="sum").backward()
        report.equal(f"gradient = softmax - y, {name}", leaf.grad, p - y, 1e-12)

    # Logits of +-10,000: exp would overflow, log(softmax) would be log 0.
    extreme = cr.tensor([[1e4, 0.0, -1e4]], dtype=cr.float64, requires_grad=True)
    report.equal("softmax of (1e4, 0, -1e4)", F.softmax(extreme, dim=1)[0], [1.0, 0.0, 0.0])
    report.equal("log-softmax of it", F.log_softmax(extreme, dim=1)[0], [0.0, -1e4, -2e4])
    for label, loss, gradient in ((0, 0.0, [0, 0, 0]), (1, 1e4, [1, -1, 0]), (2, 2e4, [1, 0, -1])):
        extreme.grad = None
        value = F.cross_entropy(extreme, cr.tensor([label]))
        value.backward()
        report.equal(f"loss for class {label}", value, loss)
        report.equal(f"its gradient for class {label}", extreme.grad[0], gradient)
    single = cr.tensor([[1e4, -1e4]], dtype=cr.float32)
    report.equal("float32: loss of (1e4, -1e4), class 1", F.cross_entropy(single, cr.tensor([1])), 2e4)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
