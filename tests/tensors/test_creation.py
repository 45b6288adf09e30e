"""Tensors from data, sizes and ranges: values, dtypes, shared memory, and what is refused."""

import numpy as np
import pytest

import chainrule as cr

f4, f8, i8 = np.float32, np.float64, np.int64

DATA = [
    (1, i8, 1),
    (1.5, f4, 1.5),
    (True, np.bool_, True),
    ([1, 2], i8, [1, 2]),
    ([1, 2.5], f4, [1, 2.5]),
    ([True, False], np.bool_, [True, False]),
    ([True, 2], i8, [1, 2]),
    ([[1.0, 2.0], [3.0, 4.0]], f4, [[1, 2], [3, 4]]),
    ([], f4, []),
    ([[], []], f4, [[], []]),
    ((1, 2), i8, [1, 2]),
    (range(3), i8, [0, 1, 2]),
    (np.array([1.0, 2.0]), f8, [1, 2]),
    (np.array([1, 2], np.int16), np.int16, [1, 2]),
    (np.float64(2.5), f8, 2.5),
    (np.arange(3, dtype=">i4"), np.int32, [0, 1, 2]),
    ([np.array([1.0, 2.0]), np.array([3.0, 4.0])], f8, [[1, 2], [3, 4]]),
]

MADE = [
    ("zeros", (2, 3), {}, np.zeros((2, 3), f4)),
    ("zeros", ((2, 3),), {"dtype": cr.int64}, np.zeros((2, 3), i8)),
    ("zeros", ([2],), {}, np.zeros(2, f4)),
    ("zeros", ((),), {}, np.zeros((), f4)),
    ("ones", (3,), {"dtype": cr.bool}, np.ones(3, bool)),
    ("ones", (0, 2), {}, np.ones((0, 2), f4)),
    ("full", ((2,), 3), {}, np.full(2, 3, i8)),
    ("full", ((2,), 3.5), {}, np.full(2, 3.5, f4)),
    ("full", ((), True), {}, np.full((), True)),
    ("full", ((2, 2), -0.0), {}, np.full((2, 2), -0.0, f4)),
    ("arange", (4,), {}, np.arange(4)),
    ("arange", (1, 4), {}, np.arange(1, 4)),
    ("arange", (4, 0, -2), {}, np.arange(4, 0, -2)),
    ("arange", (0,), {}, np.arange(0)),
    ("arange", (0.0, 1.0, 0.25), {}, np.arange(0, 1, 0.25, f4)),
    ("arange", (3.0,), {}, np.arange(3, dtype=f4)),
    ("arange", (5,), {"dtype": cr.float64}, np.arange(5, dtype=f8)),
    ("arange", (0, 1, 0.1), {"dtype": cr.float64}, np.arange(0, 1, 0.1)),
    ("linspace", (0, 1, 5), {}, np.linspace(0, 1, 5, dtype=f4)),
    ("linspace", (0, 1, 1), {}, np.zeros(1, f4)),
    ("linspace", (0, 1, 0), {}, np.zeros(0, f4)),
    ("linspace", (3, -2, 7), {"dtype": cr.float64}, np.linspace(3, -2, 7)),
    ("logspace", (0, 2, 3), {}, np.array([1, 10, 100], f4)),
    ("logspace", (0, 3, 4), {"base": 2}, np.array([1, 2, 4, 8], f4)),
    ("eye", (3,), {}, np.eye(3, dtype=f4)),
    ("eye", (2, 3), {"dtype": cr.int32}, np.eye(2, 3, dtype=np.int32)),
    ("scalar_tensor", (2,), {}, np.asarray(2, f4)),
    ("tril_indices", (3, 3), {}, np.stack(np.tril_indices(3))),
    ("tril_indices", (2, 4), {"offset": 1}, np.stack(np.tril_indices(2, 1, 4))),
    ("triu_indices", (3, 3), {"offset": -1}, np.stack(np.triu_indices(3, -1))),
]


@pytest.mark.parametrize(("data", "kind", "values"), DATA, ids=lambda v: str(v).replace("\n", ""))
def test_tensor_from_data(data, kind, values):
    t = cr.tensor(data)
    assert t.numpy().dtype == kind
    np.testing.assert_array_equal(t.numpy(), np.asarray(values).reshape(np.shape(data)))


