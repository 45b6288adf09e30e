"""Memory that is shared with NumPy and through DLPack, and what the tape makes of writes to it."""

import numpy as np
import pytest

import chainrule as cr


def test_numpy_shares_memory_both_ways():
    a = np.arange(6.0).reshape(2, 3)
    x = cr.from_numpy(a)
    assert np.shares_memory(x.numpy(), a)
    a[0, 0] = 7.0
    assert x[0, 0].item() == 7.0
    x[1] = 0.0
    assert not a[1].any()
    assert np.shares_memory(x.T.numpy(), a)
    assert np.shares_memory(x[0].numpy(), a)
    assert not np.shares_memory(cr.tensor(a).numpy(), a)
    assert not np.shares_memory(x.clone().numpy(), a)
    assert cr.from_numpy(a.astype(np.float32)).dtype == cr.float32


def test_detach_and_data_share_memory_with_a_leaf():
    x = cr.ones(3).requires_grad_()
    d = x.detach()
    d[0] = 5.0
    assert x[0].item() == 5.0
    assert not d.requires_grad
    assert np.shares_memory(x.data.numpy(), d.numpy())
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()


def test_zero_dimensional_results_have_memory():
    x = cr.ones(3).sum()
    a = x.numpy()
    a[...] = 9.0
    assert x.item() == 9.0


def test_dlpack_both_ways_without_a_copy():
    a = np.arange(4.0)
    x = cr.from_dlpack(a)
    assert np.shares_memory(x.numpy(), a)
    b = np.from_dlpack(cr.from_numpy(a))
    assert np.shares_memory(b, a)
    assert cr.from_numpy(a).__dlpack_device__() == (1, 0)
    leaf = cr.ones(3).requires_grad_()
    with pytest.raises(BufferError, match="detach"):
        np.from_dlpack(leaf)
    assert np.shares_memory(np.from_dlpack(leaf.detach()), leaf.detach().numpy())


def test_a_tensor_write_to_shared_memory_is_seen_by_the_tape():
    a = np.arange(1.0, 4.0)
    shared = cr.from_numpy(a)
    x = cr.ones(3, dtype=cr.float64).requires_grad_()
    y = x * shared
    cr.from_numpy(a).mul_(2.0)  # another tensor over the same array
    with pytest.raises(RuntimeError, match="mul saved"):
        y.sum().backward()


def test_read_only_memory_is_not_written():
    a = np.arange(3.0)
    a.flags.writeable = False
    x = cr.from_numpy(a)
    with pytest.raises(RuntimeError, match="read-only"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="clone"):
        cr.ones(1).expand(3).add_(1.0)
    np.testing.assert_array_equal((x + 1).numpy(), [1.0, 2.0, 3.0])


def test_values_kept_for_backward_are_not_copies_of_the_future():
    """A result that shares memory with its input (a view) is written: the base sees it, and so does its gradient."""
    x = cr.arange(4.0).requires_grad_()
    y = x * 1.0
    v = y.reshape(2, 2)[0]
    v.mul_(10.0)
    np.testing.assert_array_equal(y.detach().numpy(), [0.0, 10.0, 2.0, 3.0])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [10.0, 10.0, 1.0, 1.0])
