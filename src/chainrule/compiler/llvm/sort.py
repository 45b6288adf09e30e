"""Machine code of argsort: a stable sort of integer keys, each with its position.

A key is a signed integer in whose order the elements go: for a floating-point number its magnitude's bits with its
sign, one key for both zeros, the largest for NaN. The other direction sorts by the complement of the keys, which keeps
ties in order of position. A key of 32 bits or fewer and its position fit one word, and a word is all that is moved; a
longer key carries its position beside it. Short rows are merged; longer ones are sorted byte by byte of the key, the
lowest first: as many passes as bytes, each of which counts nothing but the order of one byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import base, collapse, dims_of, walk
from chainrule.compiler.llvm.values import BITS, BITS_OF, BYTES, FLOATS, UNSIGNED, Value, kind_of
from chainrule.ir.graph import Instruction

#: elements from which on a row is sorted by bytes
LONG = 64
_INFINITY = {"f16": 0x7C00, "f32": 0x7F800000, "f64": 0x7FF << 52}


def lowers_sort(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_argsort` covers an instruction: positions fit half a word."""
    shape = i.inputs[0].shape
    return bool(shape) and shape[i.params["axis"]] < 1 << 31


def _places(n: int) -> int:
    """Words of one half of the scratch memory: one more than is sorted, as a run at its end is looked at once more."""
    return n + 1


def sort_words(i: Instruction) -> int:
    """Scratch memory of an argsort in words of 8 bytes."""
    x = i.inputs[0]
    n = x.shape[i.params["axis"]]
    counts = 256 * _key_bytes(kind_of(x.dtype)) if n >= LONG else 0
    return 2 * (1 if x.dtype.itemsize <= 4 else 2) * _places(n) + counts


def _key_bytes(kind: str) -> int:
    """Bytes of a key; that of an unsigned byte takes two, as its complement is negative."""
    return 2 if kind in UNSIGNED else BYTES[kind]


def emit_argsort(module: Module, name: str, r: Routine) -> None:
    """A function ``void name(ptr table)``; ``r.work`` holds the keys before and after a round of merges."""
    x, y = r.inputs[0], r.outputs[0]
    i = r.instruction
    shape, axis = i.inputs[0].shape, i.params["axis"]
    n = shape[axis]
    kind = kind_of(i.inputs[0].dtype)
    packed = BITS[kind] <= 32
    step, out_step = x.strides[axis], y.strides[axis]
    nbytes = 8 * _places(n)
    streams = 1 if packed else 2
    # sortable keys as bytes move; floating-point numbers are never computed with
    raw = BITS_OF[kind] if kind in FLOATS else "u8" if kind == "bool" else kind
    dims = collapse([d for k, d in enumerate(dims_of(shape, x.strides, y.strides)) if k != axis])
    with module.function(name, internal=True, inline=False, table="ptr") as b:
        if 0 in shape:
            return
        table = b.args[0]
        assert r.work is not None
        scratch = b.pointer(table, r.work.number)
        halves = [[b.offset(scratch, (h * streams + s) * nbytes) for s in range(streams)] for h in range(2)]

        def row(pointers: Sequence[Value]) -> None:
            source, target = pointers
            with b.loop(0, n) as k:
                bits = b.load(b.at(source, k * step, raw), raw)
                key = _key(b, bits, kind, i.params["descending"])
                if packed:
                    b.store(b.shl(key, 32) | k, b.at(halves[0][0], k, "i64"))
                else:
                    b.store(key, b.at(halves[0][0], k, "i64"))
                    b.store(k, b.at(halves[0][1], k, "i64"))
            if n >= LONG:
                done = _by_bytes(
                    b, n, halves, b.offset(scratch, 2 * streams * nbytes), _key_bytes(kind), 32 if packed else 0
                )
            else:
                done = _merged(b, n, halves)
            with b.loop(0, n) as k:
                position = b.load(b.at(done[-1], k, "i64"), "i64")
                b.store(position & 0xFFFFFFFF if packed else position, b.at(target, k * out_step, "i64"))

        walk(b, dims, [base(b, table, v) for v in (x, y)], [raw, "i64"], row)


