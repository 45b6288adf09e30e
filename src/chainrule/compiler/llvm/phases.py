"""Phases: kernels that several threads may run without waiting for each other, with a barrier after each phase.

Within a phase every thread runs its part of each divided kernel, and the first thread all others, in order. A kernel
joins the phase before it if no two threads can then meet at the same memory: neither writes what the other reads or
writes. What a kernel that may fail has checked holds from the next phase on.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.aliasing import may_fail
from chainrule.compiler.arena import touched
from chainrule.compiler.epilogues import written_by
from chainrule.compiler.kernels import INPUT, OUTPUT, SCRATCH, Buffer, Kernel


def phases(kernels: Sequence[Kernel], shared: Sequence[bool]) -> list[list[int]]:
    """The numbers of all kernels, in order, phase by phase; ``shared`` says which of them threads divide."""
    out: list[list[int]] = []
    for n, kernel in enumerate(kernels):
        if out and all(_together(kernels[m], kernel, shared[m], shared[n]) for m in out[-1]):
            out[-1].append(n)
        else:
            out.append([n])
    return out


def _together(first: Kernel, second: Kernel, first_shared: bool, second_shared: bool) -> bool:
    if not first_shared and not second_shared:  # by the same thread
        return True
    if second_shared and may_fail(first):
        return False
    return not (_meet(written_by(first), touched(second)) or _meet(written_by(second), touched(first)))


def _meet(written: set[Buffer], others: Sequence[Buffer]) -> bool:
    return any(_same_memory(w, b) for w in written for b in others)


def _same_memory(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers may share memory: in the arena, or where an output replaces an input like it."""
    if a is b:
        return True
    if a.role == b.role == SCRATCH:
        return a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    return {a.role, b.role} == {INPUT, OUTPUT} and (a.size, a.dtype) == (b.size, b.dtype)
