"""Weights on disk: safetensors files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import nn
from chainrule import tensors as ct
from chainrule.core.errors import explain
from chainrule.data.files import replacing


def write_whole(path: str | os.PathLike[str], contents: bytes) -> Path:
    """Write a file so that ``path`` holds either what it held before or all of ``contents``; makes the folder."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(contents)
    return target


def save_weights(module: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> Path:
    """Save parameters and buffers of ``module`` as a safetensors file, with ``metadata`` (as text) in its header.

    The file is written beside ``path`` and then renamed, so that an interruption never leaves half a file. Raises
    ImportError where the package safetensors is not installed.
    """
    arrays = {name: np.ascontiguousarray(t.detach().numpy()) for name, t in module.state_dict().items()}
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    return write_whole(path, _in_order(_safetensors().save(arrays, metadata=header or None)))


def _in_order(contents: bytes) -> bytes:
    """The same file with its metadata sorted: the package writes them in random order, and equal runs give equal files.

    Layout: 8 bytes with the length of the header (little-endian), the header (JSON), the values at offsets from its
    end.
    """
    size = int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + contents[8 + size :]


def load_weights(module: nn.Module, path: str | os.PathLike[str], strict: bool = True) -> nn.Module:
    """Load a file of :func:`save_weights` (or any safetensors file with fitting names) into ``module`` and return it.

    Raises FileNotFoundError, ValueError where the file is no safetensors file, and what ``load_state_dict`` raises.
    """
    contents = Path(path).read_bytes()
    package = _safetensors()
    try:
        arrays = package.load(contents)
    except Exception as error:
        raise ValueError(
            explain(
                f"{path} cannot be read as weights: {error}",
                expected="a safetensors file",
                got=f"{len(contents):,} bytes of something else, or a damaged file",
                fix="save it again with save_weights(module, path)",
            )
        ) from error
    # from_numpy shares memory, which must be writable; load gives read-only views of `contents`.
    module.load_state_dict({name: ct.from_numpy(array.copy()) for name, array in arrays.items()}, strict=strict)
    return module


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "weights are stored in the safetensors format, and the package safetensors is not installed; "
            "fix: pip install 'chainrule[cli]' (or pip install safetensors)"
        ) from error
    return safetensors.numpy
