"""Two linear neurons, the gradient derived by hand, and gradient descent drawn on the loss surface.

y = W2 (W1 x + b1) + b2 with the residual r = y - target. By the chain rule

    dr/dW1 = W2 x        dr/db1 = W2        dr/dW2 = W1 x + b1        dr/db2 = 1

and the mean squared error has the gradient mean(2 r dr). Although the network is linear in x, the loss is not
convex in its parameters: every W1 W2 with the right product is a minimum, and the origin is a saddle.
"""

from pathlib import Path

import numpy as np
from _report import Report, Row, exit_code

import chainrule as cr

SLOPE, INTERCEPT = 1.5, 0.5
X = cr.linspace(-1, 1, 21, dtype=cr.float64)
TARGET = SLOPE * X + INTERCEPT


def network(w1: cr.Tensor, b1: cr.Tensor, w2: cr.Tensor, b2: cr.Tensor) -> cr.Tensor:
    return w2 * (w1 * X + b1) + b2


def loss_of(parameters: list[cr.Tensor]) -> cr.Tensor:
    return ((network(*parameters) - TARGET) ** 2).mean()


def by_hand(w1: float, b1: float, w2: float, b2: float) -> list[float]:
    """Gradient of the mean squared error with respect to W1, b1, W2, b2."""
    x, target = X.numpy(), TARGET.numpy()
    residual = w2 * (w1 * x + b1) + b2 - target
    factors = (w2 * x, w2 * np.ones_like(x), w1 * x + b1, np.ones_like(x))
    return [float((2 * residual * factor).mean()) for factor in factors]


def leaves(*values: float) -> list[cr.Tensor]:
    return [cr.tensor(value, dtype=cr.float64, requires_grad=True) for value in values]


def descend(parameters: list[cr.Tensor], moving: tuple[int, ...], rate: float, steps: int):
    """Plain gradient descent on the parameters numbered in `moving`: their path and the loss along it, as arrays."""
    path, losses = [], []
    for _ in range(steps + 1):
        loss = loss_of(parameters)
        path.append([parameters[index].item() for index in moving])
        losses.append(loss.item())
        gradients = cr.autograd.grad(loss, [parameters[index] for index in moving])
        with cr.no_grad():
            for index, gradient in zip(moving, gradients, strict=True):
                parameters[index] -= rate * gradient
    return np.array(path), np.array(losses)


