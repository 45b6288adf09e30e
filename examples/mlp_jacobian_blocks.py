"""The exact gradient of a multilayer perceptron, by the loops that one writes on paper.

Layer i maps (z_i, w_i) to z_{i+1} = s(W_i z_i), with w_i the rows of W_i one after another; the last layer uses
softmax, the loss is cross-entropy. Going forward, each layer's Jacobian is split into two blocks,

    A_i = dz_{i+1}/dz_i = D_i W_i          B_i = dz_{i+1}/dw_i = D_i (x) z_i^T     (Kronecker product)

with D_i = diag(s (1 - s)) for a sigmoid layer and diag(y) - y y^T for softmax. Going backward, p_i = A_i^T
p_{i+1} is the adjoint of z_i and q_i = B_i^T p_{i+1} the gradient of w_i.
"""

from itertools import pairwise

from _report import Report, Row, exit_code

import chainrule as cr
import chainrule.nn.functional as F


def forward(x: cr.Tensor, weights: list[cr.Tensor]) -> list[cr.Tensor]:
    """z_0 ... z_{L+1}."""
    values = [x]
    for index, w in enumerate(weights):
        t = w @ values[-1]
        values.append(F.softmax(t, dim=0) if index == len(weights) - 1 else F.sigmoid(t))
    return values


def jacobian_blocks(z: cr.Tensor, w: cr.Tensor, output: cr.Tensor, softmax: bool) -> tuple[cr.Tensor, cr.Tensor]:
    """A and B of one layer, from its input z, its weights, and its output."""
    inner = cr.diag(output) - cr.outer(output, output) if softmax else cr.diag(output * (1 - output))
    return inner @ w, cr.kron(inner, z.unsqueeze(0))


def forward_backward(x: cr.Tensor, y: cr.Tensor, weights: list[cr.Tensor]):
    """Values z_i, adjoints p_i and gradients q_i, all by explicit matrices."""
    with cr.no_grad():
        values = forward(x, weights)
        blocks = [
            jacobian_blocks(z, w, output, softmax=index == len(weights) - 1)
            for index, (z, w, output) in enumerate(zip(values, weights, values[1:], strict=False))
        ]
        adjoint = -y / values[-1]  # gradient of the loss with respect to the output
        adjoints, gradients = [adjoint], []
        for (a, b), w in zip(reversed(blocks), reversed(weights), strict=True):
            gradients.insert(0, (b.T @ adjoint).reshape(w.shape))
            adjoint = a.T @ adjoint
            adjoints.insert(0, adjoint)
    return values, adjoints, gradients


def loss_of(x: cr.Tensor, y: cr.Tensor, weights: list[cr.Tensor]) -> cr.Tensor:
    return -cr.dot(cr.log(forward(x, weights)[-1]), y)


def main() -> list[Row]:
    report = Report("Sigmoid network with softmax output: gradient by Jacobian blocks and by reverse mode")
    x = cr.tensor([1.0, 0.0, -1.0], dtype=cr.float64)
    y = cr.tensor([0.0, 1.0], dtype=cr.float64)
    w0 = cr.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], dtype=cr.float64, requires_grad=True)
    w1 = cr.tensor([[-1.0, 0.0], [2.0, -1.0]], dtype=cr.float64, requires_grad=True)
    z0, z1, z2 = forward(x, [w0, w1])
    f = loss_of(x, y, [w0, w1])
    f.backward()
    report.equal("z1", z1, [0.7311, 0.7311], 5e-5, digits=4)
    report.equal("z2", z2, [0.1881, 0.8119], 5e-5, digits=4)
    report.equal("f", f, 0.2084, 5e-5, digits=4)
    report.equal("df/dW0", w0.grad, [[-0.1110, 0, 0.1110], [0.0370, 0, -0.0370]], 5e-5, digits=4)
    report.equal("df/dW1", w1.grad, [[0.1375, 0.1375], [-0.1375, -0.1375]], 5e-5, digits=4)

    # Closed forms with the products worked out: D1 and the loss collapse to z2 - y.
    with cr.no_grad():
        residual = (z2 - y).unsqueeze(0)
        row_0 = cr.kron(residual @ w1 @ cr.diag(z1 * (1 - z1)), z0.unsqueeze(0))
        row_1 = cr.kron(residual, z1.unsqueeze(0))
    report.equal("df/dW0 = [(z2 - y)^T W1 D0] (x) z0^T", w0.grad, row_0.reshape(2, 3), 1e-12, digits=4)
    report.equal("df/dW1 = (z2 - y)^T (x) z1^T", w1.grad, row_1.reshape(2, 2), 1e-12, digits=4)

    # The general loops, here and on a deeper network.
    _, adjoints, gradients = forward_backward(x, y, [w0, w1])
    report.equal("q0 = B0^T p1", w0.grad, gradients[0], 1e-12, digits=4)
    report.equal("q1 = B1^T p2", w1.grad, gradients[1], 1e-12, digits=4)
    report.equal("adjoint p1 = W1^T (z2 - y)", adjoints[1], (w1.T @ (z2 - y)).detach(), 1e-12)

    generator = cr.Generator().manual_seed(7)
    sizes = (5, 7, 6, 4, 3)
    x = cr.randn(sizes[0], dtype=cr.float64, generator=generator)
    y = cr.tensor([0.2, 0.5, 0.3], dtype=cr.float64)
    weights = [cr.randn(m, n, dtype=cr.float64, generator=generator).requires_grad_() for n, m in pairwise(sizes)]
    loss_of(x, y, weights).backward()
    _, _, gradients = forward_backward(x, y, weights)
    for index, (w, q) in enumerate(zip(weights, gradients, strict=True)):
        report.equal(f"{'-'.join(map(str, sizes))} network, q{index}", w.grad, q, 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
