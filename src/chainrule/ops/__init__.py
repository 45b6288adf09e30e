"""Layer 2: every op, with all its rules, declared once."""

from chainrule.ops import elementwise, indexing, logic, products, random, reductions, softmax, structural
from chainrule.ops.structural import look

__all__ = [
    "elementwise",
    "indexing",
    "logic",
    "look",
    "products",
    "random",
    "reductions",
    "softmax",
    "structural",
]
