"""Indexing of every kind: integers, slices, None, Ellipsis, integer tensors, masks, and mixtures; reading and writing.

Basic indices give views. Advanced ones become a take of rows: the indexed dimensions are moved to the front, several
index tensors become one row-major index, and the result's dimensions go where NumPy's rules put them (in place of the
index tensors if those stand together, else in front).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from chainrule.core.errors import TracerError, explain
from chainrule.core.shapes import broadcast_shapes, inverse_permutation, normalize_axis, size_of
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import get_state
from chainrule.tensors.apply import constant
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.fastpath import VIEWS
from chainrule.tensors.inplace import write
from chainrule.tensors.namespace import as_operand, broadcast, cast
from chainrule.tensors.tensor import Tensor

_INT64 = np.dtype(np.int64)
_getitem_view = VIEWS["getitem"]


def _is_basic(item: Any) -> bool:
    if isinstance(item, (slice, int, np.integer)):
        return not isinstance(item, bool)
    return item is None or item is Ellipsis


def _as_index(item: Any) -> Any:
    """An index entry as int, slice, None, Ellipsis or an integer or boolean Tensor."""
    if isinstance(item, (bool, np.bool_)):
        return constant(np.asarray(item))
    if isinstance(item, slice):
        return slice(*(None if v is None else operator.index(v) for v in (item.start, item.stop, item.step)))
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, Tensor):
        kind = item._d.dtype.kind
        if kind == "f":
            raise IndexError(
                explain(
                    "tensors used as indices must be integers or booleans",
                    got=str(item.dtype),
                    fix="convert with .long()",
                )
            )
        interpreter = get_state().interpreter
        varies = isinstance(item._d, Tracer) or (interpreter is not None and interpreter.keeps(item))
        if not item._d.shape and kind != "b" and not varies:
            return int(item._d)
        return item
    if isinstance(item, (np.ndarray, list, tuple, range)):
        array = np.asarray(item)
        if array.dtype.kind not in "biu" and array.size:
            raise IndexError(explain("indices must be integers or booleans", got=str(array.dtype)))
        return constant(array if array.dtype.kind == "b" else array.astype(np.int64))
    try:
        return operator.index(item)
    except TypeError:
        raise IndexError(
            explain(
                f"an index of type {type(item).__name__} is not known",
                expected="integers, slices, None, Ellipsis, or integer or boolean tensors",
            )
        ) from None


def _mask_rows(mask: Tensor) -> list[Tensor]:
    if isinstance(mask._d, Tracer):
        raise TracerError(
            explain(
                "indexing with a mask has a shape that depends on values, which a transform does not know",
                fix="use chainrule.where(mask, x, 0), or keep the mask out of the transformed function",
            )
        )
    return [constant(i) for i in np.nonzero(mask.numpy(force=True))]


def _expand_ellipsis(items: list[Any], rank: int) -> list[Any]:
    used = sum(
        0 if i is None or i is Ellipsis else len(i._d.shape) if isinstance(i, Tensor) and i._d.dtype.kind == "b" else 1
        for i in items
    )
    if used > rank:
        raise IndexError(explain("too many indices", expected=f"at most {rank}", got=str(used)))
    if sum(1 for i in items if i is Ellipsis) > 1:
        raise IndexError(explain("an index may have one Ellipsis"))
    fill: list[Any] = [slice(None)] * (rank - used)
    at = next((k for k, i in enumerate(items) if i is Ellipsis), None)
    if at is None:
        return items + fill
    return items[:at] + fill + items[at + 1 :]


def _check_integers(index: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    axis = 0
    for i in _expand_ellipsis(list(index), len(shape)):
        if i is None:
            continue
        if isinstance(i, int) and not -shape[axis] <= i < shape[axis]:
            raise IndexError(
                explain(
                    f"index {i} is out of range for dimension {axis} of size {shape[axis]}",
                    expected=f"{-shape[axis]} to {shape[axis] - 1}",
                    got=str(i),
                )
            )
        axis += 1


def _check_steps(index: tuple[Any, ...]) -> None:
    for i in index:
        if type(i) is slice and i.step is not None and i.step <= 0:
            raise ValueError(explain("a slice needs a positive step", got=str(i.step), fix="use chainrule.flip"))


def basic(index: Any) -> tuple[Any, ...] | None:
    """The index as a tuple of integers, slices, None and Ellipsis, or None if it holds anything else."""
    items = index if isinstance(index, tuple) else (index,)
    if all(_is_basic(i) for i in items):
        return tuple(int(i) if isinstance(i, np.integer) else i for i in items)
    found = tuple(_as_index(i) for i in items)
    return None if any(isinstance(i, Tensor) for i in found) else found


def getitem(self: Tensor, index: Any) -> Tensor:
    """``x[index]``: a view for basic indices, a copy for advanced ones.

    Raises:
        IndexError: for an index out of range, or too many of them.
    """
    whole = type(index) is int
    plain = (index,) if whole else basic(index)
    if plain is not None:
        try:
            if not whole:
                _check_steps(plain)
            return _getitem_view(self, {"index": plain})
        except IndexError:
            _check_integers(plain, tuple(self._d.shape))
            raise
    place = _Advanced(self, index)
    rows = T.take(place.front(self), place.flat, axis=0)
    return place.back(rows)


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """``x[index] = value``, with the value broadcast and converted."""
    v = as_operand(value, "an assignment")
    v = v if isinstance(v, Tensor) else constant(v, self._d.dtype)
    plain = basic(index)
    if plain is not None:
        target = getitem(self, plain)
        write(target, cast(_trim(v, target), self._d.dtype))
        return
    items = index if isinstance(index, tuple) else (index,)
    mask = items[0] if len(items) == 1 else None
    if isinstance(mask, Tensor) and mask._d.dtype.kind == "b" and not v._d.shape:
        full = T.reshape(mask, (*mask._d.shape, *(1,) * (len(self._d.shape) - len(mask._d.shape))))
        write(self, T.where(full, cast(v, self._d.dtype), self))
        return
    write(self, index_put(self, index, v))


def _trim(v: Tensor, target: Tensor) -> Tensor:
    """Leading dimensions of size 1 that the target lacks, dropped."""
    extra = len(v._d.shape) - len(target._d.shape)
    if extra > 0 and all(d == 1 for d in v._d.shape[:extra]):
        return T.reshape(v, tuple(v._d.shape[extra:]))  # type: ignore[no-any-return]
    return v


def index_put(self: Tensor, index: Any, value: Tensor, accumulate: bool = False) -> Tensor:
    """``self`` with ``value`` written (or added) at an index, out of place."""
    place = _Advanced(self, index)
    front = place.front(self)
    rows = front._d.shape[0]
    shape = place.shape
    v = T.broadcast_to(cast(_trim(value, _Shaped(shape)), self._d.dtype), shape)  # type: ignore[arg-type]
    v = place.forth(v)
    if accumulate:
        new = T.add(front, T.take_add(v, place.flat, axis=0, length=rows))
    else:
        new = T.put_rows(front, place.flat, v)
    return place.restore(new, self)


class _Shaped:
    """Stands for a tensor of which only the shape matters."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._d = np.broadcast_to(np.empty(()), shape)


