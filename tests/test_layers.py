"""The order of the layers, read from the import statements of every file under src/chainrule.

A package imports only from packages of a lower number. The tables below are the whole policy: to change it, change a
row here and say why. The reader is tried on small made-up packages as well, so that it cannot fall silent.
"""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "chainrule"

# One row for each package directly under chainrule; the root, `chainrule/__init__.py`, may import them all.
LAYERS = {
    "core": 0,
    "ir": 1,
    "ops": 2,
    "tape": 3,
    "tensors": 4,
    "autograd": 5,
    "func": 5,
    "serialization": 5,
    "testing": 5,
    "backends": 5,
    "cuda": 5,
    "mps": 5,
    "nn": 6,
    "optim": 6,
    "data": 6,
    "utils": 6,
    "vision": 6,
    "compiler": 6,
    "train": 7,
    "metrics": 7,
    "cli": 8,
}
ROOT = "chainrule"
ROOT_LAYER = 9

# Imports between different packages of one layer: (importer, imported) and the reason.
SAME_LAYER = {
    ("autograd", "func"): "autograd.functional and the checks of gradients are made of function transforms",
    (
        "optim",
        "compiler",
    ): "eager steps that take long change over to machine code, loaded then (NOTE [native updates])",
    ("utils", "data"): "utils.data gives PyTorch's name to what lives in data",
    ("vision", "data"): "vision.datasets gives torchvision's name to what lives in data",
}

# Third-party packages that a layer imports when it is itself imported; all others are imported inside functions.
LOADED_AT_ONCE = {
    **{name: {"numpy"} for name in LAYERS},
    ROOT: {"numpy"},
    "train": {"numpy", "rich"},  # loaded on first use; the progress bar is its business, and rich a base dependency
    "cli": {"numpy", "rich", "click"},  # the command itself is written with click
}

# Third-party packages that stand in these files only (paths below src/chainrule; an empty set: nowhere).
CONFINED: dict[str, set[str]] = {
    "sklearn": {"data/digits.py"},
    "llvmlite": {"compiler/llvm/target.py"},
    "jax": set(),
    "jaxlib": set(),
    "torch": set(),
}

# Files that import a module whose name is computed, which no reader of the source can follow, and the reason.
COMPUTED_NAMES = {
    "__init__.py": "loads the heavy packages on first use, by name",
}

MAX_LINES = 800


@dataclass(frozen=True)
class Import:
    """One imported module: its full dotted name, or None where the name is computed at run time."""

    module: str | None
    line: int
    lazy: bool  # runs when a function is called, or never (TYPE_CHECKING), and not when the file is imported


def _owner(path: Path, package: Path) -> str:
    """The row of the table that a file belongs to: core/dtypes.py -> core, train.py -> train, __init__.py -> root."""
    first = path.relative_to(package).parts[0].removesuffix(".py")
    return ROOT if first in ("__init__", "__main__") else first


def _is_type_checking(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING") or (
        isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
    )


def _absolute(node: ast.ImportFrom, path: Path, package: Path) -> str:
    """The full name of the module in `from <module> import ...`, relative forms resolved."""
    if not node.level:
        return node.module or ""
    parents = (ROOT, *path.relative_to(package).parent.parts)
    base = parents[: len(parents) - (node.level - 1)]
    return ".".join((*base, *((node.module,) if node.module else ())))


def _called_import(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return name in ("import_module", "__import__")


def read_imports(path: Path, package: Path) -> list[Import]:
    """Every import of a file, wherever it stands: statements, `import_module("...")` and `__import__("...")`.

    `from chainrule import nn` is an import of `chainrule.nn` when there is such a package, otherwise of the root.
    """
    found: list[Import] = []
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8"), str(path)), False)]
    while todo:
        node, lazy = todo.pop()
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path, package)
            if module == ROOT:
                for alias in node.names:
                    inside = (package / alias.name).is_dir() or (package / f"{alias.name}.py").is_file()
                    found.append(Import(f"{ROOT}.{alias.name}" if inside else ROOT, node.lineno, lazy))
            else:
                found.append(Import(module, node.lineno, lazy))
        elif isinstance(node, ast.Call) and _called_import(node):
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            found.append(Import(name if isinstance(name, str) else None, node.lineno, lazy))
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            todo += [(child, True) for child in node.body] + [(child, lazy) for child in node.orelse]
        else:
            inner = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            todo += [(child, inner) for child in ast.iter_child_nodes(node)]
    return sorted(found, key=lambda i: i.line)


