"""Tensors among Python's and NumPy's own things: protocols, copies, pickles, shared memory."""

import copy
import math
import pickle

import numpy as np
import pytest

import chainrule as cr


# ---- NumPy
def test_from_numpy_and_numpy_share_memory():
    array = np.zeros(3)
    x = cr.from_numpy(array)
    x.add_(1)
    array[0] = 7
    assert x.tolist() == [7, 1, 1]
    x.numpy()[1] = 5
    assert array.tolist() == [7, 5, 1]
    assert np.shares_memory(np.asarray(x), array)
    assert np.shares_memory(cr.as_tensor(array).numpy(), array)
    assert not np.shares_memory(cr.tensor(array).numpy(), array)


def test_from_numpy_takes_any_layout():
    assert cr.from_numpy(np.arange(4)[::-1]).tolist() == [3, 2, 1, 0]
    assert cr.from_numpy(np.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert cr.from_numpy(np.arange(4)[::2]).tolist() == [0, 2]
    assert cr.from_numpy(np.ones(2, ">f4")).dtype is cr.float32
    assert cr.from_numpy(np.array(1.0)).shape == ()


@pytest.mark.parametrize("wrong", [[1, 2], 3.0, np.float64(1)])
def test_from_numpy_needs_an_array(wrong):
    with pytest.raises(TypeError, match=r"(?s)needs a NumPy array.*chainrule.tensor"):
        cr.from_numpy(wrong)


@pytest.mark.parametrize("array", [np.array(["a"]), np.ones(2, np.complex64), np.ones(2, np.uint16), np.array([None])])
def test_arrays_without_a_counterpart(array):
    with pytest.raises(TypeError, match="no chainrule dtype"):
        cr.from_numpy(array)


def test_asarray():
    x = cr.tensor([1.0, 2.0])
    assert np.asarray(x) is x.numpy()
    assert np.asarray(x, dtype="f8").dtype == np.float64
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.array([cr.tensor(1.0), cr.tensor(2.0)]).tolist() == [1, 2]
    assert np.stack([x, x]).shape == (2, 2)
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(cr.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype="f8", copy=False)


def test_ufuncs_of_tensors_are_tensors_with_history():
    x = cr.tensor([1.0, 4.0], requires_grad=True)
    for ufunc, slope in (
        (np.sin, np.cos),
        (np.sqrt, lambda v: 0.5 / np.sqrt(v)),
        (np.exp, np.exp),
        (np.negative, lambda v: -1 + 0 * v),
    ):
        y = ufunc(x)
        assert type(y) is cr.Tensor
        np.testing.assert_allclose(y.detach().numpy(), ufunc(np.float32([1, 4])), rtol=1e-6)
        (g,) = cr.autograd.grad(y.sum(), [x])
        np.testing.assert_allclose(g.numpy(), slope(np.float32([1, 4])), rtol=1e-6)
    assert np.maximum(x, 2).tolist() == [2, 4]
    assert np.isnan(cr.tensor([math.nan, 1.0])).tolist() == [True, False]
    assert np.invert(cr.tensor([True])).tolist() == [False]
    assert np.rint(cr.tensor([1.6])).tolist() == [2]


def test_ufuncs_without_a_counterpart():
    with pytest.raises(TypeError):
        np.cbrt(cr.ones(2))
    with pytest.raises(TypeError):
        np.add.reduce(cr.ones(2))


def test_numpys_other_functions_compute_with_the_array():
    x = cr.tensor([1.0, 3.0])
    assert (np.sum(x), np.mean(x), np.max(x), np.argmax(x)) == (4, 2, 3, 1)
    assert np.allclose(x, [1, 3])
    assert np.concatenate([x, np.zeros(1)]).tolist() == [1, 3, 0]
    assert np.where(x > 2, x, 0).tolist() == [0, 3]
    assert np.linalg.norm(x) == pytest.approx(10**0.5)
    with pytest.raises(RuntimeError, match="detach"):
        np.mean(cr.ones(2, requires_grad=True))


def test_arithmetic_of_arrays_and_tensors_is_tensors():
    x, array = cr.tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 4.0], np.float32)
    for y, expected in (
        (x + array, [4, 6]),
        (array + x, [4, 6]),
        (array - x, [2, 2]),
        (x * array, [3, 8]),
        (array * x, [3, 8]),
        (array / x, [3, 2]),
        (array**x, [3, 16]),
        (array @ x, 11),
        (x @ array, 11),
    ):
        assert type(y) is cr.Tensor
        assert y.requires_grad
        assert y.dtype is cr.float32
        assert y.tolist() == expected
    assert (array < x).tolist() == [False, False]
    assert (array == x).tolist() == [False, False]
    assert (np.ones(2) * cr.ones(2)).dtype is cr.float64  # NumPy's numbers are float64 unless made otherwise


def test_arrays_written_with_tensors():
    array = np.ones(2)
    array += cr.tensor([1.0, 2.0])
    assert array.tolist() == [2, 3]
    array[:] = cr.zeros(2)
    assert array.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="detach"):
        array += cr.ones(2, requires_grad=True)


