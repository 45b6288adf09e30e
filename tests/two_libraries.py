"""Runs one program with two libraries and compares what comes out: used by the cross-checks with PyTorch."""

import numpy as np


def out(*ts):
    """Copies of the values as arrays; other things as they are."""
    return [t.detach().numpy().copy() if hasattr(t, "detach") else t for t in ts]


def bw(loss, *leaves):
    """The gradients of the leaves."""
    loss.backward()
    return out(*[leaf.grad for leaf in leaves])


def leaf(T, *shape, seed=0):
    return T.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def outcome(function, library):
    try:
        return function(library), None
    except Exception as error:  # noqa: BLE001 - which error it is, is what the test compares
        return None, error


def same_results(a, b):
    if a is None or b is None:
        return a is b
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray):
            if not isinstance(y, np.ndarray) or x.shape != y.shape or x.dtype != y.dtype:
                return False
            if not np.allclose(x, y, rtol=1e-6, atol=1e-12, equal_nan=True):
                return False
        elif x != y:
            return False
    return True