def _own_import(owner: str, target: str) -> str | None:
    """What is wrong with an import of chainrule's package `target` in package `owner`."""
    if owner in (target, ROOT):
        return None
    if target == ROOT:
        return f"{owner} imports the root package, which stands above all layers; import from where the name is defined"
    if target not in LAYERS:
        return f"{target} has no row in LAYERS (tests/test_layers.py); add it with its layer"
    if LAYERS[target] < LAYERS[owner] or (owner, target) in SAME_LAYER:
        return None
    if LAYERS[target] == LAYERS[owner]:
        return f"{owner} and {target} are both in layer {LAYERS[owner]}; the pair is not in SAME_LAYER"
    return f"{owner} (layer {LAYERS[owner]}) imports upwards from {target} (layer {LAYERS[target]})"


def _foreign_import(owner: str, name: str, file: str, top: str, lazy: bool) -> str | None:
    """What is wrong with an import of the third-party package `top` (in full: `name`) in `file`."""
    if top in CONFINED and file not in CONFINED[top]:
        return f"{name} may be imported in {', '.join(sorted(CONFINED[top])) or 'no file'} only"
    if not lazy and top not in LOADED_AT_ONCE[owner]:
        return f"{name} is loaded when {owner} is imported; import it inside the function that needs it"
    return None


def _violations_in(path: Path, package: Path) -> list[str]:
    file, owner = path.relative_to(package).as_posix(), _owner(path, package)
    if owner != ROOT and owner not in LAYERS:
        return [f"{file}: {owner} has no row in LAYERS (tests/test_layers.py); add it with its layer"]
    problems: list[str] = []
    for found in read_imports(path, package):
        wrong = None
        if found.module is None:
            if file not in COMPUTED_NAMES:
                wrong = "imports a module whose name is computed, which this test cannot follow; write the name out"
        else:
            top, *rest = found.module.split(".")
            if top == ROOT:
                wrong = _own_import(owner, rest[0] if rest else ROOT)
            elif top not in sys.stdlib_module_names:
                wrong = _foreign_import(owner, found.module, file, top, found.lazy)
        if wrong:
            problems.append(f"{file}:{found.line}: {wrong}")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > MAX_LINES:
        problems.append(f"{file}: {lines} lines, at most {MAX_LINES}; split it by concern")
    return problems


def violations(package: Path) -> list[str]:
    """Everything under `package` that breaks the tables above, one line each."""
    return [line for path in sorted(package.rglob("*.py")) for line in _violations_in(path, package)]


def test_the_package_keeps_the_tables():
    assert (PACKAGE / "__init__.py").is_file()
    found = violations(PACKAGE)
    assert not found, "\n" + "\n".join(found)


def test_every_row_is_a_package():
    missing = [
        name
        for name in LAYERS
        if not ((PACKAGE / name / "__init__.py").is_file() or (PACKAGE / f"{name}.py").is_file())
    ]
    assert not missing, f"rows of LAYERS without a package: {missing}"


def test_exceptions_are_still_used():
    """An exception nobody needs any more is taken out of the table."""
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for found in read_imports(path, PACKAGE):
            if found.module and found.module.startswith(f"{ROOT}."):
                used.add((_owner(path, PACKAGE), found.module.split(".")[1]))
    assert not SAME_LAYER.keys() - used


