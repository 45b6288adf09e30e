"""Loggers: where logged values go."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chainrule.train.weights import write_whole


class CSVLogger:
    """Writes ``metrics.csv``: one row per logged step, columns ``epoch``, ``step`` and one per name.

    Values logged at the same step share a row, so an epoch's training and validation metrics stand side by side. The
    file is replaced as a whole at the end of each epoch.

    Args:
        save_dir: the folder to write in.
        name, version: the file is ``save_dir/name/version/metrics.csv``. By default the name is "chainrule_logs" and
            the version the first ``version_<n>`` that is free; with ``name=""`` and ``version=""`` it is
            ``save_dir/metrics.csv``.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "chainrule_logs",
        version: int | str | None = None,
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        self.save_dir = os.fspath(save_dir)
        self.name = name or ""
        self._version = f"version_{version}" if isinstance(version, int) else version
        self._every = flush_logs_every_n_steps
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = ["epoch", "step"]
        self._unsaved = 0

    @property
    def version(self) -> str:
        """The last part of the folder; found at first use."""
        if self._version is None:
            parent = Path(self.save_dir, self.name)
            self._version = next(f"version_{n}" for n in range(10**9) if not (parent / f"version_{n}").exists())
        return self._version

    @property
    def log_dir(self) -> str:
        """The folder of ``metrics.csv``."""
        return os.fspath(Path(self.save_dir, self.name, self.version))

    @property
    def path(self) -> str:
        """``metrics.csv``."""
        return os.fspath(Path(self.log_dir, "metrics.csv"))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take in values for a step."""
        values = {"step": step, **{k: float(v) if k != "epoch" else int(v) for k, v in metrics.items()}}
        last = self._rows[-1] if self._rows else None
        if last is not None and all(last.get(k) == values.get(k) for k in ("epoch", "step")):
            last.update(values)
        else:
            self._rows.append(values)
        self._columns += [name for name in values if name not in self._columns]
        self._unsaved += 1
        if self._unsaved >= self._every:
            self.save()

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Write ``hparams.json``; values JSON does not know are written as text."""
        write_whole(Path(self.log_dir, "hparams.json"), json.dumps(dict(params), indent=2, default=str).encode())

    def save(self) -> None:
        """Write the file, if there is anything new."""
        if not self._unsaved:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(self.path, text.getvalue().encode())
        self._unsaved = 0
