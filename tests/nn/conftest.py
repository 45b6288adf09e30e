"""A check of derivatives that every test of this folder may ask for."""

from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr


def _check(fn: Callable[..., cr.Tensor], *values: object, tolerance: float = 1e-6) -> None:
    """Backward through ``fn(*tensors)`` against central differences along a random direction, in float64."""
    rng = np.random.default_rng(7)
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    probe: list[np.ndarray] = []

    def number(parts: list[np.ndarray]) -> float:
        out = fn(*[cr.tensor(p) for p in parts])
        if not probe:
            probe.append(rng.standard_normal(tuple(out.shape)))
        return float((out.numpy() * probe[0]).sum())

    number(arrays)
    leaves = [cr.tensor(a, requires_grad=True) for a in arrays]
    (fn(*leaves) * cr.tensor(probe[0])).sum().backward()
    directions = [rng.standard_normal(a.shape) for a in arrays]
    step = 1e-6
    ahead, behind = (number([a + s * step * d for a, d in zip(arrays, directions, strict=True)]) for s in (1, -1))
    got = sum(float((leaf.grad.numpy() * d).sum()) for leaf, d in zip(leaves, directions, strict=True))
    assert got == pytest.approx((ahead - behind) / (2 * step), rel=tolerance, abs=tolerance)


@pytest.fixture
def check_gradient() -> Callable[..., None]:
    """``check_gradient(fn, *arrays)``: fails if the derivative of ``fn`` is not that of the numbers it computes."""
    return _check
