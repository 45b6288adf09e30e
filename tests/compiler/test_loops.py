"""Loops as machine code: elementwise chains and reductions over every kind of memory, at every vector level.

Each kernel is run alone and held to the bounds of ``compiler.bounds``, with all memory watched; see ``native_checks``.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler.kernels import Call, Loop
from chainrule.compiler.llvm.vmath import EMITTERS, lowers
from chainrule.ir.op import REGISTRY
from chainrule.tensors.fastpath import TENSORS
from native_checks import checked

FLOATS = ["float32", "float64"]
#: lengths around the widths of vectors and of four of them
TAILS = [*range(1, 20), 31, 32, 33, 47, 63, 64, 65, 70]


def numbers(shape, dtype="float32", seed=0, special=False):
    """Numbers of both signs, some equal; with NaN, infinities, zeros of both signs and denormals if ``special``."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return cr.from_numpy(rng.integers(0, 2, shape).astype(bool))
    if kind.kind != "f":
        low = 0 if kind.kind == "u" else -9
        return cr.from_numpy(np.asarray(rng.integers(low, 10, shape)).astype(kind))
    a = np.asarray(rng.standard_normal(shape) * 2).astype(kind)
    if special and a.size:
        odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(kind).smallest_subnormal * 3, np.finfo(kind).max, 1.0, -1.0]
        at = rng.random(a.shape) < 0.4
        a[at] = rng.choice(np.array(odd, kind), int(at.sum()))
    return cr.from_numpy(a)


def only_loops(native) -> list[Loop]:
    assert not [k for k in native.plan.kernels if isinstance(k, Call)], str(native.plan)
    return [k for k in native.plan.kernels if isinstance(k, Loop)]


OPS = sorted(n for n in EMITTERS if n in REGISTRY and n not in ("where", "detach"))


def _operands(name, shape, dtype, special=False):
    op = REGISTRY[name]
    xs = [numbers(shape, dtype, seed, special) for seed in range(op.arity)]
    if name == "pow" and not special:
        xs[0] = xs[0].abs() + 0.25
    return xs


# ---- elementwise ops over memory
KINDS = [*FLOATS, "int64", "int32", "uint8", "bool"]


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in OPS for d in KINDS if lowers(n, d, has_report=False)])
def test_every_op_over_every_layout(name, dtype):
    op = getattr(TENSORS, name)
    dense = _operands(name, (5, 33), dtype)

    def looking(*xs):  # the views are made inside, so they are accesses
        outs = [op(*xs), op(*(x.T for x in xs)), op(*(x.flip(0, 1) for x in xs)), op(*(x[:, ::2] for x in xs))]
        outs.append(op(xs[0], *(x[:, 3:4].expand(5, 33) for x in xs[1:])))
        return outs

    only_loops(checked(looking, *dense))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in OPS if lowers(n, "float32")])
def test_special_values(name, dtype):
    xs = _operands(name, (7, 45), dtype, special=True)
    only_loops(checked(getattr(TENSORS, name), *xs))


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "int16", "bool"])
def test_tails_of_every_length(dtype, target):
    ops = (lambda x, y: cr.where(x > y, x, y)) if dtype == "bool" else (lambda x, y: (x + y) * x - y)
    for n in TAILS:
        x, y = numbers((n,), dtype, 1), numbers((n,), dtype, 2)
        native = checked(ops, x, y, target=target)
        assert len(only_loops(native)) == 1


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0,), (3, 0), (2, 1, 3, 1), (2, 3, 4, 5)])
def test_shapes(shape, target):
    x, y = numbers(shape, seed=1), numbers(shape, seed=2)
    checked(lambda x, y: (x * y + 1.5, cr.exp(x), x.amax() if x.numel() else x), x, y, target=target)


def test_numbers_that_are_not_a_vectors_width_apart(target):
    """Strides of every kind along the vectorized dimension: 0, 1, 2, 3, negative, and a transposed operand."""
    x = numbers((24, 40))

    def run(x):
        y = x[:24, :24]
        return (
            y + y.T,
            x[::3, ::2] * x[:8, 20:],
            x.flip(1) - x,
            x[::2, :: -1 if False else 1] + x[:12] * x[0],
            x[:, :1] + x[:1],
        )

    checked(run, x, target=target)


def test_a_chain_becomes_one_loop(target):
    x, b = numbers((6, 50)), numbers((50,), seed=3)
    native = checked(lambda x, b: cr.tanh(x * 2.0 + b).square().exp() / (1.0 + x.abs()), x, b, target=target)
    (loop,) = only_loops(native)
    assert len(loop.stores) == 1
    assert len(loop.body) >= 8
    assert native.plan.arena == 0


