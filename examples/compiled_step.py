"""A training step as one native program: the numbers of eager mode, the same bits on every number of threads.

What the program became is there to read. A branch that depends on data raises an error that names its line; `cond` is
the branch and `scan` the loop that a program can hold, and both have derivatives. (Needs llvmlite, which chainrule
brings along.)
"""

import math
import time

from _report import Report, Row, exit_code

import chainrule as cr
from chainrule import nn

STEPS, BATCH, FEATURES, CLASSES = 100, 128, 64, 10


def problem() -> tuple[cr.Tensor, cr.Tensor]:
    """Points, and as the class of each the largest of ten linear functions."""
    generator = cr.Generator().manual_seed(3)
    x = cr.randn(1000, FEATURES, generator=generator)
    return x, (x @ cr.randn(FEATURES, CLASSES, generator=generator)).argmax(1)


class Training:
    """A small network, and its step as it stands or compiled."""

    def __init__(self, compiled: bool) -> None:
        cr.manual_seed(0)
        self.x, self.y = problem()
        self.order = cr.randint(0, len(self.x), (STEPS, BATCH))  # the rows of each batch
        self.model = nn.Sequential(nn.Linear(FEATURES, 96), nn.LayerNorm(96), nn.ReLU(), nn.Linear(96, CLASSES))
        self.optimizer = cr.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.run = cr.compile(self.step) if compiled else self.step

    def step(self, rows: cr.Tensor) -> cr.Tensor:
        """Forward, backward and update; returns the loss before it."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self) -> list[float]:
        """All steps, a call for each; prints how long one took, the first apart."""
        times, found = [time.perf_counter()], []
        for rows in self.order:
            found.append(self.run(rows).item())
            times.append(time.perf_counter())
        name = "eager" if self.run == self.step else "compiled"
        rest = 1e6 * (times[-1] - times[1]) / (STEPS - 1)
        print(f"{name:8s}: first step {1e3 * (times[1] - times[0]):6.1f} ms, the others {rest:5.0f} us each")
        return found

    def weights(self) -> bytes:
        """All parameters, to the bit."""
        return b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())


def main() -> list[Row]:
    report = Report("A compiled training step, a branch, a loop")

    eager, compiled = Training(compiled=False), Training(compiled=True)
    expected, losses = eager.losses(), compiled.losses()
    gap = max(abs(a - b) / b for a, b in zip(losses, expected, strict=True))
    report.equal("loss after 100 steps", losses[-1], expected[-1], 1e-5)
    report.at_most("largest relative difference of 100 losses", gap, 1e-4)

    # All steps in one call of machine code, and on several threads: not a bit changes.
    whole = Training(compiled=True)
    report.equal("100 losses from one call of map", whole.run.map(whole.order).tolist(), losses, 0.0)
    report.equal("weights after map, the same bits", whole.weights() == compiled.weights(), True)
    threads = cr.get_num_threads()
    for count in (1, 2):
        cr.set_num_threads(count)
        again = Training(compiled=True)
        again.run.map(again.order)
        report.equal(
            f"weights with {count} thread{'s' * (count > 1)}, the same bits",
            again.weights() == compiled.weights(),
            True,
        )
    cr.set_num_threads(threads)

    # Another shape, as that of a last batch that is shorter, is one program more.
    compiled.run(compiled.order[0, :50])
    compiled.run(compiled.order[1])
    report.equal("programs after a batch of 50", len(compiled.run.programs), 2)
    print(f"\n{cr.explain_compilation(compiled.run, kernels=False)}\n")

    # A branch that depends on data: an error with the line, or `cond`.
    def by_hand(x: cr.Tensor) -> cr.Tensor:
        return x * 2 if x.sum() > 0 else x * x

    def by_cond(x: cr.Tensor) -> cr.Tensor:
        return cr.cond(x.sum() > 0, lambda x: x * 2, lambda x: x * x, x)

    ones = cr.ones(3)
    try:
        cr.compile(by_hand)(ones)
        refused = False
    except RuntimeError as error:
        refused = "x.sum() > 0" in str(error) or "compiled_step.py" in str(error)
        print(f"{error}\n")
    report.equal("a Python branch on data is refused, with its line", refused, True)
    report.equal("cond, where the sum is 3", cr.compile(by_cond)(ones), [2.0, 2.0, 2.0])
    report.equal("cond, where it is -3", cr.compile(by_cond)(-ones), [1.0, 1.0, 1.0])

    # A loop with carried state: Heron's square root, y <- (y + a / y) / 2, and its derivative 1 / (2 sqrt(a)).
    def root(a: cr.Tensor) -> cr.Tensor:
        y, _ = cr.scan(lambda y, _: ((y + a / y) / 2, None), a, None, length=8)
        return y

    a = cr.tensor(2.0, dtype=cr.float64)
    report.equal("square root of 2 by scan", cr.compile(root)(a), math.sqrt(2), 1e-15, digits=16)
    slope = cr.compile(cr.func.grad(root))(a)
    report.equal("its derivative", slope, 0.5 / math.sqrt(2), 1e-15, digits=16)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
