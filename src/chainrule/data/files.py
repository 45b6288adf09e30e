"""Files of data: errors that name them, writing that is whole or not at all, downloads that are checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chainrule.core.errors import explain
from chainrule.core.files import replacing

SETTING = "CHAINRULE_DATA"
_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without an answer


class DataFileError(ValueError):
    """A file whose contents are not what they should be. ``path`` is the file."""

    def __init__(self, path: str | os.PathLike[str], what: str, *, expected: str, got: str, fix: str) -> None:
        super().__init__(explain(f"{path}: {what}", expected=expected, got=got, fix=fix))
        self.path = Path(path)


class DownloadError(RuntimeError):
    """A file that no mirror gave, or that came with other contents than expected."""


@dataclass(frozen=True)
class Resource:
    """A file to fetch: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


def default_root() -> Path:
    """The folder for data sets if none is given: CHAINRULE_DATA, or ``chainrule/data`` in the user's cache folder."""
    setting = os.environ.get(SETTING)
    if setting:
        return Path(setting).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chainrule" / "data"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(resource: Resource, folder: Path, mirrors: Sequence[str]) -> Path:
    """Fetch a file into ``folder`` from the first mirror that gives it with the right size and SHA-256.

    Shows a progress bar when on a terminal. The file appears whole and checked, or not at all. Raises DownloadError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"cannot make the folder {folder} for {resource.name}: {error}") from error
    path = folder / resource.name
    failures = []
    for mirror in mirrors:
        try:
            with replacing(path) as file:
                _fetch(mirror + resource.name, resource, file)
            return path
        except (OSError, http.client.HTTPException, _WrongContents) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            failures.append(f"  {mirror}{resource.name}: {reason}")
    raise DownloadError(
        "\n".join(
            [
                f"could not download {resource.name} ({resource.size:,} bytes):",
                *failures,
                f"  fix:      check the network and try again, or fetch the file elsewhere and put it at {path}",
                f"            its SHA-256 is {resource.sha256}",
            ]
        )
    )


class _WrongContents(Exception):
    pass


def _fetch(url: str, resource: Resource, file: IO[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, _progress(resource) as advance:
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
            if size > resource.size:
                raise _WrongContents(f"expected {resource.size:,} bytes, got more")
            digest.update(chunk)
            file.write(chunk)
            advance(len(chunk))
    if size != resource.size:
        raise _WrongContents(f"expected {resource.size:,} bytes, got {size:,}")
    if digest.hexdigest() != resource.sha256:
        raise _WrongContents(f"expected SHA-256 {resource.sha256}, got {digest.hexdigest()}")


@contextlib.contextmanager
def _progress(resource: Resource) -> Iterator[Any]:
    """A function to call with the number of bytes that came; it moves a bar if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(resource.name, total=resource.size)
        yield lambda count: progress.advance(task, count)
