"""Activation functions, each elementwise unless its docstring says otherwise.

Where an activation has a corner, its derivative there is PyTorch's: relu'(0) = 0, leaky_relu'(0) = negative_slope,
hardtanh' = 0 at both bounds. With ``inplace=True`` the result is written into the input's memory as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from chainrule import tensors as ct

Tensor = ct.Tensor

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _elementwise(fn: Callable[[Tensor], Tensor], input: Tensor, inplace: bool) -> Tensor:
    """``fn(input)``, written back into ``input`` if ``inplace`` (from a copy, so that what backward needs survives)."""
    return input.copy_(fn(input.clone())) if inplace else fn(input)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). Derivative 1 for x > 0, else 0 (the subgradient at 0 is chosen to be 0)."""
    return _elementwise(ct.relu, input, True) if inplace else ct.relu(input)


def relu_(input: Tensor) -> Tensor:
    """``relu`` in place."""
    return _elementwise(ct.relu, input, True)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x for x > 0, else negative_slope * x (Maas et al. 2013)."""
    return _elementwise(lambda x: ct.where(x > 0, x, x * negative_slope), input, inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, else w * x, with w learned (He et al. 2015): one number, or one per channel (axis 1 of the input).

    Raises RuntimeError when ``weight`` has neither 1 nor as many elements as there are channels.
    """
    count = weight.numel()
    if count != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim != 1 or count != channels:
            raise RuntimeError(
                f"prelu: weight must have 1 element or one per channel; weight has shape {tuple(weight.shape)}, "
                f"input has shape {tuple(input.shape)} and so {channels} channels"
            )
        weight = weight.reshape((1, count) + (1,) * (input.ndim - 2))
    elif weight.ndim != 0:
        weight = weight.reshape(())
    return ct.where(input > 0, input, input * weight)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""
    return _elementwise(lambda x: _elu(x, alpha), input, inplace)


def _elu(x: Tensor, alpha: float) -> Tensor:
    return ct.where(x > 0, x, alpha * ct.expm1(ct.where(x > 0, 0.0, x)))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the constants of self-normalizing networks (Klambauer et al. 2017)."""
    return _elementwise(lambda x: SELU_SCALE * _elu(x, SELU_ALPHA), input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha * (exp(x / alpha) - 1): continuously differentiable for every alpha (Barron 2017)."""
    if alpha == 0:
        raise ZeroDivisionError("alpha cannot be 0 for CELU")
    return _elementwise(lambda x: ct.where(x > 0, x, alpha * ct.expm1(ct.where(x > 0, 0.0, x) / alpha)), input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x), Phi the normal distribution function; "tanh" takes .5x(1 + tanh(sqrt(2/pi)(x + .044715x^3)))
    (Hendrycks & Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate argument must be either 'none' or 'tanh', got {approximate!r}")
    if approximate == "none":
        return ct.gelu(input)
    return 0.5 * input * (1 + ct.tanh(math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x), also called swish (Elfwing et al. 2017)."""
    return _elementwise(ct.silu, input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)) (Misra 2019)."""
    return _elementwise(lambda x: x * ct.tanh(ct.softplus(x)), input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ct.sigmoid(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), finite for every finite x."""
    return -ct.softplus(-input)


def tanh(input: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return ct.tanh(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold.

    With the default settings the formula is used everywhere: it is stable, and differs from x by less than 3e-9 there.
    """
    if beta == 1.0 and threshold == 20.0:
        return ct.softplus(input)
    scaled = input * beta
    return ct.where(scaled > threshold, input, ct.softplus(scaled) / beta)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (ct.abs(input) + 1)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x cut off below min_val and above max_val; the derivative is 1 strictly between them, else 0."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val cannot be greater than max_val, got {min_val} and {max_val}")
    return _elementwise(lambda x: _hardtanh(x, min_val, max_val), input, inplace)


def _hardtanh(x: Tensor, low: float, high: float) -> Tensor:
    return ct.where(x <= low, low, ct.where(x >= high, high, x))


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x / 6 + 1/2, 0), 1)."""
    return _elementwise(lambda x: ct.where(x <= -3, 0.0, ct.where(x >= 3, 1.0, x / 6 + 0.5)), input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """0 for x <= -3, x for x >= 3, x (x + 3) / 6 between (Howard et al. 2019)."""
    return _elementwise(lambda x: ct.where(x <= -3, 0.0, ct.where(x >= 3, x, x * (x + 3) / 6)), input, inplace)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd for x > lambd, x + lambd for x < -lambd, else 0: the proximal step of lambd * |x|."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return ct.where(input > lambd, input - lambd, ct.where(input >= -lambd, 0.0, input + lambd))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 for |x| <= lambd, else x."""
    return ct.where(ct.abs(input) <= lambd, 0.0, input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - ct.tanh(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x for x > threshold, else value."""
    return _elementwise(lambda x: ct.where(x <= threshold, value, x), input, inplace)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), with a and b the two halves of the input along ``dim`` (Dauphin et al. 2017)."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    a, b = ct.split(input, size // 2, dim)
    return a * ct.sigmoid(b)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x_i) / sum_j exp(x_j) along ``dim``, computed from x - max(x): large logits do not overflow.

    With ``dtype`` the input is cast first. Leaving ``dim`` out warns, and takes axis 0 for 0, 1 or 3 axes, else axis 1.
    """
    dim = _implicit_dim("softmax", input, dim, _stacklevel)
    return ct.softmax(input if dtype is None else input.to(dtype), dim)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    dim = _implicit_dim("softmin", input, dim, _stacklevel)
    return ct.softmax(-(input if dtype is None else input.to(dtype)), dim)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """x_i - log(sum_j exp(x_j)) along ``dim`` by log-sum-exp: finite for finite x, unlike log(softmax(x))."""
    dim = _implicit_dim("log_softmax", input, dim, _stacklevel)
    return ct.log_softmax(input if dtype is None else input.to(dtype), dim)


def _implicit_dim(name: str, input: Tensor, dim: int | None, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        UserWarning,
        stacklevel=stacklevel,
    )
    return 0 if input.ndim in (0, 1, 3) else 1
