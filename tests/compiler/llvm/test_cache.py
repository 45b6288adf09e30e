"""Object code on disk: found again, checked, bounded, and never a reason to fail."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.target import describe, host

posix = pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")


def text(n=1):
    return f"define i64 @f() {{\n  ret i64 {n}\n}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.delenv("CHAINRULE_CACHE", raising=False)
    cache._memory.clear()
    yield tmp_path / "here" / "native"
    cache._memory.clear()


def value(native):
    return native.function("f", returns="i64")()


def test_the_second_build_generates_nothing(folder):
    first = cache.build(text())
    assert "codegen" in first.timings
    for forget in (False, True):
        if forget:
            cache._memory.clear()
        again = cache.build(text())
        assert set(again.timings) == {"load"}
        assert value(again) == value(first) == 1
    assert len(list(folder.iterdir())) == 1


def test_another_process_finds_it(folder):
    cache.build(text(7))
    code = f"""
from chainrule.compiler.llvm import cache
native = cache.build({text(7)!r})
assert set(native.timings) == {{"load"}}, native.timings
assert native.function("f", returns="i64")() == 7
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "rename"])
def test_a_damaged_file_is_rebuilt(folder, damage):
    cache.build(text(3))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:  # the code of another program under this one's name
        cache.build(text(4))
        other = next(p for p in folder.iterdir() if p != path)
        path.write_bytes(other.read_bytes())
    cache._memory.clear()
    native = cache.build(text(3))
    assert "codegen" in native.timings
    assert value(native) == 3
    assert path.read_bytes() == whole


def test_keys_differ_by_text_target_and_version(folder, monkeypatch):
    import chainrule

    keys = {cache.key_of(text(1), host()), cache.key_of(text(2), host()), cache.key_of(text(1), host(), opt=1)}
    monkeypatch.setattr(chainrule, "__version__", "0.0.0")
    keys.add(cache.key_of(text(1), host()))
    assert len(keys) == 4
    if host().is_x86 and host().level != "sse2":
        assert cache.key_of(text(1), describe("sse2")) not in keys


@posix
def test_the_folder_is_private(folder):
    cache.build(text())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in folder.iterdir())
    folder.chmod(0o755)
    cache._memory.clear()
    cache.build(text(2))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix
def test_a_link_in_place_of_the_folder_is_not_used(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    assert cache.directory() is None
    assert value(cache.build(text(5))) == 5
    assert not list(elsewhere.iterdir())


def test_zero_turns_the_disk_off(folder, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "0")
    assert value(cache.build(text())) == 1
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "file"))
    cache._memory.clear()
    assert cache.directory() is None
    assert value(cache.build(text(6))) == 6


def test_the_least_recently_used_go_first(folder, monkeypatch):
    for n in (1, 2, 3):
        cache.build(text(n))
        path = folder / (cache.key_of(text(n), host()) + ".cro")
        os.utime(path, (n, n))
    cache._memory.clear()
    cache.build(text(1))  # a use makes it the newest
    size = max(p.stat().st_size for p in folder.iterdir())
    monkeypatch.setenv("CHAINRULE_CACHE_BYTES", str(2 * size + 1))
    cache.trim(folder)
    left = {p.name for p in folder.iterdir()}
    assert left == {cache.key_of(text(n), host()) + ".cro" for n in (1, 3)}


def test_a_full_directory_is_looked_through_once_in_many_writes(folder, monkeypatch):
    looked = []
    monkeypatch.setattr(cache, "trim", looked.append)
    monkeypatch.setenv("CHAINRULE_CACHE_BYTES", str(32 * 100 * 50))  # once in 50 entries of 100 bytes
    for n in range(1000):
        cache.keep(cache.key_of(str(n), host()), bytes(100))
    assert 10 <= len(looked) <= 30
    looked.clear()
    cache.keep("f" * 64, bytes(6000))  # more than the slack: at once
    assert looked == [folder]


def test_the_directory_stays_near_its_limit(folder, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_BYTES", "20000")
    for n in range(500):
        cache.keep(cache.key_of(str(n), host()), bytes(100))
        assert sum(p.stat().st_size for p in folder.iterdir()) < 30000


def test_what_a_crash_left_behind_is_removed(folder):
    cache.build(text())
    old, new = folder / "a.part", folder / "b.part"
    for p in (old, new):
        p.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.trim(folder)
    assert not old.exists()
    assert new.exists()


def test_memory_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(cache, "MEMORY_BYTES", 100)
    for k in "abc":
        cache._remember(k, bytes(60))
    assert list(cache._memory) == ["c"]


def test_clear_forgets_all(folder):
    cache.build(text())
    cache.clear()
    assert not list(folder.iterdir())
    assert "codegen" in cache.build(text()).timings