def test_numpy_scalars_on_either_side():
    x = cr.tensor([1.0, 2.0])
    for y in (x * np.float64(2), np.float64(2) * x, np.int64(2) * x, x * np.float32(2)):
        assert type(y) is cr.Tensor
        assert y.dtype is cr.float32
        assert y.tolist() == [2, 4]
    assert (np.float64(1.5) < x).tolist() == [False, True]
    assert (np.float64(2.5) * cr.tensor([1, 2])).dtype is cr.float32


def test_indices_for_arrays():
    assert np.arange(5)[cr.tensor([1, 2])].tolist() == [1, 2]
    assert np.arange(5)[cr.tensor(1)] == 1


# ---- DLPack
def test_dlpack_shares_memory_both_ways():
    x = cr.zeros(3)
    array = np.from_dlpack(x)
    x.add_(1)
    assert array.tolist() == [1, 1, 1]
    source = np.zeros(3)
    y = cr.from_dlpack(source)
    y.add_(2)
    assert source.tolist() == [2, 2, 2]
    assert x.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="detach"):
        np.from_dlpack(cr.ones(2, requires_grad=True))


# ---- Python
def test_numbers():
    x = cr.tensor([[2.5]])
    assert (float(x), int(x), bool(x), complex(x)) == (2.5, 2, True, 2.5 + 0j)
    assert x.item() == 2.5
    assert type(cr.tensor(3).item()) is int
    assert type(cr.tensor(True).item()) is bool
    assert not cr.tensor([0.0])
    assert [1, 2, 3][cr.tensor(1)] == 2
    assert list(range(cr.tensor(3))) == [0, 1, 2]
    assert math.sqrt(cr.tensor(4.0)) == 2
    with pytest.raises(TypeError, match="integer"):
        [1, 2][cr.tensor(1.0)]


def test_iteration():
    x = cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    a, b = x
    (a * b).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    assert [v.item() for v in reversed(cr.arange(3))] == [2, 1, 0]
    assert max(cr.tensor([1.0, 3.0])).item() == 3
    assert sum(cr.tensor([1.0, 3.0])).item() == 4
    assert sorted(cr.tensor([3.0, 1.0]))[0].item() == 1
    with pytest.raises(TypeError, match="zero dimensions"):
        len(cr.tensor(3))
    with pytest.raises(TypeError, match="zero dimensions"):
        iter(cr.tensor(3))


def test_in():
    x = cr.tensor([1, 2])
    assert 2 in x
    assert 2.0 in x
    assert 3 not in x
    assert cr.tensor([1, 2]) in cr.tensor([[1, 2], [3, 4]])
    with pytest.raises(RuntimeError, match="number"):
        assert "a" in x


def test_equality_and_hash():
    a, b = cr.tensor(1.0), cr.tensor(1.0)
    assert (a == b).item() is True
    assert len({a, b}) == 2
    assert hash(a) == hash(a)
    assert {a: 1}[a] == 1
    assert (a == None) is False  # noqa: E711
    assert (a != None) is True  # noqa: E711
    assert (a == "a") is False
    assert (a == [1.0]) is False
    assert a in [b]


def test_copies():
    x = cr.ones(2, requires_grad=True)
    x.sum().backward()
    deep = copy.deepcopy(x)
    assert deep.requires_grad
    assert deep.is_leaf
    assert deep.grad.tolist() == [1, 1]
    with cr.no_grad():
        deep.add_(1)
        deep.grad.add_(1)
    assert x.tolist() == [1, 1]
    assert x.grad.tolist() == [1, 1]
    shallow = copy.copy(x.detach())
    shallow.add_(1)
    assert x.tolist() == [2, 2]
    first, second = copy.deepcopy([x, x])
    assert first is second
    assert type(copy.deepcopy(cr.nn.Parameter(cr.ones(2)))) is cr.nn.Parameter
    with pytest.raises(RuntimeError, match=r"(?s)only leaf.*detach"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    def back(obj):
        return pickle.loads(pickle.dumps(obj, protocol))

    for kind in ("float32", "float16", "int64", "bool"):
        x = cr.tensor([[1, 0]], dtype=kind)
        assert back(x).dtype is x.dtype
        assert back(x).tolist() == x.tolist()
    assert back(cr.tensor(3.0)).shape == ()
    assert back(cr.ones(3, 3)[1:]).shape == (2, 3)
    assert back(cr.ones(2, requires_grad=True)).requires_grad
    assert back(cr.ones(2, requires_grad=True) * 2).is_leaf
    assert type(back(cr.nn.Parameter(cr.ones(2)))) is cr.nn.Parameter
    assert back(cr.Size([1, 2])) == (1, 2)
    back(cr.ones(2)).add_(1)


def test_attributes_for_programs_that_ask():
    x = cr.zeros(2, 3)
    assert (x.ndim, x.dim(), x.ndimension(), x.numel(), x.nelement()) == (2, 2, 2, 6, 6)
    assert (x.element_size(), x.itemsize, x.nbytes) == (4, 4, 24)
    assert not any((x.is_sparse, x.is_quantized, x.is_meta, x.is_pinned()))
    assert x.conj() is x
    assert x.pin_memory() is x
    assert x.is_leaf
    assert x.grad_fn is None
    assert cr.is_tensor(x)
    assert not cr.is_tensor(x.numpy())
    assert (x.T.shape, x.mT.shape) == ((3, 2), (3, 2))
