"""Calls of the public functions of tensors, each with what NumPy says the value is. Read by the value, derivative and
vmap tests in tests/tensors, and by the comparison with PyTorch in tests/crosscheck."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate, linalg, special

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
X, Z = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
P, Q = RNG.uniform(0.3, 2.0, (3, 4)), RNG.uniform(0.3, 2.0, (3, 4))
U = RNG.uniform(-0.8, 0.8, (3, 4))
N = X + np.copysign(0.3, X)  # away from zero
D = (RNG.permutation(24) * 0.37 - 4.0).reshape(2, 3, 4)  # all different
V, W4 = RNG.standard_normal(4), RNG.uniform(0.5, 1.5, 4)
V3 = RNG.standard_normal(3)
S = np.asarray(0.7)
T3 = RNG.standard_normal((2, 3, 4))
A, B, SQ = RNG.standard_normal((3, 5)), RNG.standard_normal((5, 2)), RNG.standard_normal((4, 4))
BA, BB = RNG.standard_normal((2, 3, 5)), RNG.standard_normal((2, 5, 4))
K, J = RNG.integers(-5, 6, (3, 4)), RNG.integers(1, 6, (3, 4))
BITS, SHIFT = RNG.integers(0, 16, (3, 4)), RNG.integers(0, 4, (3, 4))
C, C2 = RNG.random((3, 4)) < 0.5, RNG.random((3, 4)) < 0.5
HUGE = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]])
TIES = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
WEIRD = np.array([math.nan, math.inf, -math.inf, 0.0, 1.5])
ROWS = np.array([2, 0, 2])
GATHER = RNG.integers(0, 4, (3, 2))
ONCE = np.stack([RNG.permutation(4)[:2] for _ in range(3)])


class Call(NamedTuple):
    """One call of a public function.

    Attributes:
        name: the function's name in chainrule and in torch.
        args: arguments; arrays (also in lists) become tensors.
        kwargs: keywords.
        oracle: the value from the same arguments, with NumPy; the NumPy function of the same name if left out.
        shape_depends: whether the result's shape depends on values, so that it cannot be mapped.
        smooth: whether finite differences make sense at the arguments.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = MappingProxyType({})
    oracle: Callable[..., Any] | None = None
    shape_depends: bool = False
    smooth: bool = True

    def __repr__(self) -> str:
        def show(v: Any) -> str:
            if isinstance(v, np.ndarray):
                return "x".join(map(str, v.shape)) or "scalar"
            return f"[{','.join(map(show, v))}]" if isinstance(v, (list, tuple)) else str(v)

        words = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(words)})"

    @property
    def value(self) -> Any:
        """What the result must be."""
        return (self.oracle or getattr(np, self.name))(*self.args, **self.kwargs)


def each(names: str, *args: Any, smooth: bool = True) -> list[Call]:
    """The same arguments for several functions whose NumPy counterparts have the same names."""
    return [Call(n, args, smooth=smooth) for n in names.split()]


