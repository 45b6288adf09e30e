"""Logistic regression and a random forest beside a neural network, on handwritten digits.

Both classical models come from scikit-learn (an optional dependency) and see the first 20,000 MNIST images, pixels
between 0 and 1. The logistic regression is also checked from our side: at scikit-learn's weights the penalized loss has
no slope. Needs the MNIST files: say where they are with --data-root or the setting CHAINRULE_DATA.
"""

import argparse
import os
import sys
import time

from _report import Report, Row, exit_code, print_table
from mnist_classifier import EPOCHS, evaluate, load, train

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.utils.data import TensorDataset

DOCUMENTED = {  # training log loss and error in percent, on some 20,000 of the images
    "logistic regression": (0.1740, 4.65),
    "random forest": (0.0944, 0.0),
}


def slope_at(coefficients, intercepts, images: cr.Tensor, labels: cr.Tensor) -> tuple[float, float]:
    """Log loss of softmax regression, and the largest entry of the gradient of loss + |W|^2 / 2N (C = 1)."""
    w = cr.tensor(coefficients, dtype=cr.float64, requires_grad=True)
    b = cr.tensor(intercepts, dtype=cr.float64, requires_grad=True)
    loss = F.cross_entropy(images.to(cr.float64) @ w.T + b, labels)
    (loss + (w * w).sum() / (2 * len(labels))).backward()
    return loss.item(), max(w.grad.abs().max().item(), b.grad.abs().max().item())


def main(root: str, limit: int = 20_000, epochs: int = EPOCHS) -> list[Row]:
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss
    except ImportError:
        sys.exit("this example needs scikit-learn: pip install scikit-learn")

    report = Report(f"MNIST, the first {limit:,} images: classical models and a network")
    images, labels = load(root, train=True, limit=limit)
    test_images, test_labels = load(root, train=False)
    x, y = images.numpy().astype(float), labels.numpy()
    x_test, y_test = test_images.numpy().astype(float), test_labels.numpy()

    results = {}
    models = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "random forest": RandomForestClassifier(n_estimators=100, random_state=42),
    }
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(x, y)
        elapsed = time.perf_counter() - start
        loss, error = log_loss(y, model.predict_proba(x)), 100 * (1 - model.score(x, y))
        results[name] = (loss, error, 100 * (1 - model.score(x_test, y_test)), elapsed)
        if limit == 20_000:
            documented_loss, documented_error = DOCUMENTED[name]
            report.equal(f"{name}: training log loss", loss, documented_loss, 0.005, digits=4)
            report.equal(f"{name}: training error, %", error, documented_error, 0.15, digits=3)

    linear = models["logistic regression"]
    ours, slope = slope_at(linear.coef_, linear.intercept_, images, labels)
    reference = log_loss(y, linear.predict_proba(x))
    report.equal("our loss at scikit-learn's weights", ours, reference, 1e-9)
    report.at_most("our penalized gradient there (largest entry)", slope, 1e-3)

    start = time.perf_counter()
    network = train((128,), TensorDataset(images, labels), epochs, batch_size=10_000, seed=0)
    elapsed = time.perf_counter() - start
    loss, error = evaluate(network, images, labels)
    results["network 784-128-10"] = (loss, error, evaluate(network, test_images, test_labels)[1], elapsed)
    if epochs == EPOCHS:
        report.at_most("network: training log loss, below both", loss, min(results[name][0] for name in models))

    head = ("model", "training log loss", "training error, %", "test error, %", "seconds")
    lines = [
        (name, f"{loss:.4f}", f"{error:.2f}", f"{test_error:.2f}", f"{elapsed:.1f}")
        for name, (loss, error, test_error, elapsed) in results.items()
    ]
    print_table(head, lines)
    return report.show()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = os.environ.get("CHAINRULE_DATA", "data")
    parser.add_argument("--data-root", default=where, help="folder that holds mnist/ (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=20_000, help="number of training images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the network (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    raise SystemExit(exit_code(main(given.data_root, given.limit, given.epochs)))
