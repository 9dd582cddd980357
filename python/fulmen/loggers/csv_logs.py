"""Metrics as a CSV file, hyperparameters as a YAML file, in a folder of their own for each version."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from torch import Tensor

from fulmen.loggers import environment, folders
from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.utilities import _add_prefix, _convert_params
from fulmen.utilities.files import is_remote
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn
from fulmen.utilities.types import _PATH

#: So many times the file is rewritten for a new column at once; afterwards such rows wait until they are 1/16 of it.
_EAGER_REWRITES = 64
_REWRITE_SHARE = 16


class ExperimentWriter:
    """Collects rows and appends them to ``metrics.csv``.

    The columns are all names met so far, sorted. A row with a new name makes the file be written anew, with the wider
    header, under a temporary name first: the file under its final name is complete at any time. Rows cost their own
    length, on average, however many names appear: after 64 rewrites, rows with new names are held back until they are
    a sixteenth of the file, or until `close`.

    Args:
        log_dir: folder of the files; made if missing. A ``metrics.csv`` in it is put aside, with a warning, and removed with
            the first row, unless a resumed run goes on with it.

    Attributes:
        metrics: rows that are not in the file yet.
        metrics_keys: the columns of the file.
        hparams: hyperparameters logged so far.
    """

    NAME_HPARAMS_FILE = "hparams.yaml"
    NAME_METRICS_FILE = "metrics.csv"

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []
        self.metrics_keys: list[str] = []
        self.metrics_file_path = os.path.join(log_dir, self.NAME_METRICS_FILE)
        self._rows_in_file = 0
        self._rewrites = 0
        self._last_step = -1
        # a former run's file lies beside until the first row comes: a resumed run goes on with its rows
        self._former_path = f"{self.metrics_file_path}.former"
        self._former = False
        self._check_log_dir_exists()
        folders.make_folder(log_dir)

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Add hyperparameters, and write all of them to ``hparams.yaml``."""
        from fulmen.core.saving import save_hparams_to_yaml

        self.hparams.update(params)
        save_hparams_to_yaml(os.path.join(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)

    def log_metrics(self, metrics_dict: dict[str, Any], step: int | None = None) -> None:
        """Add a row; `save` writes it.

        Args:
            metrics_dict: name to number or one-element tensor.
            step: value of the column ``step``; None: the number of rows waiting.
        """
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics_dict.items()}
        self._last_step = row["step"] = len(self.metrics) if step is None else step
        self.metrics.append(row)

    def save(self, everything: bool = False) -> None:
        """Write the waiting rows to the file.

        Args:
            everything: also rows with new names that are held back.
        """
        # a row that another thread adds in the meantime stays for the next time
        rows = self.metrics[:]
        if not rows:
            return
        known = set(self.metrics_keys)
        new = {name for row in rows for name in row if name not in known}
        exists = folders.is_file(self.metrics_file_path)
        if new and exists and not everything and self._rewrite_is_too_early():
            return
        if new:
            self.metrics_keys = sorted(known | new)
        if exists and not new:
            self._append(rows)
        else:
            self._write_anew(self._read() if exists else [], rows)
        self._rows_in_file += len(rows)
        del self.metrics[: len(rows)]
        self._forget_former()

    def close(self) -> None:
        """Write everything, also rows that were held back."""
        self._rewrites = 0
        self.save()
        self._forget_former()

    @property
    def position(self) -> list[int]:
        """How many rows there are, and the step of the last one (-1 without any)."""
        return [self._rows_in_file + len(self.metrics), self._last_step]

    def go_on_after(self, rows: int, step: int) -> bool:
        """Go on with the rows of the former run in this folder, without those after its first ``rows``.

        Args:
            rows: how many to keep.
            step: of the last one of them, to tell that the rows are that run's.

        Returns:
            whether they are there.
        """
        if self._rows_in_file or self.metrics or (rows and not self._former):
            return False
        if not rows:
            self._forget_former()
            return True
        kept = self._read(self._former_path)[:rows]
        if len(kept) < rows or kept[-1].get("step") != str(step):
            rank_zero_warn(
                f"The run that goes on had logged {rows} rows until step {step}, which the file "
                f"{self.metrics_file_path} does not have. A new one is begun."
            )
            return False
        # columns that only dropped rows have would not be there in a run that never stopped
        self.metrics_keys = sorted({name for row in kept for name, value in row.items() if value != ""})
        self._write_anew([{name: row[name] for name in self.metrics_keys} for row in kept], [])
        self._rows_in_file, self._last_step = rows, step
        self._forget_former()
        return True

    def _forget_former(self) -> None:
        if self._former:
            folders.remove_file(self._former_path)
            self._former = False

    def _rewrite_is_too_early(self) -> bool:
        """Whether it is too early for yet another rewrite; counts it otherwise."""
        if self._rewrites >= _EAGER_REWRITES and len(self.metrics) * _REWRITE_SHARE < self._rows_in_file:
            return True
        self._rewrites += 1
        return False

    def _append(self, rows: list[dict[str, Any]]) -> None:
        with folders.open_text(self.metrics_file_path, "a") as file:
            csv.DictWriter(file, fieldnames=self.metrics_keys).writerows(rows)

    def _read(self, path: str | None = None) -> list[dict[str, Any]]:
        with folders.open_text(path or self.metrics_file_path, "r") as file:
            return list(csv.DictReader(file))

    def _write_anew(self, old_rows: Iterable[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
        remote = is_remote(self.metrics_file_path)
        target = self.metrics_file_path if remote else f"{self.metrics_file_path}.tmp"
        with folders.open_text(target, "w") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(old_rows)
            writer.writerows(rows)
        if not remote:
            folders.replace_file(target, self.metrics_file_path)

    def _check_log_dir_exists(self) -> None:
        if folders.is_empty(self.log_dir):
            return
        rank_zero_warn(
            f"Experiment logs directory {self.log_dir} exists and is not empty. Its `{self.NAME_METRICS_FILE}` is "
            "removed now, and its other log files are replaced when new ones are written."
        )
        if is_remote(self.log_dir):
            if folders.is_file(self.metrics_file_path):
                folders.remove_file(self.metrics_file_path)
            return
        if folders.is_file(self.metrics_file_path):
            folders.replace_file(self.metrics_file_path, self._former_path)
        self._former = folders.is_file(self._former_path)


class CSVLogger(Logger):
    """Write ``metrics.csv`` and ``hparams.yaml`` into ``save_dir/name/version``, on a local or an fsspec file system.

    With ``notes=True`` there are two files more for ``fulmen report``: ``environment.json`` with the first row (versions,
    device, the time of the start) and ``timeline.json`` at the end of a fit (where the time went).

    Args:
        save_dir: folder of all experiments.
        name: name of the experiment, a folder in ``save_dir``; None or empty: versions lie in ``save_dir`` itself.
        version: a number N for the folder ``version_N``, a text for a folder of that name; None: the next free number.
        prefix: put before every metric's name, with a dash.
        flush_logs_every_n_steps: without `save` calls, rows reach the disk after so many steps. The trainer calls
            `save` after every row.
        notes: write the two files for the report.
    """

    LOGGER_JOIN_CHAR = "-"
    threaded = True

    def __init__(
        self,
        save_dir: _PATH,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
        notes: bool = False,
    ) -> None:
        super().__init__()
        self.notes = notes
        self._save_dir = os.fspath(save_dir)
        self._name = name or ""
        self._version = version
        self._prefix = prefix
        self._flush_logs_every_n_steps = flush_logs_every_n_steps
        self._experiment: ExperimentWriter | None = None
        self._started: datetime | None = None
        self._environment_written = False

    @property
    def name(self) -> str:
        """Name of the experiment, or empty."""
        return self._name

    @property
    def version(self) -> int | str:
        """The version given, or the next free number, fixed when it is asked for first."""
        if self._version is None:
            self._version = folders.next_version(self.root_dir)
        return self._version

    @property
    def save_dir(self) -> str:
        """Folder of all experiments."""
        return self._save_dir

    @property
    def root_dir(self) -> str:
        """Folder of all versions of this experiment."""
        return os.path.join(self.save_dir, self.name)

    @property
    def log_dir(self) -> str:
        """Folder of this version."""
        version = self.version
        return os.path.join(self.root_dir, version if isinstance(version, str) else f"version_{version}")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the files, made when it is asked for first; a `DummyExperiment` on other ranks than 0."""
        if self._experiment is None:
            folders.make_folder(self.root_dir)
            self._experiment = ExperimentWriter(log_dir=self.log_dir)
            self._started = datetime.now(timezone.utc).astimezone()
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Add hyperparameters, and write them at once."""
        self.experiment.log_hparams(_convert_params(params))

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row.

        Args:
            metrics: name to number or one-element tensor.
            step: value of the column ``step``; None: the number of rows waiting.
        """
        experiment = self.experiment
        if step is None:
            step = len(experiment.metrics)
        experiment.log_metrics(_add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR), step)
        if (step + 1) % self._flush_logs_every_n_steps == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the waiting rows."""
        experiment = self.experiment
        if self.notes and not self._environment_written and experiment.metrics and self._started is not None:
            # not earlier: with the first row it is known which device is in use
            environment.write(self.log_dir, self._started)
            self._environment_written = True
        experiment.save()

    def _position(self) -> list[int] | None:
        """Where the rows stand, all of them in the file: what a checkpoint keeps, for `_rewind`."""
        writer = self._experiment
        if type(writer) is not ExperimentWriter:
            return None
        writer.save(everything=True)
        return writer.position

    @rank_zero_only
    def _rewind(self, position: list[int]) -> bool | None:
        """Drop the rows after there, if a former run has left its own here."""
        writer = self.experiment
        return type(writer) is ExperimentWriter and writer.go_on_after(*position)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the waiting rows, if anything was logged in this process."""
        self._settle()
        if self._experiment is not None:
            self.save()
            self._experiment.close()
