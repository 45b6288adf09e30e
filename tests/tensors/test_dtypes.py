"""Dtypes: the objects, their names, promotion, weak Python numbers, conversions, defaults and older constructors."""

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import dtypes

ALL = dtypes.ALL


def test_objects():
    assert str(cr.float32) == "chainrule.float32"
    assert repr(cr.bool) == "chainrule.bool"
    assert (cr.float, cr.double, cr.half) == (cr.float32, cr.float64, cr.float16)
    assert (cr.long, cr.int, cr.short) == (cr.int64, cr.int32, cr.int16)
    for d in ALL:
        assert getattr(cr, d.name) is d
        assert pickle.loads(pickle.dumps(d)) is d
        assert copy.deepcopy(d) is d
        assert d.numpy.itemsize == d.itemsize
        assert cr.zeros(1, dtype=d).dtype is d
    assert cr.float16.is_floating_point
    assert not cr.int8.is_floating_point
    assert not cr.uint8.is_signed
    assert len({*ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (float, cr.float64),
        (int, cr.int64),
        (bool, cr.bool),
        ("float32", cr.float32),
        ("long", cr.int64),
        (np.float16, cr.float16),
        (np.dtype("u1"), cr.uint8),
        (">f4", cr.float32),
    ],
)
def test_what_a_dtype_argument_may_be(given, meant):
    assert cr.zeros(1, dtype=given).dtype is meant


@pytest.mark.parametrize("wrong", ["float33", complex, np.complex64, 3, "U5"])
def test_what_a_dtype_argument_may_not_be(wrong):
    with pytest.raises(TypeError, match=r"(?s)not a dtype.*expected: chainrule.bool"):
        cr.zeros(1, dtype=wrong)


def test_a_mistyped_name_is_guessed():
    with pytest.raises(TypeError, match="did you mean 'float32'"):
        cr.zeros(1, dtype="flaot32")


def test_default_dtype():
    assert cr.get_default_dtype() is cr.float32
    try:
        cr.set_default_dtype(cr.float64)
        assert cr.tensor([1.0]).dtype is cr.float64
        assert cr.zeros(1).dtype is cr.float64
        assert cr.tensor([1]).dtype is cr.int64
        assert cr.tensor([1]).sqrt().dtype is cr.float64
        assert repr(cr.tensor([1.0])) == "tensor([1.], dtype=chainrule.float64)".replace(
            ", dtype=chainrule.float64", ""
        )
        assert repr(cr.zeros(1, dtype=cr.float32)) == "tensor([0.], dtype=chainrule.float32)"
    finally:
        cr.set_default_dtype(cr.float32)
    with pytest.raises(TypeError, match="floating"):
        cr.set_default_dtype(cr.int64)


#: rows and columns: bool uint8 int8 int16 int32 int64 float16 float32 float64; the published table of PyTorch
TABLE = """
b u1 i1 i2 i4 i8 f2 f4 f8
u1 u1 i2 i2 i4 i8 f2 f4 f8
i1 i2 i1 i2 i4 i8 f2 f4 f8
i2 i2 i2 i2 i4 i8 f2 f4 f8
i4 i4 i4 i4 i4 i8 f2 f4 f8
i8 i8 i8 i8 i8 i8 f2 f4 f8
f2 f2 f2 f2 f2 f2 f2 f4 f8
f4 f4 f4 f4 f4 f4 f4 f4 f8
f8 f8 f8 f8 f8 f8 f8 f8 f8
"""


def test_promotion_table():
    rows = [[np.dtype("?" if name == "b" else name) for name in row.split()] for row in TABLE.split("\n") if row]
    for a, row in zip(ALL, rows, strict=True):
        for b, expected in zip(ALL, row, strict=True):
            assert cr.promote_types(a, b).numpy == expected
            assert (cr.ones(1, dtype=a) + cr.ones(1, dtype=b)).dtype.numpy == expected
            assert cr.result_type(cr.ones((), dtype=a), cr.ones((), dtype=b)).numpy == expected


