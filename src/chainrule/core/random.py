"""Counter-based random bits: the same seed and position give the same bits, whatever the thread or the backend.

Philox 4x64-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"): a block of four 64-bit words is a
pure function of a key (the seed) and a counter (the position). A draw of n words takes the blocks
``offset, offset + 1, ...``; the generator then moves on by ``blocks(n)``.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1
_local = threading.local()


def words_for(count: int, itemsize: int) -> int:
    """64-bit words a draw of ``count`` numbers takes: half a word each for 4 bytes or less, a word for 8."""
    return count if itemsize == 8 else (count + 1) // 2


def blocks(count: int, itemsize: int) -> int:
    """How far a draw moves the counter."""
    return (words_for(count, itemsize) + 3) // 4


def bits(seed: int, offset: int, count: int, itemsize: int) -> np.ndarray[Any, Any]:
    """``count`` unsigned integers of 32 (``itemsize`` 4) or 64 bits (8) at position ``offset`` of stream ``seed``."""
    engine = getattr(_local, "engine", None)
    if engine is None:
        engine = _local.engine = np.random.Philox(0)
    # NumPy's Philox raises the counter before it makes a block, so block k is had by starting at k - 1.
    start = (int(offset) - 1) % (1 << 256)
    counter = np.array([(start >> (64 * i)) & _MASK for i in range(4)], np.uint64)
    key = np.array([int(seed) & _MASK, 0], np.uint64)
    engine.state = {
        "bit_generator": "Philox",
        "state": {"counter": counter, "key": key},
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    words = engine.random_raw(words_for(count, itemsize))
    return words if itemsize == 8 else words.astype("<u8", copy=False).view("<u4")[:count]


def uniform(seed: int, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Numbers in [0, 1): the top 24 (float32), 11 (float16) or 53 (float64) bits, scaled; each value exact."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    if kind.itemsize == 8:
        return ((bits(seed, offset, count, 8) >> np.uint64(11)) * np.float64(2.0**-53)).reshape(shape)
    keep = 24 if kind.itemsize == 4 else 11
    raw = bits(seed, offset, count, 4) >> np.uint32(32 - keep)
    return (raw.astype(np.float32) * np.float32(2.0**-keep)).astype(kind, copy=False).reshape(shape)