class _Advanced:
    """An advanced index, worked out for a tensor."""

    def __init__(self, x: Tensor, index: Any) -> None:
        items = [_as_index(i) for i in (index if isinstance(index, tuple) else (index,))]
        items = _expand_ellipsis(items, len(x._d.shape))
        entries: list[Any] = []
        for i in items:
            if isinstance(i, Tensor) and i._d.dtype.kind == "b":
                if not i._d.shape:
                    entries += [None, *_mask_rows(T.reshape(i, (1,)))]
                    continue
                axis = sum(1 for e in entries if e is not None)
                want = tuple(x._d.shape[axis : axis + len(i._d.shape)])
                if tuple(i._d.shape) != want:
                    raise IndexError(
                        explain(
                            "the mask does not fit the tensor", expected=f"shape {want}", got=str(tuple(i._d.shape))
                        )
                    )
                entries += _mask_rows(i)
            else:
                entries.append(i)
        # First the basic part, as a view in which advanced entries keep their whole dimension; integers that stand
        # beside index tensors take part as index tensors, as in NumPy.
        advanced = [k for k, e in enumerate(entries) if isinstance(e, (Tensor, int))]
        together = advanced[-1] - advanced[0] + 1 == len(advanced)
        self.basic = tuple(slice(None) if k in advanced else e for k, e in enumerate(entries))
        tensors = [
            constant(e, _INT64) if isinstance(e, int) else cast(e, _INT64) for e in (entries[k] for k in advanced)
        ]
        self.part_shape = np.broadcast_to(np.empty((), bool), x._d.shape)[self.basic].shape
        self.axes = advanced
        self.at = advanced[0] if together else 0
        self.rest = [k for k in range(len(self.part_shape)) if k not in advanced]
        sizes = tuple(self.part_shape[k] for k in advanced)
        if len(tensors) == 1:
            self.flat = tensors[0]
        else:
            broadcast_shapes(*(t._d.shape for t in tensors))
            self.flat = T.ravel_index(*broadcast(tensors), sizes=sizes)
        self.sizes = sizes
        self.rank = len(self.flat._d.shape)
        rest = tuple(self.part_shape[k] for k in self.rest)
        lead = rest[: self.at] if together else ()
        self.shape = (*lead, *self.flat._d.shape, *rest[len(lead) :])
        self.lead = len(lead)

    def front(self, x: Tensor) -> Tensor:
        """The basic part of x with the indexed dimensions in front, as one."""
        part = T.getitem(x, self.basic)
        part = T.permute(part, (*self.axes, *self.rest))
        return T.reshape(part, (size_of(self.sizes), *(self.part_shape[k] for k in self.rest)))  # type: ignore[no-any-return]

    def back(self, rows: Tensor) -> Tensor:
        """Taken rows with their dimensions in the result's order."""
        k, n = self.rank, len(rows._d.shape)
        if not self.lead:
            return rows
        return T.permute(rows, (*range(k, k + self.lead), *range(k), *range(k + self.lead, n)))  # type: ignore[no-any-return]

    def forth(self, v: Tensor) -> Tensor:
        """A value in the result's order as rows: the inverse of :meth:`back`."""
        k, n = self.rank, len(v._d.shape)
        if not self.lead:
            return v
        return T.permute(v, (*range(self.lead, self.lead + k), *range(self.lead), *range(self.lead + k, n)))  # type: ignore[no-any-return]

    def restore(self, front: Tensor, x: Tensor) -> Tensor:
        """``x`` with its basic part replaced by a changed front: the inverse of :meth:`front`."""
        order = (*self.axes, *self.rest)
        part = T.reshape(front, tuple(self.part_shape[k] for k in order))
        part = T.permute(part, inverse_permutation(order))
        if all(e == slice(None) for e in self.basic):
            return part  # type: ignore[no-any-return]
        return T.put(x, part, view=("getitem", (("index", self.basic),)))  # type: ignore[no-any-return]


