"""Layer 4: the Tensor that people hold, and all functions of it."""

from chainrule.tensors.creation import (
    arange, as_tensor, asarray, empty, empty_like, eye, from_numpy, full, full_like, is_tensor, linspace,
    logspace, ones, ones_like, scalar_tensor, tensor, tril_indices, triu_indices, zeros, zeros_like,
)  # fmt: skip
from chainrule.tensors.functions.assemble import (
    atleast_3d, block_diag, cartesian_prod, combinations, diagflat, diagonal_scatter, dsplit, dstack, hsplit, renorm,
    select_scatter, slice_scatter, vsplit,
)  # fmt: skip
from chainrule.tensors.functions.linalg import (
    addmm, addmv, baddbmm, bmm, dot, einsum, ger, inner, kron, linear, matmul, mm, mv, outer, tensordot, vdot,
)  # fmt: skip
from chainrule.tensors.functions.placing import (
    bucketize, fill, masked_scatter, msort, put, searchsorted, unique_consecutive,
)  # fmt: skip
from chainrule.tensors.functions.pointwise import (
    abs, absolute, acos, acosh, add, addcdiv, addcmul, allclose, arccos, arccosh, arcsin, arcsinh, arctan,
    arctan2, arctanh, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, ceil, clamp, clamp_max, clamp_min, clip, copysign, cos, cosh, deg2rad,
    digamma, div, divide, eq, equal, erf, erfc, erfinv, exp, exp2, expm1, fix, float_power, floor, floor_divide,
    fmax, fmin, fmod, frac, ge, gelu, greater, greater_equal, gt, heaviside, hypot, isclose, isfinite, isin,
    isinf, isnan, isneginf, isposinf, isreal, ldexp, le, lerp, less, less_equal, lgamma, log, log10, log1p,
    log2, logaddexp, logaddexp2, logical_and, logical_not, logical_or, logical_xor, logit, lt, maximum, minimum,
    mul, multiply, mvlgamma, nan_to_num, ne, neg, negative, not_equal, polygamma, positive, pow, rad2deg,
    reciprocal, relu, remainder, round, rsqrt, rsub, sgn, sigmoid, sign, signbit, silu, sin, sinc, sinh,
    softplus, sqrt, square, sub, subtract, tan, tanh, true_divide, trunc, where, xlogy,
)  # fmt: skip
from chainrule.tensors.functions.reduce import (
    all, amax, amin, aminmax, any, argmax, argmin, argsort, bincount, count_nonzero, cumprod, cumsum, dist,
    histc, kthvalue, log_softmax, logsumexp, max, mean, median, min, norm, prod, softmax, sort, std,
    std_mean, sum, topk, unique, var, var_mean,
)  # fmt: skip
from chainrule.tensors.functions.scans import (
    cummax, cummin, cumulative_trapezoid, diff, gradient, logcumsumexp, trapezoid, trapz,
)  # fmt: skip
from chainrule.tensors.functions.shape import (
    atleast_1d, atleast_2d, broadcast_tensors, broadcast_to, cat, chunk, clone, column_stack, concat,
    concatenate, constant_pad_nd, detach, diag, diag_embed, diagonal, flatten, flip, fliplr, flipud, hstack, meshgrid, movedim,
    narrow, numel, pad, permute, ravel, repeat_interleave, reshape, roll, rot90, select, split,
    split_with_sizes, squeeze, stack, t, tensor_split, tile, trace, transpose, tril, triu, unbind, unflatten,
    unsqueeze, vstack,
)  # fmt: skip
from chainrule.tensors.functions.statistics import (
    corrcoef, cov, mode, nanmean, nanmedian, nanquantile, nansum, quantile,
)  # fmt: skip
from chainrule.tensors.indexing import (
    argwhere, gather, index_add, index_copy, index_fill, index_put, index_select, masked_fill, masked_select,
    nonzero, one_hot, scatter, scatter_add, take, take_along_dim,
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
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "Generator", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor", "Size", "Tensor", "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul",
    "addmm", "addmv", "all", "allclose", "amax", "amin", "aminmax", "any", "arange", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "argwhere", "as_tensor", "asarray",
    "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d", "atleast_3d", "baddbmm", "bernoulli",
    "bincount", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "block_diag", "bmm", "broadcast_tensors", "broadcast_to", "bucketize", "can_cast", "cartesian_prod", "cat", "ceil",
    "chunk", "clamp", "clamp_max", "clamp_min", "clip", "clone", "column_stack", "combinations", "concat",
    "concatenate", "constant_pad_nd", "copysign", "corrcoef", "cos", "cosh", "count_nonzero", "cov", "cummax",
    "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "default_generator", "deg2rad", "detach", "device", "diag",
    "diag_embed", "diagflat", "diagonal", "diagonal_scatter", "diff", "digamma", "dist", "div", "divide", "dot",
    "dsplit", "dstack", "einsum", "empty", "empty_like", "eq", "equal", "erf", "erfc", "erfinv", "exp", "exp2",
    "expm1", "eye", "fill", "fix", "flatten", "flip", "fliplr", "flipud", "float_power", "floor", "floor_divide",
    "fmax", "fmin", "fmod", "frac", "from_dlpack", "from_numpy", "full", "full_like", "gather", "ge", "gelu", "ger",
    "get_rng_state", "gradient", "greater", "greater_equal", "gt", "heaviside", "histc", "hsplit", "hstack", "hypot",
    "index_add", "index_copy", "index_fill", "index_put", "index_select", "initial_seed", "inner", "is_complex",
    "is_floating_point", "is_nonzero", "is_tensor", "isclose", "isfinite", "isin", "isinf", "isnan", "isneginf",
    "isposinf", "isreal", "kron", "kthvalue", "ldexp", "le", "lerp", "less", "less_equal", "lgamma", "linear",
    "linspace", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "lt", "manual_seed",
    "masked_fill", "masked_scatter", "masked_select", "matmul", "max", "maximum", "mean", "median", "meshgrid", "min",
    "minimum", "mm", "mode", "movedim", "msort", "mul", "multinomial", "multiply", "mv", "mvlgamma", "nan_to_num",
    "nanmean", "nanmedian", "nanquantile", "nansum", "narrow", "ne", "neg", "negative", "nonzero", "norm", "normal",
    "not_equal", "numel", "one_hot", "ones", "ones_like", "outer", "pad", "permute", "polygamma", "positive", "pow",
    "prod", "promote_types", "put", "quantile", "rad2deg", "rand", "rand_like", "randint", "randn", "randn_like",
    "randperm", "ravel", "reciprocal", "relu", "remainder", "renorm", "repeat_interleave", "reshape", "result_type",
    "roll", "rot90", "round", "rsqrt", "rsub", "scalar_tensor", "scatter", "scatter_add", "searchsorted", "seed",
    "select", "select_scatter", "set_printoptions", "set_rng_state", "sgn", "sigmoid", "sign", "signbit", "silu",
    "sin", "sinc", "sinh", "slice_scatter", "softmax", "softplus", "sort", "split", "split_with_sizes", "sqrt",
    "square", "squeeze", "stack", "std", "std_mean", "sub", "subtract", "sum", "t", "take", "take_along_dim", "tan",
    "tanh", "tensor", "tensor_split", "tensordot", "tile", "topk", "trace", "transpose", "trapezoid", "trapz", "tril",
    "tril_indices", "triu", "triu_indices", "true_divide", "trunc", "unbind", "unflatten", "unique",
    "unique_consecutive", "unsqueeze", "var", "var_mean", "vdot", "vsplit", "vstack", "where", "xlogy", "zeros",
    "zeros_like",
]  # fmt: skip
