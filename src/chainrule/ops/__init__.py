"""Layer 2: every op, with all its rules, declared once."""

from chainrule.ops import elementwise, indexing, logic, normalization, products, random, reductions, softmax, structural
from chainrule.ops.structural import look

__all__ = [
    "elementwise",
    "indexing",
    "logic",
    "look",
    "normalization",
    "products",
    "random",
    "reductions",
    "softmax",
    "structural",
]
