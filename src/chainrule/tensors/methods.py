"""Attaches functions to Tensor: each stands in one place and is here made method, operator and in-place method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import GradError, explain
from chainrule.ir.interpreter import Tracer
from chainrule.ir.state import no_grad
from chainrule.tape.clock import owner
from chainrule.tensors import backward, creation, indexing, inplace, interop, random, types
from chainrule.tensors.apply import up_to_date
from chainrule.tensors.fastpath import TENSORS as T
from chainrule.tensors.functions import assemble, linalg, placing, pointwise, reduce, scans, shape, statistics
from chainrule.tensors.inplace import copy_, in_place, write
from chainrule.tensors.namespace import cast
from chainrule.tensors.repr import tensor_repr
from chainrule.tensors.tensor import Tensor, from_data
from chainrule.tensors.views import root_of


def _reflected(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def method(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    return method


_OPERATORS = {
    "add": T.add, "sub": T.sub, "mul": T.mul, "truediv": T.div, "pow": T.pow, "mod": T.remainder,
    "floordiv": T.floor_divide, "matmul": linalg.matmul, "and": T.bitwise_and, "or": T.bitwise_or,
    "xor": T.bitwise_xor, "lshift": T.bitwise_left_shift, "rshift": T.bitwise_right_shift,
}  # fmt: skip
_COMPARISONS = {"lt": T.lt, "le": T.le, "gt": T.gt, "ge": T.ge}
_CONVERSIONS = {
    "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "long": dtypes.int64,
    "int": dtypes.int32,
    "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool_,
}  # fmt: skip


def _equality(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        if other is None or isinstance(other, (str, list, tuple, dict)):
            return NotImplemented
        return function(self, other)

    return method


def _converter(kind: dtypes.dtype) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return cast(self, kind.numpy)

    method.__doc__ = f"The tensor as {kind.name}."
    return method


def _fill_(self: Tensor, value: Any) -> Tensor:
    """Write a number, or a tensor of zero dimensions, everywhere."""
    if isinstance(value, Tensor) and value._d.shape:
        raise RuntimeError(
            explain(
                "fill_ takes a number", got=f"a tensor of shape {tuple(value._d.shape)}", fix="use copy_ for tensors"
            )
        )
    return copy_(self, value)


def _zero_(self: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return copy_(self, 0)


def _uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with uniform numbers in [a, b)."""
    u = random.uniform(tuple(self._d.shape), self._d.dtype, generator)
    return write(self, T.add(T.mul(u, b - a), a))


def _normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with normal numbers."""
    z = random.normal_numbers(tuple(self._d.shape), self._d.dtype, generator)
    return write(self, T.add(T.mul(z, std), mean))


def _random_(self: Tensor, low: int = 0, high: Any = None, *, generator: Any = None) -> Tensor:
    """Fill with integers in [low, high)."""
    if high is None:
        low, high = (0, low) if low else (0, 2**24)
    return write(self, cast(random.randint(low, high, tuple(self._d.shape), generator=generator), self._d.dtype))


def _bernoulli_(self: Tensor, p: float = 0.5, *, generator: Any = None) -> Tensor:
    """Fill with 1 with probability p, else 0."""
    kind = self._d.dtype if self._d.dtype.kind == "f" else dtypes.get_default_dtype().numpy
    return write(self, cast(T.lt(random.uniform(tuple(self._d.shape), kind, generator), p), self._d.dtype))


def _exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with exponential numbers of rate ``lambd``: -log(1 - u) / lambd."""
    u = random.uniform(tuple(self._d.shape), self._d.dtype, generator)
    return write(self, T.div(T.neg(T.log1p(T.neg(u))), lambd))


def _log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Tensor:
    """Fill with exponentials of normal numbers."""
    z = random.normal_numbers(tuple(self._d.shape), self._d.dtype, generator)
    return write(self, T.exp(T.add(T.mul(z, std), mean)))


def _fill_diagonal_(self: Tensor, fill_value: Any) -> Tensor:
    """Write a number on the diagonal of a matrix."""
    _fill_(shape.diagonal(self), fill_value)
    return self