@pytest.mark.parametrize(
    ("tensor", "number", "expected"),
    [
        (cr.float16, 2.5, cr.float16),
        (cr.float64, 2.5, cr.float64),
        (cr.int8, 2, cr.int8),
        (cr.int64, 2.5, cr.float32),
        (cr.bool, 2, cr.int64),
        (cr.bool, 2.5, cr.float32),
        (cr.bool, True, cr.bool),
        (cr.uint8, True, cr.uint8),
        (cr.float32, True, cr.float32),
        (cr.float32, np.float64(2.5), cr.float32),
        (cr.int64, np.float64(2.5), cr.float32),
        (cr.int8, np.int64(3), cr.int8),
        (cr.float32, 10**30, cr.float32),
    ],
)
def test_numbers_are_weak(tensor, number, expected):
    for shape in ((2,), ()):
        x = cr.ones(shape, dtype=tensor)
        for out in (x * number, number * x, x.mul(number)):
            assert out.dtype is expected
            np.testing.assert_allclose(out.numpy().astype(np.float64), np.full(shape, float(number)), rtol=1e-3)
    assert cr.result_type(cr.ones(2, dtype=tensor), number) is expected


def test_zero_dimensions_are_weaker_than_one():
    assert (cr.ones((), dtype=cr.float64) * cr.ones(1)).dtype is cr.float32
    assert (cr.ones((), dtype=cr.int64) * cr.ones(1, dtype=cr.int8)).dtype is cr.int8
    assert (cr.ones(()) * cr.ones(1, dtype=cr.int64)).dtype is cr.float32
    assert (cr.ones((), dtype=cr.float64) * cr.ones(())).dtype is cr.float64


@pytest.mark.parametrize(("kind", "number"), [(cr.uint8, -1), (cr.int8, 300), (cr.int64, 2**63), (cr.uint8, 256)])
def test_a_number_that_does_not_fit_is_an_error(kind, number):
    with pytest.raises(OverflowError, match=r"(?s)does not fit the dtype.*wider"):
        cr.ones(1, dtype=kind) + number


