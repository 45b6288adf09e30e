"""chainrule: automatic differentiation in Python, with a neural-network library on top.

PyTorch's programming model (``import chainrule as torch``), see-through inside, and a captured training step.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from chainrule import autograd as autograd
from chainrule.core.dtypes import bool_ as bool  # noqa: F401
from chainrule.core.dtypes import dtype as dtype
from chainrule.core.dtypes import finfo as finfo
from chainrule.core.dtypes import float16 as float16
from chainrule.core.dtypes import float32 as float32
from chainrule.core.dtypes import float64 as float64
from chainrule.core.dtypes import get_default_dtype as get_default_dtype
from chainrule.core.dtypes import iinfo as iinfo
from chainrule.core.dtypes import int8 as int8
from chainrule.core.dtypes import int16 as int16
from chainrule.core.dtypes import int32 as int32
from chainrule.core.dtypes import int64 as int64
from chainrule.core.dtypes import set_default_dtype as set_default_dtype
from chainrule.core.dtypes import uint8 as uint8
from chainrule.ir import native as _native
from chainrule.ir.state import enable_grad as enable_grad
from chainrule.ir.state import inference_mode as inference_mode
from chainrule.ir.state import is_grad_enabled as is_grad_enabled
from chainrule.ir.state import no_grad as no_grad
from chainrule.ir.state import set_grad_enabled as set_grad_enabled
from chainrule.tensors import *  # noqa: F403 - everything that `chainrule.tensors.__all__` names

if TYPE_CHECKING:
    from chainrule import backends as backends
    from chainrule import compiler as compiler
    from chainrule import cuda as cuda
    from chainrule import data as data
    from chainrule import func as func
    from chainrule import metrics as metrics
    from chainrule import mps as mps
    from chainrule import nn as nn
    from chainrule import optim as optim
    from chainrule import testing as testing
    from chainrule import train as train
    from chainrule import utils as utils
    from chainrule import vision as vision
    from chainrule.compiler.compiled import compile as compile
    from chainrule.compiler.control.functions import cond as cond
    from chainrule.compiler.control.functions import scan as scan
    from chainrule.compiler.explain import explain_compilation as explain_compilation
    from chainrule.compiler.threads import get_num_threads as get_num_threads
    from chainrule.compiler.threads import set_num_threads as set_num_threads
    from chainrule.serialization import load as load
    from chainrule.serialization import save as save

__version__ = "0.1.0"

float, double, half = float32, float64, float16
long, int, short = int64, int32, int16

#: loaded at first use, so that `import chainrule` is quick: packages, and functions with the module they live in
_PACKAGES = (
    "backends", "compiler", "cuda", "data", "func", "metrics", "mps", "nn", "optim", "testing", "train", "utils",
    "vision",
)  # fmt: skip
_FUNCTIONS = {
    "compile": "compiler.compiled", "cond": "compiler.control.functions", "scan": "compiler.control.functions",
    "explain_compilation": "compiler.explain",
    "get_num_threads": "compiler.threads", "set_num_threads": "compiler.threads",
    "load": "serialization", "save": "serialization",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"chainrule.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"chainrule.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


# large eager calls run as machine code, which is loaded by the first of them
_native.offer(lambda name: importlib.import_module("chainrule.compiler.eager").kernel(name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_FUNCTIONS})
