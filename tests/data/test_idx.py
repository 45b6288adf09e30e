"""The IDX reader and writer, and what they say about damaged files."""

import gzip
import struct

import numpy as np
import pytest

from chainrule.data import DataFileError, read_idx, write_idx

IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))


def put(path, raw):
    path.write_bytes(raw)
    return path


def test_a_file_written_by_hand(tmp_path):
    for name, raw in (("plain", IMAGES), ("zipped.gz", gzip.compress(IMAGES)), ("no-suffix", gzip.compress(IMAGES))):
        values = read_idx(put(tmp_path / name, raw))
        assert values.dtype == np.uint8
        assert values.tolist() == np.arange(12).reshape(2, 2, 3).tolist()
        values[0] = 7  # it is the reader's own


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_round_trip(tmp_path, dtype, name):
    values = np.arange(-4, 8).astype(dtype).reshape(3, 4)
    write_idx(tmp_path / name, values)
    again = read_idx(tmp_path / name)
    assert again.dtype == values.dtype
    assert again.dtype.isnative
    assert np.array_equal(again, values)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_bytes_of_a_written_file(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, 2]], dtype=np.int16))
    assert (tmp_path / "a").read_bytes() == b"\0\0\x0b\x02" + b"\0\0\0\x01" + b"\0\0\0\x02" + b"\0\x01\0\x02"


def test_the_writer_refuses(tmp_path):
    with pytest.raises(TypeError, match="no dtype int64"):
        write_idx(tmp_path / "a", np.arange(3))
    with pytest.raises(ValueError, match=r"1 to 255 axes, got shape \(\)"):
        write_idx(tmp_path / "a", np.float32(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (IMAGES[:-5], ["cut short", "expected: 28 bytes", "2 x 2 x 3 values", "got:      23 bytes, 5 too few"]),
        (IMAGES + b"xy", ["left over", "expected: 28 bytes", "got:      30 bytes, 2 too many"]),
        (IMAGES[:10], ["inside its header", "16 bytes of header for 3 axes", "got:      10 bytes"]),
        (b"", ["too short", "got:      0 bytes"]),
        (b"<!DOCTYPE html><p>404", ["no IDX file", "3c 21 44 4f (a web page)"]),
        (b"PK\x03\x04more", ["no IDX file", "a zip archive"]),
        (b"a,b\n1,2\n", ["no IDX file", "61 2c 62 0a"]),
        (b"\0\0\x07\x01\0\0\0\0", ["no IDX file", "00 00 07 01"]),
        (gzip.compress(IMAGES, mtime=0)[:-12], ["gzip file is damaged", "ends too early"]),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), ["gzip file is damaged", "CRC check failed"]),
        (b"\x1f\x8b" + bytes(30), ["gzip file is damaged"]),
        (gzip.compress(IMAGES[:-5], mtime=0), ["cut short", "5 too few"]),
    ],
)
def test_damaged_files(tmp_path, raw, words):
    path = put(tmp_path / "train-images", raw)
    with pytest.raises(DataFileError) as error:
        read_idx(path)
    assert error.value.path == path
    for word in [str(path), "expected:", "got:", "fix:", *words]:
        assert word in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
