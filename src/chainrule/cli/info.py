"""``chainrule info``: versions, and what this installation finds around it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from chainrule.compiler.compiled import enabled
from chainrule.compiler.llvm.target import available
from chainrule.core.dtypes import get_default_dtype
from chainrule.data.files import SETTING, default_root

_OPTIONAL = {
    "scipy": "special functions",
    "rich": "progress and tables",
    "click": "this command",
    "matplotlib": "figures",
    "safetensors": "weight files",
    "scikit-learn": "the digits data set",
    "pandas": "tables of your own",
    "llvmlite": "compiled steps",
    "jax": "GPUs and TPUs",
    "torch": "comparison in tests",
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def version_of(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def settings() -> dict[str, str]:
    """Names and values of the first table."""
    root = default_root()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "chainrule": version_of("chainrule") or "not installed as a package",
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "BLAS": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "BLAS threads": _blas_threads(),
        "cores": str(os.cpu_count()),
        "default dtype": str(get_default_dtype()).rpartition(".")[2],
        "device": "cpu",
        "compiled steps": _compiled(),
        "data sets": f"{root}" + ("" if root.is_dir() else " (not there yet)") + f", {_where()}",
    }


def _compiled() -> str:
    if not enabled():
        return "off: CHAINRULE_COMPILE=0 is set"
    return "on" if available() else "off: llvmlite is not installed (pip install llvmlite)"


def _where() -> str:
    return f"from {SETTING}" if os.environ.get(SETTING) else f"the default; {SETTING} sets it"


def _blas_threads() -> str:
    set_by = [f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ]
    pools = [p for p in _pools() if p.get("user_api") == "blas"]
    count = ", ".join(str(p["num_threads"]) for p in pools)
    return "; ".join([count or "chosen by the library", *set_by])


def _pools() -> list[dict[str, Any]]:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return threadpool_info()


def print_info() -> None:
    """Print settings and packages."""
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in settings().items():
        table.add_row(name, value)
    console.print(table)
    packages = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 2), pad_edge=False)
    for heading in ("package", "version", "used for"):
        packages.add_column(heading)
    for name, purpose in _OPTIONAL.items():
        version = version_of(name)
        packages.add_row(name, version or "[yellow]not installed[/]", purpose)
    console.print(packages)
