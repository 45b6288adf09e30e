"""Whether an operand of a product holds infinities or NaN: with these, zeros of the other one may not be left out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.values import BITS_OF, BYTES, FRACTION, Value


def largest(b: Builder, kind: str, width: int) -> Value:
    """The largest size of numbers seen so far, as bits, lane by lane: none yet."""
    return b.zero(BITS_OF[kind], width)


def with_sizes(b: Builder, seen: Value, vectors: Iterable[Value]) -> Value:
    """The same after some more vectors of floating-point numbers, which compare by size as their bits do."""
    rest = (1 << (8 * BYTES[seen.kind] - 1)) - 1
    return reduce(b.maximum, (b.and_(b.bits(v), rest) for v in vectors), seen)


def note(b: Builder, kind: str, seen: Value, flag: Value) -> None:
    """Set ``flag`` to 1 if a number that was seen is infinite or NaN."""
    infinity = (1 << (8 * BYTES[kind] - 1)) - (1 << FRACTION[kind])
    with b.if_(b.ge(b.reduce_max(seen), infinity)):
        b.store(b.i64(1), flag)


def note_infinite(module: Module, kind: str) -> str:
    """``(p, rows, stride, columns, flag)``: sets ``flag`` to 1 if an element is infinite or NaN.

    ``columns`` of each row are contiguous; rows are ``stride`` bytes apart. The function is made once per module.
    """
    name = f"note_infinite_{kind}"
    if module.has(name):
        return name
    width = module.target.width(BYTES[kind])
    numbers: dict[str, Any] = dict.fromkeys(("rows", "stride", "columns"), "i64")
    with module.function(name, internal=True, noalias=False, p="ptr", **numbers, flag="ptr") as b:
        p, rows, stride, columns, flag = b.args

        with b.loop_carrying(0, rows, 1, [largest(b, kind, width), largest(b, kind, 1)]) as i:
            row, seen, whole = b.offset(p, i.index * stride), [], b.and_(columns, -width)
            for low, high, before in zip((b.i64(0), whole), (whole, columns), i.values, strict=True):
                with b.loop_carrying(low, high, before.width, [before]) as j:
                    v = b.load(b.at(row, j.index, kind), kind, before.width)
                    j.next(with_sizes(b, j.values[0], [v]))
                seen += j.results
            i.next(*seen)
        for seen_in_all in i.results:
            note(b, kind, seen_in_all, flag)
    return name
