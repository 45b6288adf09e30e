"""Small data and models that the tests of training share."""

import numpy as np

import chainrule as torch
import chainrule.nn as nn
import chainrule.train as pl
from chainrule.utils.data import DataLoader, TensorDataset

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def blobs(n=120, seed=0):
    """Three clouds of points in four dimensions, easy to tell apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.normal(size=(n, 4)) + 3.0 * np.eye(4)[y]
    return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


def loader(n=120, batch_size=20, seed=0, shuffle=False):
    return DataLoader(blobs(n, seed), batch_size=batch_size, shuffle=shuffle)


class Model(pl.LightningModule):
    """A linear classifier that logs its losses."""

    def __init__(self, lr=0.1):
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.lr = lr

    def forward(self, x):
        return self.net(x)

    def loss(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self(batch[0]).argmax(1).tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def weights(model):
    return {name: t.detach().numpy().copy() for name, t in model.state_dict().items()}


def by_hand(model, data, epochs=1, lr=0.1, clip=None, accumulate=1):
    """The training loop that Trainer stands for, written out."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for i, (x, y) in enumerate(data):
            if i % accumulate == 0:
                optimizer.zero_grad()
            (nn.functional.cross_entropy(model(x), y) / accumulate).backward()
            if (i + 1) % accumulate == 0 or i + 1 == len(data):
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
