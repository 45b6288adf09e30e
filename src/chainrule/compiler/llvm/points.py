"""One instruction of a loop, or of what follows a matrix product, for the points at hand."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.llvm.builder import Builder
from chainrule.compiler.llvm.values import Value, kind_of
from chainrule.compiler.llvm.vmath import EMITTERS
from chainrule.ir.graph import Instruction


def compute(b: Builder, i: Instruction, xs: Sequence[Value], width: int) -> Value:
    """The result of an elementwise instruction for ``width`` neighbouring points."""
    if i.op.name == "copy":
        return xs[0]
    if i.op.name == "cast":
        return b.cast(xs[0], kind_of(i.results[0].dtype))
    return EMITTERS[i.op.name](b, width, kind_of(i.inputs[-1].dtype), *xs)
