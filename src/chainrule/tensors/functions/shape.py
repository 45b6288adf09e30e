"""Shapes and axes: views wherever PyTorch gives views, joining, splitting, padding, triangles and diagonals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import ShapeError, explain
from chainrule.core.shapes import flatten_sizes, infer_reshape, normalize_axes, normalize_axis, size_of
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.fastpath import VIEWS
from chainrule.tensors.namespace import broadcast, cast, common_dtype
from chainrule.tensors.tensor import Tensor
from chainrule.tensors.views import shares_memory

_alias, _permute, _reshape = VIEWS["alias"], VIEWS["permute"], VIEWS["reshape"]
_BACKWARDS = tuple([tuple(range(rank))[::-1] for rank in range(65)])


def detach(input: Tensor) -> Tensor:
    """The same values and memory without history."""
    return VIEWS["detach"](input, {})


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape (one size may be -1); a view if memory allows."""
    d = input._d
    old = d.shape
    new = None
    if type(d) is np.ndarray and d.flags.c_contiguous:  # NumPy checks sizes sooner than we do
        try:
            new = d.reshape(shape).shape
        except (ValueError, TypeError):  # told apart below
            new = None
    if new != shape:  # a size of -1, sizes in a tuple, or a mistake
        new = infer_reshape(flatten_sizes(shape), size_of(old), tuple(old))
    return _alias(input, {}) if new == old else _reshape(input, {"shape": new})


