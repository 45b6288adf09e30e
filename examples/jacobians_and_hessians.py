"""Products with a Jacobian, whole Jacobians, and Hessians, all from transformations of one plain function.

A Jacobian-vector product costs one forward pass, a vector-Jacobian product one forward and one backward pass,
and neither builds the matrix. The matrix of a function from n inputs to m outputs takes n forward or m reverse
passes: take the fewer.
"""

import time

from _report import Report, Row, exit_code

import chainrule as cr
from chainrule.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap


def cheaper_jacobian(function, n: int, m: int):
    """Forward mode for a tall Jacobian (m > n), reverse mode for a wide one."""
    return jacfwd(function) if n <= m else jacrev(function)


def normals(*shape: int, generator: cr.Generator) -> cr.Tensor:
    return cr.randn(*shape, dtype=cr.float64, generator=generator)


def shortest_time(function, *arguments, repeats: int = 5) -> float:
    """Milliseconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> list[Row]:
    report = Report("Jacobians of y = tanh(A x), Hessians of log(sum(exp(x)))")
    generator = cr.Generator().manual_seed(1)

    # y = tanh(A x) has the Jacobian diag(1 - y^2) A.
    m, n = 5, 3
    a, x = normals(m, n, generator=generator), normals(n, generator=generator)
    tangent, cotangent = normals(n, generator=generator), normals(m, generator=generator)

    def layer(x: cr.Tensor) -> cr.Tensor:
        return cr.tanh(a @ x)

    y = layer(x)
    closed_form = (1 - y * y).unsqueeze(1) * a
    _, forward_product = jvp(layer, (x,), (tangent,))
    _, pull_back = vjp(layer, x)
    (reverse_product,) = pull_back(cotangent)
    report.equal("J v by jvp, no matrix", forward_product, closed_form @ tangent, 1e-12)
    report.equal("u J by vjp, no matrix", reverse_product, cotangent @ closed_form, 1e-12)
    report.equal("u (J v) = (u J) v", cotangent @ forward_product, (reverse_product @ tangent).item(), 1e-12)
    report.equal("J by jacfwd", jacfwd(layer)(x), closed_form, 1e-12)
    report.equal("J by jacrev", jacrev(layer)(x), closed_form, 1e-12)

    # By hand: one pass per basis vector. vmap runs them as one pass over a batch of basis vectors.
    columns = [jvp(layer, (x,), (basis,))[1] for basis in cr.eye(n, dtype=cr.float64)]
    rows = [pull_back(basis)[0] for basis in cr.eye(m, dtype=cr.float64)]
    report.equal(f"J from {n} forward passes", cr.stack(columns, dim=1), closed_form, 1e-12)
    report.equal(f"J from {m} reverse passes", cr.stack(rows), closed_form, 1e-12)
    batched = vmap(pull_back)(cr.eye(m, dtype=cr.float64))[0]
    report.equal("J from vmap over vjp", batched, closed_form, 1e-12)

    # Tall and wide: the cheaper mode is chosen from the sizes alone.
    for n, m in ((4, 400), (400, 4)):
        a, x = normals(m, n, generator=generator) / n**0.5, normals(n, generator=generator)
        closed_form = (1 - layer(x) ** 2).unsqueeze(1) * a
        jacobian = cheaper_jacobian(layer, n, m)
        report.equal(f"J, {n} inputs, {m} outputs: {min(n, m)} passes", jacobian(x), closed_form, 1e-12)
        forward_ms, reverse_ms = shortest_time(jacfwd(layer), x), shortest_time(jacrev(layer), x)
        print(f"{n:3d} inputs, {m:3d} outputs: forward {forward_ms:7.2f} ms, reverse {reverse_ms:7.2f} ms")

    # The Hessian of log-sum-exp is diag(p) - p p^T with p = softmax(x).
    def log_sum_exp(x: cr.Tensor) -> cr.Tensor:
        return cr.logsumexp(x, dim=0)

    x, v = normals(4, generator=generator), normals(4, generator=generator)
    p = cr.softmax(x, dim=0)
    closed_form = cr.diag(p) - cr.outer(p, p)
    report.equal("gradient of log-sum-exp", grad(log_sum_exp)(x), p, 1e-12)
    report.equal("Hessian, forward over reverse", hessian(log_sum_exp)(x), closed_form, 1e-12)
    report.equal("Hessian, reverse over forward", jacrev(jacfwd(log_sum_exp))(x), closed_form, 1e-12)
    _, product = jvp(grad(log_sum_exp), (x,), (v,))
    report.equal("H v, no matrix", product, closed_form @ v, 1e-12)

    # One gradient per sample of a batch, without a loop.
    w, xs = normals(3, generator=generator), normals(6, 3, generator=generator)
    per_sample = vmap(grad(lambda w, x: cr.sin(w @ x)), in_dims=(None, 0))(w, xs)
    report.equal("gradients per sample", per_sample, cr.cos(xs @ w).unsqueeze(1) * xs, 1e-12)
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
