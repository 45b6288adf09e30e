"""Every example runs, and every number it prints is within its tolerance."""

import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

QUICK = [  # without data files, seconds at most
    "computation_graph",
    "gradient_flow",
    "reverse_mode",
    "forward_mode",
    "jacobians_and_hessians",
    "four_ways_to_differentiate",
    "evaluation_trace",
    "logistic_regression_graph",
    "two_layer_relu_gradients",
    "mlp_jacobian_blocks",
    "softmax_cross_entropy",
    "activations",
    "clipping_and_decay",
    "initialization",
    "data_loading",
    "linear_network_surface",
    "compiled_step",
]
WITH_IMAGES = ["mnist_classifier", "baselines", "fashion_mnist"]


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)  # figures are written to runs/ in the current folder


def assert_all_within(rows):
    assert rows
    outside = [f"{row.quantity}: got {row.value}, expected {row.relation} {row.expected}" for row in rows if not row.ok]
    assert not outside, "\n".join(outside)


@pytest.mark.parametrize("name", QUICK)
def test_example(name, capsys):
    if name == "compiled_step":
        pytest.importorskip("llvmlite", reason="native code needs llvmlite")
    rows = importlib.import_module(name).main()
    shown = capsys.readouterr().out
    assert_all_within(rows)
    for row in rows:
        assert row.quantity in shown
    assert "<- outside" not in shown


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("four_ways_to_differentiate", "error_against_step.png"),
        ("linear_network_surface", "linear_network_surface.png"),
    ],
)
def test_figures(name, figure, tmp_path):
    pytest.importorskip("matplotlib")
    importlib.import_module(name).main(folder=tmp_path / "figures")
    written = (tmp_path / "figures" / figure).read_bytes()
    assert written.startswith(b"\x89PNG")
    assert len(written) > 10_000


def test_as_a_script(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "reverse_mode.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "quantity" in done.stdout
    assert "11.6521" in done.stdout


def test_a_number_outside_its_tolerance_is_marked_and_fails(capsys):
    report_module = importlib.import_module("_report")
    report = report_module.Report("a title")
    report.equal("right", 1.0, 1.0 + 1e-13, 1e-12)
    assert report_module.exit_code(report.rows) == 0
    report.equal("wrong", [1.0, 2.0], [1.0, 2.1], 0.05)
    report.equal("wrong shape", [1.0, 2.0], [1.0], 0.05)
    report.equal("not a number", math.nan, 0.0, 0.05)
    report.at_most("too large", 2.0, 1.0)
    report.at_least("too small", math.nan, 1.0)
    report.equal("equal infinities", math.inf, math.inf)
    rows = report.show()
    assert [row.ok for row in rows] == [True, False, False, False, False, False, True]
    assert report_module.exit_code(rows) == 1
    assert capsys.readouterr().out.count("outside") == 5


def test_the_list_of_examples_is_complete():
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("_")}
    assert scripts == {*QUICK, *WITH_IMAGES}
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in scripts:
        assert f"({name}.py)" in text


@pytest.mark.slow
def test_mnist_classifier(data_root):
    """All 60,000 images; tests/listings/ has the first 20,000."""
    assert_all_within(importlib.import_module("mnist_classifier").main(str(data_root), limit=60_000))


@pytest.mark.slow
def test_baselines(data_root):
    pytest.importorskip("sklearn")
    assert_all_within(importlib.import_module("baselines").main(str(data_root)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_fashion_mnist(data_root, kind):
    """The median of three seeds."""
    assert_all_within(importlib.import_module("fashion_mnist").main(str(data_root), seeds=3, kinds=(kind,)))
