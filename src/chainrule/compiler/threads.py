"""The threads that run compiled programs together: made once, waiting in machine code between calls.

A waiting worker spins for a moment, then yields its core, then sleeps until it is woken, so it is at hand while steps
follow each other and costs nothing when there is no work. After a fork the child starts workers of its own.

Workers stay off the core of the thread that calls them (where the system tells it: on Linux), because systems put
threads that they start or wake on the core of who does that, even while another one has nothing to do: both would run
by turns, at the speed of one.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading

from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.parallel import ARRIVED, BLOCK, DONE, FUNCTION, START, STATUS, TABLE, THREADS
from chainrule.compiler.llvm.target import host
from chainrule.compiler.llvm.workers import emit_lead, emit_prepare, emit_stop, emit_worker

#: whether the system has the functions that workers wait with
THREADS_POSSIBLE = os.name == "posix"

_threads: int | None = None
_current_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads compiled programs use at most."""
    return _threads if _threads is not None else available_cores()


def set_num_threads(count: int) -> None:
    """Let compiled programs use at most ``count`` threads; results do not depend on it.

    Raises:
        ValueError: for a count below 1.
    """
    global _threads
    if count < 1:
        raise ValueError(f"the number of threads must be at least 1, got {count}")
    _threads = int(count)


class Choice:
    """Whether a program runs faster alone or on all threads, found out by trying: other processes may hold the cores.

    The results are the same either way. Of every period of steps the first ``TRIALS`` run alone, the next on all
    threads (one each if a step takes longer than ``LONG`` seconds); the rest as was quicker, by the second fastest of
    each. A period takes about ``SOON`` seconds (but at least ``SHORTEST`` steps) where that came out otherwise than
    before, and twice the steps of the last one, up to ``LONGEST``, where not. (The first trial often meets threads of
    other libraries that still wait for more work.) Where threads pay, it takes as many steps as keep what trials
    without them lose near the part ``LOSS`` of the time.
    """

    SHORTEST, LONGEST, TRIALS, SOON, LONG, LOSS = 16, 1024, 4, 0.05, 0.005, 0.01

    __slots__ = ("_at", "_period", "_seconds", "together")

    def __init__(self) -> None:
        self._at, self._period = 0, self.SHORTEST
        self._seconds: tuple[list[float], list[float]] = ([], [])
        self.together = True

    def next(self) -> tuple[bool, bool]:
        """Whether to run the next step on all threads, and whether its time is wanted."""
        at = self._at
        self._at = (at + 1) % self._period
        if at == 0:
            self._seconds = ([], [])
        alone, shared = self._seconds
        trials = 1 if alone and alone[0] > self.LONG else self.TRIALS
        if at < 2 * trials:
            return at >= trials, True
        if at == 2 * trials and len(alone) == len(shared) == trials:
            quickest = [sorted(s)[min(1, trials - 1)] for s in self._seconds]
            before, self.together = self.together, quickest[True] < quickest[False]
            lost = trials * (quickest[False] / quickest[True] - 1)
            soon = max(self.SHORTEST, int(self.SOON / min(quickest)), int(lost / self.LOSS))
            steps = 2 * self._period if self.together == before else soon
            self._period = min(max(steps, soon), self.LONGEST)
        return self.together, False

    def went_on(self, steps: int) -> None:
        """So many steps more were done in the same way."""
        self._at = min(self._at + steps, self._period) % self._period

    def took(self, together: bool, seconds: float) -> None:
        """The time of a trial."""
        self._seconds[together].append(seconds)


class Pool:
    """Workers around one shared block. A call takes the pool for itself; who finds it taken runs alone."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self._memory = ctypes.create_string_buffer(BLOCK + 64)
        self.block = ctypes.addressof(self._memory) + -ctypes.addressof(self._memory) % 64
        self._workers: list[threading.Thread] = []
        module = Module(host())
        worker, lead, stop, prepare = (f(module) for f in (emit_worker, emit_lead, emit_stop, emit_prepare))
        self._native = cache.build(module.text, module.target)
        self._enter = self._native.function(worker, "ptr", "i64", "i64")
        self._lead = self._native.function(lead, "ptr", "i64", "i64")
        self._stop = self._native.function(stop, "ptr")
        self._native.function(prepare, "ptr")(self.block)
        self._generation = 0
        self._core = -1  # off which the workers stay

    def _field(self, offset: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self.block + offset)

    def grow(self, threads: int) -> None:
        """Start workers until there are ``threads``, the caller included."""
        while len(self._workers) < threads - 1:
            number = len(self._workers) + 1
            worker = threading.Thread(
                target=self._enter, args=(self.block, number, self._generation), name=f"chainrule-{number}", daemon=True
            )
            worker.start()
            self._workers.append(worker)
            self._core = -1

    def _keep_off(self, core: int) -> None:
        """Let the workers use the caller's cores but the one it is on."""
        self._core = core
        others = os.sched_getaffinity(0) - {core}
        for worker in self._workers:
            assert worker.native_id is not None  # it runs
            # refused where the system restricts such calls: then it places the workers as it likes
            with contextlib.suppress(OSError):
                os.sched_setaffinity(worker.native_id, others or {core})

    def run(self, address: int, table: int, threads: int) -> int:
        """Run a program on all threads; returns its status. The caller holds the lock.

        Args:
            address: where ``void program(ptr table, i64 thread, i64 threads, ptr block)`` starts.
            table: its table of addresses.
            threads: how many take part.
        """
        self.grow(threads)
        core = _current_core() if _current_core is not None else self._core
        if core != self._core:
            self._keep_off(core)
        self._field(FUNCTION).value = address
        self._field(TABLE).value = table
        self._field(THREADS).value = threads
        self._field(STATUS).value = 0
        self._field(START).value = self._field(ARRIVED).value
        self._generation += 1
        self._lead(self.block, self._generation, self._field(DONE).value + threads - 1)
        return int(self._field(STATUS).value)

    def stop(self) -> None:
        """Let all workers leave."""
        if self.pid == os.getpid():
            self._stop(self.block)
            for w in self._workers:
                w.join(1.0)
        self._workers = []


_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """The pool of this process."""
    global _pool
    found = _pool
    if found is None or found.pid != os.getpid():
        with _pool_lock:
            if _pool is None or _pool.pid != os.getpid():
                _pool = Pool()
            found = _pool
    return found


def _at_exit() -> None:
    if _pool is not None:
        _pool.stop()


def _after_fork() -> None:
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
