"""The command: what a run leaves behind, mistakes and their messages, Ctrl-C."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule.train as pl
from chainrule.cli import main
from chainrule.cli.app import app
from chainrule.cli.datasets import load
from chainrule.cli.fit import FitModule
from chainrule.cli.settings import Settings

pytest.importorskip("sklearn")

FILES = ["config.json", "curves.png", "metrics.csv", "weights.safetensors"]
SHORT = ["--epochs", "2", "--limit", "300"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def fit(out, *arguments):
    result = run("fit", *arguments, "--out", out)
    assert result.exit_code == 0, result.output
    return result


def only_run(out):
    (folder,) = out.iterdir()
    return folder


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The demo, once: output and folder."""
    out = tmp_path_factory.mktemp("runs")
    result = fit(out, "digits")
    return result.output, only_run(out)


def test_digits_reaches_97_percent(digits_run):
    output, folder = digits_run
    config = json.loads((folder / "config.json").read_text())
    assert config["results"]["test"]["accuracy"] >= 0.97
    assert config["seconds"] < 60
    assert f"{config['results']['test']['accuracy']:.2%}" in output


def test_what_a_run_leaves_behind(digits_run):
    output, folder = digits_run
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert folder.name.startswith("digits-")
    assert str(folder.name) in output.replace("\n", "")
    table = rows(folder)
    assert [int(r["epoch"]) for r in table] == list(range(1, 31))
    assert set(table[0]) == {"epoch", "step", "train_loss", "train_acc", "test_loss", "test_acc", "seconds"}
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_output_shows_the_confusion_matrix(digits_run):
    output, folder = digits_run
    config = json.loads((folder / "config.json").read_text())
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if "true class down" in line)
    body = [line.split() for line in lines[start + 4 : start + 14]]
    assert [row[0] for row in body] == list("0123456789")
    right = sum(int(row[1 + i]) for i, row in enumerate(body))
    assert right == round(config["results"]["test"]["accuracy"] * config["test_examples"])