@pytest.mark.parametrize(("name", "args", "kwargs", "want"), MADE, ids=str)
def test_made_from_sizes_and_ranges(name, args, kwargs, want):
    got = getattr(cr, name)(*args, **kwargs)
    assert got.numpy().dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-7)
    np.testing.assert_array_equal(np.signbit(got.numpy()), np.signbit(want)) if want.dtype.kind == "f" else None


@pytest.mark.parametrize(
    "kind", [cr.bool, cr.uint8, cr.int8, cr.int16, cr.int32, cr.int64, cr.float16, cr.float32, cr.float64]
)
def test_every_dtype_can_be_asked_for(kind):
    for t in (
        cr.tensor([0, 1], dtype=kind),
        cr.zeros(2, dtype=kind),
        cr.ones(2, dtype=kind),
        cr.full((2,), 1, dtype=kind),
    ):
        assert t.dtype is kind
    assert cr.zeros_like(cr.ones(2, dtype=kind)).dtype is kind
    assert cr.full_like(cr.ones(2, dtype=kind), 1).tolist() == cr.ones(2, dtype=kind).tolist()
    assert cr.ones_like(cr.ones(2), dtype=kind).dtype is kind


def test_tensor_copies_and_from_numpy_shares():
    a = np.arange(3.0)
    copy, shared, also = cr.tensor(a), cr.from_numpy(a), cr.as_tensor(a)
    a[0] = 9
    assert copy[0].item() == 0
    assert shared[0].item() == 9
    assert also[0].item() == 9
    shared[1] = 5.0
    assert a[1] == 5


def test_as_tensor_keeps_what_it_can():
    t = cr.ones(2)
    assert cr.as_tensor(t) is t
    assert cr.as_tensor(t, dtype=cr.float64).dtype is cr.float64
    assert cr.as_tensor([1, 2]).dtype is cr.int64
    assert cr.as_tensor(np.arange(2), dtype=cr.float32).dtype is cr.float32


def test_tensors_inside_lists():
    t = cr.tensor([cr.tensor(1.0), cr.tensor(2.0)])
    assert t.tolist() == [1, 2]
    assert cr.tensor([cr.tensor([1, 2]), cr.tensor([3, 4])]).tolist() == [[1, 2], [3, 4]]


def test_requires_grad():
    for t in (cr.tensor(1.0, requires_grad=True), cr.zeros(2, requires_grad=True), cr.eye(2, requires_grad=True)):
        assert t.requires_grad
        assert t.is_leaf
    with pytest.raises(RuntimeError, match="floating-point"):
        cr.ones(2, dtype=cr.int64, requires_grad=True)


def test_the_default_dtype_decides_for_python_floats():
    cr.set_default_dtype(cr.float64)
    try:
        assert cr.tensor(1.5).dtype is cr.float64
        assert cr.zeros(1).dtype is cr.float64
        assert cr.linspace(0, 1, 3).dtype is cr.float64
        assert (cr.arange(3) / 2).dtype is cr.float64
    finally:
        cr.set_default_dtype(cr.float32)
    with pytest.raises(TypeError, match="floating"):
        cr.set_default_dtype(cr.int64)


WRONG = [
    (lambda: cr.tensor([object()]), TypeError, "cannot become a tensor"),
    (lambda: cr.tensor([1 + 2j]), TypeError, "cannot become a tensor"),
    (lambda: cr.tensor(2**70), (TypeError, OverflowError), "cannot become a tensor"),
    (lambda: cr.from_numpy([1]), TypeError, "needs a NumPy array"),
    (lambda: cr.from_numpy(np.array(["a"])), TypeError, "no chainrule dtype"),
    (lambda: cr.zeros(2, dtype="float7"), TypeError, "float7"),
    (lambda: cr.zeros(2, device="cuda"), RuntimeError, "not available"),
    (lambda: cr.arange(3, step=0), ValueError, "nonzero step"),
    (lambda: cr.linspace(0, 1, -1), (ValueError, RuntimeError), "steps"),
    (lambda: cr.logspace(0, 1, -1), (ValueError, RuntimeError), "steps"),
    (lambda: cr.eye(-1), (ValueError, RuntimeError), "negative"),
    (lambda: cr.full((2, -1), 0), (ValueError, RuntimeError), "negative"),
    (lambda: cr.tensor(300, dtype=cr.uint8), (OverflowError, RuntimeError, TypeError), "300|range|bounds"),
    (lambda: cr.tensor(float("nan"), dtype=cr.int64), (ValueError, RuntimeError, TypeError), "NaN|nan|convert"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG)
def test_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
