"""Machine code of running sums."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.nest import Dim, base, collapse, dims_of, lanes, walk
from chainrule.compiler.llvm.values import Value, kind_of
from chainrule.ir.graph import Instruction

#: running sums side by side where they lie along rows: one alone waits for its own last addition
CHAINS = 4


def lowers_scan(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_cumsum` covers an instruction."""
    return bool(i.results[0].shape) and (has_f16 or i.results[0].dtype != "f2")


def emit_cumsum(module: Module, name: str, r: Routine) -> None:
    """A function ``void name(ptr table)``: sums along an axis, each from its first element on, in order.

    Neighbouring sums are lanes of a vector where they lie side by side in memory, else several scalar chains.
    """
    x, y = r.inputs[0], r.outputs[0]
    shape, axis = r.instruction.results[0].shape, r.instruction.params["axis"]
    kind = kind_of(y.buffer.dtype)
    along = Dim(shape[axis], (x.strides[axis], y.strides[axis]))
    dims = collapse([d for k, d in enumerate(dims_of(shape, x.strides, y.strides)) if k != axis])
    last = dims[-1] if dims else Dim(1, (0, 0))
    with module.function(name, internal=True, inline=False, table="ptr") as b:
        if 0 in shape:
            return

        def row(pointers: Sequence[Value]) -> None:
            def at(i: Value) -> list[Value]:
                return [b.at(p, i * s, kind) for p, s in zip(pointers, last.strides, strict=True)]

            if last.strides == (1, 1):
                width = lanes(b, y.buffer.dtype.itemsize, last.size)
                b.for_vectors(last.size, width, lambda i, w: _run(b, kind, along, [at(i)], w))
            else:
                whole = last.size - last.size % CHAINS
                with b.loop(0, whole, CHAINS) as i:
                    _run(b, kind, along, [at(i + c if c else i) for c in range(CHAINS)], 1)
                with b.loop(whole, last.size) as i:
                    _run(b, kind, along, [at(i)], 1)

        walk(b, dims[:-1], [base(b, b.args[0], v) for v in (x, y)], [kind, kind], row)


def _run(b: Builder, kind: str, along: Dim, places: Sequence[Sequence[Value]], width: int) -> None:
    """Several running sums at once, each of ``width`` lanes. The first is the element itself: -0 stays -0."""
    first = [b.load(p, kind, width) for p, _ in places]
    for total, (_, q) in zip(first, places, strict=True):
        b.store(total, q)
    with b.loop_carrying(1, along.size, 1, first) as k:
        new = []
        for total, (p, q) in zip(k.values, places, strict=True):
            x = b.load(b.at(p, k.index * along.strides[0], kind), kind, width)
            total = total | x if kind == "bool" else total + x
            b.store(total, b.at(q, k.index * along.strides[1], kind))
            new.append(total)
        k.next(*new)
