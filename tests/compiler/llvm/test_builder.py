"""The IR writer: what it writes does what its methods say, at every vector width."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.llvm.builder import Module
from chainrule.compiler.llvm.target import build, host
from chainrule.compiler.llvm.values import BITS, dtype_of, kind_of, literal
from native_elementwise import ALL_LEVELS, target_of

FLOATS, INTEGERS = ("f32", "f64"), ("u8", "i8", "i16", "i32", "i64")


def call(body, *arrays, target=None, **scalars):
    """Compile ``body(b, *pointers, *scalars)`` and run it on arrays and integers."""
    target = target or host()
    m = Module(target)
    arguments = {f"p{i}": "ptr" for i in range(len(arrays))} | dict.fromkeys(scalars, "i64")
    with m.function("f", noalias=False, **arguments) as b:
        body(b, *b.args)
    f = build(m.text, target).function("f", *arguments.values())
    f(*(a.ctypes.data for a in arrays), *scalars.values())


@pytest.mark.parametrize("width", [1, 2, 8, 32])
@pytest.mark.parametrize("kind", FLOATS)
def test_constants_are_exact_to_the_bit(kind, width):
    dtype = dtype_of(kind)
    info = np.finfo(dtype)
    for x in (
        0.0,
        -0.0,
        0.1,
        1 / 3,
        np.inf,
        -np.inf,
        float(info.max),
        float(info.smallest_subnormal),
        float(info.tiny),
    ):
        y = np.full(width, 9, dtype)
        call(lambda b, p, x=x: b.store(b.const(x, kind, width), p), y)
        assert y.tobytes() == np.full(width, x, dtype).tobytes()


def test_positive_and_negative_zero_are_different_constants():
    assert literal(0.0, "f64") != literal(-0.0, "f64")
    y = np.ones(2)
    call(lambda b, p: (b.store(b.const(0.0, "f64"), p), b.store(b.const(-0.0, "f64"), b.at(p, 1, "f64"))), y)
    np.testing.assert_array_equal(np.signbit(y), [False, True])


def test_a_fraction_is_no_integer_constant():
    with pytest.raises(TypeError, match="whole number"):
        literal(1.5, "i32")


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS, "bool"])
@pytest.mark.parametrize("to", [*FLOATS, *INTEGERS, "bool"])
def test_casts_are_astype(source, to):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if source == "bool" else 120, 8).astype(dtype_of(source))
    if source in ("i8", "i16", "i32", "i64", *FLOATS) and to not in ("u8", "bool"):
        x[::2] *= -1
    if source in FLOATS:
        x += dtype_of(source).type(0.75) * np.sign(x)
    for width in (1, 8):
        y = np.zeros(8, dtype_of(to))

        def body(b, p, q, width=width):
            for i in range(0, 8, width):
                b.store(b.cast(b.load(b.at(p, i, source), source, width), to), b.at(q, i, to))

        call(body, x, y)
        np.testing.assert_array_equal(y, x.astype(y.dtype))


def test_float16_is_converted():
    if not host().has_f16:
        pytest.skip("this processor does not convert float16")
    x = np.array([0.1, -2.5, 65504, 1e-7, np.inf, np.nan, 0, 3], np.float16)
    y, back = np.zeros(8, np.float32), np.zeros(8, np.float16)

    def body(b, p, q, r):
        wide = b.cast(b.load(p, "f16", 8), "f32")
        b.store(wide, q)
        b.store(b.cast(wide, "f16"), r)

    call(body, x, y, back)
    np.testing.assert_array_equal(y, x.astype(np.float32))
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("stride", [0, 1, 2, -3, "runtime"])
@pytest.mark.parametrize("lanes", [None, 0, 3, 8])
def test_strided_and_masked_loads(level, stride, lanes):
    x = np.arange(128, dtype=np.float32) + 1
    y = np.full(8, -1, np.float32)
    step = 5 if stride == "runtime" else stride

    def body(b, p, q, s):
        mask = None if lanes is None else b.tail_mask(lanes, 8)
        start = b.at(p, 32, "f32")
        b.store(b.load(start, "f32", 8, stride=s if stride == "runtime" else stride, mask=mask), q)

    call(body, x, y, s=step, target=target_of(level))
    expected = x[32 + np.arange(8) * step]
    if lanes is not None:
        expected = np.where(np.arange(8) < lanes, expected, 0)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("kind", ["f32", "f64", "i8", "i64", "bool"])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_masked_stores_leave_the_rest_alone(kind, stride, level):
    dtype = dtype_of(kind)
    x = np.ones(8, dtype)
    y = np.zeros(32, dtype)

    def body(b, p, q, n):
        b.store(b.load(p, kind, 8), q, stride=stride, mask=b.tail_mask(n, 8))

    call(body, x, y, n=5, target=target_of(level))
    expected = np.zeros(32, dtype)
    expected[: 5 * stride : stride] = 1
    np.testing.assert_array_equal(y, expected)


def test_masked_lanes_touch_no_memory():
    y = np.zeros(8, np.float32)

    def body(b, q):
        nowhere = b.const(None, "ptr")
        none = b.tail_mask(b.const(0, "i64"), 8)
        b.store(b.load(nowhere, "f32", 8, mask=none), q)
        b.store(b.load(nowhere, "f32", 8, stride=7, mask=none), nowhere, stride=7, mask=none)
        b.store(b.gather(nowhere, b.iota("i64", 8), "f32", mask=none), nowhere, mask=none)

    call(body, y)
    np.testing.assert_array_equal(y, 0)


def test_gather_reads_by_index():
    x, i, y = np.arange(50.0), np.array([3, 49, 0, 7]), np.zeros(4)
    call(lambda b, p, q, r: b.store(b.gather(p, b.load(q, "i64", 4), "f64"), r), x, i, y)
    np.testing.assert_array_equal(y, x[i])


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_for_vectors_visits_every_element_once(n, unroll, known):
    y = np.zeros(128, np.float32)

    def body(b, p, count):
        def one(i, w):
            q = b.at(p, i, "f32")
            b.store(b.load(q, "f32", w) + 1.0, q)

        b.for_vectors(n if known else count, 8, one, unroll)

    call(body, y, count=n)
    np.testing.assert_array_equal(y, np.arange(128) < n)


@pytest.mark.parametrize("n", [0, 1, 10])
@pytest.mark.parametrize("known", [True, False])
def test_a_loop_carries_values(n, known):
    y = np.zeros(2, np.int64)

    def body(b, p, stop):
        with b.loop_carrying(0, n if known else stop, 1, [b.const(0, "i64"), b.const(1, "i64")]) as k:
            u, v = k.values
            k.next(v, u + v)
        for i, r in enumerate(k.results):
            b.store(r, b.at(p, i, "i64"))

    call(body, y, stop=n)
    u, v = 0, 1
    for _ in range(n):
        u, v = v, u + v
    assert y.tolist() == [u, v]


def test_nested_loops_and_conditions():
    y = np.zeros((5, 7), np.int64)

    def body(b, p):
        with b.loop(0, 5) as i, b.loop(0, 7) as j:
            with b.if_(j > i):
                b.store(b.const(1, "i64"), b.at(p, i * 7 + j, "i64"))
            (z,) = b.if_else(b.eq(i, j), lambda: [b.const(9, "i64")], lambda: [b.const(0, "i64")])
            with b.if_(b.ne(z, 0)):
                b.store(z, b.at(p, i * 7 + j, "i64"))

    call(body, y)
    i, j = np.indices((5, 7))
    np.testing.assert_array_equal(y, np.where(i == j, 9, j > i))


def test_next_checks_its_types():
    m = Module(host())
    b = m.function("f")
    with pytest.raises(TypeError, match="carries"), b.loop_carrying(0, 3, 1, [b.const(0, "i64")]) as k:
        k.next(b.const(0, "i32"))


@pytest.mark.parametrize("width", [1, 4, 16])
def test_a_sum_has_one_order(width):
    x = np.random.default_rng(0).standard_normal(width).astype(np.float32)
    y = np.zeros(1, np.float32)
    call(lambda b, p, q: b.store(b.reduce_sum(b.load(p, "f32", width)), q), x, y)
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    assert y[0] == x[0]


@pytest.mark.parametrize("where", [None, 0, 5, 7])
@pytest.mark.parametrize(("method", "rule"), [("reduce_max", np.max), ("reduce_min", np.min), ("reduce_prod", np.prod)])
def test_reductions_carry_nan(method, rule, where):
    x = np.arange(8.0) - 3.5
    if where is not None:
        x[where] = np.nan
    y = np.zeros(1)
    call(lambda b, p, q: b.store(getattr(b, method)(b.load(p, "f64", 8)), q), x, y)
    np.testing.assert_array_equal(y[0], rule(x))


@pytest.mark.parametrize("n", [2, 4, 8, 16])
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_transpose(n, level):
    x = np.arange(n * n, dtype=np.float32).reshape(n, n)
    y = np.zeros_like(x)

    def body(b, p, q):
        rows = [b.load(b.at(p, i * n, "f32"), "f32", n) for i in range(n)]
        for i, r in enumerate(b.transpose(rows)):
            b.store(r, b.at(q, i * n, "f32"))

    call(body, x, y, target=target_of(level))
    np.testing.assert_array_equal(y, x.T)


def test_whole_ranges_and_constant_arrays():
    table = np.array([1.5, -0.0, np.inf], np.float32)
    y = np.full(6, 7, np.float32)

    def body(b, p):
        b.prefetch(p)
        b.memset(p, 24)
        b.memcpy(b.at(p, 3, "f32"), b.data(table), b.const(12, "i64"))
        assert b.data(table.copy()).text == b.data(table).text

    call(body, y)
    assert y.tobytes() == np.concatenate([np.zeros(3, np.float32), table]).tobytes()


def test_functions_call_each_other_and_the_c_library():
    target = host()
    m = Module(target)
    with m.function("twice", returns="f64", internal=True, inline=False, x="f64") as b:
        b.ret(b.args[0] + b.args[0])
    with m.function("f", returns="f64", x="f64") as b:
        y = b.call("twice", b.args[0], returns="f64")
        b.ret(b.call("cbrt", y, returns="f64"))
    assert build(m.text, target).function("f", "f64", returns="f64")(4.0) == 2.0


def test_denormals_are_flushed_inside_and_back_outside():
    target = host()
    m = Module(target)
    with m.function("halve", internal=True, inline=False, p="ptr") as b:
        (p,) = b.args
        b.store(b.load(p, "f64") * 0.5, p)
    with m.function("f", p="ptr") as b, b.denormals_flushed():
        b.call("halve", b.args[0])
    tiny = np.array([np.finfo(float).tiny])
    build(m.text, target).function("f", "ptr")(tiny.ctypes.data)
    assert tiny[0] == 0
    outside = np.array([np.finfo(float).tiny])
    assert (outside * 0.5)[0] != 0


def test_mistakes_are_explained():
    m = Module(host())
    b = m.function("f", n="i64")
    x, v = b.const(1.0, "f32"), b.const(1.0, "f32", 8)
    with pytest.raises(TypeError, match="one type"):
        b.add(x, v)
    with pytest.raises(TypeError, match="mask of 8 bits"):
        b.select(b.tail_mask(2, 4), v, v)
    with pytest.raises(TypeError, match="when the generated code runs"):
        bool(x < 2.0)
    with pytest.raises(ValueError, match="already"):
        m.function("f")
    with pytest.raises(ValueError, match="stride 0"):
        b.store(v, b.const(None, "ptr"), stride=0)
    with pytest.raises(ValueError, match="ret"):
        m.function("g", returns="f32").close()
    with pytest.raises(TypeError, match="complex"):
        kind_of(np.complex64)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_wrap_around(kind):
    dtype = dtype_of(kind)
    info = np.iinfo(dtype)
    x, y = np.array([info.max], dtype), np.zeros(3, dtype)

    def body(b, p, q):
        v = b.load(p, kind)
        for i, r in enumerate((v + 1, v * 2, v >> (BITS[kind] - 2))):
            b.store(r, b.at(q, i, kind))

    call(body, x, y)
    with np.errstate(over="ignore"):
        assert y.tolist() == [info.min, (x * 2).astype(dtype)[0], info.max >> (BITS[kind] - 2)]


def test_what_is_known_is_done_at_once_as_the_processor_does_it():
    """Arithmetic of known indices is folded; the same of arguments is not; both give the same."""
    pairs = [(7, 3), (-7, 3), (7, -3), (-7, -3), (0, 5), (5, 5), (2**62, 4), (-(2**63), 1)]
    names = ("add", "sub", "mul", "idiv", "irem", "lt", "le", "gt", "ge", "eq", "ne")
    module = Module(host())
    with module.function("both", x="i64", y="i64", out="ptr") as b:
        x, y, out = b.args
        for k, name in enumerate(names):
            found = getattr(b, name)(x, y)
            assert found.known is None
            b.store(b.select(found, b.i64(1), 0) if found.kind == "bool" else found, b.at(out, k, "i64"))
        for m, name in enumerate(names):
            for n, (u, v) in enumerate(pairs):
                found = getattr(b, name)(b.i64(u), v)
                found = b.select(found, b.i64(1), 0) if found.kind == "bool" else found
                assert found.known is not None
                b.store(found, b.at(out, len(names) * (1 + n) + m, "i64"))
        assert b.idiv(b.i64(1), 0).known is None  # that is for the processor to refuse
        assert b.add(b.const(1, "i32"), 1).known is None
    run = build(module.text).function("both", "i64", "i64", "ptr")
    for n, (u, v) in enumerate(pairs):
        out = np.zeros(len(names) * (1 + len(pairs)), np.int64)
        run(u, v, out.ctypes.data)
        expected = out[: len(names)]
        np.testing.assert_array_equal(out[len(names) * (1 + n) :][: len(names)], expected, err_msg=f"{u} {v}")
