"""Which kernels threads run without a barrier between them: never two that could meet at the same memory."""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.kernels import INPUT, OUTPUT, SCRATCH, Access, Buffer, Check, Loop, Store
from chainrule.compiler.llvm.phases import phases
from chainrule.ir.graph import Value

F4 = np.dtype("f4")


def buffer(role, size=100, offset=0):
    b = Buffer(0, size, F4, role)
    b.offset = offset
    return b


def loop(read, written):
    x = Value(0, (100,), F4)
    loads = {Value(n, (100,), F4): Access(b, 0, (1,)) for n, b in enumerate(read)}
    return Loop((100,), 0, loads, [], [Store(x, Access(b, 0, (1,))) for b in written], [], {})


def test_independent_kernels_share_a_phase_and_dependent_ones_do_not():
    x, a, b, c = buffer(INPUT), *(buffer(SCRATCH, offset=400 * n) for n in range(3))
    first, beside, after = loop([x], [a]), loop([x], [b]), loop([a], [c])
    assert phases([first, beside, after], [True] * 3) == [[0, 1], [2]]
    assert phases([first, after, beside], [True] * 3) == [[0], [1, 2]]
    # a kernel that writes what another one reads waits as well
    assert phases([after, first], [True] * 2) == [[0], [1]]


def test_what_one_thread_does_needs_no_barrier():
    x, a, c = buffer(INPUT), buffer(SCRATCH), buffer(SCRATCH, offset=400)
    kernels = [loop([x], [a]), loop([a], [c])]
    assert phases(kernels, [False, False]) == [[0, 1]]
    assert phases(kernels, [False, True]) == [[0], [1]]
    assert phases(kernels, [True, False]) == [[0], [1]]


def test_buffers_that_lie_in_the_same_place_of_the_arena_are_the_same_memory():
    x, old, new = buffer(INPUT), buffer(SCRATCH, offset=64), buffer(SCRATCH, offset=396)
    y = buffer(OUTPUT, size=7)
    assert phases([loop([old], [y]), loop([x], [new])], [True] * 2) == [[0], [1]]
    new.offset = 464
    assert phases([loop([old], [y]), loop([x], [new])], [True] * 2) == [[0, 1]]


def test_an_output_may_stand_in_the_memory_of_an_input_of_its_size():
    x, small, a = buffer(INPUT), buffer(INPUT, size=50), buffer(SCRATCH)
    replaced = buffer(OUTPUT)
    assert phases([loop([x], [a]), loop([small], [replaced])], [True] * 2) == [[0], [1]]
    assert phases([loop([small], [a]), loop([small], [replaced])], [True] * 2) == [[0, 1]]


def test_what_was_checked_holds_from_the_next_phase_on():
    x, index, a, b = buffer(INPUT), buffer(INPUT, size=9), buffer(SCRATCH), buffer(SCRATCH, offset=400)
    check = Check(None, Access(index, 0, (1,)), 9, 100)
    assert phases([check, loop([x, index], [a])], [False, True]) == [[0], [1]]
    assert phases([loop([x], [a]), check, loop([x], [b])], [True, False, True]) == [[0, 1], [2]]
