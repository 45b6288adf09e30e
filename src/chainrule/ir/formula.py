"""The formula reader: runs an elementwise rule on names instead of numbers.

It gives the rule's text (for people) and the names it used (for the tape, which saves nothing else). Elementwise
rules may not ask for a value's shape or dtype; the reader raises when one does, which is how that is enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_BINARY = {
    "add": ("({} + {})", 1),
    "sub": ("({} - {})", 1),
    "mul": ("{} \\cdot {}", 2),
    "truediv": ("\\frac{{{}}}{{{}}}", 3),
    "pow": ("{{{}}}^{{{}}}", 3),
    "gt": ("[{} > {}]", 3),
    "ge": ("[{} \\ge {}]", 3),
    "lt": ("[{} < {}]", 3),
    "le": ("[{} \\le {}]", 3),
}


class Formula:
    """A LaTeX text together with the names of the values it reads."""

    __slots__ = ("text", "used")
    __array_ufunc__ = None

    def __init__(self, text: str, used: frozenset[str] = frozenset()) -> None:
        self.text, self.used = text, used

    def __neg__(self) -> Formula:
        return Formula(f"-{self.text}", self.used)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"an elementwise rule asked for .{name} of a value; only operators and m.f(...) are allowed"
        )


def as_formula(value: Any) -> Formula:
    """``value`` itself, or a number as a formula."""
    return value if isinstance(value, Formula) else Formula(f"{value:g}")


def _operator(pattern: str, flip: bool) -> Callable[[Formula, Any], Formula]:
    def apply(self: Formula, other: Any) -> Formula:
        a, b = self, as_formula(other)
        if flip:
            a, b = b, a
        return Formula(pattern.format(a.text, b.text), a.used | b.used)

    return apply


for _name, (_pattern, _) in _BINARY.items():
    setattr(Formula, f"__{_name}__", _operator(_pattern, False))
    setattr(Formula, f"__r{_name}__", _operator(_pattern, True))


class FormulaNamespace:
    """``m`` whose functions write themselves down."""

    def __getattr__(self, name: str) -> Callable[..., Formula]:
        def write(*args: Any) -> Formula:
            xs = [as_formula(a) for a in args]
            used = frozenset[str]().union(*(x.used for x in xs))
            text = ", ".join(x.text for x in xs)
            if name == "where":
                text = f"{xs[1].text} \\text{{ if }} {xs[0].text} \\text{{ else }} {xs[2].text}"
                return Formula(f"({text})", used)
            if name == "sqrt":
                return Formula(f"\\sqrt{{{text}}}", used)
            if name == "abs":
                return Formula(f"|{text}|", used)
            return Formula(f"\\operatorname{{{name}}}({text})", used)

        return write


FORMULA: Any = FormulaNamespace()


def name(symbol: str) -> Formula:
    """A value called ``symbol``."""
    return Formula(symbol, frozenset((symbol,)))
