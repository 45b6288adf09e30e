"""Machine code of elementwise integer ops that eager mode refuses for some operands: division by zero, negative powers.

A loop of its own for each: it reports such operands, and then the reference kernel raises the error.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm import vmath
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.nest import Dim, base, collapse, dims_of, lanes, walk
from chainrule.compiler.llvm.values import Value, kind_of
from chainrule.ir.graph import Instruction


def lowers_division(i: Instruction, has_f16: bool) -> bool:
    """Whether :func:`emit_division` covers an instruction: integers of one dtype and shape."""
    x, y = i.inputs
    same = x.dtype == y.dtype == i.results[0].dtype and x.shape == y.shape
    return same and x.dtype.kind in "iu" and vmath.lowers(i.op.name, x.dtype)


def emit_division(module: Module, name: str, r: Routine) -> None:
    """A function ``i64 name(ptr table)``: 1 if eager mode raises for these operands, else 0."""
    result = r.instruction.results[0]
    kind = kind_of(result.dtype)
    layouts = (*r.inputs, *r.outputs)
    dims = collapse(dims_of(result.shape, *(x.strides for x in layouts)))
    last = dims[-1] if dims else Dim(1, (0,) * len(layouts))
    with module.function(name, internal=True, inline=False, returns="i64", table="ptr") as b:
        refused = b.alloca(8, 8)
        b.store(b.i64(0), refused)

        def report(mask: Value, what: str) -> None:
            b.store(b.load(refused, "i64") | b.cast(b.cast(b.any(mask), "u8"), "i64"), refused)

        b.report = report

        def row(pointers: Sequence[Value]) -> None:
            def body(k: Value, width: int) -> None:
                *sources, to = (b.at(p, k * s, kind) for p, s in zip(pointers, last.strides, strict=True))
                xs = [b.load(p, kind, width, stride=s) for p, s in zip(sources, last.strides, strict=False)]
                value = vmath.EMITTERS[r.instruction.op.name](b, width, kind, *xs)
                b.store(value, to, stride=last.strides[-1])

            b.for_vectors(last.size, lanes(b, result.dtype.itemsize, last.size), body)

        if 0 not in result.shape:
            walk(b, dims[:-1], [base(b, b.args[0], x) for x in layouts], [kind] * len(layouts), row)
        b.ret(b.load(refused, "i64"))
