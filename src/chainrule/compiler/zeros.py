"""Products that look for zeros in data, and leave out what is multiplied with them.

Images, one-hot columns and counts of words are mostly zeros; weights and activations hardly ever are in whole rows of a
tile. So data is what a product has as its left operand, in a layer's forward pass, if it is an input of the program or
was gathered from one; and the same input as the right operand, in the gradient of that layer's weight. Looking costs
about a hundredth of such a product, so it has to be wide enough. What is left out, and when it may be, is described in
``compiler.llvm.gemm_zeros``.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import INPUT, Access, Buffer, Kernel, Product

#: rows and columns of the result, and steps of k, from which it pays to look
LEAST_ACROSS, LEAST_ALONG = 32, 64


def leave_out_zeros(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The same kernels, with products that look for zeros in their data."""
    products = [k for k in kernels if isinstance(k, Product)]
    data = {k.a.buffer for k in products if k.a.buffer.role == INPUT and _contiguous(k.a)}
    return [k._replace(zeros=_looked_at(k, data)) if isinstance(k, Product) else k for k in kernels]


def _contiguous(a: Access) -> bool:
    return a.strides[-1] == 1


def _looked_at(k: Product, data: set[Buffer]) -> str:
    """The operand of a product that is data, and large enough; none: ''."""
    if k.a.buffer in data and _contiguous(k.a) and min(k.m, k.n) >= LEAST_ACROSS and k.k >= LEAST_ALONG:
        return "a"
    if k.b.buffer in data and _contiguous(k.b) and min(k.m, k.n) >= LEAST_ACROSS and k.k >= LEAST_ALONG:
        return "b"
    return ""