def _key(b: Builder, bits: Value, kind: str, descending: bool) -> Value:
    """A signed 64-bit key, larger for elements that come later; within 32 bits (signed) if the element is."""
    x = b.cast(bits, "i64")
    if kind in FLOATS:
        size = BITS[kind]
        least = -(1 << (size - 1))
        magnitude = x & ((1 << (size - 1)) - 1)
        key = b.select(x < 0, -magnitude, magnitude)  # both zeros are 0
        key = b.select(magnitude > _INFINITY[kind], ~b.const(least, "i64"), key)
    else:
        key = x
    return ~key if descending else key


def _by_bytes(
    b: Builder, n: int, halves: Sequence[Sequence[Value]], counts: Value, key_bytes: int, lowest: int
) -> Sequence[Value]:
    """Sort by one byte of the key after the other, from bit ``lowest`` on; ``counts`` has 256 words for each."""

    def bin_of(key: Value, k: int) -> Value:
        byte = b.lshr(key, lowest + 8 * k) & 255
        place = byte ^ 128 if k + 1 == key_bytes else byte  # the sign: negative keys come first
        return b.at(counts, place + 256 * k, "i64")

    b.memset(counts, key_bytes * 256 * 8)
    with b.loop(0, n) as i:
        key = b.load(b.at(halves[0][0], i, "i64"), "i64")
        for k in range(key_bytes):
            b.store(b.load(bin_of(key, k), "i64") + 1, bin_of(key, k))
    with b.loop_carrying(0, 256, 1, [b.i64(0)] * key_bytes) as sums:  # where each bin starts
        new = []
        for k, total in enumerate(sums.values):
            p = b.at(counts, sums.index + 256 * k, "i64")
            new.append(total + b.load(p, "i64"))
            b.store(total, p)
        sums.next(*new)
    for k in range(key_bytes):
        old, to = halves[k % 2], halves[1 - k % 2]
        with b.loop(0, n) as i:
            key = b.load(b.at(old[0], i, "i64"), "i64")
            p = bin_of(key, k)
            place = b.load(p, "i64")
            b.store(place + 1, p)
            b.store(key, b.at(to[0], place, "i64"))
            for source, target in zip(old[1:], to[1:], strict=True):
                b.store(b.load(b.at(source, i, "i64"), "i64"), b.at(target, place, "i64"))
    return halves[key_bytes % 2]


def _merged(b: Builder, n: int, halves: Sequence[Sequence[Value]]) -> list[Value]:
    """Merge neighbouring runs of 1, 2, 4, ... elements from one half of the scratch memory to the other."""
    streams = len(halves[0])
    rounds = (n - 1).bit_length()
    with b.loop_carrying(0, rounds, 1, [b.i64(1), *halves[0], *halves[1]]) as k:
        width, old, new = k.values[0], k.values[1 : 1 + streams], k.values[1 + streams :]
        with b.loop(0, n, width + width) as start:
            middle = _least(b, start + width, n)
            end = _least(b, middle + width, n)
            with b.loop_carrying(start, end, 1, [start, middle]) as m:
                left, right = m.values
                a, c = (b.load(b.at(old[0], p, "i64"), "i64") for p in (left, right))
                first = (left < middle) & ((right >= end) | (a <= c))  # ties: the left run's
                taken = b.select(first, left, right)
                b.store(b.select(first, a, c), b.at(new[0], m.index, "i64"))
                for p, q in zip(old[1:], new[1:], strict=True):
                    b.store(b.load(b.at(p, taken, "i64"), "i64"), b.at(q, m.index, "i64"))
                one = b.cast(b.cast(first, "u8"), "i64")
                m.next(left + one, right + (1 - one))
        k.next(width + width, *new, *old)
    return k.results[1 : 1 + streams]


def _least(b: Builder, x: Value, most: int) -> Value:
    return b.select(x < most, x, most)
