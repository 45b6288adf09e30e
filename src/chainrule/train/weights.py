"""Weights on disk: safetensors files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chainrule import nn
from chainrule.serialization import pack, unpack, write_whole


def save_weights(module: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> Path:
    """Save parameters and buffers of ``module`` as a safetensors file, with ``metadata`` (as text) in its header.

    The file is written beside ``path`` and then renamed, so that an interruption never leaves half a file. Raises
    ImportError where the package safetensors is not installed.
    """
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    return write_whole(path, pack(module.state_dict(), header))


def load_weights(module: nn.Module, path: str | os.PathLike[str], strict: bool = True) -> nn.Module:
    """Load a file of :func:`save_weights` (or any safetensors file with fitting names) into ``module`` and return it.

    Raises FileNotFoundError, ValueError where the file is no safetensors file, and what ``load_state_dict`` raises.
    """
    tensors, _ = unpack(Path(path).read_bytes(), str(path))
    module.load_state_dict(tensors, strict=strict)
    return module
