"""The stub that tells type checkers of Tensor's methods is what tools/make_surface.py writes."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _tool():
    spec = importlib.util.spec_from_file_location("make_surface", ROOT / "tools" / "make_surface.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stub_is_up_to_date():
    tool = _tool()
    assert tool.TARGET.read_text(encoding="utf-8") == tool.surface(), "run: python tools/make_surface.py"


def test_the_stub_names_the_methods_people_use():
    text = _tool().surface()
    for name in ("sum", "mean", "relu", "view", "add_", "__matmul__", "backward", "numel"):
        assert f"def {name}(self" in text
