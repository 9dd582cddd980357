"""Reading ``metrics.csv`` as it may be found on a disk: complete, growing at this moment, or cut off by a crash.

The file is CSV with a header; its columns are ``step``, mostly ``epoch``, and a metric each; a row fills the cells of
what was logged together and leaves the others empty. Values are numbers, ``nan`` and ``inf`` among them.
"""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

from fulmen import errors

_X_COLUMNS = ("step", "epoch")


@dataclass
class Series:
    """A metric's values in the order in which they were logged.

    Attributes:
        name: the metric's name.
        steps: the ``step`` of each value.
        epochs: the ``epoch`` of each value, as logged; None where the row has none.
        values: the values; ``nan`` and infinities stay.
    """

    name: str
    steps: list[float] = field(default_factory=list)
    epochs: list[float | None] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def finite(self) -> list[tuple[float, float]]:
        """(step, value) of all values that are numbers."""
        return [(s, v) for s, v in zip(self.steps, self.values, strict=True) if math.isfinite(v)]

    @property
    def counts_batches(self) -> bool:
        """Whether its ``step`` is a count of evaluation batches, not the training's steps.

        Values that an evaluation logs batch by batch stand on an axis of their own, in rows without ``epoch``.
        """
        name = self.name.lower()
        return name.startswith(("val", "test")) and all(epoch is None for epoch in self.epochs)


@dataclass
class Metrics:
    """The content of a ``metrics.csv``.

    Attributes:
        series: metric by name, in the order of the file's columns; those without any value are left out.
        notes: what is wrong with the file, as sentences; empty for a sound one.
        rows: number of rows read.
    """

    series: dict[str, Series]
    notes: list[str]
    rows: int

    def epoch_ends(self) -> list[tuple[float, float]]:
        """(last step, epochs done) at the end of every epoch, ascending; the last epoch may still be going on."""
        last: dict[float, float] = {}
        for series in self.series.values():
            for step, epoch in zip(series.steps, series.epochs, strict=True):
                if epoch is not None:
                    last[epoch] = max(step, last.get(epoch, -math.inf))
        ends: list[tuple[float, float]] = []
        for epoch in sorted(last):
            if not ends or last[epoch] > ends[-1][0]:
                ends.append((last[epoch], epoch + 1))
        # what is evaluated after the training stands one step behind it, in an epoch that was never begun
        if len(ends) > 1 and ends[-1][0] - ends[-2][0] <= 1 and ends[0][0] > 0:
            ends.pop()
        return ends


def read_metrics(path: Path) -> Metrics:
    """Read a file; what is damaged is left out and noted.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing in it can be drawn, not even a header with a column ``step``.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise errors.file_not_found(
            "RUN_DIR", path, "Log with `CSVLogger`: Trainer(logger=CSVLogger(folder)); it writes this file"
        ) from None
    notes: list[str] = []
    text = raw.decode("utf-8", errors="replace")
    if "\0" in text:
        # a file system that lost power may leave blocks of zeros
        text = text.replace("\0", "")
        notes.append("metrics.csv holds zero bytes, as after a power failure; they were skipped.")
    if text and not text.endswith("\n"):
        # a row is complete when its line end is there
        text, _, rest = text.rpartition("\n")
        if text:
            text += "\n"
            notes.append(f"The last row of metrics.csv is not complete ({len(rest)} characters); it was left out.")
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, None)
    if not header or "step" not in header:
        received = "an empty file" if not raw.strip() else f"a file that begins with {raw[:60]!r}"
        cure = "If the run has only just begun, wait for its first row; otherwise the file is not a CSVLogger's"
        raise errors.value_error(str(path), "CSV with a column `step`", errors.Words(received), cure)
    return _rows(reader, header, notes)


def _rows(reader: object, header: list[str], notes: list[str]) -> Metrics:
    step_at = header.index("step")
    epoch_at = header.index("epoch") if "epoch" in header else None
    columns = [(at, Series(name)) for at, name in enumerate(header) if name and name not in _X_COLUMNS]
    rows = damaged = 0
    unreadable: dict[str, int] = {}
    for row in reader:  # type: ignore[attr-defined]  # a reader of rows by then
        if not row:
            continue
        step = _number(row[step_at]) if len(row) == len(header) else None
        if step is None or not math.isfinite(step):
            damaged += 1
            continue
        rows += 1
        epoch = _number(row[epoch_at]) if epoch_at is not None else None
        for at, series in columns:
            cell = row[at]
            if not cell:
                continue
            value = _number(cell)
            if value is None:
                unreadable[series.name] = unreadable.get(series.name, 0) + 1
                continue
            series.steps.append(step)
            series.epochs.append(epoch)
            series.values.append(value)
    if damaged:
        notes.append(f"{damaged} row{'s' * (damaged > 1)} of metrics.csv could not be read, and were left out.")
    for name, count in unreadable.items():
        notes.append(f"{count} value{'s' * (count > 1)} of {name} in metrics.csv are no numbers, and were left out.")
    return Metrics({series.name: series for _, series in columns if series.values}, notes, rows)


def _number(cell: str) -> float | None:
    """A cell as a number; None for an empty one and for text."""
    try:
        return float(cell)
    except ValueError:
        return {"True": 1.0, "False": 0.0}.get(cell)


def epochs_done(step: float, ends: list[tuple[float, float]]) -> float:
    """How many epochs are over at a step, with fractions: 1.0 at the last step of the first epoch.

    Args:
        step: the step.
        ends: what `Metrics.epoch_ends` returns.
    """
    if not ends:
        return 0.0
    at = min(bisect_left(ends, (step, -math.inf)), len(ends) - 1)
    end, done = ends[at]
    start, before = ends[at - 1] if at else (-1.0, done - 1)
    if at and at == len(ends) - 1:
        # the epoch that may still be going on is at least as long as the one before
        length = ends[at - 1][0] - (ends[at - 2][0] if at > 1 else -1.0)
        end = max(end, start + length * (done - before))
    return before + (done - before) * max(0.0, min(1.0, (step - start) / (end - start))) if end > start else done
