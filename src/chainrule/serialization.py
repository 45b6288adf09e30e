"""Saving and loading: ``chainrule.save(obj, path)`` and ``chainrule.load(path)``, with safetensors files underneath.

A file holds numbers and words, never code, so loading one from elsewhere is safe. A dictionary of tensors (a state
dict) becomes a plain safetensors file, which every library that knows the format reads. Anything nested (a checkpoint
with a model, an optimizer and an epoch) becomes one too: its tensors under their paths, and its shape as JSON in the
metadata.

Format: https://huggingface.co/docs/safetensors. 8 bytes with the length of the header (little-endian), the header
(JSON), the values at offsets from its end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from chainrule.core import dtypes
from chainrule.core.errors import explain
from chainrule.core.files import replacing
from chainrule.tensors.creation import from_numpy
from chainrule.tensors.tensor import Size, Tensor, device

PathLike = str | os.PathLike[str]
#: the metadata entry that holds the nesting
_TREE = "chainrule.tree"
_NUMBERS = (bool, int, float, str, type(None))


class DamagedFileError(RuntimeError, ValueError):
    """A file that is no safetensors file, or one that is cut off or changed."""


# ---- bytes
def pack(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors or arrays by name, and texts, as the contents of a safetensors file; equal input gives equal bytes.

    Raises:
        ImportError: where the package safetensors is not installed.
    """
    arrays = {name: np.asarray(_array(t), order="C") for name, t in tensors.items()}
    return _in_order(_package().numpy.save(arrays, metadata=dict(metadata) if metadata else None), list(arrays))


def unpack(contents: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the contents of a safetensors file called ``name`` (used in the error).

    Raises:
        DamagedFileError: for contents that are something else.
    """
    package = _package()
    try:
        arrays = package.numpy.load(contents)
        header = json.loads(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
    except KeyError as error:  # the package looks its dtype up
        raise DamagedFileError(
            explain(f"{name} holds tensors of a dtype that NumPy lacks", got=str(error), fix="save them as float32")
        ) from error
    except (package.SafetensorError, ValueError) as error:
        raise DamagedFileError(_what_is_wrong(contents, name, error)) from error
    metadata = header.pop("__metadata__", None) or {}
    return {key: from_numpy(arrays[key].copy()) for key in header}, metadata  # copies: `contents` cannot be written


def write_whole(path: PathLike, contents: bytes) -> Path:
    """Write a file so that ``path`` holds either what it held before or all of ``contents``; makes the folder."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(contents)
    return target


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)


def _in_order(contents: bytes, names: list[str]) -> bytes:
    """The same file with its header in the order of ``names`` and its metadata sorted, which the package shuffles."""
    size = int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8 : 8 + size])
    metadata = header.pop("__metadata__", None)
    header = {name: header[name] for name in names}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + contents[8 + size :]


def _what_is_wrong(contents: bytes, name: str, error: Exception) -> str:
    """The message for a file that cannot be read."""
    if contents[:2] == b"PK" or contents[:1] == b"\x80":
        return explain(
            f"{name} is a pickle file, as torch.save writes it; reading one runs code, so it is not read here",
            expected="a safetensors file",
            fix="where PyTorch is installed: safetensors.torch.save_file(torch.load(path), new_path), then load that",
        )
    return explain(
        f"{name} cannot be read: {error}",
        expected="a safetensors file",
        got=f"{len(contents):,} bytes of something else, or a file that was cut off or changed",
        fix="save it again, or fetch it again",
    )


def _package() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "tensors are stored in the safetensors format, and the package safetensors is not installed; "
            "fix: pip install 'chainrule[cli]' (or pip install safetensors)"
        ) from error
    return safetensors


