"""Memory shared with PyTorch through DLPack and NumPy, without a copy, and tensors of both handed over as data."""

import numpy as np
import pytest

import chainrule as cr

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.crosscheck


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"])
def test_both_ways(kind):
    theirs = torch.ones(2, 3, dtype=getattr(torch, kind))
    ours = cr.from_dlpack(theirs)
    assert ours.dtype is getattr(cr, kind)
    theirs[0, 1] = 0
    assert ours.tolist() == theirs.tolist()
    ours = cr.ones(2, 3, dtype=kind)
    theirs = torch.from_dlpack(ours)
    assert theirs.dtype == getattr(torch, kind)
    ours[1, 0] = 0
    assert theirs.tolist() == ours.tolist()
    theirs[0, 0] = 0
    assert ours[0, 0].item() == 0


def test_strided_memory():
    theirs = torch.arange(6).reshape(2, 3).T
    ours = cr.from_dlpack(theirs)
    assert ours.tolist() == theirs.tolist()
    ours[0, 0] = 9
    assert theirs[0, 0].item() == 9
    assert torch.from_dlpack(cr.arange(6).reshape(2, 3).T[1:]).tolist() == [[1, 4], [2, 5]]


def test_memory_outlives_its_maker():
    ours = cr.from_dlpack(torch.arange(1000))
    theirs = torch.from_dlpack(cr.arange(1000))
    assert ours.sum().item() == theirs.sum().item() == 499500


def test_gradients_do_not_travel():
    with pytest.raises(BufferError):
        torch.from_dlpack(cr.ones(2, requires_grad=True))
    with pytest.raises(BufferError):
        cr.from_dlpack(torch.ones(2, requires_grad=True))


def test_through_numpy():
    ours = cr.ones(3)
    theirs = torch.from_numpy(ours.numpy())
    theirs.add_(1)
    assert ours.tolist() == [2, 2, 2]
    assert cr.tensor(theirs.numpy()).dtype is cr.float32
    assert np.shares_memory(cr.from_numpy(theirs.numpy()).numpy(), ours.numpy())
    assert cr.tensor(np.asarray(torch.tensor([1, 2]))).tolist() == [1, 2]


def test_a_state_dict_saved_here_is_read_there(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = {"weight": cr.randn(3, 2), "count": cr.tensor(3), "half": cr.ones(2, dtype=cr.float16)}
    cr.save(state, tmp_path / "a")
    theirs = safetensors.load_file(tmp_path / "a")
    assert {k: v.tolist() for k, v in theirs.items()} == {k: v.tolist() for k, v in state.items()}
    safetensors.save_file(theirs, tmp_path / "b")
    assert {k: v.tolist() for k, v in cr.load(tmp_path / "b").items()} == {k: v.tolist() for k, v in state.items()}
