"""Machine code that runs a whole program several times, each time on the next entry of its arguments.

After the addresses of the buffers and that of the scratch memory, the table has four words more::

    COUNT   how many steps to run
    MOVES   the address of what happens after each step
    DONE    how many steps have been run, written by the code

What happens after a step is data, as 64-bit integers: the number of copies and of moves; how many bytes the number has
that must stay finite (0: there is none), the place of its buffer in the table and its distance from there; then for
every copy the address it reads, the address it writes (which the code advances), the bytes, and how far the destination
goes on; then for every move the place in the table and how far its address goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.parallel import START, STATUS
from chainrule.compiler.llvm.values import Value

#: words of the table behind that of the scratch memory
COUNT, MOVES, DONE, WORDS = 1, 2, 3, 4
#: the status when the watched number is not finite; that step is done
LOST = -1


_HEAD = 5 * 8  # bytes before the copies


def _advance(module: Module) -> str:
    """``i64 advance(table, moves)``: the copies and moves after a step; whether the watched number is not finite."""
    name = "advance"
    if not module.has(name):
        arguments = {"table": "ptr", "moves": "ptr"}
        with module.function(name, internal=True, inline=False, noalias=False, returns="i64", **arguments) as b:
            table, moves = b.args
            copies, steps, size, place, distance = (b.load(b.offset(moves, 8 * k), "i64") for k in range(5))
            lost = b.alloca(8, 8)
            b.store(b.i64(0), lost)
            for kind, nbytes, exponent in (("i32", 4, 0x7F800000), ("i64", 8, 0x7FF0000000000000)):
                with b.if_(b.eq(size, nbytes)):
                    number = b.load(b.offset(b.load(b.offset(table, place * 8), "ptr"), distance), kind)
                    lost_now = b.eq(number & exponent, exponent)
                    b.store(b.select(lost_now, b.i64(1), 0), lost)
            with b.loop(0, copies) as k:
                entry = b.offset(moves, k * 32 + _HEAD)
                source, goal = b.load(entry, "ptr"), b.load(b.offset(entry, 8), "ptr")
                b.memcpy(goal, source, b.load(b.offset(entry, 16), "i64"))
                b.store(b.offset(goal, b.load(b.offset(entry, 24), "i64")), b.offset(entry, 8))
            with b.loop(0, steps) as k:
                entry = b.offset(moves, copies * 32 + k * 16 + _HEAD)
                place = b.offset(table, b.load(entry, "i64") * 8)
                b.store(b.load(place, "i64") + b.load(b.offset(entry, 8), "i64"), place)
            b.ret(b.load(lost, "i64"))
    return name


def _word(b: Builder, table: Value, buffers: int, word: int) -> Value:
    return b.offset(table, (buffers + word) * 8)


def emit_repeated(module: Module, body: str, buffers: int) -> str:
    """``i64 repeated(table)``: the status of the step that failed, ``LOST``, or 0."""
    name, inner = "repeated", "repeated_body"
    with module.function(inner, internal=True, inline=False, noalias=False, returns="i64", table="ptr") as b:
        table = b.args[0]
        with b.loop(0, b.load(_word(b, table, buffers, COUNT), "i64")) as step:
            failed = b.call(body, table, returns="i64")
            assert failed is not None
            with b.if_(b.ne(failed, 0)):
                b.ret(failed)
            lost = b.call(_advance(module), table, b.load(_word(b, table, buffers, MOVES), "ptr"), returns="i64")
            assert lost is not None
            b.store(step + 1, _word(b, table, buffers, DONE))
            with b.if_(b.ne(lost, 0)):
                b.ret(b.i64(LOST))
        b.ret(b.i64(0))
    with module.function(name, returns="i64", table="ptr") as b:
        slot = b.alloca(8, 8)
        with b.denormals_flushed():
            status = b.call(inner, b.args[0], returns="i64")
            assert status is not None
            b.store(status, slot)
        b.ret(b.load(slot, "i64"))
    return name


def emit_repeated_together(
    module: Module, body: str, barrier: str, barriers: Callable[[Builder, Value], Value], buffers: int
) -> str:
    """``void together(table, thread, threads, block)``: the same on several threads.

    ``i64 body(table, thread, threads, block, arrived)`` is one step with as many barriers inside as ``barriers`` says
    for that number of threads, the first of which waits for ``arrived + threads`` arrivals; it returns 1 if a check
    failed and everybody left early.
    """
    name, inner = "together", "together_body"
    arguments = {"table": "ptr", "thread": "i64", "threads": "i64", "block": "ptr"}
    with module.function(inner, internal=True, inline=False, noalias=False, **arguments) as b:
        table, thread, threads, block = b.args
        start, status = b.load(b.offset(block, START), "i64"), b.offset(block, STATUS)
        inside = barriers(b, threads)
        with b.loop(0, b.load(_word(b, table, buffers, COUNT), "i64")) as step:
            arrived = start + step * threads * (inside + 2)
            left = b.call(body, table, thread, threads, block, arrived, returns="i64")
            assert left is not None
            with b.if_(b.ne(left, 0)):
                b.ret()
            b.call(barrier, block, arrived + threads * (inside + 1))
            with b.if_(b.ne(b.load(status, "i64"), 0)):
                b.ret()
            with b.if_(b.eq(thread, 0)):
                lost = b.call(_advance(module), table, b.load(_word(b, table, buffers, MOVES), "ptr"), returns="i64")
                assert lost is not None
                b.store(step + 1, _word(b, table, buffers, DONE))
                with b.if_(b.ne(lost, 0)):
                    b.store(b.i64(LOST), status)
            b.call(barrier, block, arrived + threads * (inside + 2))
            with b.if_(b.ne(b.load(status, "i64"), 0)):
                b.ret()
    with module.function(name, noalias=False, **arguments) as b, b.denormals_flushed():
        b.call(inner, *b.args)
    return name


class Moves:
    """What happens after each step.

    Attributes:
        copies: (source address, destination address, bytes, how far the destination goes on).
        steps: (place in the table, how far its address goes on).
        watched: (bytes of the number, place of its buffer in the table, distance in bytes): steps end where it is not
            finite; three zeros for none.
    """

    def __init__(self) -> None:
        self.copies: list[tuple[int, int, int, int]] = []
        self.steps: list[tuple[int, int]] = []
        self.watched = (0, 0, 0)

    def words(self) -> np.ndarray[Any, Any]:
        """As the machine code takes them."""
        flat = [len(self.copies), len(self.steps), *self.watched]
        return np.array([*flat, *(w for c in self.copies for w in c), *(w for s in self.steps for w in s)], np.int64)
