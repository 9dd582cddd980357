"""`Profiler`: what measures the named parts of a run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fulmen.utilities.rank_zero import rank_zero_info

__all__ = ["Profiler"]


class Profiler(ABC):
    """Base of all profilers: `start` and `stop` get the name of an action, `summary` gives the report.

    A profiler of your own overrides these three.

    Args:
        dirpath: folder of the report; default the logger's folder.
        filename: name of the report's file, without stage, rank and ending; None: the report goes to the log.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename
        self._output_file: TextIO | None = None
        self._write_stream: Callable[[str], Any] | None = None
        self._local_rank: int | None = None
        self._log_dir: str | None = None
        self._stage: str | None = None

    @abstractmethod
    def start(self, action_name: str) -> None:
        """An action begins."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """An action ends."""

    def summary(self) -> str:
        """The report as text; empty: there is nothing to say."""
        return ""

    @property
    def local_rank(self) -> int:
        """This process's number on its machine."""
        return 0 if self._local_rank is None else self._local_rank

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Measures what happens inside the ``with`` block, under this name."""
        try:
            self.start(action_name)
            yield action_name
        finally:
            self.stop(action_name)

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """A run begins.

        Args:
            stage: "fit", "validate", "test" or "predict".
            local_rank: this process's number on its machine.
            log_dir: where the report goes if `dirpath` says nothing.
        """
        self._stage, self._local_rank, self._log_dir = stage, local_rank, log_dir
        self.dirpath = self.dirpath or log_dir

    def describe(self) -> None:
        """Writes the report to its file, or to the log."""
        write = self._writer()
        report = self.summary()
        if report:
            write(report)
        if self._output_file is not None:
            self._output_file.flush()
        self.teardown(stage=self._stage)

    def teardown(self, stage: str | None) -> None:
        """A run ends: closes the file.

        Args:
            stage: the run's entry point.
        """
        self._write_stream = None
        if self._output_file is not None:
            self._output_file.close()
            self._output_file = None

    def _report_name(self, extension: str = ".txt", split_token: str = "-") -> str:
        parts = [part for part in (self._stage, self.filename) if part]
        if self._local_rank is not None:
            parts.append(str(self._local_rank))
        return split_token.join(parts) + extension

    def _writer(self) -> Callable[[str], Any]:
        if self._write_stream is None:
            if self.filename is None or self._stage is None:
                self._write_stream = rank_zero_info
            else:
                folder = os.fspath(self.dirpath or ".")
                os.makedirs(folder, exist_ok=True)
                self._output_file = open(os.path.join(folder, self._report_name()), "a", encoding="utf-8")  # noqa: SIM115 (stays open as long as the profiler)
                self._write_stream = self._output_file.write
        return self._write_stream
