"""The IDX format of MNIST: read and written, plain or gzipped.

A file is: two zero bytes; one byte for the type of the values; one byte for the number of axes; each axis' size as a
big-endian 32-bit integer; the values in row-major order, big-endian. Source: Y. LeCun, C. Cortes and C. J. C. Burges,
"The MNIST database of handwritten digits", section "FILE FORMATS FOR THE MNIST DATABASE".
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.files import DataFileError, replacing

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(kind).newbyteorder("="): code for code, kind in _TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """The array in an IDX file, writable and in this machine's byte order. A gzipped file is known by its first bytes.

    Raises FileNotFoundError, and :class:`DataFileError` for a file that is damaged or is no IDX file.
    """
    path = Path(path)
    raw = path.read_bytes()
    if raw[:2] == _GZIP_MAGIC:
        raw = _unzip(path, raw)
    kind, shape, start = _header(path, raw)
    count = math.prod(shape)
    expected, got = start + count * kind.itemsize, len(raw)
    sizes = " x ".join(map(str, shape))
    if got < expected:
        raise DataFileError(
            path,
            "the IDX file is cut short",
            expected=f"{expected} bytes: a header of {start}, then {sizes} values of {kind.itemsize} byte(s)",
            got=f"{got} bytes, {expected - got} too few",
            fix="fetch or copy the file again; an interrupted download leaves such a file",
        )
    if got > expected:
        raise DataFileError(
            path,
            "the IDX file has bytes left over behind its values",
            expected=f"{expected} bytes: a header of {start}, then {sizes} values of {kind.itemsize} byte(s)",
            got=f"{got} bytes, {got - expected} too many",
            fix="fetch or copy the file again; two files may have been joined",
        )
    values = np.frombuffer(raw, kind, count, start).reshape(shape)
    return values.astype(kind.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], values: Any) -> None:
    """Write an array as IDX; gzipped if the name ends in ``.gz``. The file appears whole or not at all.

    Raises TypeError for a dtype IDX does not have (it has uint8, int8, int16, int32, float32, float64).
    """
    path = Path(path)
    array = np.asarray(values)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(d) for d in _CODES)
        raise TypeError(f"write_idx: IDX has no dtype {array.dtype}; convert to one of {known} with .astype()")
    if not 1 <= array.ndim <= 255:
        raise ValueError(f"write_idx: IDX holds arrays of 1 to 255 axes, got shape {array.shape}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    raw = header + array.astype(_TYPES[code], copy=False).tobytes()
    if path.suffix == ".gz":
        raw = gzip.compress(raw, mtime=0)
    with replacing(path) as file:
        file.write(raw)


def _header(path: Path, raw: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    if len(raw) < 4:
        raise DataFileError(
            path,
            "the file is too short to be an IDX file",
            expected="4 bytes or more of header",
            got=f"{len(raw)} bytes",
            fix="fetch or copy the file again",
        )
    zeros, code, axes = raw[:2], raw[2], raw[3]
    if zeros != b"\0\0" or code not in _TYPES or axes == 0:
        raise DataFileError(
            path,
            "this is no IDX file: its first four bytes (the magic number) are wrong",
            expected="00 00, a type (08 09 0b 0c 0d or 0e), the number of axes; images 00 00 08 03, labels 00 00 08 01",
            got=f"{raw[:4].hex(' ')} ({_guess(raw)})",
            fix="put the right file there; a download that failed may have saved a web page under this name",
        )
    start = 4 + 4 * axes
    if len(raw) < start:
        raise DataFileError(
            path,
            "the IDX file is cut short inside its header",
            expected=f"{start} bytes of header for {axes} axes",
            got=f"{len(raw)} bytes",
            fix="fetch or copy the file again",
        )
    return np.dtype(_TYPES[code]), struct.unpack(f">{axes}I", raw[4:start]), start


def _guess(raw: bytes) -> str:
    start = raw[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if raw[:4] == b"PK\x03\x04":
        return "a zip archive"
    if raw[:4] == b"\x89PNG":
        return "a PNG image"
    return "text" if raw[:64].isascii() and raw[:4].decode("ascii").isprintable() else "unknown contents"


def _unzip(path: Path, raw: bytes) -> bytes:
    try:
        return gzip.decompress(raw)
    except EOFError:
        what = "it ends too early"
    except (gzip.BadGzipFile, zlib.error) as error:
        what = str(error)
    raise DataFileError(
        path,
        "the gzip file is damaged",
        expected="a whole gzip file whose check sum is right",
        got=f"{len(raw)} bytes; {what}",
        fix="delete it and fetch it again",
    )
