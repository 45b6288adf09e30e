"""Forward mode: carry a tangent beside every value, and one pass gives one directional derivative.

A dual number a + b e with e^2 = 0 does it: e is what is left of a step so small that its square vanishes.
`func.jvp` does the same for whole tensors, and never builds the Jacobian it multiplies with.
"""

import math
from dataclasses import dataclass

from _report import Report, Row, exit_code

import chainrule as cr
from chainrule.func import jvp


@dataclass(frozen=True)
class Dual:
    """value + tangent e, with just the arithmetic that the example needs."""

    value: float
    tangent: float

    def __add__(self, other: "Dual") -> "Dual":
        return Dual(self.value + other.value, self.tangent + other.tangent)

    def __sub__(self, other: "Dual") -> "Dual":
        return Dual(self.value - other.value, self.tangent - other.tangent)

    def __mul__(self, other: "Dual") -> "Dual":
        return Dual(self.value * other.value, self.tangent * other.value + self.value * other.tangent)

    def log(self) -> "Dual":
        return Dual(math.log(self.value), self.tangent / self.value)

    def sin(self) -> "Dual":
        return Dual(math.sin(self.value), self.tangent * math.cos(self.value))


def f(x1, x2):
    """ln x1 + x1 x2 - sin x2, for tensors and for dual numbers alike."""
    return x1.log() + x1 * x2 - x2.sin()


def main() -> list[Row]:
    report = Report("Forward mode on f = ln x1 + x1 x2 - sin x2 at (2, 5)")
    point = (cr.tensor(2.0, dtype=cr.float64), cr.tensor(5.0, dtype=cr.float64))
    one, zero = cr.tensor(1.0, dtype=cr.float64), cr.tensor(0.0, dtype=cr.float64)

    # One pass per input: seed that input's tangent with 1, all others with 0.
    value, along_x1 = jvp(f, point, (one, zero))
    _, along_x2 = jvp(f, point, (zero, one))
    report.equal("f", value, 11.6521, 5e-5)
    report.equal("df/dx1 (pass 1)", along_x1, 5.5, 5e-5)
    report.equal("df/dx2 (pass 2)", along_x2, 1.7163, 5e-5)
    report.equal("df/dx2 = 2 - cos 5", along_x2, 2 - math.cos(5), 1e-12, digits=12)

    dual_1 = f(Dual(2.0, 1.0), Dual(5.0, 0.0))
    dual_2 = f(Dual(2.0, 0.0), Dual(5.0, 1.0))
    report.equal("df/dx1 by dual numbers", along_x1, dual_1.tangent, 1e-12)
    report.equal("df/dx2 by dual numbers", along_x2, dual_2.tangent, 1e-12)

    # Any direction takes one pass as well, and agrees with the gradient of reverse mode.
    _, slope = jvp(f, point, (3 * one, -one))
    leaves = [x.clone().requires_grad_() for x in point]
    f(*leaves).backward()
    report.equal("slope along (3, -1)", slope, 3 * leaves[0].grad.item() - leaves[1].grad.item(), 1e-12)

    # Jacobian-vector product without the matrix: y = sin(A x) with 1,000 inputs and outputs.
    size = 1000
    generator = cr.Generator().manual_seed(0)
    a = cr.randn(size, size, dtype=cr.float64, generator=generator) / math.sqrt(size)
    x, v = (cr.randn(size, dtype=cr.float64, generator=generator) for _ in range(2))
    _, product = jvp(lambda x: cr.sin(a @ x), (x,), (v,))
    report.equal("J v for sin(A x), 1000 x 1000", product, cr.cos(a @ x) * (a @ v), 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
