"""Kinds of machine values, their spelling in LLVM IR, and the SSA value with Python's operators."""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from chainrule.compiler.llvm.builder import Builder

#: A kind is NumPy's type in three characters; "bool" is one bit in a register and one byte (0 or 1) in memory.
LLVM = {
    "bool": "i1", "u8": "i8", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64",
    "f16": "half", "f32": "float", "f64": "double", "ptr": "ptr",
}  # fmt: skip
BYTES = {"bool": 1, "u8": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "f16": 2, "f32": 4, "f64": 8, "ptr": 8}
BITS = {k: 1 if k == "bool" else 8 * n for k, n in BYTES.items()}
FLOATS = frozenset(("f16", "f32", "f64"))
INTEGERS = frozenset(("u8", "i8", "i16", "i32", "i64"))
UNSIGNED = frozenset(("u8", "bool"))
#: The signed integer of the same size, for work on the bits of a floating-point number.
BITS_OF = {"f16": "i16", "f32": "i32", "f64": "i64"}
#: Bits of the fraction, and the exponent's bias.
FRACTION = {"f16": 10, "f32": 23, "f64": 52}
BIAS = {"f16": 15, "f32": 127, "f64": 1023}

_KINDS = {
    np.dtype(np.bool_): "bool", np.dtype(np.uint8): "u8", np.dtype(np.int8): "i8", np.dtype(np.int16): "i16",
    np.dtype(np.int32): "i32", np.dtype(np.int64): "i64", np.dtype(np.float16): "f16", np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
}  # fmt: skip
_DTYPES = {k: d for d, k in _KINDS.items()}


def kind_of(dtype: Any) -> str:
    """The kind of a NumPy dtype (a kind passes through); raises ``TypeError`` where there is none."""
    if isinstance(dtype, str) and dtype in LLVM:
        return dtype
    try:
        return _KINDS[np.dtype(dtype)]
    except KeyError:
        raise TypeError(f"no machine kind for dtype {dtype}; known: {', '.join(_DTYPES)}") from None


def dtype_of(kind: str) -> np.dtype[Any]:
    """The NumPy dtype of a kind."""
    return _DTYPES[kind]


@cache
def ir_type(kind: str, width: int = 1) -> str:
    """LLVM's type: ``ir_type("f32", 16)`` is ``<16 x float>``; width 1 is a scalar."""
    return LLVM[kind] if width == 1 else f"<{width} x {LLVM[kind]}>"


@cache
def suffix(kind: str, width: int = 1) -> str:
    """The type in an intrinsic's name: ``v16f32``, ``i64``, ``p0``."""
    scalar = {"bool": "i1", "u8": "i8", "ptr": "p0"}.get(kind, kind)
    return scalar if width == 1 else f"v{width}{scalar}"


def literal(x: Any, kind: str) -> str:
    """One number as LLVM text, floating-point numbers as exact bits after rounding to ``kind``."""
    if kind in FLOATS:
        if kind == "f64":
            return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"
        if kind == "f32":
            with np.errstate(over="ignore"):
                rounded = float(np.float32(x))
            return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
        with np.errstate(over="ignore"):
            return f"0xH{int(np.float16(x).view(np.uint16)):04X}"
    if kind == "bool":
        return "true" if x else "false"
    if kind == "ptr":
        if x is None or x == 0:
            return "null"
        raise TypeError(f"no pointer constant but null; got {x!r}")
    if isinstance(x, float) and not x.is_integer():
        raise TypeError(f"the constant {x!r} is not a whole number, as kind {kind} needs")
    # the two's complement value in the kind's own range, whatever spelling of the bits came in
    n = BITS[kind]
    wrapped = int(x) & ((1 << n) - 1)
    return str(wrapped - (1 << n) if wrapped >> (n - 1) else wrapped)


@cache
def _constant(x: Any, sign: float, kind: str, width: int) -> str:
    one = literal(x, kind)
    return one if width == 1 else f"splat ({LLVM[kind]} {one})"


def constant(x: Any, kind: str, width: int = 1) -> str:
    """A number, the same in every lane, as LLVM text."""
    return _constant(x, math.copysign(1.0, x) if isinstance(x, float) else 1.0, kind, width)


class Value:
    """An SSA value: ``text`` (``%v7`` or a constant), ``kind``, ``width`` (1: scalar), and the builder it belongs to.

    ``+ - * /``, unary ``-``, ``< <= > >=``, ``& | ^ ~ << >>`` emit instructions; a Python number beside a value becomes
    a constant of its type. ``/`` is for floating point only, ``>>`` follows the sign of the kind. Equality is
    :meth:`Arithmetic.eq <chainrule.compiler.llvm.arithmetic.Arithmetic.eq>`, so that values can be dictionary keys.
    """

    __slots__ = ("b", "kind", "text", "width")

    def __init__(self, b: Builder, text: str, kind: str, width: int = 1) -> None:
        self.b, self.text, self.kind, self.width = b, text, kind, width

    @property
    def type(self) -> str:
        """LLVM's type."""
        return ir_type(self.kind, self.width)

    @property
    def typed(self) -> str:
        """Type and name, as an operand is written."""
        return f"{ir_type(self.kind, self.width)} {self.text}"

    @property
    def known(self) -> int | None:
        """The number that a scalar i64 is already now; None: it is known when the generated code runs."""
        return int(self.text) if self.kind == "i64" and self.width == 1 and self.text.lstrip("-").isdigit() else None

    def __repr__(self) -> str:
        return f"<{self.typed}>"

    def __bool__(self) -> bool:
        raise TypeError(f"{self.typed} is known when the generated code runs, not now: use b.select or b.if_")

    def __add__(self, y: Any) -> Value:
        return self.b.add(self, y)

    def __radd__(self, y: Any) -> Value:
        return self.b.add(y, self)

    def __sub__(self, y: Any) -> Value:
        return self.b.sub(self, y)

    def __rsub__(self, y: Any) -> Value:
        return self.b.sub(y, self)

    def __mul__(self, y: Any) -> Value:
        return self.b.mul(self, y)

    def __rmul__(self, y: Any) -> Value:
        return self.b.mul(y, self)

    def __truediv__(self, y: Any) -> Value:
        return self.b.div(self, y)

    def __rtruediv__(self, y: Any) -> Value:
        return self.b.div(y, self)

    def __neg__(self) -> Value:
        return self.b.neg(self)

    def __lt__(self, y: Any) -> Value:
        return self.b.lt(self, y)

    def __le__(self, y: Any) -> Value:
        return self.b.le(self, y)

    def __gt__(self, y: Any) -> Value:
        return self.b.gt(self, y)

    def __ge__(self, y: Any) -> Value:
        return self.b.ge(self, y)

    def __and__(self, y: Any) -> Value:
        return self.b.and_(self, y)

    def __or__(self, y: Any) -> Value:
        return self.b.or_(self, y)

    def __xor__(self, y: Any) -> Value:
        return self.b.xor(self, y)

    def __invert__(self) -> Value:
        return self.b.not_(self)

    def __lshift__(self, y: Any) -> Value:
        return self.b.shl(self, y)

    def __rshift__(self, y: Any) -> Value:
        return self.b.shr(self, y)
