"""Machine code of random numbers: Philox 4x64-10, the very numbers of ``core.random``, made where they are needed.

A block of four 64-bit words is a function of a key (the seed) and a counter (the position), so blocks do not depend on
each other and the processor works on several at once. Source: Salmon et al. (2011), "Parallel random numbers: as easy
as 1, 2, 3".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import base
from chainrule.compiler.llvm.values import BYTES, Value, kind_of
from chainrule.core.shapes import size_of
from chainrule.ir.graph import Instruction

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10
_WORDS = 4


def lowers_random(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_random` covers an instruction: a 64-bit seed and position."""
    return all(v.dtype == np.int64 and v.shape == () for v in i.inputs) and (has_f16 or i.results[0].dtype != "f2")


def emit_random(module: Module, name: str, r: Routine) -> None:
    """A function ``void name(ptr table)`` for uniform and random_bits: seed and position are scalars in memory."""
    result = r.instruction.results[0]
    count, kind = size_of(result.shape), kind_of(result.dtype)
    uniform = r.instruction.op.name == "uniform"
    with module.function(name, internal=True, inline=False, table="ptr") as b:
        if not count:
            return
        table = b.args[0]
        seed, offset = (b.load(base(b, table, v), "i64") for v in r.inputs)
        out = base(b, table, r.outputs[0])
        keys = [(seed + _WEYL[0] * k, _WEYL[1] * k) for k in range(_ROUNDS)]
        each = _WORDS * 8 // max(4, BYTES[kind])

        def block(number: Value, to: Value) -> None:
            words = b.vector(_block(b, keys, offset, number))
            b.store(_uniform(b, words, kind) if uniform else b.lshr(words, 1), to, align=BYTES[kind])

        with b.loop(0, count // each) as i:
            block(i, b.at(out, i * each, kind))
        if count % each:
            last = count // each
            part = b.alloca(_WORDS * 8)
            block(b.i64(last), part)
            b.memcpy(b.at(out, last * each, kind), part, count % each * BYTES[kind])


def _uniform(b: Builder, words: Value, kind: str) -> Value:
    """The top bits of each 64-bit word (53), or of its two halves, the lower one first (24 or 11); scaled to [0, 1)."""
    if kind == "f64":
        return b.cast(b.lshr(words, 11), "f64") * 2.0**-53
    halves = b.op(f"bitcast {words.typed} to <{2 * words.width} x i32>", "i32", 2 * words.width)
    keep = 24 if kind == "f32" else 11
    return b.cast(b.cast(b.lshr(halves, 32 - keep), "f32") * 2.0**-keep, kind)


def _block(b: Builder, keys: Sequence[tuple[Value, int]], offset: Value, number: Value) -> list[Value]:
    """The four words of block ``offset + number``: the counter has 256 bits, a negative position all upper ones."""
    low = offset + number
    high = b.select((offset < 0) & (low < 0), b.const(-1, "i64"), 0)
    c = [low, high, high, high]
    for first, second in keys:
        (h0, l0), (h1, l1) = (_product(b, c[2 * j], m) for j, m in enumerate(_MULTIPLIERS))
        c = [h1 ^ c[1] ^ first, l1, h0 ^ c[3] ^ second, l0]
    return c


def _product(b: Builder, x: Value, m: int) -> tuple[Value, Value]:
    """The upper and the lower 64 bits of a product of unsigned 64-bit integers."""
    wide = b.op(f"zext i64 {x.text} to i128", "i64")
    full = b.op(f"mul i128 {wide.text}, {m}", "i64")
    upper = b.op(f"lshr i128 {full.text}, 64", "i64")
    return b.op(f"trunc i128 {upper.text} to i64", "i64"), b.op(f"trunc i128 {full.text} to i64", "i64")