def surface(w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """Loss over a grid of (W1, W2) with b1 = 0 and b2 at its best value: (W1 W2 - slope)^2 mean(x^2)."""
    return (w1 * w2 - SLOPE) ** 2 * float((X * X).mean())


def draw(path: Path, runs: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = ("#d1495b", "#f28e2b", "#16697a", "#7a3e9d")
    span = np.linspace(-2.6, 2.6, 261)
    w1, w2 = np.meshgrid(span, span)
    height = surface(w1, w2)
    figure = plt.figure(figsize=(14, 5), layout="constrained")
    figure.suptitle("Gradient descent on the loss surface of y = W2 (W1 x + b1) + b2", fontsize=13)
    grid = figure.add_gridspec(1, 3, width_ratios=(1.1, 1.05, 0.85))

    solid = figure.add_subplot(grid[0], projection="3d", computed_zorder=False)
    root = np.sqrt(height)  # the square root brings the valleys out
    solid.plot_surface(
        w1, w2, root, cmap="YlGnBu", vmin=-0.4, vmax=root.max(), rcount=66, ccount=66, lw=0.15, ec="white"
    )
    for color, (_, track, _) in zip(colors, runs, strict=True):
        lift = np.sqrt(surface(*track.T)) + 0.05  # just above the surface
        solid.plot(*track.T, lift, color=color, lw=2.6)
        solid.scatter(*track[0], lift[0], color=color, s=30)
        solid.scatter(*track[-1], lift[-1], color=color, s=110, marker="*", ec="white", lw=0.6)
    solid.view_init(elev=52, azim=-72)
    solid.set_box_aspect((1, 1, 0.6), zoom=0.92)
    solid.set(
        xlabel="W1", ylabel="W2", zlabel="root of the loss", xticks=(-2, 0, 2), yticks=(-2, 0, 2), zticks=(0, 2, 4)
    )

    flat = figure.add_subplot(grid[1])
    saddle = float(surface(np.zeros(1), np.zeros(1))[0])
    levels = [0.0, 0.05, 0.2, 0.45, saddle, 1.5, 2.6, 4.2, 6.5, 9.5, 14.0, 20.0, 27.0]
    flat.contourf(w1, w2, root, levels=np.sqrt(levels), cmap="YlGnBu", vmin=-0.4, vmax=root.max())
    flat.contour(w1, w2, root, levels=np.sqrt(levels[1:]), colors="white", linewidths=0.7)
    for branch in (span[span > 0.5], span[span < -0.5]):
        label = "minima: W1 W2 = 1.5" if branch[0] > 0 else None
        flat.plot(branch, SLOPE / branch, color="0.15", lw=1.4, ls="--", label=label)
    flat.plot(0, 0, "x", color="0.15", ms=10, mew=2, ls="none", label="saddle")
    for color, (name, track, _) in zip(colors, runs, strict=True):
        flat.plot(*track.T, "-", color=color, lw=2.2, label=name)
        flat.plot(*track[0], "o", color=color, ms=7)
        flat.plot(*track[-1], "*", color=color, ms=15, mec="white", mew=0.8)
    flat.set(xlabel="W1", ylabel="W2", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
    flat.set_title("paths from the dots to the stars", fontsize=10)
    flat.legend(fontsize=8, loc="lower right", framealpha=0.92)

    curves = figure.add_subplot(grid[2])
    for color, (_, _, losses) in zip(colors, runs, strict=True):
        curves.semilogy(np.maximum(losses, 1e-16), color=color, lw=2)
    curves.set(xlabel="step", ylabel="mean squared error", ylim=(1e-13, 20))
    curves.grid(True, alpha=0.25)
    curves.set_title("the start next to the saddle waits long", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"wrote {path}")


def main(folder: str | Path = "runs") -> list[Row]:
    report = Report("The linear network y = W2 (W1 x + b1) + b2")

    # One sample first: the gradient of the residual itself.
    start = (0.8, -0.3, 1.2, 0.4)
    w1, b1, w2, b2 = leaves(*start)
    x = 0.7
    residual = w2 * (w1 * x + b1) + b2 - 2.0
    gradient = cr.autograd.grad(residual, [w1, b1, w2, b2])
    factors = [1.2 * 0.7, 1.2, 0.8 * 0.7 - 0.3, 1.0]
    report.equal("residual: (W2 x, W2, W1 x + b1, 1)", cr.stack(gradient), factors, 1e-12)

    parameters = leaves(*start)
    gradient = cr.autograd.grad(loss_of(parameters), parameters)
    report.equal("mean squared error, by hand", cr.stack(gradient), by_hand(*start), 1e-12)
    rate = 0.1
    moved = np.array(start) - rate * np.array(by_hand(*start))
    path, _ = descend(leaves(*start), (0, 1, 2, 3), rate, steps=1)
    report.equal("parameters after one step", path[1], moved, 1e-12)

    # All four parameters: descent finds the line, though not one particular set of weights.
    parameters = leaves(*start)
    path, losses = descend(parameters, (0, 1, 2, 3), rate, steps=600)
    w1, b1, w2, b2 = path[-1]
    report.equal("slope W1 W2 after 600 steps", w1 * w2, SLOPE, 1e-8)
    report.equal("intercept W2 b1 + b2", w2 * b1 + b2, INTERCEPT, 1e-8)
    report.equal("loss", losses[-1], 0.0, 1e-12)

    # The two weights alone, over the surface, with b1 = 0 and b2 at its best value.
    starts = {
        "from (2.3, -0.4)": (2.3, -0.4),
        "from (-0.5, 2.4)": (-0.5, 2.4),
        "from (-2.4, -1.6)": (-2.4, -1.6),
        "next to the saddle": (0.02, -0.01),
    }
    runs = []
    for name, (first, second) in starts.items():
        track, losses = descend(leaves(first, 0.0, second, INTERCEPT), (0, 2), 0.03, steps=400)
        report.equal(f"{name}: W1 W2 after 400 steps", track[-1].prod(), SLOPE, 1e-4)
        runs.append((name, track, losses))
    saddle = leaves(0.0, 0.0, 0.0, INTERCEPT)
    at_saddle = cr.autograd.grad(loss_of(saddle), [saddle[0], saddle[2]])
    report.equal("gradient at the saddle", cr.stack(at_saddle), [0.0, 0.0])
    try:
        draw(Path(folder) / "linear_network_surface.png", runs)
    except ImportError:
        print("matplotlib is not installed: no figure")
    return report.show()


if __name__ == "__main__":
    raise SystemExit(exit_code(main()))
