"""Handwritten digits: relu networks with one, two and three layers of 128 units, until they know their training set.

Adam with learning rate .01, batches of 10,000, 100 epochs. The last losses are so small that runs with different
seeds differ by a factor of two: medians are compared. Needs the MNIST files (about 12 MB): say where they
are with --data-root or the setting CHAINRULE_DATA. By default the first 20,000 images are used; --limit 60000
takes them all.
"""

import argparse
import os
import time
from statistics import median

from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn as nn
import chainrule.nn.functional as F
from chainrule.train import LightningModule, Trainer
from chainrule.utils.data import DataLoader, TensorDataset
from chainrule.vision import datasets

LAYERS = ((128,), (128, 128), (128, 128, 128))
PARAMETERS = (101_770, 118_282, 134_794)
EPOCHS = 100
REACHED = {  # images: training log loss and error in percent that PyTorch 2.13 reaches, for each of LAYERS
    20_000: ((0.0119, 0.06), (0.0017, 0.0), (0.0003, 0.0)),
    60_000: ((0.0031, 0.0), (0.0003, 0.0), (0.0001, 0.0)),
}


class Classifier(LightningModule):
    """Linear layers with relu between them, cross-entropy on the logits, Adam."""

    def __init__(self, hidden: tuple[int, ...], rate: float) -> None:
        super().__init__()
        layers, width = [], 784
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.model = nn.Sequential(*layers, nn.Linear(width, 10))
        self.rate = rate

    def forward(self, images: cr.Tensor) -> cr.Tensor:
        return self.model(images)

    def training_step(self, batch, batch_idx: int) -> cr.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return cr.optim.Adam(self.parameters(), lr=self.rate)


def load(root: str, train: bool, limit: int | None = None) -> tuple[cr.Tensor, cr.Tensor]:
    """Images as rows of 784 numbers between 0 and 1, and their labels."""
    data = datasets.MNIST(root, train=train)
    images = data.data[:limit].reshape(-1, 784).to(cr.float32) / 255
    return images, data.targets[:limit]


def evaluate(model: nn.Module, images: cr.Tensor, labels: cr.Tensor) -> tuple[float, float]:
    """Log loss, and error in percent."""
    model.eval()
    with cr.no_grad():
        logits = model(images)
        wrong = (logits.argmax(dim=1) != labels).to(cr.float32).mean()
        return F.cross_entropy(logits, labels).item(), 100 * wrong.item()


def train(hidden: tuple[int, ...], data: TensorDataset, epochs: int, batch_size: int, seed: int) -> Classifier:
    """A trained network; the seed sets its initial weights and the order of the images."""
    cr.manual_seed(seed)
    model = Classifier(hidden, rate=0.01)
    generator = cr.Generator().manual_seed(seed)
    loader = DataLoader(data, batch_size=batch_size, shuffle=True, generator=generator)
    Trainer(max_epochs=epochs).fit(model, loader)
    return model


def main(root: str, limit: int = 20_000, epochs: int = EPOCHS, batch_size: int = 10_000, seeds: int = 3) -> list[Row]:
    report = Report(f"MNIST, {limit:,} training images, {epochs} epochs, median of {seeds} runs")
    images, labels = load(root, train=True, limit=limit)
    test_images, test_labels = load(root, train=False)
    for index, hidden in enumerate(LAYERS):
        name = "-".join(map(str, (784, *hidden, 10)))
        losses, errors = [], []
        for seed in range(seeds):
            start = time.perf_counter()
            model = train(hidden, TensorDataset(images, labels), epochs, batch_size, seed)
            elapsed = time.perf_counter() - start
            loss, error = evaluate(model, images, labels)
            losses.append(loss)
            errors.append(error)
            _, test_error = evaluate(model, test_images, test_labels)
            figures = f"log loss {loss:.5f}, error {error:.2f} %, on the test images {test_error:.2f} %"
            print(f"{name}, seed {seed}: {elapsed:.1f} s, {figures}")
        loss, error = median(losses), median(errors)

        count = sum(parameter.numel() for parameter in model.parameters())
        report.equal(f"{name}: parameters", count, PARAMETERS[index])
        if epochs == EPOCHS and limit in REACHED:
            torch_loss, torch_error = REACHED[limit][index]
            report.at_most(f"{name}: training log loss (1.5 x {torch_loss})", loss, 1.5 * torch_loss, digits=3)
            report.at_most(f"{name}: training error, %", error, torch_error + 0.05, digits=3)
        else:
            report.at_most(f"{name}: training log loss, below chance", loss, 2.3026)
    return report.show()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = os.environ.get("CHAINRULE_DATA", "data")
    parser.add_argument("--data-root", default=where, help="folder that holds mnist/ (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=20_000, help="number of training images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    raise SystemExit(exit_code(main(given.data_root, given.limit, given.epochs, given.batch_size, given.seeds)))