@pytest.mark.parametrize("source", ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_conversions(source, target):
    x = numbers((3, 37), source)
    kinds = [cr.float32, cr.float64, cr.int64, cr.int32, cr.int16, cr.int8, cr.uint8, cr.bool]
    if source.startswith("float"):
        x = x.clamp(-8.0, 8.0)
        kinds.remove(cr.uint8)  # what a negative number becomes is the processor's affair
    only_loops(checked(lambda x: [x.to(k) for k in kinds], x, target=target))


def test_float16_is_computed_where_the_processor_converts_it(target):
    x, y = numbers((3, 35), "float16"), numbers((3, 35), "float16", 1)
    native = checked(
        lambda x, y: (x * y + x, cr.exp(x), x.sum(1), x.amax(0), x.float(), y.clone()), x, y, target=target
    )
    assert bool(native.plan.calls) == (not target.has_f16)


def test_integer_division_raises_what_eager_mode_raises():
    x, y = numbers((20,), "int64"), numbers((20,), "int64", 1).abs() + 1
    native = checked(lambda x, y: (x // y, x % y, cr.fmod(x, y)), x, y)
    with pytest.raises(ZeroDivisionError):
        native([x.numpy(), np.zeros(20, np.int64)])


# ---- reductions
AXES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
SHAPES = [(3, 4, 5), (2, 7, 64), (9, 1, 33), (1, 1, 1), (4, 130, 3), (33, 2, 2)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_extremes_over_any_axes(shape, dtype, target):
    x = numbers(shape, dtype)

    def run(x):
        outs = []
        for axes in AXES:
            for keep in (False, True):
                outs += [x.sum(axes, keepdim=keep), x.amax(axes, keepdim=keep), (x * 2.0).amin(axes, keepdim=keep)]
        return outs

    only_loops(checked(run, x, target=target))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_reductions_of_integers(dtype):
    x = numbers((5, 37), dtype)
    m = TENSORS
    only_loops(
        checked(
            lambda x: [
                *(m.sum(x, axes=a, keepdims=False) for a in ((0,), (1,), (0, 1))),
                *(m.amax(x, axes=a, keepdims=True) for a in ((0,), (1,), (0, 1))),
                *(m.amin(x, axes=a, keepdims=False) for a in ((0,), (1,), (0, 1))),
                x.sum(),
                x.sum(1),
            ],
            x,
        )
    )


def test_rows_of_every_length(target):
    for n in TAILS:
        x = numbers((3, n), seed=n)
        only_loops(checked(lambda x: (x.sum(1), x.amax(1), (x * x).sum(), x.sum(0), x.T.amin(0)), x, target=target))


@pytest.mark.parametrize("columns", [15, 127, 128, 129, 300])
def test_columns_are_summed_in_the_order_of_rows(columns, target):
    """However many are summed at a time: one alone, with others computed on the way, and with a leading dimension."""
    x = numbers((2, 37, columns), seed=columns)
    added = lambda a: np.add.accumulate(a, -2)[..., -1, :]  # noqa: E731
    native = checked(lambda x: (x.sum(1), (x[0] * 2.0 + 1.0).sum(0), x[1].sum(0)), x, target=target)
    a = x.numpy()
    for found, wanted in zip(native([a]), (added(a), added(a[0] * 2 + 1), added(a[1])), strict=True):
        assert np.array_equal(found, wanted)


def test_reductions_of_views(target):
    x = numbers((9, 26))

    def run(x):
        return (
            x.T.sum(0), x.T.sum(1), x[::2, ::3].sum(1), x.flip(1).amax(1), x[:, :1].expand(9, 40).sum(1),
            x[0].expand(6, 26).sum(0), x.reshape(3, 3, 26).sum((0, 2)),
        )  # fmt: skip

    checked(run, x, target=target)


def test_empty_reductions():
    x = numbers((3, 0))
    native = checked(lambda x: (x.sum(1), x.sum(0), x.sum()), x)
    zeros = native([x.numpy()])[0]
    assert zeros.tobytes() == np.zeros(3, np.float32).tobytes()  # +0


def test_special_values_in_reductions(target):
    for seed in range(6):
        x = numbers((4, 50), seed=seed, special=True)
        x[0] = 1.0
        x[1, 3] = np.inf
        x[2] = -0.0
        checked(lambda x: (x.sum(1), x.sum(0), x.amax(1), x.amin(0), (x > 0).sum(1)), x, target=target)


def test_a_sum_of_negative_zeros_is_a_negative_zero(target):
    x = cr.from_numpy(np.full((3, 40), -0.0, np.float32))
    for out in checked(lambda x: (x.sum(1), x.sum(0)), x, target=target)([x.numpy()]):
        assert np.signbit(out).all()


def test_a_reduction_joins_the_chain_that_feeds_it(target):
    x, y = numbers((6, 33)), numbers((6, 33), seed=1)
    native = checked(lambda x, y: (((x - y) ** 2).sum(1), (x * y).sum(1), (x - y) * 3.0), x, y, target=target)
    (loop,) = only_loops(native)
    assert len(loop.reductions) == 2
    assert len(loop.stores) == 1


# ---- what is assembled
def test_one_hot_in_loops(target):
    t = cr.from_numpy(np.random.default_rng(0).integers(0, 11, (4, 5)))
    w = numbers((4, 5, 11))
    hot = cr.nn.functional.one_hot
    native = checked(
        lambda t, w: (hot(t, 11) * w, (hot(t, 11) * w).sum(2), hot(t, 11), hot(t.T, 12)), t, w, target=target
    )
    assert not native.plan.calls


def test_joined_padded_and_overwritten(target):
    x, y = numbers((4, 5)), numbers((3, 5), seed=1)

    def run(x, y):
        z = x * 2.0
        z[1:3] = y[:2]
        z[:, 2] += 1.0
        z.T[0] = y[0, :4]
        return (
            cr.cat([x, y, x * 2.0]), cr.cat([x.T, y.T], 1), cr.stack([x, x + 1.0], 1), cr.cat([x, x[:0]]),
            cr.nn.functional.pad(x, (1, 2, 3, 0)), z, z.sum(0),
        )  # fmt: skip

    assert not checked(run, x, y, target=target).plan.calls


def test_results_do_not_depend_on_what_else_is_in_the_loop():
    """The order of a sum depends on its shape alone: alone or fused with others, the bits are the same."""
    x = numbers((7, 333))
    alone = checked(lambda x: (x * 1.5).sum(1), x)([x.numpy()])[0]
    fused = checked(lambda x: ((x * 1.5).sum(1), x.exp(), x.amax(1)), x)([x.numpy()])[0]
    assert alone.tobytes() == fused.tobytes()
