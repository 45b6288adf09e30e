"""What a compiled function became, as text: why it was compiled, what the passes did, which kernels run."""

from __future__ import annotations

from typing import Any

from chainrule.compiler.chunks import within_chunks
from chainrule.compiler.kernels import SCRATCH, Call, Kernel, Loop, Product
from chainrule.compiler.passes.recompute import Recomputed
from chainrule.compiler.runtime import BoundProgram
from chainrule.core.shapes import size_of
from chainrule.ir.graph import describe_size

#: how many recomputed values are named
MOST_SHOWN = 12


def explain_compilation(compiled: Any, *, kernels: bool = True, graph: bool = False) -> str:
    """A report on every program that a compiled function has made so far.

    Args:
        compiled: what :func:`chainrule.compile` returned.
        kernels: list the kernels with their accesses.
        graph: print the optimized graph too, a line per instruction with the user's source line.

    Raises:
        TypeError: for a function that is not compiled.
    """
    bound = getattr(compiled, "bound", None)
    if bound is None:
        raise TypeError(f"explain_compilation takes what chainrule.compile returned, got {type(compiled).__name__}")
    name = getattr(compiled, "__qualname__", type(compiled.function).__name__)
    times = "once" if compiled.captures == 1 else f"{compiled.captures} times"
    lines = [f"{name}: captured {times}, {len(bound)} program{'s' * (len(bound) != 1)} kept"]
    lines += [f"  captured again because {reason}" for reason in compiled.reasons]
    for number, program in enumerate(bound):
        lines += ["", *_program(number, program, kernels, graph)]
    return "\n".join(lines)


def _program(number: int, bound: BoundProgram, kernels: bool, graph: bool) -> list[str]:
    native, plan = bound.native, bound.native.plan
    p = bound.program
    steps = ", ".join(f"{k} {1e3 * v:.1f} ms" for k, v in native.timings.items())
    scratch = [b for b in plan.buffers if b.role == SCRATCH]
    written = f"{len(p.writes)} tensors written ({bound.aliases} of them in place)"
    lines = [
        f"program {number}: {len(p.graph.inputs)} inputs, {written}, {len(p.grads)} gradients",
        f"  made for {native.target}; {steps}",
        "  passes:",
    ]
    width = max((len(r.name) for r in native.reports), default=0)
    for r in native.reports:
        lines.append(f"    {r.name:<{width}} {r.before:>5} -> {r.after:<5} {1e3 * r.seconds:6.1f} ms  {r.reason}")
    before = sum(b.nbytes for b in scratch)
    lines.append(
        f"  memory: {describe_size(plan.arena)} of scratch known before running "
        f"({len(scratch)} buffers, {describe_size(before)} without sharing)"
    )
    if native.recomputed is not None:
        lines += _recomputed(native.recomputed)
    shared = "on several threads where that is quicker" if native.parallel else "on one thread"
    lines.append(f"  {len(plan.kernels)} kernels, {shared}")
    if plan.chunked is not None:
        lines.append(f"  a large batch goes through {plan.chunked}")
        own = sum(b.nbytes for b in within_chunks(plan))
        lines.append(
            f"    {describe_size(own)} of scratch need not be whole: "
            f"a thread has {describe_size(own // plan.chunked.chunks)} of it at a time"
        )
    if plan.calls:
        names = sorted({c.instruction.op.name for c in plan.calls})
        lines.append(f"  without machine code, run by their NumPy kernels: {', '.join(names)}")
    if kernels:
        for n, k in enumerate(plan.kernels):
            first, *rest = _kernel(k)
            lines += [f"    {n:>3} {first}", *(f"        {line}" for line in rest)]
    if graph:
        lines += [f"  {line}" for line in str(native.graph).splitlines()]
    return lines


def _recomputed(r: Recomputed) -> list[str]:
    """What a memory budget led to."""
    budget = f"  memory budget {describe_size(r.budget)}: peak {describe_size(r.before)}"
    if not r.dropped:
        return [f"{budget}, so nothing is recomputed"]
    share = f"{r.work / r.whole:.0%}" if r.whole else "no part"
    size = describe_size(sum(v.nbytes for v in r.dropped))
    extra = f"{r.instructions} instructions run again, about {share} of the whole work"
    lines = [
        f"{budget} before recomputation, {describe_size(r.after)} after",
        f"    {len(r.dropped)} values not kept ({size}); {extra}",
    ]
    shown = ", ".join(v.describe() for v in r.dropped[:MOST_SHOWN])
    more = f" and {len(r.dropped) - MOST_SHOWN} more" if len(r.dropped) > MOST_SHOWN else ""
    return [*lines, f"    recomputed: {shown}{more}"]


def _kernel(k: Kernel) -> list[str]:
    first, *rest = str(k).splitlines()
    if isinstance(k, Product):
        first += f"  ({2 * k.m * k.n * k.k * size_of(k.batch):,} floating-point operations"
        first += f", {len(k.epilogue.body)} instructions fused)" if k.epilogue else ")"
    elif isinstance(k, Loop):
        first += f"  ({size_of(k.space):,} points, {len(k.body)} instructions fused)"
    elif isinstance(k, Call):
        first += "  (no machine code)"
    return [first, *(f"    {line.strip()}" for line in rest)]
