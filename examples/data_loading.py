"""From files to batches: CSV, arrays, IDX, scaling, standardization, one-hot, and loaders that shuffle by a seed.

The scaling is fitted on the training rows alone and then applied to everything else. A loader with a seeded
generator gives the same order of samples in every run.
"""

import tempfile
from pathlib import Path

import numpy as np
from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.data import one_hot, read_csv, read_idx, rescale, standardize, write_idx
from chainrule.utils.data import DataLoader, Dataset, TensorDataset, random_split

FLOWERS = """\
petal,sepal,soil,kind
1.4,5.1,clay,daisy
4.5,6.4,sand,tulip
?,5.0,clay,daisy
6.0,6.3,loam,rose
4.9,6.9,sand,tulip
5.1,5.8,loam,rose
"""


class Squares(Dataset):
    """A data set of one's own: a length, and a sample for each index."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), index * index


def tables(report: Report, folder: Path) -> None:
    path = folder / "flowers.csv"
    path.write_text(FLOWERS, encoding="utf-8")
    table = read_csv(path, target="kind", missing={"petal": "mean"})
    petals = [1.4, 4.5, 4.38, 6.0, 4.9, 5.1]  # the missing one is the mean of the other five
    report.equal("CSV: the missing petal becomes the mean", table.numbers(["petal"]).squeeze(1), petals, 1e-6)
    names = "petal, sepal, soil=clay, soil=loam, soil=sand"
    report.equal("CSV: names of the features", ", ".join(table.feature_names), names)
    report.equal("CSV: features of row 4", table.features()[3], [6.0, 6.3, 0.0, 1.0, 0.0], 1e-6)
    report.equal("CSV: target as class indices", table.target(), [0, 2, 0, 1, 2, 1])


def scaling(report: Report) -> None:
    generator = cr.Generator().manual_seed(0)
    data = 20 + 5 * cr.randn(200, 3, generator=generator)
    train, test = data[:150], data[150:]
    z_train, scaler = standardize(train)
    report.equal("standardized: means of the training columns", z_train.mean(0), [0.0, 0.0, 0.0], 1e-5)
    report.equal("standardized: their standard deviations", z_train.std(0, correction=0), [1.0, 1.0, 1.0], 1e-5)
    expected = (test.numpy() - train.numpy().mean(0)) / train.numpy().std(0)
    report.equal("test rows, scaled by the training rows", scaler(test), expected, 1e-4)
    report.equal("and back again", scaler.inverse(scaler(test)), test, 1e-4)
    unit, _ = rescale(train)
    report.equal("rescaled: smallest values", unit.min(0).values, [0.0, 0.0, 0.0])
    report.equal("rescaled: largest values", unit.max(0).values, [1.0, 1.0, 1.0], 1e-6)

    days = np.array(["Mon", "Thu", "Sat", "Thu"])
    encoded, encoder = one_hot(days, categories=["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    report.equal("one-hot of Mon, Thu, Sat, Thu: places", encoded.argmax(dim=1), [0, 3, 5, 3])
    report.equal("one-hot: each row has a single 1", encoded.sum(dim=1), [1.0, 1.0, 1.0, 1.0])
    report.equal("the same from class indices", F.one_hot(cr.from_numpy(encoder.codes(days)), 7), encoded)


def idx_files(report: Report, folder: Path) -> None:
    images = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    for name in ("images-idx3-ubyte", "images-idx3-ubyte.gz"):
        write_idx(folder / name, images)
        report.equal(f"{name}: written and read", read_idx(folder / name), images)
    scaled = cr.from_numpy(read_idx(folder / "images-idx3-ubyte")).to(cr.float32) / 255
    report.equal("pixels scaled to [0, 1]: largest", scaled.max(), 23 / 255, 1e-7)


def loaders(report: Report) -> None:
    x = cr.arange(10, dtype=cr.float32)
    data = TensorDataset(x, x * x)
    sizes = [len(xs) for xs, _ in DataLoader(data, batch_size=4)]
    report.equal("batches of 4 from 10 samples", sizes, [4, 4, 2])
    report.equal("without the short one", len(DataLoader(data, batch_size=4, drop_last=True)), 2)

    orders = []
    for seed in (42, 42, 43):
        loader = DataLoader(data, batch_size=4, shuffle=True, generator=cr.Generator().manual_seed(seed))
        orders.append(cr.cat([xs for xs, _ in loader]))
    report.equal("the same seed, the same order", orders[0], orders[1])
    report.equal("another seed, another order", cr.equal(orders[0], orders[2]), False)
    report.equal("every sample exactly once", orders[0].sort().values, x)
    pairs = next(iter(DataLoader(data, batch_size=10, shuffle=True)))
    report.equal("shuffled, but inputs stay with their targets", pairs[1], pairs[0] ** 2)

    train, test = random_split(Squares(), [7, 3], generator=cr.Generator().manual_seed(0))
    seen = sorted(sample[1] for part in (train, test) for sample in part)
    report.equal("random split into 7 and 3: nothing lost", seen, [index * index for index in range(10)])
    first = next(iter(DataLoader(Squares(), batch_size=3)))
    report.equal("a data set of one's own: first inputs", first[0], [0, 1, 2])
    report.equal("a data set of one's own: first targets", first[1], [0, 1, 4])


def main() -> list[Row]:
    report = Report("Data")
    with tempfile.TemporaryDirectory() as folder:
        tables(report, Path(folder))
        idx_files(report, Path(folder))
    scaling(report)
    loaders(report)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
