"""A whole plan as machine code: a function per kernel, and those that run them one after another.

``i64 run0(table)``: all kernels of a plan without calls (else one function for each stretch between two calls); 0, or
1 + the number of the kernel whose check failed. ``single``: one kernel, for the verifier. ``parallel``: what each of
several threads does. ``repeated`` and ``together``: the program again and again (``llvm.repeat``).

Kernels that go through a large batch together (``Plan.chunked``) run in a loop over its chunks. Each of several threads
takes a part of the batch, and when it is done with it the next one, so that none waits long for another that is slower;
if there are so few parts that some would have nothing to do at the end, they divide the work of every kernel, as they
do elsewhere. What chunks make for themselves alone is in the working memory of a thread, which stays in its cache: each
chunk overwrites the last one's, and the whole buffers in the arena, which the other ways to run need, are not touched.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

from chainrule.compiler.aliasing import may_fail
from chainrule.compiler.chunks import within_chunks
from chainrule.compiler.control.machine import emit_control
from chainrule.compiler.kernels import Buffer, Call, Check, Kernel, Loop, Plan, Product, Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm import emit_product
from chainrule.compiler.llvm.gemm_plan import Plan as GemmPlan
from chainrule.compiler.llvm.gemm_plan import ProductSpec, make_plan
from chainrule.compiler.llvm.loops import emit_check, emit_loop, work
from chainrule.compiler.llvm.parallel import START, STATUS, each_taken, emit_barrier
from chainrule.compiler.llvm.phases import phases
from chainrule.compiler.llvm.product import operands, product_spec
from chainrule.compiler.llvm.repeat import emit_repeated, emit_repeated_together
from chainrule.compiler.llvm.routines import emit_routine
from chainrule.compiler.llvm.sharding import by_columns
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.values import Value, kind_of

#: microseconds of estimated work from which a loop, a product, a whole program is divided among threads
SHARED_LOOP, SHARED_PRODUCT, SHARED_PROGRAM = 2.0, 4.0, 20.0
#: threads go through a batch part by part if that takes at most so many times as long as dividing it evenly
UNEVEN = 1.25


class _Shared(NamedTuple):
    """A kernel that threads divide: how many rows (or columns), in tiles of how many, and its estimated time."""

    rows: int
    grain: int
    work: float


class Facts(NamedTuple):
    """What has to be known of machine code in order to run it.

    Attributes:
        steps: functions to run in order; None in the place of each call to a reference kernel.
        scratch: bytes of working memory that the matrix products of one thread need.
        parallel: whether there is a function for several threads.
        repeats: whether there is one that runs the program several times.
    """

    steps: tuple[str | None, ...]
    scratch: int
    parallel: bool
    repeats: bool

    @property
    def stride(self) -> int:
        """Bytes from one thread's working memory to the next."""
        return stride_of(self.scratch)