# ---- nested objects
def _encode(value: Any, path: str, tensors: dict[str, Any]) -> Any:
    """JSON for an object; its tensors go into ``tensors`` under their paths."""
    if isinstance(value, (Tensor, np.ndarray)):
        name = path or "tensor"
        while name in tensors:
            name += "'"
        tensors[name] = value
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        return {kind: name, "requires_grad": True} if getattr(value, "requires_grad", False) else {kind: name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _NUMBERS) and type(value) in _NUMBERS:
        return {"value": value}
    if isinstance(value, dtypes.dtype):
        return {"dtype": value.name}
    if isinstance(value, device):
        return {"device": str(value)}
    inside = f"{path}." if path else ""
    if isinstance(value, Mapping):
        pairs = [[_encode_key(k, path), _encode(v, f"{inside}{k}", tensors)] for k, v in value.items()]
        return {"dict": pairs}
    if type(value) in (list, tuple, Size):
        return {type(value).__name__: [_encode(v, f"{inside}{i}", tensors) for i, v in enumerate(value)]}
    raise TypeError(_unsavable(value, path))


def _encode_key(key: Any, path: str) -> Any:
    if type(key) not in _NUMBERS:
        raise TypeError(_unsavable(key, f"a key of {path or 'the dictionary'}"))
    return key


def _unsavable(value: Any, path: str) -> str:
    state = hasattr(value, "state_dict")
    return explain(
        f"save cannot store {path or 'this object'}: files hold data, not code",
        expected="tensors, arrays, numbers, texts, None, and dictionaries, lists and tuples of them",
        got=f"an object of class {type(value).__name__}",
        fix="save its .state_dict(), and load with .load_state_dict(...)" if state else "save the data it is made of",
    )


def _decode(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The object that :func:`_encode` described."""
    if "tensor" in tree:
        return tensors[tree["tensor"]].requires_grad_(tree.get("requires_grad", False))
    if "array" in tree:
        return tensors[tree["array"]].numpy()
    if "value" in tree:
        return tree["value"]
    if "dtype" in tree:
        return dtypes.from_name(tree["dtype"])
    if "device" in tree:
        return device(tree["device"])
    if "dict" in tree:
        return {k: _decode(v, tensors) for k, v in tree["dict"]}
    for kind in (list, tuple, Size):
        if kind.__name__ in tree:
            return kind(_decode(v, tensors) for v in tree[kind.__name__])
    raise KeyError(f"unknown entry {sorted(tree)}")


def _is_state_dict(obj: Any) -> bool:
    return (
        isinstance(obj, Mapping)
        and bool(obj)
        and all(isinstance(k, str) and k != "__metadata__" and isinstance(v, Tensor) for k, v in obj.items())
    )


def save(obj: Any, f: PathLike | IO[bytes], pickle_module: Any = None, pickle_protocol: int | None = None) -> None:
    """Save a state dict, a tensor, or numbers, texts and tensors in nested dictionaries, lists and tuples.

    The file appears whole or not at all: it is written beside ``f`` and then renamed.

    Args:
        f: a path, or a file opened for writing bytes.
        pickle_module, pickle_protocol: accepted for PyTorch's signature; nothing is pickled.

    Raises:
        TypeError: for an object that is code rather than data, such as a module; the message names the place.
        ImportError: where the package safetensors is not installed.
    """
    if _is_state_dict(obj):
        contents = pack(obj)
    else:
        tensors: dict[str, Any] = {}
        tree = _encode(obj, "", tensors)
        contents = pack(tensors, {_TREE: json.dumps(tree)})
    if hasattr(f, "write"):
        f.write(contents)
    else:
        write_whole(f, contents)


def load(
    f: PathLike | IO[bytes],
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
) -> Any:
    """What :func:`save` saved, or the dictionary of tensors in any safetensors file.

    Args:
        f: a path, or a file opened for reading bytes.
        map_location: a device; there is only the CPU.
        pickle_module, weights_only, mmap: accepted for PyTorch's signature; only data is ever read.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: for a file that is something else, is cut off, or was changed (a :class:`DamagedFileError`).
    """
    if isinstance(map_location, (str, device)):
        device(map_location)
    contents = f.read() if hasattr(f, "read") else Path(f).read_bytes()
    name = str(getattr(f, "name", f))
    tensors, metadata = unpack(contents, name)
    if _TREE not in metadata:
        return tensors
    try:
        return _decode(json.loads(metadata[_TREE]), tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(_what_is_wrong(contents, name, error)) from error
