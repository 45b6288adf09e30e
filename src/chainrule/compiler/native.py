"""Native programs: a graph as machine code, called with arrays.

The graph is optimized, planned, written as one LLVM module, and loaded; ops without machine code run their reference
kernels in between and are listed, never hidden. A call fills a table with the addresses of all buffers and runs the
kernels in order. Scratch memory belongs to a call for as long as it runs, so several threads may call at once.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.arena import ALIGN
from chainrule.compiler.control.machine import Machine, prepare
from chainrule.compiler.fingerprint import fingerprint
from chainrule.compiler.kernels import (
    OUTPUT,
    SCRATCH,
    Buffer,
    Call,
    Check,
    Kernel,
    Layout,
    Plan,
    Routine,
)
from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.loops import LOWERED
from chainrule.compiler.llvm.program import Code, Facts
from chainrule.compiler.llvm.repeat import COUNT, DONE, MOVES, WORDS, Moves
from chainrule.compiler.llvm.routines import ROUTINES
from chainrule.compiler.llvm.target import NativeModule, Target, host
from chainrule.compiler.passes import Report, optimize
from chainrule.compiler.passes.recompute import REASON as RECOMPUTE_REASON
from chainrule.compiler.passes.recompute import Recomputed, recompute
from chainrule.compiler.plan import Late, Orders, plan
from chainrule.compiler.threads import THREADS_POSSIBLE, Choice, available_cores, get_num_threads, pool
from chainrule.compiler.zeros import operands_with_zeros
from chainrule.core.memory import address
from chainrule.ir.graph import Graph, Instruction

#: ops that the native backend lowers; all others run their reference kernels
NATIVE = LOWERED | {"matmul"} | frozenset(ROUTINES)


class _Memory:
    """The arena and the table of addresses of one call at a time."""

    def __init__(self, program: Plan, scratch: int) -> None:
        total = program.arena + scratch
        self.block = np.zeros(total + ALIGN, np.uint8)
        first = address(self.block)
        self.start = -first % ALIGN
        self.arena = self.block[self.start : self.start + total]
        start = first + self.start
        self.table = np.zeros(len(program.buffers) + WORDS, np.uintp)
        for b in program.buffers:
            if b.role == SCRATCH:
                self.table[b.number] = start + b.offset
        self.table[len(program.buffers)] = start + program.arena
        for b, array in program.constants:
            self.table[b.number] = address(array)
        #: arrays whose addresses stand in the table during a call, by buffer
        self.held: dict[Buffer, np.ndarray[Any, Any]] = {}
        self.address = int(address(self.table))

    def array(self, b: Buffer) -> np.ndarray[Any, Any]:
        """A scratch buffer as an array."""
        return self.arena[b.offset : b.offset + b.nbytes].view(b.dtype)


#: seconds of repeated steps between two looks at Python; of those that find out whether threads pay
SLICE, TRIAL = 0.05, 0.003


class NativeProgram:
    """Machine code of a graph.

    Args:
        graph: what to compute.
        target: the processor; the one at hand unless given.
        optimized: whether the passes have been at the graph already.
        memory_budget: most bytes of scratch memory at the peak.
        data: for each input, an array like those to come, if it is data; products leave out zeros if it has some.

    Attributes:
        graph: after the passes.
        reports: what each pass did; none for a graph given as ``optimized``.
        plan: kernels and memory.
        timings: seconds of passes, planning and loading; of writing and generating code if it was not in the cache.
        recomputed: what was done to meet ``memory_budget``; None without one.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target | None = None,
        optimized: bool = False,
        memory_budget: int | None = None,
        data: Sequence[np.ndarray[Any, Any] | None] = (),
    ) -> None:
        self.target = target or host()
        self._zeros = [operands_with_zeros(x) for x in data]
        self.memory_budget = memory_budget
        start = time.perf_counter()
        self._machines: dict[int, tuple[Instruction, Machine | None]] = {}
        self.graph, self.reports = (graph, []) if optimized else optimize(graph)
        self.recomputed = None if memory_budget is None else self._recompute(memory_budget)
        passed = time.perf_counter()
        self.plan = self._planned(
            self.graph, *((self.recomputed.late, self.recomputed.orders) if self.recomputed else ({}, {}))
        )
        planned = time.perf_counter()
        self._facts, self.native = self._machine_code()
        self.timings = {"passes": passed - start, "planning": planned - passed, **self.native.timings}
        calls = iter(self.plan.calls)
        self._run = [
            (self.native.function(name, "ptr", returns="i64"), None) if name is not None else (None, next(calls))
            for name in self._facts.steps
        ]
        self._choice = Choice()
        self._address = self.native.address("parallel") if self.parallel else 0
        self._repeated_together = self.native.address("together") if self.parallel else 0
        self._repeated = self.native.function("repeated", "ptr", returns="i64") if self.repeats else None
        self._constants = dict(self.plan.constants)
        self._shapes = [(v.shape, v.dtype) for v in self.graph.inputs]
        pairs = zip(self.graph.outputs, self.plan.outputs, strict=True)
        self._outputs = [(layout.buffer, v.shape) for v, layout in pairs if layout.buffer.role == OUTPUT]
        self._free: list[_Memory] = []
        self._lock = threading.Lock()

    def _machine_code(self) -> tuple[Facts, NativeModule]:
        """The plan as a loaded module: written and compiled, unless the cache knows what it would be."""
        known = fingerprint(self.plan)
        if known is None:
            code = Code(self.plan, self.target)
            return code.facts, cache.build(code.module.text, self.target)  # other plans may come to the same text
        return cache.build_program(known, lambda: Code(self.plan, self.target), self.target)

    def _control(self, i: Instruction) -> Machine | None:
        """The blocks of a loop or branch, each a native program of its own."""
        found = self._machines.get(id(i.params))
        if found is None:  # planned several times, compiled once; the instruction keeps the address taken
            machine = prepare(i, lambda graph: NativeProgram(graph, self.target, optimized=True))
            found = self._machines[id(i.params)] = i, machine
        return found[1]

    def _planned(self, graph: Graph, late: Late, orders: Orders) -> Plan:
        chunks = self.memory_budget is None
        return plan(graph, NATIVE, self.target.has_f16, late, orders, self._control, chunks, self._zeros)

    def _recompute(self, budget: int) -> Recomputed:
        """Replace the graph by one whose plan stays within a budget, as the last pass."""
        start, before = time.perf_counter(), len(self.graph.instructions)
        found = recompute(self.graph, budget, self._planned, self.target)
        self.graph = found.graph
        seconds = time.perf_counter() - start
        self.reports.append(Report("recompute", RECOMPUTE_REASON, seconds, before, len(found.graph.instructions)))
        return found

    @property
    def scratch(self) -> int:
        """Bytes of working memory that the matrix products need."""
        return self._facts.scratch

    @property
    def repeats(self) -> bool:
        """Whether :meth:`repeat` is possible: no op has to run outside of machine code."""
        return self._facts.repeats

    @property
    def parallel(self) -> bool:
        """Whether there is enough to do for several threads, on a system that has them."""
        return self._facts.parallel and THREADS_POSSIBLE

    def run_kernel(self, number: int, table: int) -> int:
        """Run one kernel of the plan on the memory named by a table of addresses; 1 if an index is out of bounds."""
        failed: int = self.native.function("single", "ptr", "i64", returns="i64")(table, number)
        return failed

    # ---- running
    def memory(self) -> _Memory:
        """An arena with a table of addresses, for one call at a time."""
        return _Memory(self.plan, self._facts.stride * (available_cores() if self.parallel else 1))

    def __call__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs for these inputs, each an array of its own.

        Raises:
            IndexError: as the reference kernel does, if an index is out of bounds; nothing outside is read.
        """
        with self._lock:
            memory = self._free.pop() if self._free else None
        if memory is None:
            memory = self.memory()
        try:
            return self._call(memory, arrays)
        finally:
            memory.held.clear()
            with self._lock:
                self._free.append(memory)

    def _call(self, memory: _Memory, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        held = memory.held
        for b, a in zip(self.plan.inputs, arrays, strict=True):
            if not a.flags.c_contiguous or not a.flags.aligned:
                a = np.require(a, requirements="CA")
            held[b] = a
            memory.table[b.number] = address(a)
        for b, shape in self._outputs:
            out = held[b] = np.empty(shape, b.dtype)
            memory.table[b.number] = address(out)
        self.execute(memory)
        return [
            self._output(v.shape, layout, memory)
            for v, layout in zip(self.graph.outputs, self.plan.outputs, strict=True)
        ]

    def execute(self, memory: _Memory) -> None:
        """Run all kernels on the memory that the table names, on several threads where that pays."""
        threads = get_num_threads() if self.parallel else 1
        if threads == 1:
            self._execute_alone(memory)
            return
        together, timed = self._choice.next()
        start = time.perf_counter() if timed else 0.0
        status = self._together(memory, min(threads, available_cores()), self._address) if together else None
        if status is None:
            self._execute_alone(memory)
        elif status:
            self.fail(status, memory)
        if timed:
            self._choice.took(together, time.perf_counter() - start)

    def _together(self, memory: _Memory, threads: int, address: int) -> int | None:
        """Run a function on the pool's threads; its status, or None if another call has them."""
        workers = pool()
        if not workers.lock.acquire(blocking=False):
            return None
        try:
            return workers.run(address, memory.address, threads)
        finally:
            workers.lock.release()

    def repeat(self, memory: _Memory, count: int, moves: Moves) -> tuple[int, int]:
        """Run the program ``count`` times, with ``moves`` after each step: steps done, and the status of the last.

        The status is 0, ``LOST``, or that of a check, at which the rest was given up. Between slices of ``SLICE``
        seconds Python gets a chance to act on signals.
        """
        words, base = moves.words(), len(self.plan.buffers)
        memory.table[base + MOVES] = address(words)
        threads = min(get_num_threads(), available_cores()) if self.parallel else 1
        done, each = 0, SLICE
        while done < count:
            together, timed = self._choice.next() if threads > 1 else (False, False)
            steps = min(count - done, max(1, int((TRIAL if timed else SLICE) / each)))
            memory.table[base + COUNT], memory.table[base + DONE] = steps, 0
            start = time.perf_counter()
            status = self._together(memory, threads, self._repeated_together) if together else None
            if status is None:
                status = self._repeated(memory.address)  # type: ignore[misc]
            each = max(1e-7, (time.perf_counter() - start) / steps)
            done += int(memory.table[base + DONE])
            if status:
                return done, int(status)
            if timed:
                self._choice.took(together, each)
            else:
                self._choice.went_on(steps - 1)
        return done, 0

    def fail(self, status: int, memory: _Memory) -> None:
        """Raise the error that eager mode raises for the kernel that a status names."""
        self._raise(self.plan.kernels[status - 1], memory)

    def _execute_alone(self, memory: _Memory) -> None:
        for function, kernel in self._run:
            if function is not None:
                status = function(memory.address)
                if status:
                    self.fail(status, memory)
            else:
                assert isinstance(kernel, Call)
                self._reference(kernel, memory)

    def read(self, at: int, memory: _Memory) -> np.ndarray[Any, Any]:
        """A copy of an output."""
        return self.view(at, memory).copy()

    def view(self, at: int, memory: _Memory) -> np.ndarray[Any, Any]:
        """An output where it is."""
        return self._seen(self.graph.outputs[at].shape, self.plan.outputs[at], memory)

    def _array(self, b: Buffer, memory: _Memory) -> np.ndarray[Any, Any]:
        """The memory of a buffer, as the table has it."""
        found = memory.held.get(b)
        if found is None:
            found = self._constants.get(b)
        if found is None and b.role != SCRATCH:
            pointer = ctypes.cast(int(memory.table[b.number]), ctypes.POINTER(ctypes.c_uint8))
            found = np.ctypeslib.as_array(pointer, (max(1, b.nbytes),))[: b.nbytes].view(b.dtype)
        return memory.array(b) if found is None else found

    def _seen(self, shape: tuple[int, ...], layout: Layout, memory: _Memory) -> np.ndarray[Any, Any]:
        """A value as a view of its buffer."""
        flat = self._array(layout.buffer, memory).reshape(-1)
        step = flat.dtype.itemsize
        return np.lib.stride_tricks.as_strided(flat[layout.offset :], shape, [s * step for s in layout.strides])

    def _output(self, shape: tuple[int, ...], layout: Layout, memory: _Memory) -> np.ndarray[Any, Any]:
        if layout.buffer.role == OUTPUT:
            return memory.held[layout.buffer]
        return self._seen(shape, layout, memory).copy()

    def _reference(self, call: Call, memory: _Memory) -> None:
        i = call.instruction
        xs = [self._seen(v.shape, x, memory) for v, x in zip(i.inputs, call.inputs, strict=True)]
        with np.errstate(all="ignore"):
            out = i.op.kernel(*xs, **i.params)
        if i.op.residual:
            out = out[0]
        for v, layout, y in zip(i.results, call.outputs, (out,) if i.op.outputs == 1 else out, strict=True):
            self._seen(v.shape, layout, memory)[...] = y

    def _raise(self, kernel: Kernel, memory: _Memory) -> None:
        """Run the reference kernel of a failed check, which raises the error that eager mode raises."""
        assert isinstance(kernel, Check | Routine)
        i = kernel.instruction
        if isinstance(kernel, Routine):
            xs = [self._seen(v.shape, x, memory) for v, x in zip(i.inputs, kernel.inputs, strict=True)]
            i.op.kernel(*xs, **i.params)
            raise ValueError(f"compiled code refuses operands that the reference kernel takes in {i}")
        flat = self._array(kernel.access.buffer, memory).reshape(-1)
        start = kernel.access.offset
        i.op.kernel(flat[start : start + kernel.count].reshape(i.inputs[0].shape), **i.params)
        raise IndexError(f"an index is out of bounds in {i}")


__all__ = ["NATIVE", "NativeProgram", "Report"]
