"""chainrule: automatic differentiation in Python, with a neural-network library on top.

PyTorch's programming model (``import chainrule as torch``), see-through inside, and a captured training step.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from chainrule import autograd, ops
from chainrule.core.dtypes import (
    bool_ as bool, dtype, finfo, float16, float32, float64, get_default_dtype, iinfo, int8, int16, int32, int64,
    set_default_dtype, uint8,
)  # fmt: skip
from chainrule.ir.state import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from chainrule.tensors import (
    BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, Generator, HalfTensor, IntTensor, LongTensor,
    ShortTensor, Size, Tensor, abs, absolute, acos, acosh, add, addcdiv, addcmul, addmm, addmv, all, allclose,
    amax, amin, aminmax, any, arange, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, argmax,
    argmin, argsort, argwhere, as_tensor, asarray, asin, asinh, atan, atan2, atanh, atleast_1d, atleast_2d,
    atleast_3d, baddbmm, bernoulli, bincount, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, block_diag, bmm, broadcast_tensors, broadcast_to, bucketize, can_cast,
    cartesian_prod, cat, ceil, chunk, clamp, clamp_max, clamp_min, clip, clone, column_stack, combinations,
    concat, concatenate, constant_pad_nd, copysign, corrcoef, cos, cosh, count_nonzero, cov, cummax, cummin,
    cumprod, cumsum, cumulative_trapezoid, default_generator, deg2rad, detach, device, diag, diag_embed,
    diagflat, diagonal, diagonal_scatter, diff, digamma, dist, div, divide, dot, dsplit, dstack, einsum, empty,
    empty_like, eq, equal, erf, erfc, erfinv, exp, exp2, expm1, eye, fill, fix, flatten, flip, fliplr, flipud,
    float_power, floor, floor_divide, fmax, fmin, fmod, frac, from_dlpack, from_numpy, full, full_like, gather,
    ge, gelu, ger, get_rng_state, gradient, greater, greater_equal, gt, heaviside, histc, hsplit, hstack, hypot,
    index_add, index_copy, index_fill, index_put, index_select, initial_seed, inner, is_complex,
    is_floating_point, is_nonzero, is_tensor, isclose, isfinite, isin, isinf, isnan, isneginf, isposinf, isreal,
    kron, kthvalue, ldexp, le, lerp, less, less_equal, lgamma, linear, linspace, log, log10, log1p, log2,
    log_softmax, logaddexp, logaddexp2, logcumsumexp, logical_and, logical_not, logical_or, logical_xor, logit,
    logspace, logsumexp, lt, manual_seed, masked_fill, masked_scatter, masked_select, matmul, max, maximum,
    mean, median, meshgrid, min, minimum, mm, mode, movedim, msort, mul, multinomial, multiply, mv, mvlgamma,
    nan_to_num, nanmean, nanmedian, nanquantile, nansum, narrow, ne, neg, negative, nonzero, norm, normal,
    not_equal, numel, one_hot, ones, ones_like, outer, pad, permute, polygamma, positive, pow, prod,
    promote_types, put, quantile, rad2deg, rand, rand_like, randint, randn, randn_like, randperm, ravel,
    reciprocal, relu, remainder, renorm, repeat_interleave, reshape, result_type, roll, rot90, round, rsqrt,
    rsub, scalar_tensor, scatter, scatter_add, searchsorted, seed, select, select_scatter, set_printoptions,
    set_rng_state, sgn, sigmoid, sign, signbit, silu, sin, sinc, sinh, slice_scatter, softmax, softplus, sort,
    split, split_with_sizes, sqrt, square, squeeze, stack, std, std_mean, sub, subtract, sum, t, take,
    take_along_dim, tan, tanh, tensor, tensor_split, tensordot, tile, topk, trace, transpose, trapezoid, trapz,
    tril, tril_indices, triu, triu_indices, true_divide, trunc, unbind, unflatten, unique, unique_consecutive,
    unsqueeze, var, var_mean, vdot, vsplit, vstack, where, xlogy, zeros, zeros_like,
)  # fmt: skip

if TYPE_CHECKING:
    from chainrule import backends, compiler, cuda, data, func, metrics, mps, nn, optim, train, utils, vision

__version__ = "0.1.0"

float, double, half = float32, float64, float16
long, int, short = int64, int32, int16

#: loaded at first use, so that `import chainrule` is quick
_LAZY = (
    "backends", "compiler", "cuda", "data", "func", "metrics", "mps", "nn", "optim", "testing", "train", "utils", "vision",
)  # fmt: skip
_FROM_SERIALIZATION = ("load", "save")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"chainrule.{name}")
    if name in _FROM_SERIALIZATION:
        return getattr(importlib.import_module("chainrule.serialization"), name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_FROM_SERIALIZATION})
