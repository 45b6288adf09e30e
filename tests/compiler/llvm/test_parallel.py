"""Parts that threads take one by one: each once, whoever comes, and a counter that is clear when all have left."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.parallel import BLOCK, TAKEN, each_taken
from chainrule.compiler.llvm.target import build, describe

PARTS = 5


@pytest.fixture(scope="module")
def take():
    """``take(block, threads, times)``: times[p] goes up for each part p that the caller takes."""
    module = Module(describe())
    with module.function("take", noalias=False, block="ptr", threads="i64", times="ptr") as b:
        block, threads, times = b.args

        def body(part):
            place = b.at(times, part, "i64")
            b.store(b.load(place, "i64") + 1, place)

        each_taken(b, block, PARTS, threads, body)
    return build(module.text, module.target).function("take", "ptr", "i64", "ptr")


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_one_after_another_the_last_clears_the_counter(take, threads):
    block = np.zeros(BLOCK // 8, np.int64)
    for _ in range(3):
        for k in range(threads):
            times = np.zeros(PARTS, np.int64)
            take(block.ctypes.data, threads, times.ctypes.data)
            assert times.tolist() == [int(k == 0)] * PARTS
            assert block[TAKEN // 8] == (PARTS + k + 1 if k < threads - 1 else 0)
    assert not block.any()


def test_at_once_each_part_is_taken_by_one(take):
    block, threads = np.zeros(BLOCK // 8, np.int64), 4
    for _ in range(50):
        times = np.zeros((threads, PARTS), np.int64)
        started = [threading.Thread(target=take, args=(block.ctypes.data, threads, t.ctypes.data)) for t in times]
        for t in started:
            t.start()
        for t in started:
            t.join()
        assert times.sum(0).tolist() == [1] * PARTS
        assert not block.any()
