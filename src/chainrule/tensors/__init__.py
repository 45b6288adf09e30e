"""Layer 4: the Tensor that people hold, and all functions of it."""

from chainrule.tensors.creation import (
    arange, as_tensor, asarray, empty, empty_like, eye, from_numpy, full, full_like, is_tensor, linspace,
    logspace, ones, ones_like, scalar_tensor, tensor, tril_indices, triu_indices, zeros, zeros_like,
)  # fmt: skip
from chainrule.tensors.functions.linalg import (
    addmm, addmv, baddbmm, bmm, dot, einsum, ger, inner, kron, linear, matmul, mm, mv, outer, tensordot, vdot,
)  # fmt: skip
from chainrule.tensors.functions.pointwise import (
    abs, absolute, acos, acosh, add, addcdiv, addcmul, allclose, arccos, arccosh, arcsin, arcsinh, arctan,
    arctan2, arctanh, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, ceil, clamp, clamp_max, clamp_min, clip, copysign, cos, cosh, deg2rad,
    digamma, div, divide, eq, equal, erf, erfc, erfinv, exp, exp2, expm1, fix, float_power, floor, floor_divide,
    fmod, frac, ge, gelu, greater, greater_equal, gt, heaviside, hypot, isclose, isfinite, isin, isinf, isnan,
    le, lerp, less, less_equal, lgamma, log, log10, log1p, log2, logaddexp, logical_and, logical_not,
    logical_or, logical_xor, logit, lt, maximum, minimum, mul, multiply, nan_to_num, ne, neg, negative,
    not_equal, polygamma, positive, pow, rad2deg, reciprocal, relu, remainder, round, rsqrt, rsub, sgn, sigmoid, sign,
    signbit, silu, sin, sinc, sinh, softplus, sqrt, square, sub, subtract, tan, tanh, true_divide, trunc, where,
    xlogy,
)  # fmt: skip
from chainrule.tensors.functions.reduce import (
    all, amax, amin, aminmax, any, argmax, argmin, argsort, bincount, count_nonzero, cumprod, cumsum, dist,
    histc, kthvalue, log_softmax, logsumexp, max, mean, median, min, norm, prod, quantile, softmax, sort, std,
    std_mean, sum, topk, unique, var, var_mean,
)  # fmt: skip
from chainrule.tensors.functions.shape import (
    atleast_1d, atleast_2d, broadcast_tensors, broadcast_to, cat, chunk, clone, column_stack, concat,
    concatenate, detach, diag, diag_embed, diagonal, flatten, flip, fliplr, flipud, hstack, meshgrid, movedim,
    narrow, numel, pad, permute, ravel, repeat_interleave, reshape, roll, rot90, select, split,
    split_with_sizes, squeeze, stack, t, tensor_split, tile, trace, transpose, tril, triu, unbind, unflatten,
    unsqueeze, vstack,
)  # fmt: skip
from chainrule.tensors.indexing import (
    argwhere, gather, index_add, index_copy, index_fill, index_select, masked_fill, masked_select, nonzero,
    one_hot, scatter, scatter_add, take, take_along_dim,
)  # fmt: skip
from chainrule.tensors.interop import from_dlpack
from chainrule.tensors.methods import attach_methods
from chainrule.tensors.random import (
    Generator, bernoulli, default_generator, get_rng_state, initial_seed, manual_seed, multinomial, normal,
    rand, rand_like, randint, randn, randn_like, randperm, seed, set_rng_state,
)  # fmt: skip
from chainrule.tensors.repr import set_printoptions
from chainrule.tensors.tensor import Size, Tensor, device
from chainrule.tensors.types import (
    BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, HalfTensor, IntTensor, LongTensor, ShortTensor,
    can_cast, is_complex, is_floating_point, is_nonzero, promote_types, result_type,
)  # fmt: skip

attach_methods()

__all__ = [
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor", "can_cast", "is_complex", "is_floating_point", "is_nonzero", "promote_types",
    "result_type",
    "Generator", "Size", "Tensor", "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul", "addmm",
    "addmv", "all", "allclose", "amax", "amin", "aminmax", "any", "arange", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "argwhere", "as_tensor",
    "asarray", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d", "baddbmm", "bernoulli",
    "bincount", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "bmm", "broadcast_tensors", "broadcast_to", "cat", "ceil", "chunk", "clamp", "clamp_max",
    "clamp_min", "clip", "clone", "column_stack", "concat", "concatenate", "copysign", "cos", "cosh",
    "count_nonzero", "cumprod", "cumsum", "default_generator", "deg2rad", "detach", "device", "diag",
    "diag_embed", "diagonal", "digamma", "dist", "div", "divide", "dot", "einsum", "empty", "empty_like", "eq",
    "equal", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "eye", "fix", "flatten", "flip", "fliplr",
    "flipud", "float_power", "floor", "floor_divide", "fmod", "frac", "from_dlpack", "from_numpy", "full",
    "full_like", "gather", "ge", "gelu", "ger", "get_rng_state", "greater", "greater_equal", "gt", "heaviside",
    "histc", "hstack", "hypot", "index_add", "index_copy", "index_fill", "index_select", "initial_seed",
    "inner", "is_tensor", "isclose", "isfinite", "isin", "isinf", "isnan", "kron", "kthvalue", "le", "lerp",
    "less", "less_equal", "lgamma", "linear", "linspace", "log", "log10", "log1p", "log2", "log_softmax",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logspace", "logsumexp",
    "lt", "manual_seed", "masked_fill", "masked_select", "matmul", "max", "maximum", "mean", "median",
    "meshgrid", "min", "minimum", "mm", "movedim", "mul", "multinomial", "multiply", "mv", "nan_to_num",
    "narrow", "ne", "neg", "negative", "nonzero", "norm", "normal", "not_equal", "numel", "one_hot", "ones",
    "ones_like", "outer", "pad", "permute", "polygamma", "positive", "pow", "prod", "quantile", "rad2deg", "rand",
    "rand_like", "randint", "randn", "randn_like", "randperm", "ravel", "reciprocal", "relu", "remainder",
    "repeat_interleave", "reshape", "roll", "rot90", "round", "rsqrt", "rsub", "scalar_tensor", "scatter",
    "scatter_add", "seed", "select", "set_printoptions", "set_rng_state", "sgn", "sigmoid", "sign", "signbit",
    "silu", "sin", "sinc", "sinh", "softmax", "softplus", "sort", "split", "split_with_sizes", "sqrt", "square",
    "squeeze", "stack", "std", "std_mean", "sub", "subtract", "sum", "t", "take", "take_along_dim", "tan",
    "tanh", "tensor", "tensor_split", "tensordot", "tile", "topk", "trace", "transpose", "tril", "tril_indices",
    "triu", "triu_indices", "true_divide", "trunc", "unbind", "unflatten", "unique", "unsqueeze", "var",
    "var_mean", "vdot", "vstack", "where", "xlogy", "zeros", "zeros_like",
]  # fmt: skip
