"""Products of vectors, matrices and tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import ShapeError, explain
from chainrule.core.shapes import normalize_axis
from chainrule.ir.op import REGISTRY
from chainrule.ops.products import mismatch
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.fastpath import binary
from chainrule.tensors.functions.shape import expand
from chainrule.tensors.namespace import as_operand, cast, common_dtype
from chainrule.tensors.tensor import Tensor


def _matmul(input: Any, other: Any) -> Tensor:
    """The matrix product of the last two dimensions, leading ones broadcast; vectors as rows (left) or columns (right).

    Raises:
        RuntimeError: if the inner sizes differ, or an operand has zero dimensions.
    """
    input, other = as_operand(input, "matmul"), as_operand(other, "matmul")
    if not isinstance(input, Tensor) or not isinstance(other, Tensor):
        raise TypeError(
            explain(
                "matmul needs two tensors",
                got=f"{type(input).__name__} and {type(other).__name__}",
                fix="use * for numbers",
            )
        )
    a, b = input._d.shape, other._d.shape
    if not a or not b:
        raise ShapeError(
            explain("matmul of a tensor of zero dimensions", got=f"{a} and {b}", fix="use * for a product")
        )
    inner = a[-1], b[-2] if len(b) > 1 else b[0]
    if inner[0] != inner[1]:
        raise mismatch("matmul", a, b, inner)
    if input._d.dtype is not other._d.dtype and input._d.dtype != other._d.dtype:
        kind = common_dtype([input, other])
        raise RuntimeError(
            explain(
                "matmul needs two tensors of one dtype",
                got=f"{input.dtype} and {other.dtype}",
                fix=f"convert one, for example with .to({cast(input, kind).dtype})",
            )
        )
    x = input if len(a) > 1 else T.reshape(input, (1, a[0]))
    y = other if len(b) > 1 else T.reshape(other, (b[0], 1))
    z = T.matmul(x, y)
    if len(a) > 1 and len(b) > 1:
        return z  # type: ignore[no-any-return]
    shape = z._d.shape
    return T.reshape(z, (*shape[:-2], *((shape[-2],) if len(a) > 1 else ()), *((shape[-1],) if len(b) > 1 else ())))  # type: ignore[no-any-return]


matmul: Callable[[Any, Any], Tensor] = binary(REGISTRY["matmul"], _matmul, rank=2, kernel=np.ndarray.dot)


def _ranks(name: str, expected: tuple[int, ...], *tensors: Tensor) -> None:
    ranks = tuple(len(t._d.shape) for t in tensors)
    if ranks != expected:
        raise ShapeError(
            explain(
                f"{name}: wrong number of dimensions",
                expected=str(expected),
                got=f"{[tuple(t.shape) for t in tensors]}",
            )
        )


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _ranks("mm", (2, 2), input, mat2)
    return matmul(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    _ranks("mv", (2, 1), input, vec)
    return matmul(input, vec)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices."""
    _ranks("bmm", (3, 3), input, mat2)
    return matmul(input, mat2)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    _ranks("dot", (1, 1), input, tensor)
    return matmul(input, tensor)


vdot = dot


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimension of both."""
    if not input._d.shape or not other._d.shape:
        return T.mul(input, other)  # type: ignore[no-any-return]
    return tensordot(input, other, ([-1], [-1]))


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors: ``out[i, j] = input[i] vec2[j]``."""
    _ranks("outer", (1, 1), input, vec2)
    return T.mul(T.reshape(input, (-1, 1)), T.reshape(vec2, (1, -1)))  # type: ignore[no-any-return]


