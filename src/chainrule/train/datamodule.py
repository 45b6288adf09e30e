"""LightningDataModule: the loaders of a data set, with their preparation, as one object."""

from __future__ import annotations

from typing import Any


class LightningDataModule:
    """Override the loaders that are needed; ``trainer.fit(model, datamodule=dm)`` asks for them.

    ``prepare_data()`` (download) runs before ``setup(stage)`` (split, scale), and both before the loaders are asked
    for; ``stage`` is "fit", "validate", "test" or "predict". ``teardown(stage)`` runs at the end.
    """

    def __init__(self) -> None:
        self.trainer: Any = None

    def prepare_data(self) -> None:
        """Download and the like. Called once per run."""

    def setup(self, stage: str) -> None:
        """Make the data sets that the stage needs."""

    def teardown(self, stage: str) -> None:
        """Clean up after the stage."""

    def train_dataloader(self) -> Any:
        """The loader(s) for ``fit``."""
        return None

    def val_dataloader(self) -> Any:
        """The loader(s) for validation."""
        return None

    def test_dataloader(self) -> Any:
        """The loader(s) for ``test``."""
        return None

    def predict_dataloader(self) -> Any:
        """The loader(s) for ``predict``."""
        return None
