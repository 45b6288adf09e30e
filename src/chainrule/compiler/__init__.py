"""Layer 6: programs. Capture, the reference evaluator, and functions compiled to native code."""

from chainrule.compiler.budget import MemoryBudgetError
from chainrule.compiler.capture import LARGE_CONSTANT, Capture, capture
from chainrule.compiler.compiled import Compiled, compile
from chainrule.compiler.explain import explain_compilation
from chainrule.compiler.function import Captured, captured
from chainrule.compiler.program import Program
from chainrule.compiler.reference import evaluate
from chainrule.compiler.threads import get_num_threads, set_num_threads

__all__ = [
    "LARGE_CONSTANT",
    "Capture",
    "Captured",
    "Compiled",
    "MemoryBudgetError",
    "Program",
    "capture",
    "captured",
    "compile",
    "evaluate",
    "explain_compilation",
    "get_num_threads",
    "set_num_threads",
]