def _axis(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function of ``axis`` and ``keepdims`` as one of ``dim`` and ``keepdim``."""

    def oracle(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return function(x, axis=tuple(dim) if isinstance(dim, list) else dim, keepdims=keepdim)

    return oracle


def _pair(values: Callable[..., Any], indices: Callable[..., Any]) -> Callable[..., Any]:
    def oracle(x: Any, dim: int, keepdim: bool = False) -> Any:
        return values(x, axis=dim, keepdims=keepdim), indices(x, axis=dim, keepdims=keepdim)

    return oracle


def _kth(x: Array, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    order = np.argsort(x, dim, kind="stable")
    index = np.take(order, [k - 1], dim)
    found = np.take_along_axis(x, index, dim), index
    return found if keepdim else tuple(np.squeeze(f, dim) for f in found)


def _topk(x: Array, k: int, dim: int = -1, largest: bool = True) -> Any:
    index = np.take(np.argsort(-x if largest else x, dim, kind="stable"), range(k), dim)
    return np.take_along_axis(x, index, dim), index


def _sort(x: Array, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    index = np.argsort(-x if descending else x, dim, kind="stable")
    return np.take_along_axis(x, index, dim), index


def _scatter(add: bool) -> Callable[..., Any]:
    def oracle(x: Array, dim: int, index: Array, src: Any) -> Array:
        out = x.copy()
        for p in np.ndindex(index.shape):
            at = (*p[:dim], index[p], *p[dim + 1 :])
            v = src[p] if isinstance(src, np.ndarray) else src
            out[at] = out[at] + v if add else v
        return out

    return oracle


def _rows(how: str) -> Callable[..., Any]:
    def oracle(x: Array, dim: int, index: Array, v: Any, alpha: float = 1) -> Array:
        out = np.moveaxis(x.copy(), dim, 0)
        for k, row in enumerate(index):
            new = np.moveaxis(v, dim, 0)[k] if isinstance(v, np.ndarray) else v
            out[row] = out[row] + alpha * new if how == "add" else new
        return np.moveaxis(out, 0, dim)

    return oracle


def _pad(x: Array, pad: Sequence[int], value: float = 0.0) -> Array:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [tuple(pad[i : i + 2]) for i in range(len(pad) - 2, -1, -2)]
    x = x[tuple(slice(max(0, -a), d - max(0, -b)) for (a, b), d in zip(pairs, x.shape, strict=True))]
    return np.pad(x, [(max(a, 0), max(b, 0)) for a, b in pairs], constant_values=value)


def _norm(x: Array, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    axis = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    shape = tuple(1 if k in axis else d for k, d in enumerate(x.shape))
    flat = np.moveaxis(x, axis, range(-len(axis), 0)).reshape(*(d for k, d in enumerate(x.shape) if k not in axis), -1)
    out = np.linalg.norm(flat, 2 if p == "fro" else p, axis=-1)
    return out.reshape(shape) if keepdim else out


def _chunks(x: Array, n: int, dim: int = 0) -> Any:
    """Equal pieces but for a shorter last one."""
    size = -(-x.shape[dim] // n)
    return tuple(np.split(x, range(size, x.shape[dim], size), dim))


def _sections(x: Array, sizes: Any, dim: int = 0) -> Any:
    cuts = range(sizes, x.shape[dim], sizes) if isinstance(sizes, int) else np.cumsum(sizes)[:-1]
    return tuple(np.split(x, cuts, dim))


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def _var(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: int | None = None) -> Any:
    free = correction if correction is not None else int(unbiased)
    return np.var(x, axis=tuple(dim) if isinstance(dim, list) else dim, ddof=free, keepdims=keepdim)


def _diag_embed(x: Array, offset: int = 0) -> Array:
    return np.apply_along_axis(lambda row: np.diag(row, offset), -1, x)


SMOOTH_UNARY = (
    "abs negative absolute exp exp2 expm1 sin cos sinh cosh tanh arcsinh asinh arctan atan square deg2rad rad2deg"
)
POSITIVE = "log log2 log10 log1p sqrt reciprocal"
INNER = "tan arcsin arccos arctanh asin acos atanh"

POINTWISE = [
    *each(SMOOTH_UNARY, N),
    Call("neg", (X,), {}, np.negative),
    *each(POSITIVE, P),
    *each(INNER, U),
    *each("sign floor ceil trunc fix positive", N * 3),
    *each("isnan isinf isfinite signbit", WEIRD),
    *each("maximum minimum copysign arctan2 atan2 hypot", N, P),
    *each("maximum minimum fmod remainder", N, W4),
    *each("add subtract multiply divide true_divide logaddexp", X, W4),
    *each("add subtract multiply divide remainder fmod", X, 1.5),
    *each("floor_divide", N * 3, W4),
    *each("floor_divide remainder fmod", K, J),
    *each("add subtract multiply", K, J),
    Call("divide", (K, J), {}, lambda x, y: (x / y).astype(np.float32)),
    *each("greater greater_equal less less_equal not_equal", K, J),
    *each("logical_and logical_or logical_xor", C, C2),
    *each("logical_not", K),
    *each("bitwise_and bitwise_or bitwise_xor", BITS, K),
    *each("bitwise_and bitwise_or bitwise_xor", C, C2),
    *each("bitwise_left_shift bitwise_right_shift", BITS, SHIFT),
    *each("bitwise_not", K),
    *each("float_power", P, W4),
    *each("nan_to_num", WEIRD),
    *each("sinc", np.array([0.0, 0.25, -1.5, 2.0])),
    Call("heaviside", (np.array([-1.0, 0.0, 2.0]), np.array(0.5)), smooth=False),
    Call("arccosh", (P + 1.1,)),
    Call("acosh", (P + 1.1,)),
    Call("sub", (X, Z), {}, np.subtract),
    Call("mul", (X, 2), {}, np.multiply),
    Call("div", (X, P), {}, np.divide),
    Call("div", (K, J), {"rounding_mode": "floor"}, lambda x, y, rounding_mode: x // y),
    Call("div", (K, J), {"rounding_mode": "trunc"}, lambda x, y, rounding_mode: np.trunc(x / y).astype(int)),
    Call("div", (N * 5, P), {"rounding_mode": "floor"}, lambda x, y, rounding_mode: np.floor(x / y)),
    Call("add", (X, Z), {"alpha": 2.5}, lambda x, z, alpha: x + alpha * z),
    Call("sub", (X, V), {"alpha": 0.5}, lambda x, z, alpha: x - alpha * z),
    Call("rsub", (X, Z), {"alpha": 3}, lambda x, z, alpha: z - alpha * x),
    *[Call(n, (K, 2), {}, f) for n, f in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less))],
    *[Call(n, (K, J), {}, f) for n, f in (("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal))],
    Call("pow", (P, V), {}, np.power),
    Call("pow", (X, 2), {}, np.power),
    Call("pow", (X, 3), {}, np.power),
    Call("pow", (P, -0.5), {}, np.power),
    Call("pow", (2.0, X), {}, np.power),
    Call("pow", (K, 2), {}, np.power),
    Call("rsqrt", (P,), {}, lambda x: 1 / np.sqrt(x)),
    Call("xlogy", (X, P), {}, special.xlogy),
    Call("sigmoid", (X,), {}, special.expit),
    Call("relu", (N,), {}, lambda x: x * (x > 0)),
    *[Call(n, (X,), {}, f) for n, f in (("erf", special.erf), ("erfc", special.erfc))],
    Call("erfinv", (U,), {}, special.erfinv),
    Call("lgamma", (P,), {}, special.gammaln),
    Call("digamma", (P,), {}, special.digamma),
    Call("polygamma", (2, P), {}, special.polygamma),
    Call("frac", (N,), {}, lambda x: x - np.trunc(x)),
    Call("sgn", (N,), {}, np.sign),
    Call("round", (X * 4,), {}, np.round),
    Call("round", (np.array([1.235, -0.5, 27.85]),), {"decimals": 1}, np.round, smooth=False),
    Call("round", (np.array([123.0, 150.0, -777.0]),), {"decimals": -2}, np.round, smooth=False),
    Call("clamp", (X, -0.5, 0.5), {}, _clamp),
    Call("clamp", (X,), {"max": 0.1}, _clamp),
    Call("clamp", (X, V - 1, V + 1), {}, _clamp),
    Call("clip", (X, 0.2), {}, _clamp),
    Call("clamp", (K, -1, 2), {}, _clamp),
    Call("clamp_min", (X, 0.1), {}, np.maximum),
    Call("clamp_max", (X, 0.1), {}, np.minimum),
    Call("nan_to_num", (WEIRD, 1.0, 2.0, 3.0), {}, lambda x, n, p, m: np.nan_to_num(x, nan=n, posinf=p, neginf=m)),
    Call("logit", ((U + 1) / 2,), {}, special.logit),
    Call("logit", (U + 0.5, 0.1), {}, lambda x, eps: special.logit(np.clip(x, eps, 1 - eps))),
    Call("lerp", (X, Z, 0.3), {}, lambda x, z, w: x + w * (z - x)),
    Call("lerp", (X, Z, W4), {}, lambda x, z, w: x + w * (z - x)),
    Call("addcmul", (X, Z, P), {"value": 0.5}, lambda x, a, b, value: x + value * a * b),
    Call("addcdiv", (X, Z, P), {"value": 0.5}, lambda x, a, b, value: x + value * a / b),
    Call("where", (C, X, Z)),
    Call("where", (C, X, 0.0)),
    Call("where", (C, V, 1.0)),
    Call("isclose", (X, X + 1e-6 * Z)),
    Call("isclose", (WEIRD, WEIRD), {"equal_nan": True}),
    Call("isclose", (X, X * 1.1), {"rtol": 0.1, "atol": 0.05}),
    Call("isin", (K, np.array([0, 2, 5]))),
    *[Call(n, (np.array([-1e4, 0.0, 1e4]),), {}, f) for n, f in (("sigmoid", special.expit), ("tanh", np.tanh))],
]  # fmt: skip

REDUCE = [
    *[Call(n, (X,), {}, getattr(np, n)) for n in ("sum", "mean", "prod", "amax", "amin", "max", "min")],
    *[
        Call(n, (D,), {"dim": 1, "keepdim": True}, _axis(getattr(np, n)))
        for n in ("sum", "mean", "prod", "amax", "amin")
    ],
    *[Call(n, (D,), {"dim": -1}, _axis(getattr(np, n))) for n in ("sum", "mean", "prod", "amax", "amin")],
    *[Call(n, (D,), {"dim": [0, 2]}, _axis(getattr(np, n))) for n in ("sum", "mean", "amax", "amin")],
    *[Call(n, (D,), {"dim": (0, -1), "keepdim": True}, _axis(getattr(np, n))) for n in ("sum", "mean", "amax", "amin")],
    *[Call(n, (K,), {}, getattr(np, n)) for n in ("sum", "prod", "amax", "any", "all")],
    *[Call(n, (C,), {"dim": 1}, _axis(getattr(np, n))) for n in ("sum", "any", "all")],
    Call("sum", (np.zeros((0, 3)),), {"dim": 0}, _axis(np.sum)),
    Call("prod", (np.zeros((0, 3)),), {"dim": 0}, _axis(np.prod)),
    Call("sum", (S,), {}, np.sum),
    Call("prod", (X * (np.arange(4) != 2),), {"dim": 1}, _axis(np.prod)),
    Call("prod", (X * (np.arange(4) % 2),), {"dim": 1}, _axis(np.prod)),
    *[
        Call("var", (D,), k, _var)
        for k in ({}, {"dim": 1}, {"dim": [0, 2], "keepdim": True}, {"dim": 1, "unbiased": False})
    ],
    Call("var", (D,), {"dim": -1, "correction": 2}, _var),
    *[
        Call("std", (D,), k, lambda x, **k: np.sqrt(_var(x, **k)))
        for k in ({}, {"dim": 1}, {"dim": (0, 2), "keepdim": True})
    ],
    Call("var_mean", (D, 1), {}, lambda x, dim: (_var(x, dim), x.mean(dim))),
    Call("std_mean", (D, 1), {}, lambda x, dim: (np.sqrt(_var(x, dim)), x.mean(dim))),
    *[Call(n, (D, d), {}, getattr(np, n)) for n in ("cumsum", "cumprod") for d in (0, 1, -1)],
    Call("cumsum", (K, 1), {}, np.cumsum),
    Call("cumprod", (X * (np.arange(4) != 1), 1), {}, np.cumprod),
    Call("aminmax", (D,), {"dim": 1}, lambda x, dim: (x.min(dim), x.max(dim))),
    *[
        Call(n, (D,), k, _axis(getattr(np, n)))
        for n in ("argmax", "argmin")
        for k in ({}, {"dim": 1}, {"dim": -1, "keepdim": True})
    ],
    Call("argmax", (TIES, 1), {}, np.argmax, smooth=False),
    *[
        Call(n, (D, 1), k, _pair(getattr(np, n), getattr(np, "arg" + n)))
        for n in ("max", "min")
        for k in ({}, {"keepdim": True})
    ],
    Call("max", (TIES, 1), {}, _pair(np.max, np.argmax), smooth=False),
    Call("max", (X, Z), {}, np.maximum),
    Call("min", (X, Z), {}, np.minimum),
    Call("count_nonzero", (K,)),
    Call("count_nonzero", (K, 1)),
    *[Call("logsumexp", (D, d), {}, _axis(special.logsumexp)) for d in (1, -1, [0, 2])],
    Call("logsumexp", (HUGE, 1), {"keepdim": True}, _axis(special.logsumexp), smooth=False),
    Call(
        "logsumexp",
        (np.array([[-np.inf, 0.0], [-np.inf, -np.inf]]), 1),
        {},
        lambda x, dim: np.array([0.0, -np.inf]),
        smooth=False,
    ),
    *[Call("softmax", (D, d), {}, lambda x, dim: special.softmax(x, dim)) for d in (0, 1, -1)],
    *[Call("log_softmax", (D, d), {}, lambda x, dim: special.log_softmax(x, dim)) for d in (0, 1, -1)],
    *[
        Call("norm", (N,), k, _norm)
        for k in ({}, {"p": 1}, {"p": 3}, {"p": math.inf}, {"p": -math.inf}, {"p": 0}, {"p": "fro"})
    ],
    *[Call("norm", (D,), {"p": p, "dim": 1}, _norm) for p in (1, 2, 0.5)],
    Call("norm", (D,), {"dim": (0, 2), "keepdim": True}, _norm),
    Call("dist", (X, Z), {}, lambda x, z: np.sqrt(((x - z) ** 2).sum())),
    Call("dist", (X, Z, 1), {}, lambda x, z, p: np.abs(x - z).sum()),
    *[Call("argsort", (D, d, r), {}, lambda *a: _sort(*a)[1]) for d in (0, -1) for r in (False, True)],
    *[Call("sort", (D, d, r), {}, _sort) for d in (1, -1) for r in (False, True)],
    Call("sort", (K,), {"stable": True}, _sort),
    Call("sort", (K,), {"stable": True, "descending": True}, _sort),
    Call("topk", (D, 2), {}, _topk),
    Call("topk", (D, 1), {"dim": 1, "largest": False}, _topk),
    Call("kthvalue", (D, 2), {}, _kth),
    Call("kthvalue", (D, 3), {"dim": 1, "keepdim": True}, _kth),
    Call("median", (X,), {}, lambda x: np.sort(x.ravel())[5]),
    Call("median", (D, 2), {}, lambda x, dim: _kth(x, 2, dim)),
    Call("quantile", (X, 0.3), {}, np.quantile),
    Call(
        "quantile",
        (D, np.array([0.0, 0.25, 1.0])),
        {"dim": 1},
        lambda x, q, dim: np.quantile(x, q, axis=dim),
        shape_depends=True,
    ),
    Call(
        "quantile",
        (D, 0.5),
        {"dim": 2, "keepdim": True},
        lambda x, q, dim, keepdim: np.quantile(x, q, axis=dim, keepdims=keepdim),
    ),
    Call("unique", (K,), {}, None, True),
    Call(
        "unique",
        (K,),
        {"return_inverse": True, "return_counts": True},
        lambda x, **_: np.unique(x, return_inverse=True, return_counts=True),
        True,
    ),
    Call("bincount", (BITS.ravel(),), {}, None, True),
    Call("bincount", (BITS.ravel(), P.ravel()), {"minlength": 20}, None, True, False),
    Call(
        "histc",
        (X,),
        {"bins": 5, "min": -2, "max": 2},
        lambda x, bins, min, max: np.histogram(x, bins, (min, max))[0].astype(float),
        True,
        False,
    ),
    Call("histc", (X, 4), {}, lambda x, bins: np.histogram(x, bins)[0].astype(float), True, False),
]

SHAPE = [
    Call("reshape", (T3, (4, 6))),
    Call("reshape", (T3, (-1, 4)), {}),
    Call("flatten", (T3,), {}, np.ravel),
    Call("flatten", (T3, 1), {}, lambda x, a: x.reshape(2, 12)),
    Call("flatten", (S,), {}, np.ravel),
    Call("ravel", (T3,)),
    Call("unflatten", (T3, 2, (2, -1)), {}, lambda x, d, s: x.reshape(2, 3, 2, 2)),
    Call("permute", (T3, (2, 0, 1)), {}, np.transpose),
    Call("permute", (T3, (-1, 0, 1)), {}, np.transpose),
    Call("transpose", (T3, 0, -1), {}, np.swapaxes),
    Call("t", (X,), {}, np.transpose),
    Call("t", (V,), {}, np.transpose),
    Call("movedim", (T3, 0, 2), {}, np.moveaxis),
    Call("movedim", (T3, (0, 1), (-1, 0)), {}, np.moveaxis),
    Call("squeeze", (T3.reshape(1, 2, 1, 12),)),
    Call("squeeze", (T3.reshape(1, 2, 1, 12), 2)),
    Call("squeeze", (T3, 1), {}, lambda x, d: x),
    Call("squeeze", (T3.reshape(1, 2, 1, 12), (0, 2))),
    *[Call("unsqueeze", (X, d), {}, np.expand_dims) for d in (0, 2, -1, -3)],
    Call("broadcast_to", (V, (3, 4))),
    Call("broadcast_tensors", (X, V, S), {}, lambda *xs: tuple(np.broadcast_arrays(*xs))),
    Call("clone", (X,), {}, np.copy),
    Call("select", (T3, 1, -1), {}, lambda x, d, i: x[:, i]),
    Call("narrow", (T3, 2, 1, 2), {}, lambda x, d, s, n: x[..., s : s + n]),
    Call("narrow", (T3, 2, -3, 2), {}, lambda x, d, s, n: x[..., 1:3]),
    Call("unbind", (T3, 1), {}, lambda x, d: tuple(x[:, i] for i in range(3))),
    Call("split", (T3, 2, 1), {}, _sections),
    Call("split", (T3, [1, 3], -1), {}, _sections),
    Call("split_with_sizes", (T3, [1, 1, 2], 2), {}, _sections),
    *[Call("chunk", (T3, n, 2), {}, _chunks) for n in (2, 3, 9)],
    Call("tensor_split", (T3, 3, 2), {}, lambda x, n, d: tuple(np.array_split(x, n, d))),
    Call("tensor_split", (T3, (1, 3), 2), {}, lambda x, n, d: tuple(np.split(x, n, d))),
    *[Call(n, ([X, Z],), {}, np.concatenate) for n in ("cat", "concat", "concatenate")],
    Call("cat", ([X, Z[:, :1]], -1), {}, np.concatenate),
    Call("cat", ([X, K], 0), {}, np.concatenate),
    *[Call("stack", ([X, Z], d), {}) for d in (0, 1, -1)],
    *each("hstack vstack column_stack", [X, Z]),
    *each("hstack vstack column_stack", [V, W4]),
    *each("atleast_1d atleast_2d", S),
    *each("atleast_1d atleast_2d", V),
    Call("meshgrid", (V, V3), {"indexing": "ij"}, lambda *a, **k: tuple(np.meshgrid(*a, **k))),
    Call("meshgrid", (V, V3), {"indexing": "xy"}, lambda *a, **k: tuple(np.meshgrid(*a, **k))),
    Call("tile", (X, (2, 1, 3))),
    Call("tile", (T3, (2,))),
    Call("repeat_interleave", (X, 2), {}, np.repeat),
    Call("repeat_interleave", (X, 3, 1), {}, np.repeat),
    Call("repeat_interleave", (X, np.array([1, 0, 2]), 0), {}, np.repeat, True),
    Call("roll", (X, 1)),
    Call("roll", (X, -1, 0)),
    Call("roll", (X, (2, 1), (0, 1))),
    Call("flip", (T3, (0, 2))),
    *each("fliplr flipud", X),
    *[Call("rot90", (X, k, (0, 1))) for k in (0, 1, 2, 3, -1)],
    *[Call(n, (T3, k), {}) for n in ("tril", "triu") for k in (-1, 0, 1, 9)],
    *[Call("diagonal", (T3, k, 1, 2)) for k in (0, 1, -1, -2, 3)],
    Call("diagonal", (T3, 0, 0, -1)),
    Call("diagonal", (X, -1)),
    *[Call("diag", (v, k)) for v in (V, X, X.T) for k in (0, 1, -2)],
    *[Call("diag_embed", (X, k), {}, _diag_embed) for k in (0, 1, -2)],
    Call("trace", (X,)),
    Call("pad", (T3, (1, 2)), {}, _pad),
    Call("pad", (T3, (1, 0, 2, 1)), {"value": 7.5}, _pad),
    Call("pad", (T3, (-1, 2, 1, -1)), {"value": 1.0}, _pad),
    Call("detach", (X,), {}, np.asarray, smooth=False),
    Call("numel", (X,), {}, np.size),
]  # fmt: skip

LINALG = [
    *[
        Call("matmul", pair)
        for pair in ((A, B), (BA, BB), (A, BB), (BA, B), (V, SQ), (SQ, V), (V, W4), (BA, BB[0, :, 0]))
    ],
    Call("matmul", (BA[:, None], BB)),
    Call("mm", (A, B), {}, np.matmul),
    Call("mv", (SQ, V), {}, np.matmul),
    Call("bmm", (BA, BB), {}, np.matmul),
    *each("dot inner vdot", V, W4),
    Call("inner", (X, Z)),
    Call("inner", (X, S)),
    Call("outer", (V, V3)),
    Call("ger", (V, V3), {}, np.outer),
    Call(
        "addmm", (A[:, :2], A, B), {"beta": 0.5, "alpha": 2.0}, lambda c, a, b, beta, alpha: beta * c + alpha * (a @ b)
    ),
    Call("addmm", (B[0], A, B), {}, lambda c, a, b: c + a @ b),
    Call("addmv", (V, SQ, W4), {"alpha": 2.0}, lambda c, a, b, alpha: c + alpha * (a @ b)),
    Call("baddbmm", (T3, BA, BB), {"beta": 2.0}, lambda c, a, b, beta: beta * c + a @ b),
    Call("linear", (BA, RNG.standard_normal((2, 5)), RNG.standard_normal(2)), {}, lambda x, w, b: x @ w.T + b),
    Call("linear", (A, RNG.standard_normal((2, 5))), {}, lambda x, w: x @ w.T),
    Call("linear", (A[0], RNG.standard_normal((2, 5)), RNG.standard_normal(2)), {}, lambda x, w, b: x @ w.T + b),
    Call("kron", (A, B)),
    Call("kron", (V, B)),
    Call("tensordot", (BA, BB), {"dims": ([2], [1])}, lambda a, b, dims: np.tensordot(a, b, dims)),
    Call("tensordot", (X, Z.T), {"dims": 1}, lambda a, b, dims: np.tensordot(a, b, dims)),
    Call("tensordot", (X, Z), {"dims": ([0, 1], [0, 1])}, lambda a, b, dims: np.tensordot(a, b, dims)),
    *[
        Call("einsum", (e, *xs))
        for e, xs in (
            ("ij,jk->ik", (A, B)),
            ("ij,jk", (A, B)),
            ("ij->ji", (A,)),
            ("ij->", (A,)),
            ("ii->i", (SQ,)),
            ("ii", (SQ,)),
            ("bij,bjk->bik", (BA, BB)),
            ("...ij,...jk->...ik", (BA, BB)),
            ("i,j->ij", (V, V3)),
            ("i,i", (V, W4)),
            ("ij,kj,k->i", (X, Z, V3)),
            ("bij,bij->b", (T3, T3)),
            ("bij,j->bi", (T3, V)),
            ("ij,jk,kl->il", (A, B, B.T)),
            ("...i->...", (T3,)),
            ("iij->j", (RNG.standard_normal((3, 3, 2)),)),
            ("a,b,c->abc", (V, V3, W4)),
            ("ij,ij->ij", (X, Z)),
            ("bi,bj->bij", (X, Z)),
            ("...,...", (X, V)),
            ("ij, jk -> ki", (A, B)),
        )
    ],
]

INDEXING = [
    Call("index_select", (X, 1, np.array([3, 0, 0])), {}, lambda x, d, i: np.take(x, i, d)),
    Call("index_select", (T3, 0, np.array([1])), {}, lambda x, d, i: np.take(x, i, d)),
    Call("take", (X, np.array([[0, 5], [-1, 5]]))),
    Call("gather", (X, 1, GATHER), {}, lambda x, d, i: np.take_along_axis(x, i, d)),
    Call("gather", (X, 0, np.array([[2, 0], [0, 1]])), {}, lambda x, d, i: np.take_along_axis(x[:, :2], i, d)),
    Call("take_along_dim", (X, GATHER, 1), {}, np.take_along_axis),
    Call(
        "take_along_dim", (X, GATHER[:1], 1), {}, lambda x, i, d: np.take_along_axis(x, np.broadcast_to(i, (3, 2)), d)
    ),
    Call("take_along_dim", (X, np.array([1, 7])), {}, lambda x, i: x.ravel()[i]),
    Call("scatter", (X, 1, ONCE, Z[:, :2].copy()), {}, _scatter(False)),
    Call("scatter", (X, 1, ONCE, Z), {}, _scatter(False)),
    Call("scatter", (X, 1, ONCE[:2], 9.0), {}, _scatter(False)),
    Call("scatter_add", (X, 1, GATHER, Z), {}, _scatter(True)),
    Call("scatter_add", (X, 0, np.array([[0, 2, 0], [0, 1, 1]]), Z), {}, _scatter(True)),
    Call("index_add", (X, 0, ROWS, Z), {}, _rows("add")),
    Call("index_add", (T3, 1, ROWS, T3 * 2), {"alpha": 0.5}, _rows("add")),
    Call("index_copy", (X, 1, np.array([3, 1]), Z[:, :2].copy()), {}, _rows("copy")),
    Call("index_fill", (X, 0, np.array([2, 0]), -1.0), {}, _rows("fill")),
    Call("masked_fill", (X, C, 2.5), {}, lambda x, m, v: np.where(m, v, x)),
    Call("masked_fill", (T3, C, 0.0), {}, lambda x, m, v: np.where(m, v, x)),
    Call("masked_fill", (K, C, 7), {}, lambda x, m, v: np.where(m, v, x)),
    Call("masked_select", (X, C), {}, lambda x, m: x[m], True),
    Call("masked_select", (T3, C), {}, lambda x, m: x[np.broadcast_to(m, x.shape)], True),
    Call("nonzero", (C,), {}, lambda x: np.argwhere(x), True),
    Call("argwhere", (K,), {}, None, True),
    Call("one_hot", (np.array([[0, 2], [1, 1]]), 4), {}, lambda x, n: np.eye(n, dtype=int)[x]),
]


def _running(wins: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    def oracle(x: Array, dim: int) -> Any:
        index = np.zeros(np.moveaxis(x, dim, 0).shape, int)
        for k, row in enumerate(np.moveaxis(x, dim, 0)):
            index[k] = k
            if k:
                best = np.take_along_axis(np.moveaxis(x, dim, 0), index[k - 1 : k], 0)[0]
                index[k] = np.where(wins(row, best), k, index[k - 1])
        index = np.moveaxis(index, 0, dim)
        return np.take_along_axis(x, index, dim), index

    return oracle


def _put_at(x: Array, place: Any, v: Array) -> Array:
    out = x.copy()
    out[place] = v
    return out


def _mode(x: Array, dim: int) -> Any:
    def one(row: Array) -> int:
        value = min(set(row.tolist()), key=lambda v: (-row.tolist().count(v), v))
        return max(k for k, v in enumerate(row.tolist()) if v == value)

    index = np.apply_along_axis(one, dim, x)
    return np.squeeze(np.take_along_axis(x, np.expand_dims(index, dim), dim), dim), index


def _windows(x: Array, dim: int, size: int, step: int) -> Array:
    full = np.lib.stride_tricks.sliding_window_view(x, size, dim)
    return full[(slice(None),) * dim + (slice(None, None, step),)]


def _renorm(x: Array, p: float, dim: int, top: float) -> Array:
    out = x.copy()
    for row in np.moveaxis(out, dim, 0):
        size = (np.abs(row) ** p).sum() ** (1 / p)
        row *= top / (size + 1e-7) if size > top else 1
    return out


def _masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    out = x.copy()
    out[mask] = source.ravel()[: mask.sum()]
    return out


def _nanmedian(x: Array) -> Any:
    ordered = np.sort(x[~np.isnan(x)])
    return ordered[(len(ordered) - 1) // 2]


HOLES = np.where(RNG.random((3, 4)) < 0.3, np.nan, X)
HOLES[:, 0] = 1.5, -0.5, 0.25
FEW = RNG.integers(0, 3, (3, 5)).astype(float)
EDGES = np.array([-1.0, 0.0, 0.5, 2.0])

MORE = [
    *each("fmax fmin", HOLES, Z, smooth=False),
    *each("fmax fmin", X, Z),
    *each("isposinf isneginf isreal", WEIRD),
    Call("ldexp", (X, SHIFT)),
    Call("logaddexp2", (X, Z)),
    Call("mvlgamma", (P + 2, 3), {}, lambda x, p: np.vectorize(special.multigammaln)(x, p)),
    *[Call("cummax", (D, d), {}, _running(np.greater_equal)) for d in (0, 1, 2)],
    Call("cummax", (K, 1), {}, _running(np.greater_equal)),
    *[Call("cummin", (D, d), {}, _running(np.less_equal)) for d in (0, 2)],
    *[Call("logcumsumexp", (D, d), {}, lambda x, d: np.log(np.cumsum(np.exp(x), d))) for d in (0, 2)],
    *each("diff", D),
    Call("diff", (D, 2, 1), {}, np.diff),
    Call("diff", (K,), {}, np.diff),
    Call("diff", (C,), {}, np.diff),
    Call("diff", (X, 1, 1, Z[:, :2], V3[:, None]), {}, lambda x, n, d, a, b: np.diff(x, n, d, a, b)),
    Call("trapezoid", (X,)),
    Call("trapezoid", (T3,), {"dx": 0.5, "dim": 1}, lambda y, dx, dim: np.trapezoid(y, dx=dx, axis=dim)),
    Call("trapz", (X, np.sort(V)), {}, np.trapezoid),
    Call("trapezoid", (T3, np.sort(V3)), {"dim": 1}, lambda y, x, dim: np.trapezoid(y, x, axis=dim)),
    Call("cumulative_trapezoid", (T3,), {"dim": 0}, lambda y, dim: integrate.cumulative_trapezoid(y, axis=dim)),
    Call("cumulative_trapezoid", (X, np.sort(V)), {}, integrate.cumulative_trapezoid),
    Call("gradient", (T3,), {"dim": 2}, lambda x, dim: [np.gradient(x, axis=dim)]),
    Call(
        "gradient",
        (X,),
        {"spacing": 0.5, "edge_order": 2},
        lambda x, spacing, edge_order: list(np.gradient(x, spacing, edge_order=2)),
    ),
    Call("nansum", (HOLES, 1), {}, np.nansum, smooth=False),
    Call("nansum", (HOLES,), {}, np.nansum, smooth=False),
    Call("nanmean", (HOLES, 0), {}, np.nanmean, smooth=False),
    Call("nanmean", (HOLES,), {"dim": 1, "keepdim": True}, _axis(np.nanmean), smooth=False),
    Call("nanmedian", (HOLES,), {}, _nanmedian, smooth=False),
    Call("nanquantile", (HOLES, 0.4), {"dim": 1}, lambda x, q, dim: np.nanquantile(x, q, axis=dim), smooth=False),
    *[
        Call(
            "quantile",
            (X, 0.4),
            {"dim": 1, "interpolation": i},
            lambda x, q, dim, interpolation: np.quantile(x, q, axis=dim, method=interpolation),
        )
        for i in ("linear", "lower", "higher", "midpoint", "nearest")
    ],
    Call("mode", (FEW, 1), {}, _mode, smooth=False),
    Call("mode", (FEW, 0), {}, _mode, smooth=False),
    *each("cov corrcoef", X),
    Call("cov", (V,)),
    Call("cov", (X,), {"correction": 0}, lambda x, correction: np.cov(x, ddof=correction)),
    Call("atleast_3d", (S,)),
    Call("atleast_3d", (V,)),
    Call("atleast_3d", (X,)),
    *each("dstack", [X, Z]),
    *each("dstack", [V, W4]),
    Call("hsplit", (T3, 3), {}, lambda x, n: tuple(np.hsplit(x, n))),
    Call("hsplit", (V, [1, 3]), {}, lambda x, n: tuple(np.hsplit(x, n))),
    Call("vsplit", (T3, 2), {}, lambda x, n: tuple(np.vsplit(x, n))),
    Call("dsplit", (T3, [1]), {}, lambda x, n: tuple(np.dsplit(x, n))),
    Call("block_diag", (X, V, A), {}, linalg.block_diag),
    Call("cartesian_prod", (V, V3), {}, lambda a, b: np.array(list(itertools.product(a, b)))),
    Call("cartesian_prod", (V,), {}, np.asarray),
    Call("combinations", (V, 3), {}, lambda x, r: np.array(list(itertools.combinations(x, r)))),
    Call(
        "combinations",
        (V,),
        {"with_replacement": True},
        lambda x, **_: np.array(list(itertools.combinations_with_replacement(x, 2))),
    ),
    Call("diagflat", (X, 1)),
    Call("constant_pad_nd", (T3, (1, 2, -1, 0), 3.0), {}, _pad),
    Call("select_scatter", (T3, T3[:, 0] * 2, 1, -1), {}, lambda x, v, d, i: _put_at(x, (slice(None), i), v)),
    Call(
        "slice_scatter",
        (X, Z[:, :2].copy(), 1, 1),
        {"step": 2},
        lambda x, v, d, a, step: _put_at(x, (slice(None), slice(a, None, step)), v),
    ),
    Call("diagonal_scatter", (X, V3), {}, lambda x, v: _put_at(x, (range(3), range(3)), v)),
    Call("diagonal_scatter", (X, V3, 1), {}, lambda x, v, k: _put_at(x, (range(3), range(1, 4)), v)),
    Call("diagonal_scatter", (X, V3[:2], -1), {}, lambda x, v, k: _put_at(x, ([1, 2], [0, 1]), v)),
    Call(
        "diagonal_scatter",
        (T3, Z.T[:3, :2].copy(), 0, 0, 2),
        {},
        lambda x, v, *_: _put_at(x, ([0, 1], slice(None), [0, 1]), v.T),
    ),
    Call("unfold", (T3, 2, 2, 1), {}, _windows),
    Call("unfold", (T3, 1, 2, 2), {}, _windows),
    Call("sum_to_size", (T3, (3, 1)), {}, lambda x, s: x.sum((0, 2)).reshape(3, 1)),
    Call("renorm", (T3, 2, 1, 1.5), {}, _renorm),
    Call("searchsorted", (EDGES, X), {}, np.searchsorted, True),
    Call(
        "searchsorted",
        (np.sort(X), Z),
        {"right": True},
        lambda a, v, right: np.array([np.searchsorted(r, w, "right") for r, w in zip(a, v, strict=True)]),
        True,
    ),
    Call(
        "bucketize", (np.array([-1.0, 0.2, 9.0]), EDGES), {"right": True}, lambda v, e, right: np.digitize(v, e), True
    ),
    Call("bucketize", (np.array([-1.0, 0.2, 9.0]), EDGES), {}, lambda v, e: np.digitize(v, e, right=True), True),
    Call(
        "unique_consecutive",
        (np.array([1, 1, 2, 2, 3, 1, 1]),),
        {"return_inverse": True, "return_counts": True},
        lambda x, **_: (np.array([1, 2, 3, 1]), np.array([0, 0, 1, 1, 2, 3, 3]), np.array([2, 2, 1, 2])),
        True,
    ),
    Call("unique_consecutive", (np.array([[1, 1], [1, 1], [2, 1]]),), {"dim": 0}, lambda x, dim: x[[0, 2]], True),
    Call("msort", (D,), {}, lambda x: np.sort(x, 0)),
    Call("fill", (X, 2.5), {}, lambda x, v: np.full_like(x, v)),
    Call(
        "put",
        (X, np.array([[0, -1]]), V[:2][None].copy()),
        {},
        lambda x, i, v: _put_at(x.ravel(), i, v).reshape(x.shape),
    ),
    Call(
        "put",
        (X, np.array([3, 3]), V[:2].copy(), True),
        {},
        lambda x, i, v, _: (x.ravel() + v.sum() * (np.arange(12) == 3)).reshape(x.shape),
    ),
    Call("index_put", (X, (np.array([0, 2]), np.array([1, 1])), V[:2].copy()), {}, _put_at),
    Call("masked_scatter", (X, C, Z), {}, _masked_scatter),
    Call(
        "masked_scatter",
        (T3, C, np.concatenate([Z, P])),
        {},
        lambda x, m, v: _masked_scatter(x, np.broadcast_to(m, x.shape), v),
    ),
]

CALLS = [*POINTWISE, *REDUCE, *SHAPE, *LINALG, *INDEXING, *MORE]


def flat_arrays(value: Any) -> list[Array]:
    """All arrays in arguments, in order."""
    if isinstance(value, np.ndarray):
        return [value]
    return [a for v in value for a in flat_arrays(v)] if isinstance(value, (list, tuple)) else []


def rebuild(value: Any, leaves: Any) -> Any:
    """Arguments with their arrays replaced, in order, by what the iterator gives."""
    if isinstance(value, np.ndarray):
        return next(leaves)
    return type(value)(rebuild(v, leaves) for v in value) if isinstance(value, (list, tuple)) else value