def test_importing_chainrule_loads_numpy_and_nothing_else():
    program = "import json, sys, {}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    loaded = {}
    for name in ("numpy", "chainrule"):
        command = [sys.executable, "-W", "error", "-c", program.format(name)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        loaded[name] = set(json.loads(result.stdout))
    extra = loaded["chainrule"] - loaded["numpy"] - sys.stdlib_module_names - {"chainrule"}
    assert not extra, f"import chainrule also loads {sorted(extra)}"


PLANTED = {
    # what is written where -> a part of the complaint
    "upwards": ("core/a.py", "from chainrule.tensors import Tensor", "imports upwards from tensors"),
    "upwards in a function": ("tape/a.py", "def f():\n    import chainrule.nn.layers", "imports upwards from nn"),
    "upwards for types": ("ir/a.py", "if TYPE_CHECKING:\n    from chainrule.tensors import Tensor", "imports upwards"),
    "upwards in a method of a class": (
        "ops/a.py",
        "class A:\n  async def f(self):\n    import chainrule.func",
        "upwards",
    ),
    "relative": ("ops/a.py", "from ..tensors.tensor import Tensor", "imports upwards from tensors"),
    "relative, nested folder": ("tensors/functions/a.py", "from ...nn import Linear", "imports upwards from nn"),
    "relative, package by name": ("ops/a.py", "from .. import tensors", "imports upwards from tensors"),
    "package by name": ("ops/a.py", "from chainrule import core, tensors", "imports upwards from tensors"),
    "import by call": ("ops/a.py", "import importlib\nimportlib.import_module('chainrule.nn')", "upwards from nn"),
    "computed name": ("ops/a.py", "def f(name):\n    return __import__(name)", "name is computed"),
    "same layer": ("nn/a.py", "from chainrule.optim import SGD", "not in SAME_LAYER"),
    "the root": ("nn/a.py", "from chainrule import Tensor", "the root package"),
    "the root, whole": ("nn/a.py", "import chainrule", "the root package"),
    "package without a row": ("extra/a.py", "import math", "extra has no row"),
    "import without a row": ("cli/a.py", "import chainrule.extra", "extra has no row"),
    "SciPy at once": ("ops/a.py", "import scipy.special", "inside the function that needs it"),
    "SciPy at once in try": (
        "ops/a.py",
        "try:\n    import scipy\nexcept ImportError:\n    pass",
        "inside the function",
    ),
    "rich in nn": ("nn/a.py", "from rich.table import Table", "inside the function that needs it"),
    "sklearn elsewhere": ("train/a.py", "def f():\n    from sklearn import svm", "data/digits.py only"),
    "jax": ("compiler/a.py", "def f():\n    import jax.lax", "no file only"),
    "llvmlite": ("compiler/a.py", "def f():\n    from llvmlite import ir", "target.py only"),
    "too long": ("core/a.py", "x = 1\n" * (MAX_LINES + 1), "801 lines"),
}


@pytest.mark.parametrize(("file", "source", "complaint"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(tmp_path, file, source, complaint):
    package = _made_up_package(tmp_path, file, source)
    found = violations(package)
    assert len(found) == 1
    assert found[0].startswith(file)
    assert complaint in found[0]


ALLOWED = {
    "downwards": (
        "nn/a.py",
        "import numpy as np\nfrom chainrule.tensors import Tensor\nfrom ..core.dtypes import float32",
    ),
    "own package": ("nn/a.py", "from . import b\nfrom chainrule.nn.c import d\nfrom .e import f"),
    "reason given": ("utils/data/__init__.py", "from chainrule.data import DataLoader"),
    "the root imports all": (
        "__init__.py",
        "import numpy\nfrom chainrule.tensors import Tensor\nfrom chainrule import cli",
    ),
    "SciPy in a function": ("ops/a.py", "def f(x):\n    from scipy import special\n    return special.erf(x)"),
    "SciPy for types": ("ops/a.py", "import typing\nif typing.TYPE_CHECKING:\n    import scipy"),
    "rich in train": ("train/a.py", "from rich.progress import Progress"),
    "sklearn in digits": ("data/digits.py", "def load():\n    from sklearn.datasets import load_digits"),
    "standard library": ("core/a.py", "import os.path\nfrom collections.abc import Mapping"),
    "just short enough": ("core/a.py", "x = 1\n" * MAX_LINES),
}


@pytest.mark.parametrize(("file", "source"), ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_is_not_complained_about(tmp_path, file, source):
    assert violations(_made_up_package(tmp_path, file, source)) == []


def _made_up_package(folder: Path, file: str, source: str) -> Path:
    package = folder / "chainrule"
    for name in LAYERS:
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / file).parent.mkdir(parents=True, exist_ok=True)
    (package / file).write_text(source, encoding="utf-8")
    return package
