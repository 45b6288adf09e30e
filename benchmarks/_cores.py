"""How far apart two cores are: what one of them writes takes longer to reach one on another part of the processor.

On a virtual machine it changes within seconds which cores a process has, and with it the time of everything that two
threads do together; so it is printed beside such times.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from time import perf_counter, sleep

import numpy as np

ROUNDS = 20_000


@cache
def _code() -> tuple[Callable[[int, int], None], Callable[[int, int], None]]:
    """``ask(word, rounds)`` writes 1, 3, 5... and waits for 2, 4, 6..., which ``answer`` writes."""
    from chainrule.compiler.llvm.builder import Builder, Module
    from chainrule.compiler.llvm.parallel import atomic_load
    from chainrule.compiler.llvm.target import build, host
    from chainrule.compiler.llvm.values import Value

    def wait(b: Builder, p: Value, value: Value) -> None:
        head, end = b.new_label("look"), b.new_label("seen")
        b.branch(None, head)
        b.label(head)
        b.branch(b.eq(atomic_load(b, p), value), end, head)
        b.label(end)

    def put(b: Builder, p: Value, value: Value) -> None:
        b.raw(f"store atomic i64 {value.text}, ptr {p.text} release, align 8")

    module = Module(host())
    with module.function("ask", p="ptr", rounds="i64") as b, b.loop(0, b.args[1]) as i:
        put(b, b.args[0], i * 2 + 1)
        wait(b, b.args[0], i * 2 + 2)
    with module.function("answer", p="ptr", rounds="i64") as b, b.loop(0, b.args[1]) as i:
        wait(b, b.args[0], i * 2 + 1)
        put(b, b.args[0], i * 2 + 2)
    native = build(module.text, module.target)
    return native.function("ask", "ptr", "i64"), native.function("answer", "ptr", "i64")


def round_trip() -> float | None:
    """Nanoseconds for a word to go to another core and back; None where threads cannot be kept on a core."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        return None
    here, there = sorted(cores)[:2]
    ask, answer = _code()
    memory = np.zeros(16, np.int64)
    word = memory.ctypes.data + -memory.ctypes.data % 64

    ready = threading.Event()

    def other() -> None:
        os.sched_setaffinity(0, {there})
        ready.set()
        answer(word, ROUNDS)

    worker = threading.Thread(target=other)
    os.sched_setaffinity(0, {here})
    try:
        worker.start()
        ready.wait()
        sleep(1e-3)
        start = perf_counter()
        ask(word, ROUNDS)
        seconds = perf_counter() - start
        worker.join()
    finally:
        os.sched_setaffinity(0, cores)
    return seconds / ROUNDS * 1e9
