"""Made-up programs of views, in-place writes and arithmetic, run with PyTorch and with chainrule.

Where PyTorch gives gradients, ours are the same. Where it refuses because a saved value was overwritten, we refuse or
give a gradient that agrees with finite differences.
"""

import numpy as np
import pytest

import chainrule

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.crosscheck

SEEDS = 400
VIEWS = (
    lambda x, k: x[k % x.shape[0]] if x.ndim > 1 else x[k % x.shape[0] :],
    lambda x, k: x[:, : 1 + k % x.shape[1]] if x.ndim > 1 else x[: 1 + k % x.shape[0]],
    lambda x, k: x.transpose(0, x.ndim - 1),
    lambda x, k: x.reshape(-1),
    lambda x, k: x.unsqueeze(k % 2),
    lambda x, k: x[..., :: 1 + k % 2],
    lambda x, k: x.narrow(0, 0, 1 + k % x.shape[0]),
)
WRITES = (
    lambda x, y: x.mul_(y),
    lambda x, y: x.add_(y),
    lambda x, y: x.sin_(),
    lambda x, y: x.copy_(y.expand(x.shape)),
    lambda x, y: x.__setitem__(0, y),
    lambda x, y: x.zero_(),
    lambda x, y: x.masked_fill_(x > 0.3, 0.7),
    lambda x, y: x.sigmoid_(),
    lambda x, y: x.div_(2 + y * y),
    lambda x, y: x.__setitem__(x > 0, 0.5),
)


def program(library, seed, shift=0.0):
    """The input, all tensors and the loss of a program."""
    r = np.random.default_rng(seed)
    a = library.tensor(r.standard_normal((3, 4)) + shift, requires_grad=True)
    tensors = [a * 1, a.sin(), library.zeros(3, 4, dtype=library.float64)]
    terms = []
    for _ in range(12):
        kind, k, i, j = r.integers(6), int(r.integers(20)), int(r.integers(99)), int(r.integers(12))
        x = tensors[i % len(tensors)]
        if kind < 2:
            tensors.append(VIEWS[k % len(VIEWS)](x, k))
        elif kind < 4:
            y = a.reshape(-1)[j] if k % 3 else tensors[k % len(tensors)].reshape(-1)[0] * 1
            WRITES[i % len(WRITES)](x, y)
        elif kind == 4:
            terms.append((x * x.cos()).sum() if k % 2 else (x * 0.5).sum())
        else:
            terms.append((x * tensors[k % len(tensors)].sum()).sum())
    loss = sum(terms) + sum(((1 + n) * t * t).sum() for n, t in enumerate(tensors))
    return a, tensors, loss


def run(library, seed):
    """What a program computes: its values, and the gradient or the refusal."""
    a, tensors, loss = program(library, seed)
    values = [t.detach().numpy().copy() for t in tensors]
    try:
        loss.backward()
    except RuntimeError as refusal:
        return values, refusal
    return values, a.grad.numpy()


def slope(seed, direction):
    """The derivative of our loss along a direction, from values alone."""
    up, down = (program(chainrule, seed, step * direction)[2].item() for step in (1e-6, -1e-6))
    return (up - down) / 2e-6


@pytest.mark.parametrize("block", range(8))
def test_same_values_and_gradients(block):
    gradients = more = 0
    for seed in range(block * SEEDS // 8, (block + 1) * SEEDS // 8):
        try:
            values, gradient = run(torch, seed)
        except RuntimeError:  # it takes some views of constants for leaves
            continue
        ours, our_gradient = run(chainrule, seed)
        for v, w in zip(values, ours, strict=True):
            np.testing.assert_allclose(w, v, rtol=1e-9, atol=1e-12, err_msg=f"seed {seed}")
        if isinstance(gradient, np.ndarray):
            assert isinstance(our_gradient, np.ndarray), f"seed {seed}: {our_gradient}"
            np.testing.assert_allclose(our_gradient, gradient, rtol=1e-8, atol=1e-10, err_msg=f"seed {seed}")
            gradients += 1
        elif isinstance(our_gradient, np.ndarray):
            direction = np.random.default_rng(seed).standard_normal((3, 4))
            np.testing.assert_allclose((our_gradient * direction).sum(), slope(seed, direction), rtol=1e-4, atol=1e-4)
            more += 1
    assert gradients >= 5
    assert more