def _storage_offset(self: Tensor) -> int:
    """How many elements after the first of its memory this tensor starts."""
    d = self.numpy_payload()
    return int((d.ctypes.data - owner(d).ctypes.data) // d.itemsize)


def _requires_type(self: Tensor, dtype: Any = None) -> Any:
    """The name of the tensor's type, or the tensor converted to a dtype."""
    if dtype is None:
        return types.type_name(self.dtype)
    return cast(self, types.dtype_of(dtype).numpy)


def _index_put_(self: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """Write (or add) values at index tensors."""
    return write(self, indexing.index_put(self, tuple(indices), values, accumulate))


def _detach_(self: Tensor) -> Tensor:
    """Drop the history of this tensor itself."""
    if self._view is not None and self._view.parent is not None:
        raise GradError(explain("detach_ on a view would leave its base with another history", fix="use .detach()"))
    self._node = None
    return self


def _new(name: str) -> Callable[..., Tensor]:
    function = getattr(creation, name)

    def method(self: Tensor, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        return function(*args, dtype=dtype or self.dtype, **kwargs)  # type: ignore[no-any-return]

    method.__doc__ = f"As :func:`chainrule.{name}`, with this tensor's dtype."
    return method


def _strides(self: Tensor, dim: int | None = None) -> Any:
    """How many elements apart neighbours are along each dimension."""
    d = self.numpy_payload()
    steps = tuple(s // d.itemsize for s in d.strides)
    return steps if dim is None else steps[dim]


def _repr(self: Tensor) -> str:
    return tensor_repr(self)


def _format(self: Tensor, spec: str) -> str:
    if not self._d.shape and not isinstance(self._d, Tracer):
        return format(self.item(), spec)
    return repr(self) if not spec else object.__format__(self, spec)


def _identity(self: Tensor, *_: Any, **__: Any) -> Tensor:
    return self


def attach_methods() -> None:
    """Make every listed function a method; called once, when the package is imported."""
    cls: Any = Tensor
    for module in (pointwise, reduce, shape, linalg, indexing, assemble, placing, scans, statistics):
        for name in module.FUNCTIONS:
            setattr(cls, name, getattr(module, name))
    for name in (
        *pointwise.BOTH, "cumsum", "cumprod", "tril", "triu", "scatter", "scatter_add", "index_add", "index_copy",
        "index_fill", "masked_fill",
    ):  # fmt: skip
        setattr(cls, f"{name}_", in_place(getattr(cls, name), f"{name}_"))
    for name, function in _OPERATORS.items():
        setattr(cls, f"__{name}__", function)
        setattr(cls, f"__r{name}__", _reflected(function))
        setattr(cls, f"__i{name}__", in_place(function, f"__i{name}__"))
    for name, function in _COMPARISONS.items():
        setattr(cls, f"__{name}__", function)
    cls.__eq__, cls.__ne__ = _equality(T.eq), _equality(T.ne)
    cls.__neg__, cls.__pos__, cls.__abs__, cls.__invert__ = T.neg, pointwise.positive, T.abs, T.bitwise_not
    cls.__getitem__, cls.__setitem__ = indexing.getitem, indexing.setitem
    cls.__repr__, cls.__format__ = _repr, _format
    cls.__array_ufunc__, cls.__array_function__ = interop.array_ufunc, interop.array_function
    cls.__dlpack__, cls.__dlpack_device__ = interop.to_dlpack, interop.dlpack_device
    cls.backward, cls._current = backward.backward, up_to_date
    cls.T, cls.mT = property(shape.numpy_transpose), property(shape.matrix_transpose)
    cls.where = lambda self, condition, other: pointwise.where(condition, self, other)
    cls.dim, cls.ndimension, cls.nelement = (lambda self: self.ndim), (lambda self: self.ndim), shape.numel
    cls.stride, cls.element_size, cls.data_ptr = (
        _strides, lambda self: self._d.dtype.itemsize, lambda self: self.numpy_payload().ctypes.data,
    )  # fmt: skip
    cls.itemsize = property(lambda self: self._d.dtype.itemsize)
    cls.nbytes = property(lambda self: self._d.nbytes)
    cls.is_cuda = cls.is_mps = cls.is_sparse = cls.is_quantized = cls.is_meta = False
    cls.is_signed = lambda self: self._d.dtype.kind in "if"
    cls.is_pinned, cls.get_device = (lambda self: False), (lambda self: -1)
    cls.is_floating_point = lambda self: self._d.dtype.kind == "f"
    cls.is_complex = lambda self: False
    for name, kind in _CONVERSIONS.items():
        setattr(cls, name, _converter(kind))
    cls.type, cls.type_as = _requires_type, lambda self, other: cast(self, other._d.dtype)
    cls.cpu = cls.pin_memory = cls.conj = cls.resolve_conj = cls.to_dense = _identity
    cls.cuda = lambda self, *_, **__: shape.to(self, "cuda")
    cls.copy_, cls.fill_, cls.zero_, cls.detach_ = copy_, _fill_, _zero_, _detach_
    cls.uniform_, cls.normal_, cls.random_, cls.bernoulli_ = _uniform_, _normal_, _random_, _bernoulli_
    cls.exponential_, cls.log_normal_, cls.fill_diagonal_ = _exponential_, _log_normal_, _fill_diagonal_
    cls.multinomial, cls.bernoulli = random.multinomial, random.bernoulli
    cls.index_put_, cls.index_put = _index_put_, indexing.index_put
    cls.apply_ = _apply_
    for name in ("zeros", "ones", "empty", "full"):
        setattr(cls, f"new_{name}", _new(name))
    cls.new_tensor = _new("tensor")
    cls.new = lambda self, data=None, *sizes: from_data(Tensor, data, sizes, self._d.dtype)
    cls._base = property(lambda self: None if (base := root_of(self)) is self else base)
    cls.storage_offset = _storage_offset
    cls.unsqueeze_, cls.squeeze_, cls.t_, cls.transpose_ = (
        _reshaping(n) for n in ("unsqueeze", "squeeze", "t", "transpose")
    )


def _reshaping(name: str) -> Callable[..., Tensor]:
    """In-place change of shape: the shell takes over the view's payload and history."""

    def method(self: Tensor, *args: Any) -> Tensor:
        inplace.check_unshared(self, f"{name}_")
        out = getattr(self, name)(*args)
        self._d, self._node, self._view = out._d, out._node, None
        return self

    method.__doc__ = f"In-place version of ``{name}``, for tensors that are no views and have none."
    return method


def _apply_(self: Tensor, function: Callable[[Any], Any]) -> Tensor:
    """Replace every element by a Python function of it (slow; no derivative)."""
    with no_grad():
        a = self.numpy_payload()
        return copy_(self, T.copy(creation.from_numpy(np.vectorize(function, otypes=[a.dtype])(a))))
