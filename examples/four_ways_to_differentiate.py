"""Symbolic, numeric, forward and reverse differentiation of one function, side by side.

f(x) = sum over i of x_i sin(x_{i+1}), the index taken round a ring of n variables, so that
df/dx_i = sin(x_{i+1}) + x_{i-1} cos(x_i).

A difference quotient is wrong twice: by the terms of the Taylor series that it cuts off, which grow with the
step h, and by rounding, which grows as h shrinks (about eps |f| / h). The table shows the price of each method,
the figure the two errors.
"""

import time
from pathlib import Path

import numpy as np
from _report import Report, Row, exit_code, print_table

import chainrule as cr
from chainrule.func import jvp


def f(x: cr.Tensor) -> cr.Tensor:
    return (x * cr.sin(cr.roll(x, -1, dims=-1))).sum(-1)


def symbolic(x: cr.Tensor) -> cr.Tensor:
    """The derivative that a person writes down: no pass over the function, but a new formula for each function."""
    return cr.sin(cr.roll(x, -1)) + cr.roll(x, 1) * cr.cos(x)


def numeric(x: cr.Tensor, step: float, central: bool = True) -> cr.Tensor:
    """Difference quotients, one or two evaluations per variable."""
    quotients = []
    for basis in cr.eye(len(x), dtype=x.dtype):
        if central:
            quotients.append((f(x + step * basis) - f(x - step * basis)) / (2 * step))
        else:
            quotients.append((f(x + step * basis) - f(x)) / step)
    return cr.stack(quotients)


def forward(x: cr.Tensor) -> cr.Tensor:
    """One pass with a tangent per variable."""
    return cr.stack([jvp(f, (x,), (basis,))[1] for basis in cr.eye(len(x), dtype=x.dtype)])


def reverse(x: cr.Tensor) -> cr.Tensor:
    """One pass forward, one backward, whatever the number of variables."""
    leaf = x.clone().requires_grad_()
    f(leaf).backward()
    return leaf.grad


def error_against_step(x: cr.Tensor, steps: np.ndarray, central: bool) -> np.ndarray:
    """Median absolute error over the entries of the gradient, for each step."""
    exact = symbolic(x).numpy()
    return np.array([np.median(np.abs(numeric(x, step, central).numpy() - exact)) for step in steps])


def draw(path: Path, steps: np.ndarray, one_sided: np.ndarray, central: np.ndarray, exact: float) -> None:
    """Error against step on logarithmic axes, with the slopes that the theory gives."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    axes.loglog(steps, one_sided, "o-", color="#c44e52", ms=4, lw=1.6, label="(f(x + h) - f(x)) / h")
    axes.loglog(steps, central, "s-", color="#4c72b0", ms=4, lw=1.6, label="(f(x + h) - f(x - h)) / 2h")
    axes.axhline(exact, color="#2f7d4f", lw=1.8)
    notes = (("cut off: grows with h", (1e-4, 2e-4), 31), ("cut off: h²", (6e-3, 1e-7), 50))
    for text, place, angle in (*notes, ("rounding: grows with 1 / h", (1e-11, 8e-4), -31)):
        axes.annotate(text, place, color="0.3", fontsize=9, rotation=angle, ha="center", va="center")
    axes.annotate("forward and reverse mode", (1e-6, 2.5e-16), color="#2f7d4f", fontsize=9, ha="center")
    axes.set(xlabel="step h", ylabel="error of a gradient entry (median)", ylim=(1e-17, 10))
    axes.set_title("A difference quotient has a best step; automatic differentiation has no step", fontsize=10.5)
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.12))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)
    print(f"wrote {path}")


def main(folder: str | Path = "runs", n: int = 64) -> list[Row]:
    report = Report(f"Four ways to the gradient of one function of {n} variables")
    x = cr.randn(n, dtype=cr.float64, generator=cr.Generator().manual_seed(0))
    methods = [  # name, how, evaluations of f or passes over it, tolerance
        ("symbolic", symbolic, "0", 0.0),
        ("numeric, h = 1e-5", lambda x: numeric(x, 1e-5), f"{2 * n}", 1e-8),
        ("forward mode", forward, f"{n}", 1e-13),
        ("reverse mode", reverse, "1 + 1 backward", 1e-13),
    ]
    exact, lines = symbolic(x), []
    for name, method, passes, tolerance in methods:
        elapsed = []
        for _ in range(3):
            start = time.perf_counter()
            gradient = method(x)
            elapsed.append(time.perf_counter() - start)
        error = (gradient - exact).abs().max().item()
        lines.append((name, f"{gradient[0].item():.12f}", f"{error:.1e}", passes, f"{1e3 * min(elapsed):.2f} ms"))
        if method is not symbolic:
            report.equal(f"gradient, {name}, against the formula", gradient, exact, tolerance)
    print_table(("method", "df/dx_1", "largest error", "passes", "time"), lines)

    steps = 10.0 ** np.arange(-15, 0.25, 0.5)
    one_sided, central = (error_against_step(x, steps, kind) for kind in (False, True))
    at = {round(np.log10(step), 1): index for index, step in enumerate(steps)}
    report.equal("one-sided: error falls 10x per 10x in h", one_sided[at[-3]] / one_sided[at[-4]], 10.0, 0.5)
    report.equal("central: error falls 100x per 10x in h", central[at[-2]] / central[at[-3]], 100.0, 5.0)
    report.at_least("one-sided: rounding takes over below 1e-8", one_sided[at[-13]] / one_sided[at[-8]], 1e3)
    report.at_least("central: rounding takes over below 1e-5", central[at[-11]] / central[at[-5]], 1e3)
    report.equal("one-sided: log10 of the best step (about -8)", np.log10(steps[one_sided.argmin()]), -8.0, 1.0)
    report.equal("central: log10 of the best step (about -5)", np.log10(steps[central.argmin()]), -5.0, 1.0)

    try:
        modes = np.abs(forward(x).numpy() - exact.numpy()).max()
        draw(Path(folder) / "error_against_step.png", steps, one_sided, central, max(modes, np.finfo(float).eps / 2))
    except ImportError:
        print("matplotlib is not installed: no figure")
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