def view(input: Tensor, *shape: Any) -> Tensor:
    """As :func:`reshape`, but an error where memory does not allow a view; ``view(dtype)`` converts bits, not offered.

    Raises:
        RuntimeError: if the tensor's memory layout needs a copy.
    """
    out = reshape(input, *shape)
    if type(out._d) is np.ndarray and out._view is None and not shares_memory(out._d, input._d):
        raise RuntimeError(
            explain(
                "view: the memory layout needs a copy for this shape", fix="use .reshape(...), or .contiguous() first"
            )
        )
    return out


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """As :func:`view` with the shape of ``other``."""
    return view(input, tuple(other._d.shape))


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """As :func:`reshape` with the shape of ``other``."""
    return reshape(input, tuple(other._d.shape))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` as one."""
    shape = tuple(input._d.shape)
    a, b = normalize_axis(start_dim, len(shape)), normalize_axis(end_dim, len(shape))
    if a > b:
        raise RuntimeError(explain("flatten: start_dim comes after end_dim", got=f"{start_dim} and {end_dim}"))
    return reshape(input, (*shape[:a], size_of(shape[a : b + 1]), *shape[b + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return flatten(input)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension ``dim`` as several."""
    shape = tuple(input._d.shape)
    a = normalize_axis(dim, len(shape))
    return reshape(input, (*shape[:a], *infer_reshape(tuple(sizes), shape[a], (shape[a],)), *shape[a + 1 :]))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dimensions in another order."""
    given = flatten_sizes(dims)
    rank = len(input._d.shape)
    if len(given) != rank:
        raise RuntimeError(explain("permute needs every dimension once", expected=f"{rank} numbers", got=str(given)))
    return VIEWS["permute"](input, {"perm": normalize_axes(given, rank) if given else ()})


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped."""
    rank = len(input._d.shape)
    a, b = normalize_axis(dim0, rank), normalize_axis(dim1, rank)
    perm = list(range(rank))
    if rank:
        perm[a], perm[b] = b, a
    return VIEWS["permute"](input, {"perm": tuple(perm)})


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and scalars as they are."""
    if len(input._d.shape) > 2:
        raise RuntimeError(
            explain(
                "t() takes at most two dimensions", got=f"shape {tuple(input._d.shape)}", fix="use .mT or .transpose"
            )
        )
    return numpy_transpose(input)


def numpy_transpose(input: Tensor) -> Tensor:
    """All dimensions in reverse order (``x.T``)."""
    return _permute(input, {"perm": _BACKWARDS[len(input._d.shape)]})


def matrix_transpose(input: Tensor) -> Tensor:
    """The last two dimensions swapped (``x.mT``)."""
    if len(input._d.shape) < 2:
        raise RuntimeError(explain("mT needs at least two dimensions", got=f"shape {tuple(input._d.shape)}"))
    return transpose(input, -2, -1)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to other places, the rest in their order."""
    rank = len(input._d.shape)
    a, b = normalize_axes(source, rank), normalize_axes(destination, rank)
    order = [i for i in range(rank) if i not in a]
    for to, frm in sorted(zip(b, a, strict=True)):
        order.insert(to, frm)
    return permute(input, order)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dimensions of size 1 (all, or those named)."""
    shape = tuple(input._d.shape)
    axes = normalize_axes(dim, len(shape))
    return reshape(input, tuple(d for i, d in enumerate(shape) if d != 1 or i not in axes))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at ``dim``."""
    shape = tuple(input._d.shape)
    a = normalize_axis(dim, len(shape) + 1)
    return reshape(input, (*shape[:a], 1, *shape[a:]))


def expand(input: Tensor, *size: Any) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size.

    Raises:
        RuntimeError: if a size does not fit.
    """
    old = tuple(input._d.shape)
    new = list(flatten_sizes(size))
    lead = len(new) - len(old)
    for i, d in enumerate(new):
        have = old[i - lead] if i >= lead else None
        if d == -1 and have is not None:
            new[i] = have
        elif lead < 0 or d == -1 or (have is not None and have not in (1, d)):
            raise ShapeError(
                explain("expand: the sizes do not fit", expected=f"sizes that extend {old}", got=str(tuple(new)))
            )
    if lead < 0:
        raise ShapeError(explain("expand: too few sizes", expected=f"at least {len(old)}", got=str(tuple(new))))
    shape = tuple(int(d) for d in new)
    if shape == old:
        return VIEWS["alias"](input, {})  # nothing is repeated, so it may be written
    return VIEWS["broadcast_to"](input, {"shape": shape})


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """As :func:`expand` to the shape of ``other``."""
    return expand(input, tuple(other._d.shape))


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """As :func:`expand`."""
    return expand(input, tuple(size))


def broadcast_tensors(*tensors: Any) -> list[Tensor]:
    """All tensors expanded to their common shape."""
    return broadcast(list(flatten_sizes(tensors)))


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with its own memory; the gradient flows through."""
    return T.copy(input)  # type: ignore[no-any-return]


def contiguous(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """Itself if its memory is in row-major order, else a copy that is."""
    if type(input._d) is np.ndarray and not input._d.flags.c_contiguous:
        return clone(input)
    return input


def is_contiguous(input: Tensor) -> bool:
    """Whether memory is in row-major order."""
    return type(input._d) is not np.ndarray or bool(input._d.flags.c_contiguous)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at ``index`` along ``dim``."""
    return narrow_index(input, dim, int(index))


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``length`` elements from ``start`` along ``dim``."""
    size = input._d.shape[normalize_axis(dim, len(input._d.shape))]
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise IndexError(
            explain("narrow: outside the dimension", expected=f"within 0..{size}", got=f"{start}, {length}")
        )
    return narrow_index(input, dim, slice(first, first + length))


def narrow_index(input: Tensor, dim: int, index: Any) -> Tensor:
    """The view ``input[:, ..., index]`` with the index at ``dim``."""
    axis = normalize_axis(dim, len(input._d.shape))
    if isinstance(index, int) and not -input._d.shape[axis] <= index < input._d.shape[axis]:
        raise IndexError(explain("index out of range", expected=f"below {input._d.shape[axis]}", got=str(index)))
    return VIEWS["getitem"](input, {"index": (*(slice(None),) * axis, index)})


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All slices along ``dim``."""
    n = input._d.shape[normalize_axis(dim, len(input._d.shape))]
    return tuple(narrow_index(input, dim, i) for i in range(n))


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of a size (the last may be shorter), or of the given sizes, along ``dim``."""
    n = input._d.shape[normalize_axis(dim, len(input._d.shape))]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        if sizes <= 0:
            raise RuntimeError(explain("split needs a positive size", got=str(sizes)))
        sizes = [min(sizes, n - i) for i in range(0, n, sizes)] or [0]
    elif sum(sizes) != n:
        raise RuntimeError(explain("split: the sizes do not add up", expected=str(n), got=f"{list(sizes)}"))
    ends = list(itertools.accumulate(sizes))
    return tuple(narrow_index(input, dim, slice(e - s, e)) for s, e in zip(sizes, ends, strict=True))


split_with_sizes = split


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` pieces of equal size, the last perhaps shorter."""
    n = input._d.shape[normalize_axis(dim, len(input._d.shape))]
    return split(input, max(1, -(-n // chunks)), dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces whose sizes differ by at most one, or cut at the given indices."""
    n = input._d.shape[normalize_axis(dim, len(input._d.shape))]
    if isinstance(indices_or_sections, int):
        q, r = divmod(n, indices_or_sections)
        return split(input, [q + 1] * r + [q] * (indices_or_sections - r), dim)
    cuts = [0, *(min(i, n) for i in indices_or_sections), n]
    return tuple(narrow_index(input, dim, slice(a, b)) for a, b in itertools.pairwise(cuts))


