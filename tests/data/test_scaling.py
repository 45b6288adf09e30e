"""Standardization, scaling to [0, 1] and one-hot: the numbers, and that they are remembered."""

import numpy as np
import pytest

import chainrule
from chainrule.data import one_hot, rescale, standardize

X = np.array([[1.0, 10.0, 5.0], [2.0, 30.0, 5.0], [3.0, 50.0, 5.0], [6.0, 30.0, 5.0]])


def test_standardize():
    z, scaling = standardize(X)
    assert z.dtype == chainrule.float32
    assert np.allclose(scaling.shift, [3.0, 30.0, 5.0])
    assert np.allclose(scaling.scale, [np.sqrt(3.5), np.sqrt(200.0), 1.0])  # the constant column is only shifted
    assert np.allclose(z.numpy(), (X - scaling.shift) / scaling.scale, rtol=1e-6)
    assert np.allclose(scaling([[3.0, 30.0, 6.0]]).numpy(), [[0.0, 0.0, 1.0]])
    assert np.allclose(scaling.inverse(z).numpy(), X, rtol=1e-6)


def test_rescale():
    z, scaling = rescale(chainrule.tensor(X.tolist()))
    assert np.allclose(z.numpy(), [[0, 0, 0], [0.2, 0.5, 0], [0.4, 1, 0], [1, 0.5, 0]])
    assert np.allclose(scaling.inverse(z).numpy(), X)


def test_one_axis_and_images():
    z, _ = rescale([0, 5, 10])
    assert z.tolist() == [0.0, 0.5, 1.0]
    images, scaling = standardize(np.arange(24.0).reshape(2, 3, 4))
    assert tuple(images.shape) == (2, 3, 4)
    assert scaling.shift.shape == (3, 4)


def test_a_constant_column_with_rounding_errors_becomes_zero():
    z, _ = standardize(np.full((1000, 1), 0.1))
    assert np.abs(z.numpy()).max() < 1e-6


def test_one_hot():
    z, encode = one_hot(["red", "blue", "red"])
    assert encode.categories == ("blue", "red")
    assert z.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert encode(["blue"]).tolist() == [[1.0, 0.0]]
    assert encode.codes(["red", "blue"]).tolist() == [1, 0]
    z, _ = one_hot(chainrule.tensor([2, 0]), categories=range(3))
    assert z.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_what_is_refused():
    for f in (standardize, rescale):
        with pytest.raises(ValueError, match=r"1 of the values are not finite(.|\n)*nan at \(1, 0\)"):
            f([[1.0], [float("nan")]])
        with pytest.raises(ValueError, match="at least one row"):
            f(np.zeros((0, 2)))
    _, scaling = standardize(X)
    with pytest.raises(ValueError, match=r"got: +data of shape \(1, 2\)"):
        scaling([[1.0, 2.0]])
    _, encode = one_hot(["a", "b"])
    with pytest.raises(ValueError, match=r"got: +'c' at position 1"):
        encode(["a", "c"])
    with pytest.raises(ValueError, match="one axis"):
        one_hot([["a"]])
