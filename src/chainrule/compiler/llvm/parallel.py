"""Machine code that lets several threads run one program: the block they share, and a barrier.

All threads run the same sequence of kernels, each on its own shard of rows, with a barrier where a kernel reads what
others wrote. How work is divided changes no result: a row is always computed by one thread, in one order.

The shared block (``ctypes`` memory, one cache line per field) holds::

    0    generation   raised by the caller when there is work (negative: stop)
    64   arrived      how many threads have come to a barrier, ever
    128  function     what to run, as ``void f(ptr table, i64 thread, i64 threads, ptr block)``
    136  table        its first argument
    144  threads      how many take part
    192  status       not 0 after a check failed: everybody leaves at the next barrier
    256  start        ``arrived`` when the work began
    320  done         how many times a worker has come back from a program, ever
    384  sleeping     how many workers wait for the condition
    448  mutex        the condition's
    512  condition    signalled when the generation changes
    576  taken        how many parts of a batch threads have asked for; 0 when none goes through one
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.values import Value

GENERATION, ARRIVED, FUNCTION, TABLE, THREADS, STATUS, START, DONE = 0, 64, 128, 136, 144, 192, 256, 320
SLEEPING, MUTEX, CONDITION, TAKEN, BLOCK = 384, 448, 512, 576, 640
#: a waiting thread spins, then offers its core to others, then sleeps: times around each loop, and microseconds
SPINS, YIELDS, SLEEP = 400, 4000, 50


def atomic_load(b: Builder, p: Value) -> Value:
    return b.op(f"load atomic i64, ptr {p.text} acquire, align 8", "i64")


def _pause(b: Builder) -> None:
    if b.target.is_x86:
        b.declare("llvm.x86.sse2.pause", "declare void @llvm.x86.sse2.pause()")
        b.raw("call void @llvm.x86.sse2.pause()")
    else:
        b.declare("llvm.aarch64.hint", "declare void @llvm.aarch64.hint(i32)")
        b.raw("call void @llvm.aarch64.hint(i32 1)")


def _wait(b: Builder, rounds: Value, gone: Callable[[], None] | None) -> Value:
    """One round of waiting after an unsuccessful look; returns the rounds so far."""
    b.declare("sched_yield", "declare i32 @sched_yield()")
    b.declare("usleep", "declare i32 @usleep(i32)")
    spin, give, sleep, end = (b.new_label(w) for w in ("spin", "give", "sleep", "waited"))
    later = b.new_label("later")
    b.branch(b.lt(rounds, SPINS), spin, later)
    b.label(spin)
    _pause(b)
    b.branch(None, end)
    b.label(later)
    b.branch(b.lt(rounds, SPINS + YIELDS), give, sleep)
    b.label(give)
    b.op("call i32 @sched_yield()", "i32")
    b.branch(None, end)
    b.label(sleep)
    if gone is None:
        b.op(f"call i32 @usleep(i32 {SLEEP})", "i32")
    else:
        gone()
    b.branch(None, end)
    b.label(end)
    return rounds + 1


def until(b: Builder, look: str, p: Value, bound: Value, gone: Callable[[], None] | None = None) -> None:
    """Wait until the counter at p has reached (``look`` "ge") or left ("ne") the bound.

    ``gone`` writes what a thread does instead of sleeping again and again: something that ends when it may go.
    """
    slot = b.alloca(8, 8)
    b.store(b.i64(0), slot)
    head, body, end = b.new_label("look"), b.new_label("wait"), b.new_label("go")
    b.branch(None, head)
    b.label(head)
    now = atomic_load(b, p)
    b.branch(b.ge(now, bound) if look == "ge" else b.ne(now, bound), end, body)
    b.label(body)
    b.store(_wait(b, b.load(slot, "i64"), gone), slot)
    b.branch(None, head)
    b.label(end)


def each_taken(b: Builder, block: Value, parts: int, threads: Value, body: Callable[[Value], None]) -> None:
    """``body(part)`` for each of some parts that this thread takes, one at a time, as long as there are any.

    All threads come here, and through a barrier before they come again. Each asks once more than it gets a part, so
    the last one to leave knows that it is, and clears the counter.
    """
    taken, head, work, end = b.offset(block, TAKEN), *(b.new_label(w) for w in ("take", "part", "taken"))
    b.branch(None, head)
    b.label(head)
    part = b.op(f"atomicrmw add ptr {taken.text}, i64 1 monotonic", "i64")
    b.branch(b.lt(part, parts), work, end)
    b.label(work)
    body(part)
    b.branch(None, head)
    b.label(end)
    with b.if_(b.eq(part, threads + (parts - 1))):
        b.store(b.i64(0), taken)


def emit_barrier(module: Module) -> str:
    """``void barrier(ptr block, i64 target)``: come, and wait until ``arrived`` has reached ``target``."""
    name = "barrier"
    if not module.has(name):
        with module.function(name, internal=True, inline=False, block="ptr", target="i64") as b:
            block, target = b.args
            arrived = b.offset(block, ARRIVED)
            b.op(f"atomicrmw add ptr {arrived.text}, i64 1 acq_rel", "i64")
            until(b, "ge", arrived, target)
    return name