ger = outer


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha mat1 mat2``."""
    product = matmul(mat1, mat2)
    product = product if alpha == 1 else T.mul(product, alpha)
    return T.add(input if beta == 1 else T.mul(input, beta), product)  # type: ignore[no-any-return]


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha mat vec``."""
    return addmm(input, mat, vec, beta=beta, alpha=alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha batch1 batch2``, batch by batch."""
    return addmm(input, batch1, batch2, beta=beta, alpha=alpha)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x w^T + b`` for x (..., i), w (o, i), b (o).

    Raises:
        RuntimeError: if the inner sizes differ.
    """
    if not isinstance(input, Tensor):
        raise TypeError(
            explain(
                "linear needs a tensor",
                got=type(input).__name__,
                fix="make one with chainrule.tensor(...); of NumPy's float64 numbers with .float() after it",
            )
        )
    a, w = input._d.shape, weight._d.shape
    if not a or len(w) not in (1, 2) or a[-1] != w[-1]:
        raise mismatch("linear", a, w, (a[-1] if a else 0, w[-1] if w else 0))
    if bias is None or len(w) == 1 or len(a) == 1 or not input._d.dtype == weight._d.dtype == bias._d.dtype:
        y = matmul(input, T.permute(weight, (1, 0)) if len(w) == 2 else weight)
        return y if bias is None else T.add(y, bias)
    return T.linear(input, weight, bias)  # type: ignore[no-any-return]


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of ``input`` times all of ``other``, block by block."""
    rank = max(len(input._d.shape), len(other._d.shape))
    a = (1,) * (rank - len(input._d.shape)) + tuple(input._d.shape)
    b = (1,) * (rank - len(other._d.shape)) + tuple(other._d.shape)
    x = T.reshape(input, tuple(n for d in a for n in (d, 1)))
    y = T.reshape(other, tuple(n for d in b for n in (1, d)))
    return T.reshape(T.mul(x, y), tuple(p * q for p, q in zip(a, b, strict=True)))  # type: ignore[no-any-return]


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over pairs of dimensions (the last ``dims`` of a with the first of b, or two lists)."""
    ra, rb = len(a._d.shape), len(b._d.shape)
    if isinstance(dims, int):
        da, db = list(range(ra - dims, ra)), list(range(dims))
    else:
        da, db = ([normalize_axis(i, r) for i in d] for d, r in zip(dims, (ra, rb), strict=True))
    sa, sb = [a._d.shape[i] for i in da], [b._d.shape[i] for i in db]
    if sa != sb:
        raise ShapeError(explain("tensordot: the summed sizes differ", got=f"{sa} and {sb}"))
    ka, kb = [i for i in range(ra) if i not in da], [i for i in range(rb) if i not in db]
    n = math.prod(sa)
    rows = math.prod(a._d.shape[i] for i in ka)
    columns = math.prod(b._d.shape[i] for i in kb)
    x = T.reshape(T.permute(a, (*ka, *da)), (rows, n))
    y = T.reshape(T.permute(b, (*db, *kb)), (n, columns))
    return T.reshape(matmul(x, y), (*(a._d.shape[i] for i in ka), *(b._d.shape[i] for i in kb)))  # type: ignore[no-any-return]


# ---- einsum
def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """Letters of every operand and of the result; an ellipsis becomes capital letters that are not used."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(
            explain("einsum: one group of letters per tensor", expected=str(len(terms)), got=str(len(tensors)))
        )
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    widest = max(
        (len(t._d.shape) - len(s.replace("...", "")) for s, t in zip(terms, tensors, strict=True) if "..." in s),
        default=0,
    )
    dots = "".join(spare[:widest])
    full = []
    for s, t in zip(terms, tensors, strict=True):
        n = len(t._d.shape) - len(s.replace("...", ""))
        s = s.replace("...", dots[len(dots) - n :] if n > 0 else "")
        if len(s) != len(t._d.shape):
            raise ShapeError(explain(f"einsum: {s!r} names {len(s)} dimensions", got=f"shape {tuple(t._d.shape)}"))
        full.append(s)
    if arrow:
        out = right.replace("...", dots)
    else:
        counts = Counter("".join(full))
        out = dots + "".join(sorted(c for c in counts if counts[c] == 1 and c not in dots))
    unknown = set(out) - set("".join(full))
    if unknown or len(set(out)) != len(out):
        raise ShapeError(explain("einsum: the result's letters must be among the operands', each once", got=out))
    return full, out


def _take_diagonals(x: Tensor, letters: str) -> tuple[Tensor, str]:
    while len(set(letters)) < len(letters):
        c = next(c for c in letters if letters.count(c) > 1)
        i = letters.index(c)
        j = letters.index(c, i + 1)
        n = x._d.shape[i]
        rest = [k for k in range(len(letters)) if k not in (i, j)]
        flat = T.reshape(T.permute(x, (*rest, i, j)), (*(x._d.shape[k] for k in rest), n * n))
        x = T.getitem(flat, (Ellipsis, slice(None, None, n + 1)))
        letters = "".join(letters[k] for k in rest) + c
    return x, letters


def _contract(x: Tensor, lx: str, y: Tensor, ly: str, keep: set[str], sizes: dict[str, int]) -> tuple[Tensor, str]:
    """One pair as a batched matrix product: letters in both and kept are the batch, in both and not kept the inner."""
    for side in (0, 1):
        t, letters, other = (x, lx, ly) if side == 0 else (y, ly, lx)
        gone = tuple(i for i, c in enumerate(letters) if c not in other and c not in keep)
        if gone:
            t, letters = T.sum(t, gone, False), "".join(c for i, c in enumerate(letters) if i not in gone)
        if side == 0:
            x, lx = t, letters
        else:
            y, ly = t, letters
    batch = [c for c in lx if c in ly and c in keep]
    inner = [c for c in lx if c in ly and c not in keep]
    rows, columns = [c for c in lx if c not in ly], [c for c in ly if c not in lx]

    def size(letters: list[str], t: Tensor, names: str) -> int:
        return math.prod(t._d.shape[names.index(c)] for c in letters)

    if any(x._d.shape[lx.index(c)] != y._d.shape[ly.index(c)] for c in (*batch, *inner)):  # sizes of 1 that broadcast
        for c in (*batch, *inner):
            n = sizes[c]
            x = expand(x, [n if k == lx.index(c) else -1 for k in range(len(lx))])
            y = expand(y, [n if k == ly.index(c) else -1 for k in range(len(ly))])
    shape_b = tuple(sizes[c] for c in batch)
    a = T.reshape(
        T.permute(x, tuple(lx.index(c) for c in (*batch, *rows, *inner))),
        (*shape_b, size(rows, x, lx), size(inner, x, lx)),
    )
    b = T.reshape(
        T.permute(y, tuple(ly.index(c) for c in (*batch, *inner, *columns))),
        (*shape_b, size(inner, y, ly), size(columns, y, ly)),
    )
    z = T.matmul(a, b)
    letters = "".join((*batch, *rows, *columns))
    return T.reshape(z, tuple(sizes[c] for c in letters)), letters


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by Einstein's convention, such as ``einsum("ij,jk->ik", a, b)``; pairs are matrix products.

    Raises:
        RuntimeError: if the letters do not fit the shapes.
    """
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    kind = common_dtype([as_operand(t, "einsum") for t in tensors])
    tensors = [cast(t, kind) for t in tensors]
    terms, out = _parse(equation, tensors)
    sizes: dict[str, int] = {}
    for s, t in zip(terms, tensors, strict=True):
        for c, d in zip(s, t._d.shape, strict=True):
            if sizes.get(c, 1) not in (1, d) and d != 1:
                raise ShapeError(explain(f"einsum: letter {c!r} has two sizes", got=f"{sizes[c]} and {d}"))
            sizes[c] = max(sizes.get(c, 1), d) if d else d
    x, lx = _take_diagonals(tensors[0], terms[0])
    for k, (t, s) in enumerate(zip(tensors[1:], terms[1:], strict=True)):
        y, ly = _take_diagonals(t, s)
        keep = set(out).union(*terms[k + 2 :])
        x, lx = _contract(x, lx, y, ly, keep, sizes)
    gone = tuple(i for i, c in enumerate(lx) if c not in out)
    if gone:
        x, lx = T.sum(x, gone, False), "".join(c for c in lx if c in out)
    return T.permute(x, tuple(lx.index(c) for c in out)) if lx != out else x


FUNCTIONS = ["matmul", "mm", "mv", "bmm", "dot", "vdot", "inner", "outer", "ger", "addmm", "addmv", "baddbmm", "kron"]
PLAIN = ["linear", "tensordot", "einsum"]
