"""chainrule.save and chainrule.load: what goes round, files that are whole or not there, and damaged files."""

import io
import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.serialization import DamagedFileError

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def back(obj, path):
    cr.save(obj, path)
    return cr.load(path)


def test_a_state_dict_is_a_plain_safetensors_file(path):
    from safetensors.numpy import load_file

    layers = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.ReLU(), cr.nn.Linear(4, 2))
    state = layers.state_dict()
    loaded = back(state, path)
    assert list(loaded) == list(state)
    plain = load_file(path)
    for name, tensor in state.items():
        assert loaded[name].tolist() == tensor.tolist()
        assert plain[name].tolist() == tensor.tolist()
    other = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.ReLU(), cr.nn.Linear(4, 2))
    other.load_state_dict(loaded)
    x = cr.randn(5, 3)
    assert other(x).tolist() == layers(x).tolist()
    loaded["0.weight"].zero_()  # memory of its own, that can be written
    assert cr.load(path)["0.weight"].tolist() == state["0.weight"].tolist()


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_every_dtype_and_shape(kind, path):
    for shape in ((), (0,), (0, 3), (2, 3)):
        x = cr.ones(shape, dtype=kind)
        loaded = back({"x": x}, path)["x"]
        assert loaded.dtype is x.dtype
        assert loaded.shape == x.shape
        assert loaded.tolist() == x.tolist()
    values = cr.tensor([math.nan, -math.inf, 1e-30])
    assert str(back(values, path)) == str(values)
    turned = cr.arange(6).reshape(2, 3).T
    assert back(turned, path).tolist() == turned.tolist()


def test_a_checkpoint(path):
    layer = cr.nn.Linear(3, 2)
    optimizer = cr.optim.Adam(layer.parameters(), lr=0.125)
    layer(cr.randn(4, 3)).sum().backward()
    optimizer.step()
    loaded = back({"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    assert loaded["epoch"] == 3
    again = cr.nn.Linear(3, 2)
    other = cr.optim.Adam(again.parameters())
    again.load_state_dict(loaded["model"])
    other.load_state_dict(loaded["optimizer"])
    assert other.param_groups[0]["lr"] == 0.125
    for a, b in ((layer, optimizer), (again, other)):
        b.zero_grad()
        a(cr.ones(1, 3)).sum().backward()
        b.step()
    assert again.weight.tolist() == layer.weight.tolist()


NESTED = [
    5, 2.5, "text", None, True, [], {}, (), [1, (2, [3.5, None])], {7: "seven", None: 1, "a.b": {"c": 2}}, cr.float16,
    cr.Size([1, 2]), 10**40, {"a": {"b": 1}, "a.b": 2},
]  # fmt: skip


@pytest.mark.parametrize("obj", NESTED, ids=str)
def test_data_comes_back_as_it_was(obj, path):
    loaded = back(obj, path)
    assert loaded == obj
    assert type(loaded) is type(obj)


def test_tensors_inside_other_data(path):
    x = cr.tensor([1.0], requires_grad=True)
    loaded = back(
        {"list": [x, np.arange(3)], "a.b": cr.tensor(1), "a": {"b": cr.tensor(2)}, "scalar": np.float64(2.5)}, path
    )
    assert loaded["list"][0].requires_grad
    assert type(loaded["list"][1]) is np.ndarray
    assert loaded["list"][1].tolist() == [0, 1, 2]
    assert (loaded["a.b"].item(), loaded["a"]["b"].item()) == (1, 2)
    assert loaded["scalar"] == 2.5
    assert back(x, path).requires_grad
    assert back([math.nan, math.inf], path)[1] == math.inf
    assert back(cr.device("cpu"), path) == cr.device("cpu")


def test_equal_data_gives_equal_files(tmp_path):
    data = {"b": cr.ones(3), "a": {"x": 1, "y": cr.zeros(2)}, "c": [1, 2]}
    cr.save(data, tmp_path / "1")
    cr.save(data, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_files_that_are_open(path):
    buffer = io.BytesIO()
    cr.save({"a": cr.ones(2)}, buffer)
    buffer.seek(0)
    assert cr.load(buffer, map_location="cpu", weights_only=True)["a"].tolist() == [1, 1]
    with path.open("wb") as file:
        cr.save([cr.ones(2)], file)
    with path.open("rb") as file:
        assert cr.load(file)[0].tolist() == [1, 1]


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    cr.save(cr.ones(2), tmp_path / "a" / "b" / "file")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_an_old_file_survives_a_failed_save(path):
    cr.save({"a": cr.ones(2)}, path)
    with pytest.raises(TypeError):
        cr.save({"a": cr.ones(2), "f": print}, path)
    assert cr.load(path)["a"].tolist() == [1, 1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_code_is_not_saved(path):
    layer = cr.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"(?s)class Linear.*\.state_dict\(\)"):
        cr.save(layer, path)
    with pytest.raises(TypeError, match=r"cannot store model.0"):
        cr.save({"model": [layer]}, path)
    with pytest.raises(TypeError, match="a key of"):
        cr.save({(1, 2): 3}, path)
    assert not path.exists()


def _damaged(contents):
    middle = len(contents) // 2
    size = int.from_bytes(contents[:8], "little")
    return {
        "cut off": contents[:-5],
        "cut off in the header": contents[:20],
        "empty": b"",
        "text": b"this is something else",
        "header changed": contents[:30] + b"\xff\xff" + contents[32:],
        "longer": contents + b"\0" * 8,
        "length changed": (size + 1).to_bytes(8, "little") + contents[8:],
        "huge length": (2**60).to_bytes(8, "little") + contents[8:],
        "halves swapped": contents[middle:] + contents[:middle],
    }


@pytest.mark.parametrize("name", _damaged(bytes(100)))
def test_damaged_files(name, path):
    cr.save({"a": cr.ones(20), "n": 3}, path)
    path.write_bytes(_damaged(path.read_bytes())[name])
    with pytest.raises(DamagedFileError, match=rf"(?s){path.name} cannot be read.*expected: a safetensors file"):
        cr.load(path)


def test_a_nesting_that_was_changed(path):
    from safetensors.numpy import save_file

    for tree in ('{"tensor": "b"}', "[1]", "{", '{"unknown": 1}'):
        save_file({"a": np.ones(2)}, path, metadata={"chainrule.tree": tree})
        with pytest.raises(DamagedFileError):
            cr.load(path)


def test_pytorchs_own_files_are_explained(path):
    for start in (b"PK\x03\x04", b"\x80\x02"):
        path.write_bytes(start + bytes(100))
        with pytest.raises(DamagedFileError, match=r"(?s)pickle.*save_file"):
            cr.load(path)


def test_a_dtype_that_numpy_lacks(path):
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(DamagedFileError, match="dtype that NumPy lacks"):
        cr.load(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        cr.load(tmp_path / "nothing")
    cr.save(1, tmp_path / "a")
    with pytest.raises(RuntimeError, match="cuda"):
        cr.load(tmp_path / "a", map_location="cuda")