# ---- functions with an index
def _long(index: Tensor) -> Tensor:
    if index._d.dtype.kind not in "iu":
        raise IndexError(
            explain("the index must be an integer tensor", got=str(index.dtype), fix="convert with .long()")
        )
    return cast(index, _INT64)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of ``input`` along ``dim`` at the indices."""
    return T.take(input, _long(index), axis=normalize_axis(dim, len(input._d.shape)))  # type: ignore[no-any-return]


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened tensor."""
    return T.take(T.reshape(input, (-1,)), _long(index), axis=0)  # type: ignore[no-any-return]


def _crop(x: Tensor, index: Tensor, axis: int, name: str) -> Tensor:
    """``x`` cut to the index's sizes outside ``axis``."""
    a, b = tuple(x._d.shape), tuple(index._d.shape)
    if len(a) != len(b) or any(n > d for k, (d, n) in enumerate(zip(a, b, strict=True)) if k != axis):
        raise RuntimeError(
            explain(
                f"{name}: the index does not fit",
                expected=f"as many dimensions as {a}, none larger but dimension {axis}",
                got=str(b),
            )
        )
    part = tuple(slice(None) if k == axis else slice(0, n) for k, n in enumerate(b))
    return T.getitem(x, part) if any(n != d for k, (d, n) in enumerate(zip(a, b, strict=True)) if k != axis) else x


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` along ``dim`` 0, and so on for the others."""
    axis = normalize_axis(dim, len(input._d.shape))
    return T.gather(_crop(input, index, axis, "gather"), _long(index), axis=axis)  # type: ignore[no-any-return]


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As :func:`gather` with broadcasting; on flattened tensors if ``dim`` is None."""
    if dim is None:
        return take(input, indices)
    axis = normalize_axis(dim, len(input._d.shape))
    shape = list(
        broadcast_shapes(*(tuple(1 if k == axis else d for k, d in enumerate(t._d.shape)) for t in (input, indices)))
    )
    wide = [T.broadcast_to(t, (*shape[:axis], t._d.shape[axis], *shape[axis + 1 :])) for t in (input, indices)]
    return T.gather(wide[0], _long(wide[1]), axis=axis)  # type: ignore[no-any-return]


def _scatter(name: str, input: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
    axis = normalize_axis(dim, len(input._d.shape))
    v = src if isinstance(src, Tensor) else T.full(tuple(index._d.shape), src, input._d.dtype)
    v = cast(T.getitem(v, tuple(slice(0, n) for n in index._d.shape)), input._d.dtype)
    part = _crop(input, index, axis, name)
    new = getattr(T, name)(part, _long(index), v, axis=axis)
    if part is input:
        return new  # type: ignore[no-any-return]
    place = tuple(slice(None) if k == axis else slice(0, n) for k, n in enumerate(index._d.shape))
    return T.put(input, new, view=("getitem", (("index", place),)))  # type: ignore[no-any-return]


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
    """``input`` with ``src`` written at the indices along ``dim``."""
    return _scatter("scatter", input, dim, index, value if src is None else src)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with ``src`` added at the indices along ``dim``."""
    return _scatter("scatter_add", input, dim, index, src)


def _index_form(input: Tensor, dim: int, index: Tensor) -> tuple[Any, ...]:
    return (*(slice(None),) * normalize_axis(dim, len(input._d.shape)), _long(index))


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """``input`` with slices of ``alpha source`` added at the indices along ``dim``."""
    v = cast(source if alpha == 1 else T.mul(source, alpha), input._d.dtype)
    return index_put(input, _index_form(input, dim, index), v, accumulate=True)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with slices of ``source`` written at the indices along ``dim``."""
    return index_put(input, _index_form(input, dim, index), source)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """``input`` with a number written at the indices along ``dim``."""
    v = value if isinstance(value, Tensor) else constant(value, input._d.dtype)
    return index_put(input, _index_form(input, dim, index), v)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with a number written where the mask holds."""
    v = value if isinstance(value, Tensor) else constant(value, input._d.dtype)
    return T.where(mask, cast(v, input._d.dtype), input)  # type: ignore[no-any-return]


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dimension."""
    x, m = broadcast([input, mask])
    return getitem(x, m)


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero, a row each (or a tensor per dimension)."""
    found = np.nonzero(np.atleast_1d(input.numpy(force=True)))
    if as_tuple:
        return tuple(constant(i) for i in found)
    return constant(np.stack(found, 1) if input._d.shape else np.zeros((len(found[0]), 0), np.int64))


argwhere = nonzero


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Rows of zeros with a one at the index (int64); the number of classes is the largest index + 1 if not given."""
    index = _long(tensor)
    classes = num_classes if num_classes >= 0 else int(index.numpy(force=True).max(initial=-1)) + 1
    return T.one_hot(index, classes=classes)  # type: ignore[no-any-return]


FUNCTIONS = [
    "index_select",
    "take",
    "gather",
    "take_along_dim",
    "scatter",
    "scatter_add",
    "index_add",
    "index_copy",
    "index_fill",
    "masked_fill",
    "masked_select",
    "nonzero",
    "argwhere",
]
PLAIN = ["one_hot"]
