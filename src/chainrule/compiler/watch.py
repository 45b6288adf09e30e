"""A quick test that nothing a program took for granted has been exchanged since, written as one Python function.

NOTE [watches]. ``compiler.guards`` looks at everything once and tells a :class:`Watch` of every container it visits
(namespaces of modules, closure cells, globals, lists, option dictionaries). Of each the identities of the entries are
kept, and a function that compares them is written as source. Modules have many entries that hardly ever change: they
are compared only when some module was changed since the last time (``core.changes``). Numbers and texts are immutable,
so equal identities mean equal values; unequal ones mean that the guards have to look again. Holding the entries keeps
their addresses from being given to others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from types import FunctionType
from typing import Any

from chainrule.core.changes import MODULES

_CONSTANTS = {None: "None", True: "True", False: "False"}
_FIXED = (bool, int, float, complex, str, type(None))


def switches(group: dict[str, Any]) -> list[Any]:
    """The values of an option group, of numbers only whether they are 0: a program reads them anew at every call."""
    return [x != 0 if type(x) is float or type(x) is int else x for x in group.values()]


class Identities:
    """Source of a function that compares what it can reach with what it reached when the function was made."""

    def __init__(self) -> None:
        self._space: dict[str, Any] = {}
        self._terms: list[str] = []

    def name(self, v: Any) -> str:
        """An expression for an object."""
        if v is None or v is True or v is False:
            return _CONSTANTS[v]
        name = f"v{len(self._space)}"
        self._space[name] = v
        return name

    def is_(self, expression: str, v: Any) -> None:
        """An expression must give this very object."""
        self._terms.append(f"{expression} is {self.name(v)}")

    def equal(self, expression: str, n: int) -> None:
        """An expression must give this number."""
        self._terms.append(f"{expression} == {n}")

    def function(self) -> Callable[[], bool]:
        """The function; False too where something can no longer be reached."""
        test = "\n            and ".join(self._terms) or "True"
        source = (
            f"def unchanged():\n    try:\n        return (\n            {test}\n        )\n"
            "    except (KeyError, IndexError, AttributeError, ValueError):\n        return False\n"
        )
        exec(compile(source, "<chainrule: what a program depends on>", "exec"), self._space)
        found: Callable[[], bool] = self._space["unchanged"]
        return found


class _Options:
    """An option group: the same objects as before, or numbers that are as zero or nonzero as those before."""

    __slots__ = ("group", "on", "renewed", "values")

    def __init__(self, group: dict[str, Any]) -> None:
        self.group = group
        self.values, self.on = list(group.values()), switches(group)
        self.renewed: Callable[[], None] | None = None

    @property
    def fixed(self) -> bool:
        """Whether a number can change only by exchanging an entry."""
        return all(
            k == "params" or isinstance(v, _FIXED) or (type(v) is tuple and all(isinstance(x, _FIXED) for x in v))
            for k, v in self.group.items()
        )

    def unchanged(self) -> bool:
        """Whether a program made for these options is still right."""
        if len(self.group) == len(self.values) and all(map(is_, self.group.values(), self.values)):
            return True
        now = switches(self.group)
        if len(now) != len(self.on) or not all(map(is_, now, self.on)):
            return False
        self.values = list(self.group.values())
        if self.renewed is not None:
            self.renewed()
        return True


class Watch:
    """Everything that was looked at; after :meth:`close` ask :meth:`unchanged` (see NOTE [watches])."""

    def __init__(self) -> None:
        self._code, self._module_code = Identities(), Identities()
        self._groups: list[_Options] = []
        self._same: Callable[[], bool] = bool
        self._same_modules: Callable[[], bool] = bool
        self._seen = -1  # the count of changes to modules up to which they are known to be the same

    def mapping(self, d: dict[Any, Any], tracked: bool = False) -> None:
        """Watch all values of a dictionary; ``tracked``: it counts its changes in ``core.changes.MODULES``."""
        code = self._module_code if tracked else self._code
        name = code.name(d)
        code.equal(f"len({name})", len(d))
        for k, v in d.items():
            code.is_(f"{name}[{repr(k) if type(k) is str else code.name(k)}]", v)

    def sequence(self, s: Sequence[Any]) -> None:
        """Watch the entries of a list."""
        name = self._code.name(s)
        self._code.equal(f"len({name})", len(s))
        for i, v in enumerate(s):
            self._code.is_(f"{name}[{i}]", v)

    def variables(self, function: FunctionType, names: Sequence[str]) -> None:
        """Watch the closure and the defaults of a function, and these of its globals."""
        who, space = self._code.name(function), self._code.name(function.__globals__)
        for cell in function.__closure__ or ():
            name = self._code.name(cell)
            try:
                self._code.is_(f"{name}.cell_contents", cell.cell_contents)
            except ValueError:  # not assigned yet
                self._code.is_(f"{self._code.name(_assigned)}({name})", False)
        for n in names:
            self._code.is_(f"{space}[{n!r}]", function.__globals__[n])
        for n in ("__defaults__", "__kwdefaults__"):
            self._code.is_(f"{who}.{n}", getattr(function, n))

    def options(self, group: dict[str, Any]) -> None:
        """Watch an option group, of numbers only whether they are 0."""
        self._groups.append(_Options(group))
        params = group.get("params")
        if isinstance(params, list):
            self.sequence(params)

    def numbers_of(self, readers: Sequence[Callable[[], Any]]) -> bool:
        """Whether all these functions read entries of watched groups, whose values only change by being exchanged."""
        groups = [g.group for g in self._groups]
        return all(g.fixed for g in self._groups) and all(
            isinstance(r, partial) and any(r.args[:1] == (g,) and r.args[0] is g for g in groups) for r in readers
        )

    def close(self, renewed: Callable[[], None] | None = None) -> Watch:
        """Remember everything; ``renewed`` is called whenever an option was exchanged for one that will do."""
        self._same, self._same_modules = self._code.function(), self._module_code.function()
        for group in self._groups:
            group.renewed = renewed
        return self

    def unchanged(self) -> bool:
        """Whether every entry is the object it was."""
        if not self._same():
            return False
        now = MODULES.now
        if now != self._seen:
            if not self._same_modules():
                return False
            self._seen = now
        for group in self._groups:  # noqa: SIM110 - a generator takes half a microsecond more
            if not group.unchanged():
                return False
        return True


def _assigned(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises where nothing was assigned
    except ValueError:
        return False
    return True
