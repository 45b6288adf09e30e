"""Object code kept in memory and on disk, so that a second process starts without generating code.

The key is a hash of the IR text, the package's version, the processor's features and LLVM's version; for a program, of
the plan in place of the text (``compiler.fingerprint``), so that a second process does not write it again. There is one
file per entry in a directory that only its owner may enter: ``native`` in ``CHAINRULE_CACHE_DIR``, or
``chainrule/native`` in the user's cache folder. The rights of the directory keep others out; the checksum in each file
finds what was truncated, altered or renamed, and it is rebuilt. The cache never raises: where the directory cannot be
used, code is generated anew. ``CHAINRULE_CACHE=0`` turns the disk off.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import stat
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from chainrule.compiler.llvm.program import Code, Facts
from chainrule.compiler.llvm.target import NativeModule, Target, compile_ir, host, load

_MAGIC = b"chainrule object 1\n"
_SUFFIX = ".cro"
#: most bytes of object code kept in memory
MEMORY_BYTES = 64 << 20
#: most bytes kept on disk; ``CHAINRULE_CACHE_BYTES`` changes it
DISK_BYTES = 256 << 20
#: the part of them, 1 / SLACK, that is written on average before entries beyond the limit are removed
SLACK = 32

_memory: OrderedDict[str, bytes] = OrderedDict()
_lock = threading.Lock()


def key_of(text: str, target: Target, opt: int = 3) -> str:
    """The name of an entry: a hash of everything that the object code depends on."""
    version = sys.modules[__name__.partition(".")[0]].__version__  # the root package, which layers do not import
    h = hashlib.sha256()
    for part in (version, target.key, str(opt), sys.platform, text):
        h.update(part.encode())
        h.update(b"\0")
    return h.hexdigest()


def directory() -> Path | None:
    """Where entries are kept; None if ``CHAINRULE_CACHE=0`` or the directory cannot be had for this user alone."""
    if os.environ.get("CHAINRULE_CACHE", "1") == "0":
        return None
    chosen = os.environ.get("CHAINRULE_CACHE_DIR")
    if chosen:
        path = Path(chosen) / "native"
    else:
        base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
        try:
            path = (Path(base) if base else Path.home() / ".cache") / "chainrule" / "native"
        except RuntimeError:  # no home directory
            return None
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix":
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                return None  # code of another user is not run
            if found.st_mode & 0o077:
                path.chmod(0o700)
    except OSError:
        return None
    return path


def _pack(key: str, code: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + code).digest() + code


def _unpack(key: str, packed: bytes) -> bytes | None:
    """The object code of a file's contents, or None if they are not what was written for this key."""
    start = len(_MAGIC) + 32
    code = packed[start:]
    if len(packed) <= start or not packed.startswith(_MAGIC):
        return None
    if not hmac.compare_digest(packed[len(_MAGIC) : start], hashlib.sha256(key.encode() + code).digest()):
        return None
    return code


def _remember(key: str, code: bytes) -> None:
    with _lock:
        _memory[key] = code
        _memory.move_to_end(key)
        total = sum(map(len, _memory.values()))
        while total > MEMORY_BYTES and len(_memory) > 1:
            total -= len(_memory.popitem(last=False)[1])


def fetch(key: str) -> bytes | None:
    """The object code of an entry, from memory or disk; None if there is none that is sound."""
    with _lock:
        code = _memory.get(key)
        if code is not None:
            _memory.move_to_end(key)
            return code
    folder = directory()
    if folder is None:
        return None
    path = folder / (key + _SUFFIX)
    try:
        code = _unpack(key, path.read_bytes())
        if code is None:
            path.unlink()
            return None
        os.utime(path)  # the time of last use orders removal
    except OSError:
        if code is None:
            return None
    _remember(key, code)
    return code


def keep(key: str, code: bytes) -> None:
    """Enter object code. A file appears whole or not at all, also beside other processes that write the same one."""
    _remember(key, code)
    folder = directory()
    if folder is None:
        return
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")  # readable by its owner alone
        with os.fdopen(handle, "wb") as file:
            file.write(_pack(key, code))
        os.replace(temporary, folder / (key + _SUFFIX))
        temporary = None
    except OSError:
        pass  # a full or read-only disk: the code is in memory
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    if _due(key, len(code)):
        trim(folder)


def _due(key: str, size: int) -> bool:
    """Whether this entry is one after which the directory is looked through, which takes 0.2 s where it is full.

    Keys are hashes, so that is by chance: once in ``limit / SLACK`` bytes written, whoever writes them.
    """
    return int(key[:8], 16) / 2**32 * _limit() < size * SLACK


def _limit() -> int:
    try:
        return int(os.environ.get("CHAINRULE_CACHE_BYTES", ""))
    except ValueError:
        return DISK_BYTES


def trim(folder: Path) -> None:
    """Remove entries not used for longest until the rest fits the limit, and half-written files left by a crash."""
    entries = []
    try:
        for item in os.scandir(folder):
            with contextlib.suppress(OSError):
                about = item.stat(follow_symlinks=False)
                if item.name.endswith(_SUFFIX):
                    entries.append((about.st_mtime_ns, about.st_size, item.path))
                elif item.name.endswith(".part") and time.time() - about.st_mtime > 3600:
                    os.unlink(item.path)
    except OSError:
        return
    total = sum(size for _, size, _ in entries)
    limit = _limit()
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
            total -= size


def clear() -> None:
    """Forget all entries, in memory and on disk."""
    with _lock:
        _memory.clear()
    folder = directory()
    if folder is None:
        return
    for path in folder.glob("*" + _SUFFIX):
        with contextlib.suppress(OSError):
            path.unlink()


def build(text: str, target: Target | None = None, *, opt: int = 3) -> NativeModule:
    """A loaded module of this IR, from the cache if it is there.

    ``timings`` of the result hold "load" and, if code had to be generated, "parse" and "codegen".
    """
    target = target or host()
    key = key_of(text, target, opt)
    timings: dict[str, float] = {}
    code = fetch(key)
    if code is None:
        code = compile_ir(text, target, opt=opt, timings=timings)
        keep(key, code)
    return load(code, target, timings=timings)


def build_program(fingerprint: str, write: Callable[[], Code], target: Target) -> tuple[Facts, NativeModule]:
    """A loaded program, and what has to be known to run it; ``write`` makes its text if the cache does not have it."""
    key = key_of(f"program {fingerprint}", target)
    timings: dict[str, float] = {}
    found = fetch(key)
    if found is None:
        start = time.perf_counter()
        code = write()
        facts, text = code.facts, code.module.text
        timings["writing"] = time.perf_counter() - start
        compiled = compile_ir(text, target, timings=timings)
        keep(key, json.dumps(facts._asdict()).encode() + b"\n" + compiled)
    else:
        head, _, compiled = found.partition(b"\n")
        fields = json.loads(head)
        facts = Facts(**{**fields, "steps": tuple(fields["steps"])})
    return facts, load(compiled, target, timings=timings)
