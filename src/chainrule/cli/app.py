"""The options of the command, and what becomes of errors: one clear message, an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chainrule.cli.info import print_info
from chainrule.cli.options import NonNegative, Positive, Share, Widths
from chainrule.cli.settings import ACTIVATIONS, DATASETS, OPTIMIZERS, RECIPES, SCHEDULES, Settings
from chainrule.core.errors import did_you_mean

INTERRUPTED = 130

_EXAMPLES = """
\b
Examples:
  chainrule fit digits
  chainrule fit mnist --hidden 256,256 --epochs 20 --early-stopping 3
  chainrule fit fashion-mnist --hidden 32 --activation sigmoid --optimizer sgd --lr 0.001 --batch-size 32
  chainrule fit titanic.csv --target Survived
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chainrule", message="chainrule %(version)s")
def app() -> None:
    """Train networks, and look at the installation."""


def _default(name: str) -> str:
    """The default of a setting, and that of data sets which have their own."""
    own = [f"{data}: {recipe[name]}" for data, recipe in RECIPES.items() if name in recipe]
    standard = getattr(Settings, name)
    text = ",".join(map(str, standard)) if isinstance(standard, tuple) else str(standard)
    return "; ".join([text, *own])


@app.command(epilog=_EXAMPLES)
@click.argument("dataset", metavar="DATASET")
@click.option("--target", metavar="COLUMN", help="The column to predict, for a CSV file.")
@click.option(
    "--hidden", type=Widths(), show_default=_default("hidden"), help="Widths of the hidden layers; 'none' for no layer."
)
@click.option(
    "--activation", type=click.Choice(list(ACTIVATIONS)), show_default=_default("activation"), help="Between layers."
)
@click.option(
    "--dropout", type=Share(), show_default=_default("dropout"), help="Share of hidden values dropped in training."
)
@click.option(
    "--label-smoothing",
    type=Share(),
    show_default=_default("label_smoothing"),
    help="Share of each label spread over all classes.",
)
@click.option(
    "--optimizer", type=click.Choice(list(OPTIMIZERS)), show_default=_default("optimizer"), help="The optimizer."
)
@click.option("--lr", type=Positive(), show_default=_default("lr"), help="Learning rate.")
@click.option("--momentum", type=Share(), show_default=_default("momentum"), help="For sgd and rmsprop.")
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    show_default=_default("schedule"),
    help="Of the learning rate; cosine falls to 0.",
)
@click.option(
    "--weight-decay", type=NonNegative(), show_default=_default("weight_decay"), help="L2 penalty (adamw: decoupled)."
)
@click.option("--clip-norm", type=Positive(), help="Clip gradients to this norm.  [default: no clipping]")
@click.option(
    "--batch-size", type=click.IntRange(min=1), show_default=_default("batch_size"), help="Examples per step."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), show_default=_default("epochs"), help="Passes over the training examples."
)
@click.option(
    "--early-stopping",
    type=click.IntRange(min=1),
    metavar="PATIENCE",
    help="Hold out a tenth of the training examples, stop when the loss on them has not improved for so "
    "many epochs, keep the best weights.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    show_default=_default("seed"),
    help="Same seed, same weights, bit by bit.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), show_default=_default("threads"), help="Threads for matrix products."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Train on the first N examples only.")
@click.option(
    "--data-root",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the data sets.  [default: CHAINRULE_DATA, or a cache folder]",
)
@click.option("--download/--no-download", default=True, show_default=True, help="Fetch a data set that is not there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=_default("out"),
    help="Where a folder for this run is made.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but the folder with the results, and errors.")
def fit(dataset: str, **options: Any) -> None:
    """Train a network on DATASET: digits, mnist, fashion-mnist, or the path of a CSV file.

    Shows loss and accuracy while it trains, a confusion matrix at the end, and saves weights, metrics, settings and a
    figure of the curves.
    """
    name = _dataset(dataset, options["target"])
    given = {key: value for key, value in options.items() if value is not None}
    # These load matplotlib's, scikit-learn's and the library's own share of time; --help does not need them.
    from chainrule.cli.fit import run_fit

    if run_fit(Settings(**{"dataset": name, **RECIPES.get(name, {}), **given})):
        raise click.exceptions.Exit(INTERRUPTED)


@app.command()
def info() -> None:
    """Print versions and settings."""
    print_info()


def _dataset(dataset: str, target: str | None) -> str:
    """The name of the data set, or the path of the CSV file; UsageError for anything else."""
    name = dataset.lower().replace("_", "-")
    if name in DATASETS:
        if target is not None:
            raise click.BadOptionUsage("target", f"--target is for CSV files; {name} knows its classes")
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
