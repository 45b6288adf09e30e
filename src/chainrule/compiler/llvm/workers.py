"""Machine code of the threads themselves: how a caller gives out work and how a worker waits for it.

A worker that has waited for long sleeps until the caller signals a condition, so it costs nothing.

The caller waits for ``done``, which workers raise in code of their own: when it returns, nobody is inside the program,
and its machine code may be given up.
"""

from __future__ import annotations

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.parallel import (
    CONDITION,
    DONE,
    FUNCTION,
    GENERATION,
    MUTEX,
    SLEEPING,
    TABLE,
    THREADS,
    atomic_load,
    until,
)
from chainrule.compiler.llvm.values import Value


def _libc(b: Builder, name: str, *args: Value) -> Value:
    found = b.call(name, *args, returns="i32")
    assert found is not None
    return found


def _null(b: Builder) -> Value:
    return Value(b, "null", "ptr")


def _wake(b: Builder, block: Value, generation: Value) -> None:
    """Raise the generation and wake who sleeps; in one order for all, or a worker could miss both."""
    b.raw(f"store atomic i64 {generation.text}, ptr {b.offset(block, GENERATION).text} seq_cst, align 8")
    sleeping = b.op(f"load atomic i64, ptr {b.offset(block, SLEEPING).text} seq_cst, align 8", "i64")
    with b.if_(sleeping > 0):
        mutex = b.offset(block, MUTEX)
        _libc(b, "pthread_mutex_lock", mutex)
        _libc(b, "pthread_cond_broadcast", b.offset(block, CONDITION))
        _libc(b, "pthread_mutex_unlock", mutex)


def _sleep(b: Builder, block: Value, seen: Value) -> None:
    """Sleep until the generation is another than the one seen."""
    mutex, sleeping = b.offset(block, MUTEX), b.offset(block, SLEEPING)
    look, wait, end = b.new_label("asleep"), b.new_label("nap"), b.new_label("awake")
    _libc(b, "pthread_mutex_lock", mutex)
    b.op(f"atomicrmw add ptr {sleeping.text}, i64 1 seq_cst", "i64")
    b.branch(None, look)
    b.label(look)
    now = b.op(f"load atomic i64, ptr {b.offset(block, GENERATION).text} seq_cst, align 8", "i64")
    b.branch(b.ne(now, seen), end, wait)
    b.label(wait)
    _libc(b, "pthread_cond_wait", b.offset(block, CONDITION), mutex)
    b.branch(None, look)
    b.label(end)
    b.op(f"atomicrmw sub ptr {sleeping.text}, i64 1 seq_cst", "i64")
    _libc(b, "pthread_mutex_unlock", mutex)


def _call(b: Builder, block: Value, thread: Value, threads: Value) -> None:
    """Run the function that the block names as one of its threads."""
    function = b.load(b.offset(block, FUNCTION), "ptr")
    table = b.load(b.offset(block, TABLE), "ptr")
    b.raw(f"call void {function.text}(ptr {table.text}, i64 {thread.text}, i64 {threads.text}, ptr {block.text})")


def emit_prepare(module: Module) -> str:
    """``void prepare(ptr block)``: before anything else, on memory that is zero."""
    name = "prepare"
    with module.function(name, block="ptr") as b:
        _libc(b, "pthread_mutex_init", b.offset(b.args[0], MUTEX), _null(b))
        _libc(b, "pthread_cond_init", b.offset(b.args[0], CONDITION), _null(b))
    return name


def emit_lead(module: Module) -> str:
    """``void lead(ptr block, i64 generation, i64 done)``: give out the work, take part, wait until all are back."""
    name = "lead"
    with module.function(name, noalias=False, block="ptr", generation="i64", done="i64") as b:
        block, generation, done = b.args
        _wake(b, block, generation)
        _call(b, block, b.i64(0), b.load(b.offset(block, THREADS), "i64"))
        until(b, "ge", b.offset(block, DONE), done)
    return name


def emit_stop(module: Module) -> str:
    """``void stop(ptr block)``: let all workers leave."""
    name = "stop"
    with module.function(name, block="ptr") as b:
        _wake(b, b.args[0], b.i64(-1))
    return name


def emit_worker(module: Module) -> str:
    """``void worker(ptr block, i64 thread, i64 seen)``: run what the block names, each time its generation changes.

    ``seen`` is the generation when the worker was made: work that was given out before is not for it. A negative
    generation ends the function.
    """
    name = "worker"
    with module.function(name, noalias=False, block="ptr", thread="i64", first="i64") as b:
        block, thread, first = b.args
        generation = b.offset(block, GENERATION)
        seen = b.alloca(8, 8)
        b.store(first, seen)
        head, work, end = b.new_label("next"), b.new_label("work"), b.new_label("stop")
        run, idle = b.new_label("run"), b.new_label("idle")
        b.branch(None, head)
        b.label(head)
        last = b.load(seen, "i64")
        until(b, "ne", generation, last, lambda: _sleep(b, block, last))
        now = atomic_load(b, generation)
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
