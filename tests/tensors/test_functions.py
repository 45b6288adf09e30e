"""The public functions: values against NumPy, derivatives both ways against finite differences, vmap against a loop."""

import inspect

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, tensors
from chainrule.core import trees
from chainrule.tensors import indexing
from chainrule.tensors.functions import assemble, linalg, placing, pointwise, reduce, scans, shape, statistics
from function_cases import CALLS, flat_arrays, rebuild

H = 1e-6
# names that are tested elsewhere, or have no value to compare
ELSEWHERE = {
    "bernoulli",
    "default_generator",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
    "set_printoptions",
    "is_tensor",
    "from_dlpack",
    "allclose",
    "equal",
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "scalar_tensor",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
    "silu",
    "gelu",
    "softplus",
    "can_cast",
    "is_complex",
    "is_floating_point",
    "is_nonzero",
    "promote_types",
    "result_type",
}


MODULES = (assemble, indexing, linalg, placing, pointwise, reduce, scans, shape, statistics)
PLAIN = {name for module in MODULES for name in getattr(module, "PLAIN", ())}


def public(name):
    """A public function, or the method where PyTorch has only that."""
    return getattr(tensors, name, None) or getattr(cr.Tensor, name)


def call(case, arrays):
    """The case with these arrays or tensors in place of its own."""
    args = rebuild(case.args, iter([a if isinstance(a, cr.Tensor) else cr.tensor(a) for a in arrays]))
    return public(case.name)(*args, **case.kwargs)


def results(y):
    """All tensors of a result."""
    return trees.flatten(y if isinstance(y, (tuple, list)) else (y,))[0]


def floats(arrays):
    return [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]


SMOOTH = [
    c
    for c in CALLS
    if (
        c.smooth
        and floats(flat_arrays(c.args))
        and any(np.asarray(v).dtype.kind == "f" for v in trees.flatten(c.value)[0])
        and c.name not in ("quantile", "nan_to_num")
    )
    or (c.name == "quantile" and len(flat_arrays(c.args)) == 1)
]
MAPPABLE = [c for c in CALLS if not c.shape_depends and c.name not in ("isin", "numel")]


def test_every_public_function_has_a_case():
    have = {c.name for c in CALLS}
    missing = [n for n in tensors.__all__ if inspect.isfunction(getattr(tensors, n)) and n not in have | ELSEWHERE]
    assert not missing


@pytest.mark.parametrize("case", CALLS, ids=repr)
def test_value_against_numpy(case):
    got = call(case, flat_arrays(case.args))
    want = case.value
    got, want = results(got), results(want)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        g = g.numpy() if isinstance(g, cr.Tensor) else np.asarray(g)
        w = np.asarray(w)
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CALLS if isinstance(c.args[0], np.ndarray)], ids=repr)
def test_the_method_of_the_same_name_gives_the_same(case):
    if not hasattr(cr.Tensor, case.name):
        assert case.name in PLAIN
        return
    args = rebuild(case.args, iter([cr.tensor(a) for a in flat_arrays(case.args)]))
    if case.name == "where":  # x.where(condition, other) has another order
        args = (args[1], args[0], args[2])
        if not isinstance(args[0], cr.Tensor):
            return
    got = getattr(args[0], case.name)(*args[1:], **case.kwargs)
    for g, w in zip(results(got), results(call(case, flat_arrays(case.args))), strict=True):
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))


def as_function(case):
    """The case as a function of its floating arguments, with a tuple of its floating results."""
    arrays = flat_arrays(case.args)
    which = floats(arrays)

    def function(*xs):
        full = list(arrays)
        for i, x in zip(which, xs, strict=True):
            full[i] = x
        return tuple(y for y in results(call(case, full)) if y.dtype.is_floating_point)

    return function, [arrays[i] for i in which]


