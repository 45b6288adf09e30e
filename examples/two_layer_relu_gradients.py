"""All six gradients of a two-layer ReLU network, as products with their shapes.

    q1 = W1 x + b1    h1 = relu(q1)    q2 = W2 h1 + b2    h2 = relu(q2)    z = beta h2 + a
    L  = -(y log s(z) + (1 - y) log(1 - s(z)))

The derivative of q2 with respect to the matrix W2 is a three-dimensional array of K2 x K2 x K1 numbers, nearly all of
them zero. It is never needed: with the upstream gradient u of q2, the gradient of W2 is the outer product u h1^T.
"""

import math

from _report import Report, Row, exit_code, print_table

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.func import jacrev


def network(x: cr.Tensor, parameters: dict[str, cr.Tensor]) -> cr.Tensor:
    p = parameters
    h1 = cr.relu(p["W1"] @ x + p["b1"])
    h2 = cr.relu(p["W2"] @ h1 + p["b2"])
    return p["beta"] @ h2 + p["a"]


def make_parameters(inputs: int, k1: int, k2: int, generator: cr.Generator) -> dict[str, cr.Tensor]:
    def normal(*shape: int, scale: float = 1.0) -> cr.Tensor:
        return (scale * cr.randn(shape, dtype=cr.float64, generator=generator)).requires_grad_()

    return {
        "W1": normal(k1, inputs, scale=math.sqrt(2 / inputs)),
        "b1": normal(k1, scale=0.1),
        "W2": normal(k2, k1, scale=math.sqrt(2 / k1)),
        "b2": normal(k2, scale=0.1),
        "beta": normal(k2, scale=math.sqrt(1 / k2)),
        "a": normal(scale=0.1),
    }


def closed_forms(x: cr.Tensor, y: float, parameters: dict[str, cr.Tensor]) -> dict[str, cr.Tensor]:
    """The gradients as products of the factors that the chain rule gives, from the loss downwards."""
    p = {name: value.detach() for name, value in parameters.items()}
    q1 = p["W1"] @ x + p["b1"]
    h1 = cr.relu(q1)
    q2 = p["W2"] @ h1 + p["b2"]
    h2 = cr.relu(q2)
    z = p["beta"] @ h2 + p["a"]
    residual = cr.sigmoid(z) - y  # dL/dz
    u2 = residual * p["beta"] * (q2 > 0)  # dL/dq2
    u1 = (u2 @ p["W2"]) * (q1 > 0)  # dL/dq1
    return {
        "a": residual,
        "beta": residual * h2,
        "b2": u2,
        "W2": cr.outer(u2, h1),
        "b1": u1,
        "W1": cr.outer(u1, x),
    }


def product_table(inputs: int, k1: int, k2: int) -> None:
    one, beta, w2 = "r (1 x 1)", f"beta (1 x {k2})", f"W2 ({k2} x {k1})"
    mask1, mask2 = f"[q1 > 0] (1 x {k1})", f"[q2 > 0] (1 x {k2})"
    print_table(
        ("gradient", "shape", "product (* is elementwise)"),
        [
            ("dL/da", "1 x 1", "r = s(z) - y"),
            ("dL/dbeta", f"1 x {k2}", f"{one} h2^T (1 x {k2})"),
            ("dL/db2", f"1 x {k2}", f"u2 = {one} {beta} * {mask2}"),
            ("dL/dW2", f"{k2} x {k1}", f"u2^T ({k2} x 1) h1^T (1 x {k1})"),
            ("dL/db1", f"1 x {k1}", f"u1 = u2 (1 x {k2}) {w2} * {mask1}"),
            ("dL/dW1", f"{k1} x {inputs}", f"u1^T ({k1} x 1) x^T (1 x {inputs})"),
        ],
    )


def main(inputs: int = 784, k1: int = 128, k2: int = 128) -> list[Row]:
    report = Report(f"Gradients of a {inputs}-{k1}-{k2}-1 ReLU network, float64")
    generator = cr.Generator().manual_seed(5)
    x = cr.randn(inputs, dtype=cr.float64, generator=generator)
    y = 1.0
    parameters = make_parameters(inputs, k1, k2, generator)
    z = network(x, parameters)
    F.binary_cross_entropy_with_logits(z, cr.tensor(y, dtype=cr.float64)).backward()

    product_table(inputs, k1, k2)
    for name, expected in closed_forms(x, y, parameters).items():
        report.equal(f"dL/d{name}", parameters[name].grad, expected, 1e-12)

    avoided = k2 * k2 * k1 * cr.tensor(0.0).element_size()
    print(f"The Jacobian dq2/dW2 would hold {k2} x {k2} x {k1} numbers, {avoided / 1e6:.1f} MB in float32;")
    print(f"its {k1 * k2:,} entries that are not zero repeat h1 {k2} times. It was never built.")
    if (k1, k2) == (128, 128):
        report.equal("avoided Jacobian in float32, MB", avoided / 1e6, 8.4, 0.05, digits=3)

    # Small enough to build it once: multiplying with the 3-D Jacobian gives the outer product.
    h, w, u = (cr.randn(*shape, dtype=cr.float64, generator=generator) for shape in ((3,), (4, 3), (4,)))
    jacobian = jacrev(lambda w: w @ h)(w)
    report.equal("shape of dq/dW for q = W h, 4 x 3", list(jacobian.shape), [4, 4, 3])
    report.equal("its entries that are not zero", int((jacobian != 0).sum()), 12)
    report.equal("u dq/dW = u^T h^T", cr.einsum("i,ijk->jk", u, jacobian), cr.outer(u, h), 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
