"""The libraries that chainrule is compared with, set to the number of threads asked for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def environment(threads: int) -> dict[str, str]:
    """Environment variables that hold NumPy, PyTorch and XLA to a number of threads; read when they are imported."""
    found = dict.fromkeys(THREAD_VARIABLES, str(threads))
    found["NPROC"] = str(threads)  # the size of XLA's thread pool, which the flags below do not limit
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return found | {"JAX_PLATFORMS": "cpu"}


def load_ours(threads: int) -> Any:
    """chainrule."""
    ours = importlib.import_module("chainrule")
    ours.set_num_threads(threads)
    return ours


def load_torch(threads: int) -> Any:
    """PyTorch. Ends the program with advice if it is not installed: without it there is nothing to compare with."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("This benchmark compares with PyTorch, which is not installed: pip install torch")
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    return torch


def load_jax() -> Any:
    """JAX, or None after a line that says so."""
    if importlib.util.find_spec("jax") is None:
        print("(JAX is not installed: its columns are left out.)\n")
        return None
    return importlib.import_module("jax")