@pytest.mark.parametrize("case", SMOOTH, ids=repr)
def test_derivatives_in_both_modes(case):
    """J t by finite differences and forward mode; <w, J t> = <J^T w, t> by reverse mode; both to second order."""
    f, xs = as_function(case)
    rng = np.random.default_rng(5)
    ts = [np.asarray(rng.standard_normal(x.shape)) for x in xs]
    primals, directions = tuple(map(cr.tensor, xs)), tuple(map(cr.tensor, ts))
    _, tangents = func.jvp(f, primals, directions)
    ahead, behind = (f(*(cr.tensor(x + s * t) for x, t in zip(xs, ts, strict=True))) for s in (H, -H))
    for t, a, b in zip(tangents, ahead, behind, strict=True):
        np.testing.assert_allclose(t.numpy(), (a.numpy() - b.numpy()) / (2 * H), rtol=1e-6, atol=1e-7)
    ys, pull = func.vjp(f, *primals)
    ws = [np.asarray(rng.standard_normal(tuple(y.shape))) for y in ys]
    gs = pull(tuple(map(cr.tensor, ws)))
    gs = gs if isinstance(gs, tuple) else (gs,)
    left = sum(float((w * t.numpy()).sum()) for w, t in zip(ws, tangents, strict=True))
    right = sum(float((g.numpy() * t).sum()) for g, t in zip(gs, ts, strict=True))
    np.testing.assert_allclose(right, left, rtol=1e-9, atol=1e-10)

    def scalar(*inputs):
        return sum(
            ((y * cr.tensor(w)).sum() + (y * y).sum() * 0.5 for y, w in zip(f(*inputs), ws, strict=True)),
            start=cr.tensor(0.0),
        )

    gradient = func.grad(scalar, argnums=tuple(range(len(xs))))

    def along(*inputs):
        return sum(((g * d).sum() for g, d in zip(gradient(*inputs), directions, strict=True)), start=cr.tensor(0.0))

    forward = func.jvp(gradient, primals, directions)[1]
    reverse = func.grad(along, argnums=tuple(range(len(xs))))(*primals)
    for a, b in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", MAPPABLE, ids=repr)