# ---- joining
def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors one after another along ``dim``.

    Raises:
        RuntimeError: if there are none, or another dimension differs.
    """
    xs = list(tensors)
    if not xs:
        raise RuntimeError(explain("cat needs at least one tensor"))
    kind = common_dtype(xs)
    full = [x for x in xs if tuple(x._d.shape) != (0,)] or xs[:1]  # empty vectors are skipped, as in PyTorch
    rank = len(full[0]._d.shape)
    a = normalize_axis(dim if axis is None else axis, rank)
    if rank == 0:
        raise RuntimeError(explain("tensors of zero dimensions cannot be joined", fix="use chainrule.stack"))
    for x in full:
        s, first = tuple(x._d.shape), tuple(full[0]._d.shape)
        if len(s) != rank or s[:a] + s[a + 1 :] != first[:a] + first[a + 1 :]:
            raise ShapeError(
                explain(f"cat: the shapes differ outside dimension {a}", expected=f"shapes like {first}", got=str(s))
            )
    return T.cat(*(cast(x, kind) for x in full), axis=a)  # type: ignore[no-any-return]


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    xs = list(tensors)
    shapes = {tuple(x._d.shape) for x in xs}
    if len(shapes) > 1:
        raise ShapeError(explain("stack needs tensors of one shape", got=", ".join(map(str, sorted(shapes)))))
    return cat([unsqueeze(x, dim) for x in xs], normalize_axis(dim, len(xs[0]._d.shape) + 1) if xs else 0)


def atleast_1d(x: Tensor) -> Tensor:
    """With at least one dimension."""
    return x if x._d.shape else reshape(x, 1)


def atleast_2d(x: Tensor) -> Tensor:
    """With at least two dimensions."""
    return x if len(x._d.shape) > 1 else unsqueeze(atleast_1d(x), 0)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side: along dimension 1, or 0 for vectors."""
    xs = [atleast_1d(x) for x in tensors]
    return cat(xs, 0 if len(xs[0]._d.shape) == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """One above another; vectors are rows."""
    return cat([atleast_2d(x) for x in tensors], 0)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side; vectors are columns."""
    return hstack([unsqueeze(atleast_1d(x), 1) if len(x._d.shape) < 2 else x for x in tensors])


def repeat(input: Tensor, *sizes: Any) -> Tensor:
    """Copies along each dimension."""
    reps = tuple(int(s) for s in flatten_sizes(sizes))
    shape = (1,) * (len(reps) - len(input._d.shape)) + tuple(input._d.shape)
    if len(shape) != len(reps):
        raise ShapeError(explain("repeat needs a number per dimension", expected=f"{len(shape)}", got=str(reps)))
    paired = reshape(input, [n for d in shape for n in (1, d)])
    spread = expand(paired, [n for r, d in zip(reps, shape, strict=True) for n in (r, d)])
    return T.reshape(spread, tuple(r * d for r, d in zip(reps, shape, strict=True)))  # type: ignore[no-any-return]


def tile(input: Tensor, *dims: Any) -> Tensor:
    """As :func:`repeat`, with missing numbers taken as 1."""
    reps = tuple(flatten_sizes(dims))
    return repeat(input, (1,) * (len(input._d.shape) - len(reps)) + reps)


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each slice along ``dim`` repeated (all elements of the flattened tensor if None)."""
    x = input if dim is not None else flatten(input)
    axis = normalize_axis(dim or 0, len(x._d.shape))
    count = repeats.numpy() if isinstance(repeats, Tensor) else repeats
    index = np.repeat(np.arange(x._d.shape[axis]), count)
    return T.take(x, constant(index), axis=axis)  # type: ignore[no-any-return]


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved along dimensions, those that fall off returning at the other end."""
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), tuple(input._d.shape))
    for s, d in zip(*([v] if isinstance(v, int) else v for v in (shifts, dims)), strict=True):
        n = input._d.shape[normalize_axis(d, len(input._d.shape))]
        if n:
            s %= n
            input = cat([narrow_index(input, d, slice(n - s, n)), narrow_index(input, d, slice(0, n - s))], d)
    return input


def flip(input: Tensor, *dims: Any) -> Tensor:
    """Elements along the dimensions in reverse order."""
    return T.flip(input, axes=normalize_axes(flatten_sizes(dims), len(input._d.shape)))  # type: ignore[no-any-return]


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by k quarter turns in the plane of two dimensions."""
    a, b = dims
    k %= 4
    if k == 2:
        return flip(input, a, b)
    if k == 0:
        return clone(input)
    return flip(transpose(input, a, b), a) if k == 1 else transpose(flip(input, a), a, b)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of vectors: dimension i runs along vector i, or with "xy" the first two change places.

    Raises:
        RuntimeError: for another indexing than "ij" or "xy".
    """
    if indexing not in ("ij", "xy"):
        raise RuntimeError(explain("meshgrid: unknown indexing", expected="'ij' or 'xy'", got=repr(indexing)))
    xs = [atleast_1d(x) for x in flatten_sizes(tensors)]
    shape = tuple(x._d.shape[0] for x in xs)
    out = [expand(reshape(x, [-1 if j == i else 1 for j in range(len(xs))]), shape) for i, x in enumerate(xs)]
    return tuple(transpose(o, 0, 1) for o in out) if indexing == "xy" and len(xs) > 1 else tuple(out)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: Any = 0) -> Tensor:
    """Elements added around the last dimensions: pairs (before, after), the last dimension first; negative ones crop.

    Raises:
        NotImplementedError: for another mode than "constant".
        RuntimeError: for an odd number of entries, or more pairs than dimensions.
    """
    if mode != "constant":
        raise NotImplementedError(f"pad mode {mode!r} is not available; use mode='constant'")
    shape = tuple(input._d.shape)
    if len(pad) % 2 or len(pad) // 2 > len(shape):
        raise RuntimeError(
            explain("pad needs pairs (before, after), at most one per dimension", got=f"{tuple(pad)} for shape {shape}")
        )
    pairs = [(0, 0)] * (len(shape) - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    crop = tuple(slice(max(0, -a), d - max(0, -b)) for (a, b), d in zip(pairs, shape, strict=True))
    inner = T.getitem(input, crop) if any(a < 0 or b < 0 for a, b in pairs) else input
    outer = tuple(d + a + b for (a, b), d in zip(pairs, shape, strict=True))
    place = tuple(slice(max(0, a), max(0, a) + n) for (a, _), n in zip(pairs, inner._d.shape, strict=True))
    if value in (0, None):
        return T.unslice(inner, place, outer)  # type: ignore[no-any-return]
    base = T.full(outer, value, input._d.dtype)
    return T.put(base, inner, view=("getitem", (("index", place),)))  # type: ignore[no-any-return]


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: Any = 0) -> Tensor:
    """As :func:`pad` with a constant."""
    return _pad(input, pad, "constant", value)


_pad = pad


# ---- triangles and diagonals
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """Elements on and below a diagonal of the last two dimensions, else 0."""
    return T.tril(input, k=diagonal)  # type: ignore[no-any-return]


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """Elements on and above a diagonal of the last two dimensions, else 0."""
    return T.triu(input, k=diagonal)  # type: ignore[no-any-return]


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions, as the last dimension."""
    rank = len(input._d.shape)
    a, b = normalize_axis(dim1, rank), normalize_axis(dim2, rank)
    if a == b:
        raise RuntimeError(explain("diagonal needs two different dimensions", got=f"{dim1} and {dim2}"))
    x = movedim(input, (a, b), (rank - 2, rank - 1))
    n, m = x._d.shape[-2:]
    length = max(0, min(n + min(offset, 0), m - max(offset, 0)))
    start = offset if offset >= 0 else -offset * m
    flat = reshape(x, (*x._d.shape[:-2], n * m))
    stop = start + (length - 1) * (m + 1) + 1 if length else start
    return VIEWS["getitem"](flat, {"index": (Ellipsis, slice(start, stop, m + 1))})


_diagonal = diagonal


def diag_embed(input: Tensor, offset: int = 0) -> Tensor:
    """Matrices with the last dimension on a diagonal, else zeros."""
    *lead, k = input._d.shape
    n = k + abs(offset)
    start = offset if offset >= 0 else -offset * n
    stop = start + (k - 1) * (n + 1) + 1 if k else start
    flat = T.unslice(input, (Ellipsis, slice(start, stop, n + 1)), (*lead, n * n))
    return T.reshape(flat, (*lead, n, n))  # type: ignore[no-any-return]


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    rank = len(input._d.shape)
    if rank not in (1, 2):
        raise RuntimeError(explain("diag takes a vector or a matrix", got=f"shape {tuple(input._d.shape)}"))
    return diag_embed(input, diagonal) if rank == 1 else clone(_diagonal(input, diagonal))


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    return T.sum(diagonal(input), (0,), False)  # type: ignore[no-any-return]


# ---- dtypes
def to(input: Tensor, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
    """The tensor with a dtype, on a device (only the CPU), or like another tensor."""
    for a in args:
        if isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, (dtypes.dtype, type, np.dtype)):
            dtype = a
        elif isinstance(a, bool):
            continue
        else:
            device = a
    if device is not None:
        type(input.device)(device)
    out = input if dtype is None else cast(input, dtypes.as_numpy(dtype))
    return clone(out) if copy and out is input else out


def size(input: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size along one dimension."""
    return input.shape if dim is None else input._d.shape[normalize_axis(dim, len(input._d.shape))]


def numel(input: Tensor) -> int:
    """The number of elements."""
    return size_of(input._d.shape)


FUNCTIONS = [
    "detach",
    "reshape",
    "view",
    "view_as",
    "reshape_as",
    "flatten",
    "ravel",
    "unflatten",
    "permute",
    "transpose",
    "t",
    "movedim",
    "squeeze",
    "unsqueeze",
    "expand",
    "expand_as",
    "broadcast_to",
    "clone",
    "contiguous",
    "is_contiguous",
    "select",
    "narrow",
    "unbind",
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    "repeat",
    "tile",
    "repeat_interleave",
    "roll",
    "flip",
    "fliplr",
    "flipud",
    "rot90",
    "tril",
    "triu",
    "diagonal",
    "diag_embed",
    "diag",
    "trace",
    "to",
    "size",
    "numel",
]
PLAIN = [
    "broadcast_tensors",
    "cat",
    "concat",
    "concatenate",
    "stack",
    "hstack",
    "vstack",
    "column_stack",
    "atleast_1d",
    "atleast_2d",
    "meshgrid",
    "pad",
    "constant_pad_nd",
]