def test_weights_can_be_loaded_again(digits_run):
    _, folder = digits_run
    config = json.loads((folder / "config.json").read_text())
    settings = Settings(**{k: tuple(v) if k == "hidden" else v for k, v in config.items() if k in vars(Settings(""))})
    bundle = load(settings)
    module = FitModule(settings, bundle.features, len(bundle.classes)).eval()
    pl.load_weights(module.layers, folder / "weights.safetensors")
    from chainrule.cli.fit import evaluate

    scores = evaluate(module, bundle.test, len(bundle.classes))
    assert scores.accuracy == pytest.approx(config["results"]["test"]["accuracy"])
    assert scores.loss == pytest.approx(config["results"]["test"]["loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    contents = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fit(tmp_path / name, "digits", *SHORT, "--seed", seed, "--quiet")
        contents.append((only_run(tmp_path / name) / "weights.safetensors").read_bytes())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_same_bits_in_another_process_and_with_other_threads(tmp_path, threads):
    fit(tmp_path / "here", "digits", *SHORT, "-q")
    command = [sys.executable, "-m", "chainrule.cli", "fit", "digits", *SHORT, "-q", "--out", str(tmp_path / "there")]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    subprocess.run(command, check=True, env=env, capture_output=True)
    first, second = (only_run(tmp_path / n) / "weights.safetensors" for n in ("here", "there"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--hidden", "none"],
        ["--hidden", "16", "--activation", "sigmoid", "--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9"],
        ["--optimizer", "adamw", "--weight-decay", "0.01", "--clip-norm", "1", "--dropout", "0"],
        ["--activation", "gelu", "--optimizer", "rmsprop", "--schedule", "constant", "--batch-size", "7"],
        ["--early-stopping", "1", "--epochs", "30", "--activation", "tanh"],
    ],
)
def test_options(tmp_path, options):
    fit(tmp_path, "digits", *SHORT, *options)
    config = json.loads((only_run(tmp_path) / "config.json").read_text())
    assert config["train_examples"] == 300
    assert config["results"]["train"]["loss"] < 2.31  # that of knowing nothing is ln 10 = 2.303


def test_early_stopping_holds_out_and_marks(tmp_path):
    result = fit(tmp_path, "digits", "--limit", "300", "--early-stopping", "1", "--epochs", "200", "--lr", "0.05")
    folder = only_run(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["stopped_early"]
    assert len(rows(folder)) < 200
    assert "val_loss" in rows(folder)[0]
    assert "weights of epoch" in result.output


def test_quiet_prints_the_folder(tmp_path):
    result = fit(tmp_path, "digits", *SHORT, "--quiet")
    assert result.output.strip() == str(only_run(tmp_path))


def test_two_runs_in_one_second(tmp_path):
    for _ in range(2):
        fit(tmp_path, "digits", "--epochs", "1", "--limit", "50", "-q")
    assert len(list(tmp_path.iterdir())) == 2


# --- CSV files
# -----------------------------------------------------------------------------------------------------------


def write_table(path, n=200, bad=None):
    rng = np.random.default_rng(0)
    lines = ["size,colour,name,label"]
    for i in range(n):
        kind = i % 2
        size = "" if i % 17 == 0 else f"{rng.normal(3 * kind, 1):.3f}"
        lines.append(
            f"{size},{'red' if rng.random() < 0.2 + 0.6 * kind else 'blue'},name{i},{'big' if kind else 'small'}"
        )
    if bad is not None:
        lines[5] = bad
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_file(tmp_path):
    path = write_table(tmp_path / "things.csv")
    result = fit(tmp_path / "runs", path, "--target", "label", "--epochs", "10", "--lr", "0.01")
    config = json.loads((only_run(tmp_path / "runs") / "config.json").read_text())
    assert config["classes"] == ["big", "small"]
    assert config["features"] == 4  # size, whether it is missing, two colours; the names say nothing
    assert config["results"]["test"]["accuracy"] > 0.8
    assert "different values left out: name" in result.output.replace("\n", " ")
    assert "big" in result.output


def test_a_csv_file_with_a_bad_cell(tmp_path):
    path = write_table(tmp_path / "things.csv", bad="x1.5,red,name,big")
    result = run("fit", path, "--target", "label", "--out", tmp_path / "runs")
    assert result.exit_code == 1
    assert "x1.5" in result.output
    assert "--columns" in result.output
    assert "  at: " not in result.output
    assert "size" in result.output
    assert not (tmp_path / "runs").exists()


def test_some_columns_of_a_csv_file(tmp_path):
    path = write_table(tmp_path / "things.csv", bad="x1.5,red,name,big")
    fit(tmp_path / "runs", path, "--target", "label", "--columns", "colour, name", "--epochs", "2")
    config = json.loads((only_run(tmp_path / "runs") / "config.json").read_text())
    assert config["features"] == 2
    assert config["columns"] == ["colour", "name"]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n3,4\n", "c", "no column 'c'"),
        ("a,b\n1,0.5\n3,0.7\n2,0.1\n", "b", "holds quantities"),
        ("a,b\n1,x\n3,x\n", "b", "at least two classes"),
        ("a,b\n1,x\n3,y\n4,y\n", "b", "occurs once"),
        ("b\nx\ny\nx\ny\n", "b", "no column is left"),
        ("a,b\n1,2,3\n", "b", "one cell per column"),
    ],
)
def test_csv_files_that_will_not_do(tmp_path, text, target, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    result = run("fit", path, "--target", target)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


# --- mistakes
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "did you mean 'digits'"),
        (["fashion-mnits"], "did you mean 'fashion-mnist'"),
        (["missing.csv", "--target", "x"], "there is no file missing.csv"),
        (["digits", "--target", "x"], "for CSV files"),
        (["digits", "--columns", "x"], "for CSV files"),
        (["t.csv", "--target", "x", "--columns", " , "], "at least one name"),
        (["digits", "--hidden", "128,x"], "whole numbers with commas"),
        (["digits", "--hidden", "0"], "between 1 and"),
        (["digits", "--lr", "0"], "above 0"),
        (["digits", "--lr", "fast"], "is not a number"),
        (["digits", "--lr", "nan"], "out of range"),
        (["digits", "--dropout", "1"], "below 1"),
        (["digits", "--weight-decay", "-1"], "0 or more"),
        (["digits", "--optimizer", "adan"], "adam"),
        (["digits", "--activation", "rely"], "relu"),
        (["digits", "--epochs", "0"], "out of range: give 1 to"),
        (["digits", "--epoch", "3"], "--epochs"),
        (["digits", "--seed", "-1"], "--seed"),
        ([], "DATASET"),
    ],
)
def test_wrong_calls(arguments, message):
    result = run("fit", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_csv_file_needs_a_target(tmp_path):
    path = write_table(tmp_path / "t.csv")
    result = run("fit", path)
    assert result.exit_code == 2
    assert "--target COLUMN" in result.output


def test_data_that_is_not_there(tmp_path):
    result = run("fit", "mnist", "--data-root", tmp_path, "--no-download")
    assert result.exit_code == 1
    assert "files not found" in result.output
    assert str(tmp_path) in result.output


def test_a_truncated_idx_file(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (folder / name).write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x10\x01")
    result = run("fit", "mnist", "--data-root", tmp_path, "--no-download")
    assert result.exit_code == 1
    assert "train-images-idx3-ubyte" in result.output
    assert "Traceback" not in result.output


def test_a_loss_that_explodes(tmp_path):
    result = run("fit", "digits", *SHORT, "--optimizer", "sgd", "--lr", "1e30", "--out", tmp_path)
    assert result.exit_code == 1
    assert "in epoch" in result.output
    assert "--lr 1e+29" in result.output
    assert not list(tmp_path.iterdir())


def test_results_that_cannot_be_saved(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = run("fit", "digits", *SHORT, "--out", blocked / "runs")
    assert result.exit_code == 1
    assert "could not be saved" in result.output


# --- the rest
# ------------------------------------------------------------------------------------------------------------


def test_info():
    result = run("info")
    assert result.exit_code == 0
    for word in ("Python", "NumPy", np.__version__, "BLAS", "data sets", "matplotlib", "scikit-learn"):
        assert word in result.output


def test_help():
    result = run("fit", "--help")
    assert result.exit_code == 0
    for word in (
        "Examples:",
        "chainrule fit digits",
        "--early-stopping PATIENCE",
        "[10; digits: 30]",
        "[0.001; digits: 0.01]",
        "[128,128; digits: 256,256]",
    ):
        assert word in " ".join(result.output.split())
    assert run("--version").output.startswith("chainrule ")


def test_exit_codes_of_main(capsys):
    assert main(["--version"]) == 0
    assert main(["fit", "digit"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["fit", "mnist", "--no-download", "--data-root", "/nowhere"]) == 1


def test_without_click(tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('no click here')")
    result = subprocess.run(
        [sys.executable, "-m", "chainrule.cli", "info"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert 'pip install "chainrule[cli]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_saves_and_says_so(tmp_path):
    command = [
        sys.executable,
        "-u",
        "-m",
        "chainrule.cli",
        "fit",
        "digits",
        "--epochs",
        "100000",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err == ""
    folder = only_run(tmp_path)
    assert "Interrupted in epoch" in out
    assert "Saved in" in out
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "config.json").read_text())["interrupted"]


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_in_the_first_epoch_keeps_its_metrics(tmp_path, monkeypatch):
    step = FitModule.training_step

    def pressing(self, batch, batch_idx):
        if batch_idx == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(FitModule, "training_step", pressing)
    assert run("fit", "digits", "--early-stopping", "2", "--out", tmp_path).exit_code == 130
    folder = only_run(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    (row,) = rows(folder)
    config = json.loads((folder / "config.json").read_text())
    assert (row["epoch"], row["step"]) == ("1", "4")
    assert float(row["train_loss"]) > 0
    assert float(row["test_acc"]) == config["results"]["test"]["accuracy"]
    assert config["epochs_done"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_before_training(tmp_path):
    code = "import os, signal; from chainrule.cli import datasets, main; "
    code += "datasets.load = lambda s: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(5); "
    code += f"raise SystemExit(main(['fit', 'digits', '--out', {str(tmp_path)!r}]))"
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert "Interrupted" in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - began < 30
