"""Initial values of weights. Every function fills the tensor in place, outside of any graph, and returns it.

With ``generator=None`` the numbers come from the default generator that ``chainrule.manual_seed`` sets. fan_in and
fan_out are the numbers of inputs and outputs that one unit is connected to: for a weight (out, in, *kernel) they are
in * prod(kernel) and out * prod(kernel).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import tensors as ct
from chainrule.core import dtypes
from chainrule.ir.state import no_grad

Tensor = ct.Tensor
Generator = ct.Generator


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights are enlarged to keep the variance through an activation.

    1 for linear, conv*, sigmoid; 5/3 for tanh; sqrt(2) for relu; sqrt(2 / (1 + slope^2)) for leaky_relu with slope
    ``param`` (0.01); 3/4 for selu. Raises ValueError for another name.
    """
    linear = {"linear", "sigmoid"} | {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}
    if nonlinearity in linear:
        return 1.0
    if nonlinearity == "leaky_relu":
        if isinstance(param, bool) or not isinstance(param, (int, float, type(None))):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity not in gains:
        known = ", ".join(sorted(linear | set(gains) | {"leaky_relu"}))
        raise ValueError(f"Unsupported nonlinearity {nonlinearity!r}; one of {known}")
    return gains[nonlinearity]


def _fill(tensor: Tensor, make: Callable[[], Any]) -> Tensor:
    with no_grad():
        tensor.copy_(make())
    return tensor


def _is_empty(tensor: Tensor) -> bool:
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=3)
        return True
    return False


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _fill(tensor, lambda: ct.rand(tensor.shape, generator=generator, dtype=tensor.dtype) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _fill(tensor, lambda: ct.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * std + mean)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal with the given mean and standard deviation, restricted to [a, b] (which are values, not multiples of std).

    x = mean + std sqrt(2) erfinv(u) with u uniform between 2 Phi((a - mean) / std) - 1 and 2 Phi((b - mean) / std) - 1.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            UserWarning,
            stacklevel=2,
        )
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2.0))) for bound in (a, b))

    def make() -> Tensor:
        u = ct.rand(tensor.shape, generator=generator, dtype=dtypes.float64) * (high - low) + low
        return ct.clamp(ct.erfinv(u) * (std * math.sqrt(2.0)) + mean, a, b)

    return _fill(tensor, make)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element ``val``."""
    return _fill(tensor, lambda: ct.full(tensor.shape, val, dtype=tensor.dtype))


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, with zeros beyond the diagonal if the matrix is not square. ValueError unless 2-D."""
    if tensor.ndim != 2:
        raise ValueError(f"Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    return _fill(tensor, lambda: ct.eye(*tensor.shape, dtype=tensor.dtype))


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in (-k, k), k = gain sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010, equation 16."""
    bound = gain * math.sqrt(6.0 / (sum(_fans(tensor)) or 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)). Glorot & Bengio 2010, equation 12."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (sum(_fans(tensor)) or 1)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    modes = ("fan_in", "fan_out")
    if mode.lower() not in modes:
        raise ValueError(f"Mode {mode} not supported, please use one of {list(modes)}")
    return calculate_gain(nonlinearity, a) / math.sqrt(_fans(tensor)[modes.index(mode.lower())])


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in (-k, k), k = gain sqrt(3 / fan), gain for a (leaky) ReLU of slope ``a``. He et al. 2015, section 2.2.

    ``mode`` "fan_in" keeps the variance in the forward, "fan_out" in the backward direction.
    """
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan). He et al. 2015, equations 10 and 14; ``mode`` as in
    :func:`kaiming_uniform_`."""
    if _is_empty(tensor):
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """gain times a matrix with orthonormal rows or columns (whichever are fewer), uniform over such matrices.

    The tensor is read as (shape[0], the rest). Q of the QR decomposition of a normal matrix, each column times the
    sign of R's diagonal. Saxe et al. 2014; Mezzadri 2007 for the signs. ValueError with fewer than 2 axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"Only tensors with 2 or more dimensions are supported, got shape {tuple(tensor.shape)}")
    if 0 in tensor.shape:
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])

    def make() -> Tensor:
        flat = ct.randn((max(rows, columns), min(rows, columns)), generator=generator, dtype=dtypes.float64).numpy()
        q, r = np.linalg.qr(flat)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return ct.from_numpy((q.T if rows < columns else q).reshape(tuple(tensor.shape)) * gain)

    return _fill(tensor, make)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation ``std``, and in each column a share ``sparsity`` of the elements (rounded up) 0.

    Martens 2010. ValueError unless 2-D.
    """
    if tensor.ndim != 2:
        raise ValueError(f"Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)

    def make() -> Tensor:
        values = ct.randn((rows, columns), generator=generator, dtype=tensor.dtype) * std
        order = ct.argsort(ct.rand((rows, columns), generator=generator), 0)
        return ct.where(order < zeros, 0.0, values)

    return _fill(tensor, make)
