"""Machine code that runs a whole program several times, each time on the next entry of its arguments.

After the addresses of the buffers and that of the scratch memory, the table has four words more::

    COUNT   how many steps to run
    MOVES   the address of what happens after each step
    DONE    how many steps have been run, written by the code

What happens after a step is data, as 64-bit integers: the number of copies and of moves, then for every copy the
address it reads, the address it writes (which the code advances), the bytes, and how far the destination goes on; then
for every move the place in the table and how far its address goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.parallel import START, STATUS
from chainrule.compiler.llvm.values import Value

#: words of the table behind that of the scratch memory
COUNT, MOVES, DONE, WORDS = 1, 2, 3, 4


def _advance(module: Module) -> str:
    """``void advance(table, moves)``: the copies and moves after a step."""
    name = "advance"
    if not module.has(name):
        with module.function(name, internal=True, inline=False, noalias=False, table="ptr", moves="ptr") as b:
            table, moves = b.args
            copies, steps = b.load(moves, "i64"), b.load(b.offset(moves, 8), "i64")
            with b.loop(0, copies) as k:
                entry = b.offset(moves, k * 32 + 16)
                source, goal = b.load(entry, "ptr"), b.load(b.offset(entry, 8), "ptr")
                b.memcpy(goal, source, b.load(b.offset(entry, 16), "i64"))
                b.store(b.offset(goal, b.load(b.offset(entry, 24), "i64")), b.offset(entry, 8))
            with b.loop(0, steps) as k:
                entry = b.offset(moves, copies * 32 + k * 16 + 16)
                place = b.offset(table, b.load(entry, "i64") * 8)
                b.store(b.load(place, "i64") + b.load(b.offset(entry, 8), "i64"), place)
    return name


def _word(b: Builder, table: Value, buffers: int, word: int) -> Value:
    return b.offset(table, (buffers + word) * 8)


def emit_repeated(module: Module, body: str, buffers: int) -> str:
    """``i64 repeated(table)``: the status of the step that failed, or 0."""
    name, inner = "repeated", "repeated_body"
    with module.function(inner, internal=True, inline=False, noalias=False, returns="i64", table="ptr") as b:
        table = b.args[0]
        with b.loop(0, b.load(_word(b, table, buffers, COUNT), "i64")) as step:
            failed = b.call(body, table, returns="i64")
            assert failed is not None
            with b.if_(b.ne(failed, 0)):
                b.ret(failed)
            b.call(_advance(module), table, b.load(_word(b, table, buffers, MOVES), "ptr"))
            b.store(step + 1, _word(b, table, buffers, DONE))
        b.ret(b.i64(0))
    with module.function(name, returns="i64", table="ptr") as b:
        slot = b.alloca(8, 8)
        with b.denormals_flushed():
            status = b.call(inner, b.args[0], returns="i64")
            assert status is not None
            b.store(status, slot)
        b.ret(b.load(slot, "i64"))
    return name


def emit_repeated_together(module: Module, body: str, barrier: str, barriers: int, buffers: int) -> str:
    """``void together(table, thread, threads, block)``: the same on several threads.

    ``i64 body(table, thread, threads, block, arrived)`` is one step with so many barriers inside, the first of which
    waits for ``arrived + threads`` arrivals; it returns 1 if a check failed and everybody left early.
    """
    name, inner = "together", "together_body"
    arguments = {"table": "ptr", "thread": "i64", "threads": "i64", "block": "ptr"}
    with module.function(inner, internal=True, inline=False, noalias=False, **arguments) as b:
        table, thread, threads, block = b.args
        start = b.load(b.offset(block, START), "i64")
        with b.loop(0, b.load(_word(b, table, buffers, COUNT), "i64")) as step:
            arrived = start + step * threads * (barriers + 2)
            left = b.call(body, table, thread, threads, block, arrived, returns="i64")
            assert left is not None
            with b.if_(b.ne(left, 0)):
                b.ret()
            b.call(barrier, block, arrived + threads * (barriers + 1))
            with b.if_(b.ne(b.load(b.offset(block, STATUS), "i64"), 0)):
                b.ret()
            with b.if_(b.eq(thread, 0)):
                b.call(_advance(module), table, b.load(_word(b, table, buffers, MOVES), "ptr"))
                b.store(step + 1, _word(b, table, buffers, DONE))
            b.call(barrier, block, arrived + threads * (barriers + 2))
    with module.function(name, noalias=False, **arguments) as b, b.denormals_flushed():
        b.call(inner, *b.args)
    return name


def moves(copies: Sequence[tuple[int, int, int, int]], steps: Sequence[tuple[int, int]]) -> list[int]:
    """What happens after each step, in words."""
    return [len(copies), len(steps), *[w for c in copies for w in c], *[w for s in steps for w in s]]
