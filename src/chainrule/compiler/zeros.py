"""Products that look for zeros in data, and leave out what is multiplied with them.

Images, one-hot columns and counts of words are mostly zeros. Where whole strips of a tile are zero in the arguments of
the call that a program is compiled for, its products with them look for zeros from then on: with the data on the left,
as in a layer's forward pass, at the same number in several rows; with the data on the right, as in the gradient of that
layer's weight, at several numbers side by side. Nothing but the time depends on it. Looking costs a few hundredths of a
product, so the product has to be large enough. What is left out, and when it may be, is described in
``compiler.llvm.gemm_zeros``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.kernels import Access, Buffer, Kernel, Product

#: rows and columns of the result, and steps of k, from which it pays to look
LEAST_ACROSS, LEAST_ALONG = 32, 64
#: the largest share of strips with a number in them for which it does
MOST_LEFT = 0.9
#: neighbours in a strip of each operand: about as many rows and columns as a tile has of it
STRIPS = {"a": (4, 1), "b": (1, 16)}
#: rows of data that are looked at to find out
SAMPLED = 64


def operands_with_zeros(x: np.ndarray[Any, Any] | None) -> str:
    """As which operands of a product some data has zeros to leave out: of "ab" those that pay."""
    if x is None or x.ndim < 2 or x.dtype.kind != "f" or not x.size:
        return ""
    rows = x.reshape(-1, x.shape[-1]) if x.flags.c_contiguous else x[(0,) * (x.ndim - 2)]
    seen = rows[:: max(1, len(rows) // SAMPLED)] != 0
    return "".join(which for which, strip in STRIPS.items() if _left(seen, *strip) <= MOST_LEFT)


def _left(seen: np.ndarray[Any, Any], rows: int, columns: int) -> float:
    """The share of strips of so many rows and columns with a number that is not zero; 1.0 without whole strips."""
    m, n = seen.shape[0] // rows, seen.shape[1] // columns
    strips = seen[: m * rows, : n * columns].reshape(m, rows, n, columns)
    return float(strips.any((1, 3)).mean()) if strips.size else 1.0


def leave_out_zeros(kernels: Sequence[Kernel], data: Mapping[Buffer, str]) -> list[Kernel]:
    """The same kernels, with products that look for zeros; ``data``: as which operands a buffer has some."""
    return [k._replace(zeros=_looked_at(k, data)) if isinstance(k, Product) else k for k in kernels]


def _looked_at(k: Product, data: Mapping[Buffer, str]) -> str:
    """The operand of a product whose zeros are to be left out; none: ''."""

    def has(operand: str, a: Access) -> bool:
        return operand in data.get(a.buffer, "") and a.strides[-1] == 1

    if min(k.m, k.n) < LEAST_ACROSS or k.k < LEAST_ALONG:
        return ""
    return "a" if has("a", k.a) else "b" if has("b", k.b) else ""
