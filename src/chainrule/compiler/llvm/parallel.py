"""Machine code that lets several threads run one program: a barrier, and the loop in which a worker waits for work.

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

The caller waits for ``done``, which workers raise in code of their own: when it returns, nobody is inside the program,
and its machine code may be given up.
"""

from __future__ import annotations

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.values import Value

GENERATION, ARRIVED, FUNCTION, TABLE, THREADS, STATUS, START, DONE, BLOCK = 0, 64, 128, 136, 144, 192, 256, 320, 384
#: a waiting thread spins, then offers its core to others, then sleeps: times around each loop, and microseconds
SPINS, YIELDS, SLEEP = 400, 4000, 50


def _atomic_load(b: Builder, p: Value) -> Value:
    return b.op(f"load atomic i64, ptr {p.text} acquire, align 8", "i64")


def _atomic_store(b: Builder, x: Value, p: Value) -> None:
    b.raw(f"store atomic i64 {x.text}, ptr {p.text} release, align 8")


def _pause(b: Builder) -> None:
    if b.target.is_x86:
        b.declare("llvm.x86.sse2.pause", "declare void @llvm.x86.sse2.pause()")
        b.raw("call void @llvm.x86.sse2.pause()")
    else:
        b.declare("llvm.aarch64.hint", "declare void @llvm.aarch64.hint(i32)")
        b.raw("call void @llvm.aarch64.hint(i32 1)")


def _wait(b: Builder, rounds: Value) -> Value:
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
    b.op(f"call i32 @usleep(i32 {SLEEP})", "i32")
    b.branch(None, end)
    b.label(end)
    return rounds + 1


def _until(b: Builder, look: str, p: Value, bound: Value) -> None:
    """Wait until the counter at p has reached (``look`` "ge") or left ("ne") the bound."""
    slot = b.alloca(8, 8)
    b.store(b.i64(0), slot)
    head, body, end = b.new_label("look"), b.new_label("wait"), b.new_label("go")
    b.branch(None, head)
    b.label(head)
    now = _atomic_load(b, p)
    b.branch(b.ge(now, bound) if look == "ge" else b.ne(now, bound), end, body)
    b.label(body)
    b.store(_wait(b, b.load(slot, "i64")), slot)
    b.branch(None, head)
    b.label(end)


def _call(b: Builder, block: Value, thread: Value, threads: Value) -> None:
    """Run the function that the block names as one of its threads."""
    function = b.load(b.offset(block, FUNCTION), "ptr")
    table = b.load(b.offset(block, TABLE), "ptr")
    b.raw(f"call void {function.text}(ptr {table.text}, i64 {thread.text}, i64 {threads.text}, ptr {block.text})")


def emit_lead(module: Module) -> str:
    """``void lead(ptr block, i64 generation, i64 done)``: give out the work, take part, wait until all are back."""
    name = "lead"
    with module.function(name, noalias=False, block="ptr", generation="i64", done="i64") as b:
        block, generation, done = b.args
        _atomic_store(b, generation, b.offset(block, GENERATION))
        _call(b, block, b.i64(0), b.load(b.offset(block, THREADS), "i64"))
        _until(b, "ge", b.offset(block, DONE), done)
    return name


def emit_stop(module: Module) -> str:
    """``void stop(ptr block)``: let all workers leave."""
    name = "stop"
    with module.function(name, block="ptr") as b:
        _atomic_store(b, b.i64(-1), b.offset(b.args[0], GENERATION))
    return name


def emit_barrier(module: Module) -> str:
    """``void barrier(ptr block, i64 target)``: come, and wait until ``arrived`` has reached ``target``."""
    name = "barrier"
    if not module.has(name):
        with module.function(name, internal=True, inline=False, block="ptr", target="i64") as b:
            block, target = b.args
            arrived = b.offset(block, ARRIVED)
            b.op(f"atomicrmw add ptr {arrived.text}, i64 1 acq_rel", "i64")
            _until(b, "ge", arrived, target)
    return name


def emit_worker(module: Module) -> str:
    """``void worker(ptr block, i64 thread, i64 seen)``: run what the block names, each time its generation changes.

    ``seen`` is the generation when the worker was made: work that was given out before is not for it. A negative
    generation ends the function.
    """
    name = "worker"
    with module.function(name, block="ptr", thread="i64", first="i64") as b:
        block, thread, first = b.args
        generation = b.offset(block, GENERATION)
        seen = b.alloca(8, 8)
        b.store(first, seen)
        head, work, end = b.new_label("next"), b.new_label("work"), b.new_label("stop")
        run, idle = b.new_label("run"), b.new_label("idle")
        b.branch(None, head)
        b.label(head)
        _until(b, "ne", generation, b.load(seen, "i64"))
        now = _atomic_load(b, generation)
        b.store(now, seen)
        b.branch(b.lt(now, 0), end, work)
        b.label(work)
        threads = b.load(b.offset(block, THREADS), "i64")
        b.branch(b.lt(thread, threads), run, idle)
        b.label(run)
        _call(b, block, thread, threads)
        done = b.offset(block, DONE)
        b.op(f"atomicrmw add ptr {done.text}, i64 1 acq_rel", "i64")
        b.branch(None, idle)
        b.label(idle)
        b.branch(None, head)
        b.label(end)
        b.ret()
    return name