def test_vmap_against_a_loop(case):
    """A batch of three, scaled copies, along the first axis; and unbatched arguments beside one that is batched."""
    arrays = flat_arrays(case.args)
    scale = [np.asarray(1 + 0.1 * k) for k in range(3)]
    members = [[(a * s).astype(a.dtype) if a.dtype.kind == "f" else a for a in arrays] for s in scale]
    if not arrays:
        return

    def function(*xs):
        return tuple(results(call(case, xs)))

    for chosen in {tuple(range(len(arrays))), (0,), (len(arrays) - 1,)}:
        full = [cr.tensor(np.stack([m[i] for m in members]) if i in chosen else a) for i, a in enumerate(arrays)]
        dims = tuple(0 if i in chosen else None for i in range(len(arrays)))
        got = func.vmap(function, in_dims=dims)(*full)
        loop = [function(*(m[i] if i in chosen else arrays[i] for i in range(len(arrays)))) for m in members]
        for k, g in enumerate(got):
            want = np.stack([ys[k].numpy() for ys in loop])
            assert g.dtype.numpy == want.dtype
            np.testing.assert_allclose(g.numpy(), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", sorted({c.name for c in CALLS}))
def test_documented(name):
    assert inspect.getdoc(public(name))


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_lists_of_methods_name_functions(module):
    for name in module.FUNCTIONS:
        assert callable(getattr(module, name))
        assert callable(getattr(cr.Tensor, name))


def test_questions_about_dtypes():
    assert cr.promote_types(cr.uint8, cr.int8) is cr.int16
    assert cr.result_type(cr.ones(2), cr.ones((), dtype=cr.float64)) is cr.float32
    assert cr.result_type(cr.ones(2, dtype=cr.int32), 2.5) is cr.float32
    assert cr.can_cast(cr.float64, cr.float16)
    assert not cr.can_cast(cr.float16, cr.int64)
    assert cr.is_floating_point(cr.ones(1))
    assert not cr.is_floating_point(cr.arange(3))
    assert not cr.is_complex(cr.ones(1))
    assert cr.is_nonzero(cr.tensor([2.0]))
    assert not cr.is_nonzero(cr.tensor(0))
    with pytest.raises(TypeError, match="tensors and numbers"):
        cr.result_type(cr.ones(1), "text")


@pytest.mark.parametrize("case", CALLS, ids=repr)
def test_in_place_versions_write_what_the_function_returns(case):
    shape_only = ("transpose", "t", "squeeze", "unsqueeze")
    if not hasattr(cr.Tensor, f"{case.name}_") or not isinstance(case.args[0], np.ndarray) or case.name in shape_only:
        return
    args = rebuild(case.args, iter([cr.tensor(a) for a in flat_arrays(case.args)]))
    want = call(case, flat_arrays(case.args))
    x = args[0]
    method = getattr(x, f"{case.name}_")
    if want.shape != x.shape or (want.dtype.is_floating_point and not x.dtype.is_floating_point):
        with pytest.raises(RuntimeError):
            method(*args[1:], **case.kwargs)
        return
    memory = x.numpy()
    assert method(*args[1:], **case.kwargs) is x
    np.testing.assert_array_equal(memory, want.numpy().astype(memory.dtype))


ALONG = [
    *[
        (name, (7,))
        for name in [
            "sum",
            "mean",
            "prod",
            "var",
            "std",
            "amax",
            "amin",
            "argmax",
            "argmin",
            "max",
            "min",
            "any",
            "all",
            "cumsum",
            "cumprod",
        ]
    ],
    *[
        (name, (-8,))
        for name in [
            "softmax",
            "log_softmax",
            "logsumexp",
            "sort",
            "argsort",
            "median",
            "mode",
            "nanmedian",
            "cummax",
            "squeeze",
        ]
    ],
    *[(name, (3, 5)) for name in ["transpose", "movedim", "diagonal", "unflatten"]],
    *[(name, (2, 7)) for name in ["split", "chunk", "tensor_split", "topk", "kthvalue", "roll", "repeat_interleave"]],
    *[(name, (7, 0)) for name in ["select"]],
    ("unsqueeze", (9,)),
    ("flip", (7,)),
    ("narrow", (7, 0, 1)),
    ("unbind", (7,)),
    ("norm", (2, 7)),
    ("quantile", (0.5, 7)),
    ("diff", (1, 7)),
    ("unfold", (7, 1, 1)),
]


@pytest.mark.parametrize(("name", "args"), ALONG)
def test_a_dimension_that_does_not_exist(name, args):
    with pytest.raises(IndexError, match="out of range"):
        public(name)(cr.ones(2, 3), *args)


EMPTY = [
    ("sum", (), 0.0),
    ("prod", (), 1.0),
    ("any", (), False),
    ("all", (), True),
    ("count_nonzero", (), 0),
    ("cumsum", (0,), []),
    ("sort", (), []),
    ("unique", (), []),
    ("nonzero", (), np.zeros((0, 1))),
    ("softmax", (0,), []),
    ("exp", (), []),
    ("diff", (), []),
    ("norm", (), 0.0),
    ("logsumexp", (0,), -np.inf),
    ("cat", None, []),
]


@pytest.mark.parametrize(("name", "args", "want"), EMPTY, ids=lambda v: str(v))
def test_of_no_elements(name, args, want):
    x = cr.zeros(0, requires_grad=True)
    y = results(cr.cat([x, x]) if args is None else public(name)(x, *args))[0]
    np.testing.assert_array_equal(y.numpy(force=True), want)
    if y.requires_grad:
        y.sum().backward()
        assert x.grad.shape == (0,)


@pytest.mark.parametrize("name", ["mean", "var", "std", "median", "nanmean"])
def test_of_no_elements_there_is_no_mean(name):
    with np.errstate(all="ignore"):
        assert np.isnan(public(name)(cr.zeros(0)).item())