def test_kinds_of_results():
    assert (cr.tensor([1, 2]) / 2).dtype is cr.float32
    assert (cr.tensor([7, -7]) // 2).tolist() == [3, -4]
    assert (cr.tensor([7, -7]) % 3).tolist() == [1, 2]
    assert (cr.tensor([1, 2]) ** 2).dtype is cr.int64
    assert cr.tensor([1, 2], dtype=cr.int8).sum().dtype is cr.int64
    assert cr.tensor([True, True]).sum().item() == 2
    assert cr.tensor([4, 9]).sqrt().tolist() == [2, 3]
    assert (cr.tensor([1, 2]) < 2).dtype is cr.bool


def test_conversions():
    x = cr.tensor([1.7, -1.7])
    for name, kind in (
        ("float", cr.float32),
        ("double", cr.float64),
        ("half", cr.float16),
        ("long", cr.int64),
        ("int", cr.int32),
        ("short", cr.int16),
        ("char", cr.int8),
        ("bool", cr.bool),
    ):
        assert getattr(x, name)().dtype is kind
        assert x.to(kind).dtype is kind
        assert x.to(dtype=kind).dtype is kind
        assert x.type(kind).dtype is kind
    assert x.int().tolist() == [1, -1]
    assert x.float() is x
    assert x.to(cr.float32) is x
    assert x.to("cpu") is x
    assert x.cpu() is x
    assert x.to(cr.float32, copy=True) is not x
    assert x.to("cpu", cr.int64).dtype is cr.int64
    assert x.to(cr.zeros(1, dtype=cr.int8)).dtype is cr.int8
    assert x.type_as(cr.zeros(1, dtype=cr.int8)).dtype is cr.int8
    y = x.clone().requires_grad_()
    y.double().sum().backward()
    assert y.grad.dtype is cr.float32


TYPES = {
    "FloatTensor": cr.float32,
    "DoubleTensor": cr.float64,
    "HalfTensor": cr.float16,
    "LongTensor": cr.int64,
    "IntTensor": cr.int32,
    "ShortTensor": cr.int16,
    "CharTensor": cr.int8,
    "ByteTensor": cr.uint8,
    "BoolTensor": cr.bool,
}


@pytest.mark.parametrize("name", TYPES)
def test_constructors_named_by_type(name):
    make, kind = getattr(cr, name), TYPES[name]
    x = make([1, 0])
    assert type(x) is cr.Tensor
    assert x.dtype is kind
    assert x.tolist() == [1, 0]
    assert make(2, 3).shape == (2, 3)
    assert make(np.array([1.0])).tolist() == [1]
    assert make(cr.zeros(3)).shape == (3,)
    assert isinstance(x, make)
    assert not isinstance(x, next(getattr(cr, other) for other in TYPES if other != name))
    assert x.type() == f"chainrule.{name}"
    assert cr.zeros(1).type(make).dtype is kind
    assert cr.zeros(1).type(f"torch.{name}").dtype is kind
    assert repr(make) == f"<class 'chainrule.{name}'>"


def test_an_unknown_type_name():
    with pytest.raises(TypeError, match="did you mean 'LongTensor'"):
        cr.zeros(1).type("LnogTensor")


def test_the_tensor_class_as_a_constructor():
    assert cr.Tensor([1, 2]).dtype is cr.float32
    assert cr.Tensor(2, 3).shape == (2, 3)
    assert cr.Tensor(5).shape == (5,)
    assert cr.Tensor().shape == (0,)
    assert cr.Tensor(cr.Size([2, 1])).shape == (2, 1)
    assert cr.Tensor((2, 1)).tolist() == [2, 1]
    assert cr.Tensor(np.array([1, 2])).dtype is cr.float32
    with pytest.raises(TypeError, match="text"):
        cr.Tensor("a")


def test_new_tensors_like_this_one():
    x = cr.zeros(2, dtype=cr.float64)
    assert x.new_zeros(3).tolist() == [0, 0, 0]
    assert x.new_zeros((3, 2)).shape == (3, 2)
    assert x.new_ones(2).dtype is cr.float64
    assert x.new_full((2,), 7).tolist() == [7, 7]
    assert x.new_full((2,), 7, dtype=cr.int64).dtype is cr.int64
    assert x.new_tensor([1, 2]).dtype is cr.float64
    assert x.new_empty(2).shape == (2,)
    assert x.new([1, 2]).dtype is cr.float64
    assert x.new(2, 3).shape == (2, 3)
    assert x.new_zeros(2, requires_grad=True).requires_grad


def test_questions():
    assert cr.is_floating_point(cr.zeros(1))
    assert not cr.is_floating_point(cr.tensor([1]))
    assert not cr.is_complex(cr.zeros(1))
    assert cr.is_nonzero(cr.tensor([2.0]))
    assert cr.can_cast(cr.int8, cr.float16)
    assert cr.can_cast(cr.float64, cr.float32)
    assert not cr.can_cast(cr.float32, cr.int64)
    assert not cr.zeros(1, dtype=cr.uint8).is_signed()
    assert cr.zeros(1).is_signed()
    with pytest.raises(TypeError, match="tensors and numbers"):
        cr.result_type("a", 1)


def test_limits():
    for kind in (cr.float16, cr.float32, cr.float64):
        info, known = cr.finfo(kind), np.finfo(kind.numpy)
        assert (info.eps, info.max, info.min, info.tiny, info.bits) == (
            known.eps,
            known.max,
            known.min,
            known.tiny,
            known.bits,
        )
        assert info.dtype == kind.name
    for kind in (cr.uint8, cr.int8, cr.int16, cr.int32, cr.int64):
        assert (cr.iinfo(kind).min, cr.iinfo(kind).max) == (np.iinfo(kind.numpy).min, np.iinfo(kind.numpy).max)


def test_size():
    shape = cr.zeros(2, 3, 4).shape
    assert shape == (2, 3, 4)
    assert isinstance(shape, tuple)
    assert shape.numel() == 24
    for part in (shape[:2], shape[1:], shape + cr.Size([5]), shape * 2, 2 * shape):
        assert type(part) is cr.Size
    assert shape[-1] == 4
    assert repr(cr.Size([1, 2])) == "chainrule.Size([1, 2])"
    assert hash(shape) == hash((2, 3, 4))
    assert cr.zeros(shape[1:]).shape == (3, 4)
    assert cr.zeros(2, 3).size() == (2, 3)
    assert cr.zeros(2, 3).size(-1) == 3


def test_device():
    x = cr.zeros(1, device="cpu")
    assert str(x.device) == "cpu"
    assert x.device == cr.device("cpu")
    assert x.device == cr.device("cpu", 0)
    assert x.device != "cpu"
    assert x.device.type == "cpu"
    assert repr(cr.device("cpu:0")) == "device(type='cpu', index=0)"
    assert cr.device("cuda" if cr.cuda.is_available() else "cpu").type == "cpu"
    assert len({cr.device("cpu"), cr.device("cpu")}) == 1
    assert not x.is_cuda
    assert x.get_device() == -1
    assert x.to(device=cr.device("cpu"), dtype=cr.float64, non_blocking=True).dtype is cr.float64
