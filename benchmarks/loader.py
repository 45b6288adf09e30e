"""How fast DataLoader is beside slicing the arrays by hand: `x[perm[i:i+b]]`, on 60,000 rows of 784 float32.

Each contender runs one shuffled epoch per turn, the turns interleaved, and the median of the turns counts. Slicing by
hand draws its order with the same `randperm` and yields bare NumPy arrays; the loader yields tensors. "images" is a
data set of uint8 images with ToTensor and Normalize, beside slicing an array that was scaled beforehand.

Run it as: python benchmarks/loader.py [repeats]
"""

import gc
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import chainrule
from chainrule.data import ImageDataset
from chainrule.utils.data import DataLoader, Subset, TensorDataset
from chainrule.vision import transforms

ROWS, COLUMNS = 60_000, 784
BATCHES = (32, 128, 10_000)
GOAL = 0.9


class Images(ImageDataset):
    """Random grey values in the shape of MNIST."""

    classes = tuple("0123456789")

    def _load(self, download: bool) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (ROWS, 28, 28), dtype=np.uint8), rng.integers(0, 10, ROWS)


def contenders(batch: int, images: Images, x: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], None]]:
    """Functions that go once through all rows, by the name of the way they do it."""

    def by_hand() -> None:
        perm = chainrule.randperm(ROWS).numpy()
        for i in range(0, ROWS, batch):
            x[perm[i : i + batch]], y[perm[i : i + batch]]

    def epoch(loader: object) -> Callable[[], None]:
        def run() -> None:
            for _ in loader:
                pass

        return run

    tensors = TensorDataset(chainrule.from_numpy(x), chainrule.from_numpy(y))
    found = {
        "by hand": by_hand,
        "TensorDataset": epoch(DataLoader(tensors, batch, shuffle=True)),
        "Subset": epoch(DataLoader(Subset(tensors, list(range(ROWS))), batch, shuffle=True)),
        "images": epoch(DataLoader(images, batch, shuffle=True)),
    }
    if importlib.util.find_spec("torch"):
        import torch
        from torch.utils import data

        peer = data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        found["torch"] = epoch(data.DataLoader(peer, batch, shuffle=True))
    return found


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.25)])
    images = Images(transform=scale)
    x = (images.data.numpy().reshape(ROWS, COLUMNS) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    y = images.targets.numpy()
    print(
        f"one shuffled epoch of {ROWS} x {COLUMNS} float32, median of {repeats} turns; goal: {GOAL} of slicing by hand"
    )
    for batch in BATCHES:
        ways = contenders(batch, images, x, y)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, run in ways.items():
                if name == "torch" and turn > 3:
                    continue
                gc.collect()
                start = time.perf_counter()
                run()
                if turn:  # the first turn warms up
                    times[name].append(time.perf_counter() - start)
        hand = statistics.median(times["by hand"])
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"batch {batch:>6}  {name:<14} {median * 1e3:8.2f} ms   beside slicing by hand {hand / median:5.2f}")


if __name__ == "__main__":
    main()
