"""Steps of k that add nothing to a tile, because all its elements of one operand are zero there: found, and left out.

Images, one-hot columns and counts of words are mostly zeros. A tile of a few rows takes the steps at which one of these
rows is not zero, from a list of them; so does a tile of a few columns, whose panel is packed without the other steps.
The sums keep their order, and zero times a finite number adds zero to them: the bits are the same. (All but one: a sum
that has become too small for its dtype may be -0, and stays so where +0 is not added to it.) Zero times infinity or NaN
is NaN, so the other operand is looked through (``gemm_finite``); if it has such numbers, no step is left out.

Each of the functions here is made once per module and gives its name.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm_pack import copy_row, rows_name
from chainrule.compiler.llvm.gemm_plan import Index
from chainrule.compiler.llvm.gemm_rows import Rows
from chainrule.compiler.llvm.gemm_tiles import STEP
from chainrule.compiler.llvm.values import BITS_OF, BYTES, Value


def steps_of_rows(module: Module, kind: str, count: int, listed: bool) -> str:
    """``(rows, stride, depth, all, steps) -> i64``: the steps at which one of ``count`` rows is not zero.

    The rows are contiguous, ``stride`` bytes apart, or ``listed`` by their addresses. Where ``all`` is not 0, these are
    all steps. Returns how many.
    """
    name = f"steps_of_{count}_rows_{kind}{'_listed' if listed else ''}"
    if module.has(name):
        return name
    width = module.target.width(BYTES[kind])
    numbers: dict[str, Any] = dict.fromkeys(("stride", "depth", "all"), "i64")
    with module.function(name, internal=True, noalias=False, returns="i64", rows="ptr", **numbers, steps="ptr") as b:
        rows, stride, depth, everything, steps = b.args
        starts = [b.pointer(rows, i) if listed else b.offset(rows, stride * i) for i in range(count)]
        always = b.splat(b.ne(everything, 0), width)

        def look(k: Value, found: Value, mask: Value | None) -> Value:
            bits = [b.load(b.at(p, k, kind), BITS_OF[kind], width, mask=mask) for p in starts]
            live = b.or_(_nonzero(b, reduce(b.or_, bits)), always)
            if mask is not None:
                live = b.and_(live, mask)
            number = b.add(b.iota(STEP, width), b.splat(b.cast(k, STEP), width))
            b.store(_compress(b, number, live), b.at(steps, found, STEP))
            return b.add(found, _count(b, live))

        whole = b.and_(depth, -width)
        with b.loop_carrying(0, whole, width, [b.i64(0)]) as k:
            k.next(look(k.index, k.values[0], None))
        found = k.results[0]
        rest = b.sub(depth, whole)
        b.ret(b.if_else(rest > 0, lambda: [look(whole, found, b.tail_mask(rest, width))], lambda: [found])[0])
    return name


def pack_live_rows(module: Module, kind: str, columns: int, stride: int, b_k: int, index: Index | None) -> str:
    """``(source, panel, depth, index, all, steps) -> i64``: as ``gemm_pack.pack_rows``, without rows that are zero.

    Returns how many there are left, with their numbers in ``steps``. Where ``all`` is not 0, none is left out.
    """
    name = f"pack_live_rows_{kind}_{columns}_{stride}_{rows_name(b_k, index)}"
    if module.has(name):
        return name
    arguments: dict[str, Any] = {"source": "ptr", "panel": "ptr", "depth": "i64", "index": "ptr", "all": "i64"}
    with module.function(name, internal=True, noalias=False, returns="i64", **arguments, steps="ptr") as b:
        source, panel, depth, place, everything, steps = b.args
        rows = Rows(b, kind, source, b_k, 0, index, place)
        with b.loop_carrying(0, depth, 1, [b.i64(0)]) as k:
            found = k.values[0]
            target = b.offset(panel, found * (stride * BYTES[kind]))
            bits: dict[int, Value] = {}  # of all vectors of a width together
            for v in copy_row(b, rows, k.index, depth, target, columns, stride):
                bits[v.width] = b.or_(bits[v.width], b.bits(v)) if v.width in bits else b.bits(v)
            live = b.ne(everything, 0)
            for v in bits.values():
                live = b.or_(live, b.any(_nonzero(b, v)))
            b.store(b.cast(k.index, STEP), b.at(steps, found, STEP))
            k.next(b.add(found, b.cast(live, "i64")))
        b.ret(k.results[0])
    return name


def _nonzero(b: Builder, bits: Value) -> Value:
    """Which lanes are the bits of a number other than 0 and -0."""
    return b.ne(b.shl(bits, 1), 0)


def _compress(b: Builder, x: Value, mask: Value) -> Value:
    """The lanes whose bit is set, moved together."""
    if x.width == 1:
        return x
    return b.intrinsic("llvm.experimental.vector.compress", x, mask, x)


def _count(b: Builder, mask: Value) -> Value:
    """How many bits are set."""
    if mask.width == 1:
        return b.cast(mask, "i64")
    bits = f"i{mask.width} {b.op(f'bitcast {mask.typed} to i{mask.width}', 'i64').text}"
    return b.intrinsic("llvm.ctpop", b.op(f"zext {bits} to i64", "i64"))