def stride_of(scratch: int) -> int:
    """How far apart two threads' working memories are: on other pages, and not in the same places of a cache."""
    return -(-scratch // 4096) * 4096 + 256


def _microseconds(spec: ProductSpec) -> float:
    """A rough estimate of the time of a product, at 80 operations per nanosecond."""
    return 2 * spec.batches * spec.M * spec.N * spec.K / 80e3


class Code:
    """The machine code of a plan, as text.

    Attributes:
        plan, module: what was written, and where.
        facts: what has to be known in order to run it.
    """

    def __init__(self, plan: Plan, target: Target) -> None:
        self.plan, self.module = plan, Module(target)
        self.steps: list[str | None] = []
        self.scratch = 0
        self.parallel = self.repeats = False
        self._shared: dict[str, _Shared] = {}
        #: rows of the loops, as threads and chunks divide them; working memory of the products that keep B packed
        self._rows: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        self._chunked = range(plan.chunked.first, plan.chunked.end) if plan.chunked else range(0)
        #: where in a thread's working memory it keeps its chunk of a buffer that nothing but the chunks uses
        self._own: dict[Buffer, int] = {}
        self._write()
        self.facts = Facts(tuple(self.steps), self.scratch, self.parallel, self.repeats)

    def _write(self) -> None:
        """All kernels as functions, and a function per stretch of kernels between two calls."""
        self._divide()
        names = [None if isinstance(k, Call) else self._kernel(n, k) for n, k in enumerate(self.plan.kernels)]
        #: where the memory starts of the products that keep B packed
        self._packed = -(-self.scratch // 64) * 64
        self.scratch = self._packed + sum(self._kept.values())
        for buffer in within_chunks(self.plan):
            self._own[buffer] = self.scratch
            self.scratch += -(-self._chunk_bytes(buffer) // 64) * 64
        for called, group in groupby(names, lambda name: name is None):
            if called:
                self.steps += list(group)
            else:
                self._close([name for name in group if name is not None])
        self._write_single()
        self.repeats = len(self.steps) == 1 and self.steps[0] is not None
        if self.repeats:
            emit_repeated(self.module, f"{self.steps[0]}_body", len(self.plan.buffers))
        if self.repeats and sum(s.work for s in self._shared.values()) >= SHARED_PROGRAM:
            self._write_parallel([name for name in names if name is not None])

    def _kernel(self, n: int, kernel: Kernel) -> str:
        """Kernel n as a function, whose name is returned."""
        name = f"k{n}"
        if isinstance(kernel, Loop):
            rows = emit_loop(self.module, name, kernel, shared=self._is_shared[n] or n in self._chunked)
            self._rows[n] = rows
            if rows and self._is_shared[n]:
                self._shared[name] = _Shared(rows, 1, work(kernel))
        elif isinstance(kernel, Check):
            emit_check(self.module, name, kernel)
        elif isinstance(kernel, Routine):
            (emit_routine if kernel.control is None else emit_control)(self.module, name, kernel)
        else:
            assert isinstance(kernel, Product)
            self._product(n, kernel)
        return name

    def _divide(self) -> None:
        """Choose the code of the products, and what threads divide among themselves, and how."""
        self._products: dict[int, tuple[ProductSpec, GemmPlan]] = {}
        self._is_shared: list[bool] = []
        for n, kernel in enumerate(self.plan.kernels):
            shared = isinstance(kernel, Loop) and work(kernel) >= SHARED_LOOP
            if isinstance(kernel, Product):
                spec = product_spec(kernel).merged()
                chosen = make_plan(spec, self.module.target)
                self._products[n] = spec, chosen
                several = spec.batches * spec.M > chosen.rows or (chosen.by_columns and not spec.batch)
                shared = several and _microseconds(spec) >= SHARED_PRODUCT
            self._is_shared.append(shared)
        divided = {n: p for n, p in self._products.items() if self._is_shared[n] and n not in self._chunked}
        self._by_columns = by_columns(self.plan.kernels, self._is_shared, divided, self.module.target)

    def _write_single(self) -> None:
        """``i64 single(table, n)``: kernel n alone, 1 if its check failed; for the verifier."""
        inner, entry = "single_body", "single"
        with self.module.function(inner, internal=True, inline=False, returns="i64", table="ptr", n="i64") as b:
            for n, kernel in enumerate(self.plan.kernels):
                if isinstance(kernel, Call):
                    continue
                with b.if_(b.eq(b.args[1], n)):
                    if isinstance(kernel, Check) or (isinstance(kernel, Routine) and kernel.checks):
                        b.ret(b.call(f"k{n}", b.args[0], returns="i64"))
                    else:
                        b.call(f"k{n}", b.args[0])
                        b.ret(b.i64(0))
            b.ret(b.i64(0))
        with self.module.function(entry, returns="i64", table="ptr", n="i64") as b:
            slot = b.alloca(8, 8)
            with b.denormals_flushed():
                status = b.call(inner, *b.args, returns="i64")
                assert status is not None
                b.store(status, slot)
            b.ret(b.load(slot, "i64"))

    def _close(self, names: list[str]) -> None:
        """``i64 run(table)``: 0, or 1 + the number of the kernel whose check failed."""
        entry = f"run{len(self.steps)}"
        inner = f"{entry}_body"
        before, inside, after = self._around(names)
        with self.module.function(inner, internal=True, inline=False, returns="i64", table="ptr") as b:
            self._sequence(b, before)
            if inside:
                assert self.plan.chunked is not None
                scratch = b.pointer(b.args[0], len(self.plan.buffers))
                self._chunks(b, b.i64(0), b.i64(self.plan.chunked.chunks), b.i64(0), scratch)
            self._sequence(b, after)
            b.ret(b.i64(0))
        with self.module.function(entry, returns="i64", table="ptr") as b:
            slot = b.alloca(8, 8)
            with b.denormals_flushed():
                status = b.call(inner, b.args[0], returns="i64")
                assert status is not None
                b.store(status, slot)
            b.ret(b.load(slot, "i64"))
        self.steps.append(entry)

    def _around(self, names: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Of some kernels in a row those before the chunks, those that go by chunks, those after."""
        chunked = {f"k{n}" for n in self._chunked}
        inside = [name for name in names if name in chunked]
        start = names.index(inside[0]) if inside else len(names)
        return names[:start], inside, names[start + len(inside) :]

    def _product(self, n: int, p: Product) -> None:
        name, (spec, plan) = f"k{n}", self._products[n]
        columns = n in self._by_columns
        code = emit_product(self.module, f"{name}_product", spec, plan, columns=columns, keep=n in self._chunked)
        self.scratch = max(self.scratch, code.scratch)
        if code.keeps:
            self._kept[n] = -(-code.scratch // 64) * 64
        size = p.n if columns else spec.batches * spec.M
        if self._is_shared[n] and size > code.grain:
            self._shared[name] = _Shared(size, code.grain, _microseconds(spec))
        names = ("from", "to") if p.block else ("fresh",) if code.keeps else ()
        more, part_of = dict.fromkeys(names, "i64"), f"{name}_part" if names else f"{name}_rows"
        rows: dict[str, Any] = {"table": "ptr", "begin": "i64", "end": "i64", "scratch": "ptr"}
        with self.module.function(part_of, internal=True, inline=False, **rows, **more) as b:
            table, begin, end, scratch, *part = b.args
            matrices, extras = (
                [b.at(b.pointer(table, x.buffer.number), x.offset, kind_of(x.buffer.dtype)) for x in group]
                for group in operands(p)
            )
            b.call(code.name, *matrices, scratch, *extras, begin, end, *part)
        if names:
            with self.module.function(f"{name}_rows", internal=True, inline=False, **rows) as b:
                b.call(part_of, *b.args, *([b.i64(0), b.i64(p.k)] if p.block else [b.i64(1)]))
        with self.module.function(name, internal=True, inline=False, table="ptr") as b:
            scratch = b.pointer(b.args[0], len(self.plan.buffers))
            b.call(f"{name}_rows", b.args[0], b.i64(0), b.i64(size), scratch)

    # ---- chunks
    def _chunks(self, b: Builder, begin: Value, end: Value, first: Value, scratch: Value) -> None:
        """Run the kernels that go through a batch together for the chunks begin <= c < end; a thread's first one."""
        table = self._own_table(b) if self._own else b.args[0]
        with b.loop(begin, end) as chunk:
            for buffer, place in self._own.items():
                start = b.offset(scratch, chunk * -self._chunk_bytes(buffer) + place)
                b.store(start, b.at(table, buffer.number, "ptr"))
            for n in self._chunked:
                self._chunk(b, n, chunk, b.cast(b.eq(chunk, first), "i64"), table, scratch)

    def _own_table(self, b: Builder) -> Value:
        """A copy of the table of addresses."""
        entries = len(self.plan.buffers) + 1
        table = b.alloca(8 * entries)
        with b.loop(0, entries) as i:
            b.store(b.load(b.at(b.args[0], i, "ptr"), "ptr"), b.at(table, i, "ptr"))
        return table

    def _chunk_bytes(self, buffer: Buffer) -> int:
        assert self.plan.chunked is not None
        return buffer.nbytes // self.plan.chunked.chunks

    def _chunk(self, b: Builder, n: int, chunk: Value, first: Value, table: Value, scratch: Value) -> None:
        """A kernel's part of a chunk; whether it is the first one of this thread."""
        kernel, about = self.plan.kernels[n], self.plan.chunked
        assert about is not None
        if isinstance(kernel, Loop):
            rows = self._rows[n] // about.chunks
            b.call(f"k{n}_rows", table, chunk * rows, (chunk + 1) * rows)
            return
        assert isinstance(kernel, Product)
        rows = chunk * about.size, (chunk + 1) * about.size
        if kernel.block:
            each = about.chunks // about.parts
            part = b.idiv(chunk, each)
            start = (chunk - part * each) * about.size
            rows = part * kernel.m, (part + 1) * kernel.m
            b.call(f"k{n}_part", table, *rows, scratch, start, start + about.size)
        elif n in self._kept:
            place = self._packed + sum(size for m, size in self._kept.items() if m < n)
            b.call(f"k{n}_part", table, *rows, b.offset(scratch, place), first)
        else:
            b.call(f"k{n}_rows", table, *rows, scratch)

    # ---- several threads
    def _write_parallel(self, names: list[str]) -> None:
        """``void parallel(table, thread, threads, block)``: each thread's part, with barriers between the phases.

        The first thread runs what is not shared; if a check fails there, all leave at the next barrier, and
        ``parallel_body`` returns 1.
        """
        barrier = emit_barrier(self.module)
        arguments = {"table": "ptr", "thread": "i64", "threads": "i64", "block": "ptr"}
        parts, by_chunks = self._phases(names)
        with self.module.function(
            "parallel_body", internal=True, inline=False, noalias=False, returns="i64", **arguments, before="i64"
        ) as b:
            if by_chunks:
                with b.if_(self._by_parts(b, b.args[2])):
                    self._run_phases(b, by_chunks, barrier)
            self._run_phases(b, parts, barrier)
        with self.module.function("parallel", noalias=False, **arguments) as b:
            arrived = b.load(b.offset(b.args[3], START), "i64")
            with b.denormals_flushed():
                b.call("parallel_body", *b.args, arrived, returns="i64")

        def barriers(b: Builder, threads: Value) -> Value:
            usual = b.i64(len(parts) - 1)
            return b.select(self._by_parts(b, threads), len(by_chunks) - 1, usual) if by_chunks else usual

        emit_repeated_together(self.module, "parallel_body", barrier, barriers, len(self.plan.buffers))
        self.parallel = True

    def _phases(self, names: list[str]) -> tuple[list[list[str]], list[list[str]]]:
        """What threads may run without waiting for each other; the same with all chunks as one, [] without any."""
        kernels, shared = self.plan.kernels, [name in self._shared for name in names]

        def of(start: int, end: int) -> list[list[str]]:
            return [[names[start + n] for n in phase] for phase in phases(kernels[start:end], shared[start:end])]

        first, end = self._chunked.start, self._chunked.stop
        by_chunks = [*of(0, first), [], *of(end, len(names))] if first < end else []
        return of(0, len(names)), by_chunks

    def _by_parts(self, b: Builder, threads: Value) -> Value:
        """Whether threads that each take part after part of the batch do about as much as each other."""
        assert self.plan.chunked is not None
        parts = self.plan.chunked.parts
        rounds = b.idiv(threads + (parts - 1), threads)
        return b.le(rounds * threads, int(parts * UNEVEN))

    def _run_phases(self, b: Builder, parts: list[list[str]], barrier: str) -> None:
        """A thread's share of all phases, and return."""
        threads, block, arrived = b.args[2:]
        status = b.offset(block, STATUS)
        for part in parts:
            failing = self._run_part(b, part, status) if part else self._run_chunks(b)
            if part is parts[-1]:  # the caller waits for all threads to come back
                break
            arrived = arrived + threads
            b.call(barrier, block, arrived)
            if failing:
                with b.if_(b.ne(b.load(status, "i64"), 0)):
                    b.ret(b.i64(1))
        b.ret(b.i64(0))

    def _run_part(self, b: Builder, names: list[str], status: Value) -> bool:
        """The kernels of a phase; whether a check among them may fail, which the first thread then notes."""
        failing = False
        for shared, group in groupby(names, self._shared.get):
            if shared is not None:
                for name in group:
                    self._share(b, name, shared)
                continue
            alone = list(group)
            failing |= any(may_fail(self.plan.kernels[int(name[1:])]) for name in alone)
            with b.if_(b.eq(b.args[1], 0)):
                failed = b.call(self._serial(alone), b.args[0], returns="i64")
                assert failed is not None
                with b.if_(b.ne(failed, 0)):
                    b.store(failed, status)
        return failing

    def _run_chunks(self, b: Builder) -> bool:
        """The parts of the batch that this thread takes; nothing fails there."""
        about, (table, thread, threads, block) = self.plan.chunked, b.args[:4]
        assert about is not None
        each, first = about.chunks // about.parts, b.alloca(8, 8)
        b.store(b.i64(-1), first)

        def run(part: Value) -> None:
            with b.if_(b.lt(b.load(first, "i64"), 0)):
                b.store(part * each, first)
            started, scratch = b.load(first, "i64"), self._scratch_of(b, table, thread)
            self._chunks(b, part * each, (part + 1) * each, started, scratch)

        each_taken(b, block, about.parts, threads, run)
        return False

    def _scratch_of(self, b: Builder, table: Value, thread: Value) -> Value:
        """A thread's working memory."""
        return b.offset(b.pointer(table, len(self.plan.buffers)), thread * stride_of(self.scratch))

    def _share(self, b: Builder, name: str, shared: _Shared) -> None:
        """Call a shared kernel for this thread's rows, whole tiles of them."""
        table, thread, threads = b.args[:3]
        tiles = -(-shared.rows // shared.grain)
        first = b.idiv(thread * tiles, threads) * shared.grain
        last = b.idiv((thread + 1) * tiles, threads) * shared.grain
        last = b.select(b.lt(last, shared.rows), last, b.i64(shared.rows))
        if isinstance(self.plan.kernels[int(name[1:])], Product):
            b.call(f"{name}_rows", table, first, last, self._scratch_of(b, table, thread))
        else:
            b.call(f"{name}_rows", table, first, last)

    def _serial(self, names: list[str]) -> str:
        """A function that runs kernels one after another: 0, or 1 + the number of the one whose check failed."""
        name = f"serial_{names[0]}_{names[-1]}"
        if not self.module.has(name):
            with self.module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
                self._sequence(b, names)
                b.ret(b.i64(0))
        return name

    def _sequence(self, b: Builder, names: list[str]) -> None:
        for name in names:
            kernel = self.plan.kernels[int(name[1:])]
            if isinstance(kernel, Check) or (isinstance(kernel, Routine) and kernel.checks):
                failed = b.call(name, b.args[0], returns="i64")
                assert failed is not None
                with b.if_(b.ne(failed, 0)):
                    b.ret(b.i64(int(name[1:]) + 1))
            else:
                b.call(name, b.args[0])
