"""Ops with machine code of their own on whole arrays: which instructions, and how they are written."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.kernels import Routine
from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.division import emit_division, lowers_division
from chainrule.compiler.llvm.gather import emit_places, emit_ravel_index, lowers_places
from chainrule.compiler.llvm.philox import emit_random, lowers_random
from chainrule.compiler.llvm.position import emit_arg, lowers_arg
from chainrule.compiler.llvm.scan import emit_cumsum, lowers_scan
from chainrule.compiler.llvm.sort import emit_argsort, lowers_sort, sort_words
from chainrule.compiler.llvm.values import kind_of
from chainrule.ir.graph import Instruction

#: ``emit(module, name, routine)`` writes a function
Emit = Callable[[Module, str, Routine], None]


#: ``lowers(instruction, has_f16)``: whether dtypes and shapes are covered; float16 arithmetic needs ``has_f16``
Lowers = Callable[[Instruction, bool], bool]


def _lowers_ravel(i: Instruction, has_f16: bool) -> bool:
    return all(v.dtype == "i8" and v.shape == i.results[0].shape for v in i.inputs)


_ARG: tuple[Lowers, Emit] = (lowers_arg, emit_arg)
_DIVISION: tuple[Lowers, Emit] = (lowers_division, emit_division)
_PLACES: tuple[Lowers, Emit] = (lowers_places, emit_places)
_RANDOM: tuple[Lowers, Emit] = (lowers_random, emit_random)
ROUTINES: dict[str, tuple[Lowers, Emit]] = {
    "argmax": _ARG,
    "argmin": _ARG,
    "argsort": (lowers_sort, emit_argsort),
    "cumsum": (lowers_scan, emit_cumsum),
    "floor_divide": _DIVISION,
    "fmod": _DIVISION,
    "gather": _PLACES,
    "pow": _DIVISION,
    "put_rows": _PLACES,
    "random_bits": _RANDOM,
    "ravel_index": (_lowers_ravel, emit_ravel_index),
    "remainder": _DIVISION,
    "scatter": _PLACES,
    "scatter_add": _PLACES,
    "take": _PLACES,
    "take_add": _PLACES,
    "uniform": _RANDOM,
}
#: ops whose function returns 1 where eager mode raises an error: an index out of bounds, an integer divided by zero
CHECKED = frozenset((
    "floor_divide", "fmod", "gather", "pow", "put_rows", "ravel_index", "remainder", "scatter", "scatter_add", "take",
    "take_add",
))  # fmt: skip
#: ops whose result starts as a copy of their first input, which is then written in place
IN_PLACE = frozenset(("put_rows", "scatter", "scatter_add"))


def lowers(i: Instruction, has_f16: bool = True) -> bool:
    """Whether an instruction is a routine: op, dtypes and shapes. ``has_f16``: the target converts float16."""
    found = ROUTINES.get(i.op.name)
    if found is None:
        return False
    try:
        for v in (*i.inputs, *i.results):
            kind_of(v.dtype)
    except TypeError:
        return False
    return found[0](i, has_f16)


def work_words(i: Instruction) -> int:
    """Scratch memory of a routine in words of 8 bytes."""
    return sort_words(i) if i.op.name == "argsort" else 0


def emit_routine(module: Module, name: str, r: Routine) -> None:
    """Write a routine as a function ``name(ptr table)``, which returns an i64 if it is one of ``CHECKED``."""
    ROUTINES[r.instruction.op.name][1](module, name, r)
