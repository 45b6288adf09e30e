"""What the machine code of a plan depends on, as a hash: a second process need not even write the code to know it.

NOTE [fingerprints]. The code generator sees the kernels of a plan, which of them go by chunks, and the number of its
buffers, nothing else. All their fields are written out by one walk that knows every kind of object it may meet and
gives up at any other, so that nothing is left out by mistake; places in the user's source, on which the code does not
depend, are skipped. The sizes and times of the compiler's own files are part of it, so that whoever changes them never
meets old code.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.compiler.kernels import Buffer, Loop, Plan, Routine
from chainrule.ir.graph import Instruction, Value
from chainrule.ir.op import REGISTRY, Op

_PLAIN = (bool, int, float, str, type(None), slice, range)


class _UnknownError(Exception):
    """Something that the walk does not know."""


def fingerprint(plan: Plan) -> str | None:
    """A hash of everything in a plan that its machine code depends on; None if it holds something unusual."""
    out: list[str] = [str(len(plan.buffers)), str(plan.chunked), *_sources()]
    try:
        for kernel in plan.kernels:
            _walk(kernel, out)
    except _UnknownError:
        return None
    return hashlib.sha256("\n".join(out).encode()).hexdigest()


def _walk(x: Any, out: list[str]) -> None:
    kind = type(x)
    if kind in _PLAIN:
        out.append(repr(x))
    elif kind is Value:
        out.append(f"%{x.number} {x.shape} {x.dtype.str}")
    elif kind is Buffer:
        out.append(f"{x.role} {x.number} {x.size} {x.dtype.str} {x.offset}")
    elif isinstance(x, Op):
        if REGISTRY.get(x.name) is not x:
            raise _UnknownError
        out.append(x.name)
    elif isinstance(x, np.dtype):
        out.append(x.str)
    elif kind is Instruction:
        for part in (x.op, x.inputs, x.params, x.results):
            _walk(part, out)
    elif kind is Routine and x.control is not None:
        raise _UnknownError  # blocks are programs of their own, with addresses in this process
    elif isinstance(x, tuple | list):
        out.append(f"{kind.__name__} {len(x)}")
        for part in x:
            _walk(part, out)
    elif isinstance(x, dict):
        out.append(f"dict {len(x)}")
        for key, value in x.items():
            _walk(key, out)
            _walk(value, out)
    elif kind is Loop:
        out.append("loop")
        _walk(vars(x), out)
    else:
        raise _UnknownError


@cache
def _sources() -> tuple[str, ...]:
    """Names, sizes and times of the files of the compiler."""
    found = []
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        about = os.stat(path)
        found.append(f"{path.name} {about.st_size} {about.st_mtime_ns}")
    return tuple(found)
