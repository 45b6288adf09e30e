"""One seed for every source of random numbers."""

from __future__ import annotations

import random

import numpy as np

from chainrule import tensors as ct


def seed_everything(seed: int = 0, workers: bool = False) -> int:
    """Seed Python's, NumPy's and chainrule's generators, and return the seed. ``workers`` is accepted: workers draw
    from seeds that follow from the main one anyway. Raises ValueError for a seed outside of 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: the seed must lie between 0 and 2**32 - 1, got {seed}")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for user code and libraries that draw from NumPy's global generator
    ct.manual_seed(seed)
    return seed
