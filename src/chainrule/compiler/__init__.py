"""Layer 6: programs. Capture, the reference evaluator, and functions that are captured when they are called."""

from chainrule.compiler.capture import LARGE_CONSTANT, Capture, capture
from chainrule.compiler.function import Captured, captured
from chainrule.compiler.program import Program
from chainrule.compiler.reference import evaluate

__all__ = ["LARGE_CONSTANT", "Capture", "Captured", "Program", "capture", "captured", "evaluate"]
