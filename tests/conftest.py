"""The environment every test runs in: no display, fixed seeds, repeatable examples, large data by setting only."""

import os
import random
from importlib.metadata import version
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import chainrule

os.environ["MPLBACKEND"] = "Agg"

# The same examples in every run, so that a failure found once is found again; no deadline, since the first call of a
# function may be far slower than the others and machines differ.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("repeatable")

DATA_SETTING = "CHAINRULE_DATA"


def pytest_report_header() -> str:
    data = os.environ.get(DATA_SETTING) or f"none ({DATA_SETTING} is not set)"
    return f"numpy {np.__version__}, chainrule {version('chainrule')}, large data sets: {data}"


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Each test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from NumPy's global generator; tests use default_rng
    chainrule.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the large data sets, named by CHAINRULE_DATA.

    Without the setting the test is skipped. A setting that names no folder is a mistake and an error, not a skip.
    """
    setting = os.environ.get(DATA_SETTING)
    if not setting:
        pytest.skip(f"needs the large data sets: set {DATA_SETTING} to the folder that holds mnist/ and fashion-mnist/")
    root = Path(setting).expanduser().resolve()
    if not root.is_dir():
        raise NotADirectoryError(f"{DATA_SETTING}={setting!r} names no folder (looked at {root}); correct or unset it")
    return root


@pytest.fixture
def cached_by_text(monkeypatch):
    """Programs are cached by their text, not their plans: what a compiler broken on purpose writes is kept apart."""
    monkeypatch.setattr("chainrule.compiler.native.fingerprint", lambda plan: None)
