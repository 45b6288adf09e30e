"""The options of the command, and what becomes of errors: one clear message, an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from chainrule.cli.info import print_info
from chainrule.cli.options import Names, NonNegative, Positive, Share, Whole, Widths
from chainrule.cli.settings import ACTIVATIONS, DATASETS, OPTIMIZERS, RECIPES, SCHEDULES, Settings
from chainrule.core.errors import did_you_mean

INTERRUPTED = 130

_EXAMPLES = """
\b
Examples:
  chainrule fit digits
  chainrule fit mnist --hidden 256,256 --epochs 20 --early-stopping 3
  chainrule fit fashion-mnist --hidden 32 --activation sigmoid --optimizer sgd --lr 0.001 --batch-size 32
  chainrule fit titanic.csv --target Survived --columns Pclass,Sex,Age,Fare
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="chainrule", message="chainrule %(version)s")
def app() -> None:
    """Train networks, and look at the installation."""


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(flag: str, kind: Any, text: str, default: str | None = None, **more: Any) -> Callable[[Any], Any]:
    """An option whose help ends in its default, and in those of data sets that have their own."""
    name = flag.removeprefix("--").replace("-", "_")
    if default is None:
        own = [f"; {data}: {_text(recipe[name])}" for data, recipe in RECIPES.items() if name in recipe]
        default = _text(getattr(Settings, name)) + "".join(own)
    return click.option(flag, type=kind, help=f"{text}  [{default}]" if default else text, **more)


_FOLDER = click.Path(file_okay=False, path_type=Path)


@app.command(epilog=_EXAMPLES, short_help="Train a network on a data set.")
@click.argument("dataset", metavar="DATASET")
@_option("--target", str, "Of a CSV file: the column to predict.", "", metavar="COLUMN")
@_option("--columns", Names(), "Of a CSV file: the columns to predict from.", "all", metavar="A,B,...")
@_option("--hidden", Widths(), "Widths of the hidden layers, or 'none'.")
@_option("--activation", click.Choice(list(ACTIVATIONS)), f"One of {', '.join(ACTIVATIONS)}.", metavar="NAME")
@_option("--dropout", Share(), "Share of the hidden values dropped in training.")
@_option("--label-smoothing", Share(), "Share of each label spread over all classes.")
@_option("--optimizer", click.Choice(list(OPTIMIZERS)), f"One of {', '.join(OPTIMIZERS)}.", metavar="NAME")
@_option("--lr", Positive(), "Learning rate.")
@_option("--momentum", Share(), "Of sgd and rmsprop.")
@_option(
    "--schedule",
    click.Choice(SCHEDULES),
    "Of the learning rate: constant, or cosine, which falls to 0.",
    metavar="NAME",
)
@_option("--weight-decay", NonNegative(), "Factor of the L2 penalty; decoupled for adamw.")
@_option("--clip-norm", Positive(), "Scale gradients down to this norm.", "no clipping")
@_option("--batch-size", Whole(), "Examples per step.")
@_option("--epochs", Whole(), "Passes over the training examples.")
@_option(
    "--early-stopping",
    Whole(),
    "Hold out a tenth of the training examples, stop once the loss on them has not improved for so "
    "many epochs, and keep "
    "the best weights.",
    "off",
    metavar="PATIENCE",
)
@_option("--seed", Whole(0, 2**32 - 1), "The same seed gives the same weights, bit by bit.")
@_option("--threads", Whole(1, 4096), "Threads for matrix products; more help with large batches.")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Run training steps as native code, or eagerly.  [compile where there are enough steps]",
)
@_option("--limit", Whole(), "Train on the first N examples only.", "all")
@_option("--data-root", _FOLDER, "The folder of the data sets.", "CHAINRULE_DATA, or a cache folder")
@click.option("--download/--no-download", default=True, help="Fetch a data set that is not there.  [download]")
@_option("--out", _FOLDER, "Where the folder of this run is made.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the folder with the results, and errors.")
def fit(dataset: str, **options: Any) -> None:
    """Train a network on DATASET: digits, mnist, fashion-mnist, or the path of a CSV file.

    Shows loss and accuracy while it trains, a confusion matrix at the end, and saves weights, metrics, settings and a
    figure of the curves. Defaults stand in brackets.
    """
    name = _dataset(dataset, options["target"], options["columns"])
    given = {key: value for key, value in options.items() if value is not None}
    # These load matplotlib's, scikit-learn's and the library's own share of time; --help does not need them.
    from chainrule.cli.fit import run_fit

    if run_fit(Settings(**{"dataset": name, **RECIPES.get(name, {}), **given})):
        raise click.exceptions.Exit(INTERRUPTED)


@app.command()
def info() -> None:
    """Print versions and settings."""
    print_info()


def _dataset(dataset: str, target: str | None, columns: tuple[str, ...] | None) -> str:
    """The name of the data set, or the path of the CSV file; UsageError for anything else."""
    name = dataset.lower().replace("_", "-")
    if name in DATASETS:
        for option, given in (("target", target), ("columns", columns)):
            if given is not None:
                raise click.BadOptionUsage(option, f"--{option} is for CSV files; {name} knows its classes")
        return name
    looks_like_file = dataset.lower().endswith((".csv", ".tsv", ".txt")) or "/" in dataset or "\\" in dataset
    if not looks_like_file and not Path(dataset).is_file():
        known = ", ".join(DATASETS)
        raise click.BadParameter(
            f"unknown data set {dataset!r}{did_you_mean(name, DATASETS)}\nKnown: {known}, or the path of a CSV file",
            param_hint="DATASET",
        )
    if not Path(dataset).is_file():
        raise click.BadParameter(f"there is no file {dataset}", param_hint="DATASET")
    if target is None:
        raise click.UsageError(f"{dataset}: say which column to predict, with --target COLUMN")
    return dataset


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors become one message and an exit code."""
    try:
        result = app.main(
            args=None if arguments is None else list(arguments), prog_name="chainrule", standalone_mode=False
        )
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else 0
