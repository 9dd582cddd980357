"""One run's folder as data: everything that a report shows, each file read whether or not the others are there."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fulmen.report.checkpoint_files import CheckpointFile, find_checkpoints
from fulmen.report.metrics_file import Metrics, Series, read_metrics

METRICS, HPARAMS, ENVIRONMENT, TIMELINE = "metrics.csv", "hparams.yaml", "environment.json", "timeline.json"


@dataclass
class Timeline:
    """Where a run's time went.

    Attributes:
        wall_seconds: duration by the wall clock.
        steps: training steps in it.
        parts: seconds by name of the part.
    """

    wall_seconds: float
    steps: int
    parts: dict[str, float]

    @property
    def rest(self) -> float:
        """Seconds that no part accounts for."""
        return max(0.0, self.wall_seconds - sum(self.parts.values()))


@dataclass
class Run:
    """What is known about a run.

    Attributes:
        path: its folder.
        label: its name in the report; unique among the runs of one report.
        metrics: the curves.
        hparams: hyperparameters, flattened, as text.
        environment: what ``environment.json`` says, as text.
        timeline: where the time went, or None if the run has not written it.
        checkpoints: the checkpoint files, newest last.
        notes: what is missing or damaged, as sentences.
        started: when the run began, or None if it is not known.
        last_row: when ``metrics.csv`` was written last.
    """

    path: Path
    label: str
    metrics: Metrics
    hparams: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    timeline: Timeline | None = None
    checkpoints: list[CheckpointFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: datetime | None = None
    last_row: datetime | None = None

    @property
    def series(self) -> dict[str, Series]:
        """The metrics by name."""
        return self.metrics.series

    @property
    def last_step(self) -> int:
        """The training's last step that a row speaks of; -1 without any."""
        if ends := self.metrics.epoch_ends():
            return int(ends[-1][0])
        steps = [max(s.steps) for s in self.series.values() if not s.counts_batches]
        return int(max(steps, default=-1))


def read_run(path: Path, label: str) -> Run:
    """Read a run's folder.

    Args:
        path: a folder with a ``metrics.csv``.
        label: name of the run in the report.

    Raises:
        FileNotFoundError, ValueError: ``metrics.csv`` is missing, or holds nothing that could be shown.
    """
    file = path / METRICS
    metrics = read_metrics(file)
    run = Run(path, label, metrics, notes=list(metrics.notes))
    run.last_row = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).astimezone()
    if not metrics.series:
        run.notes.append("metrics.csv has a header, and no values yet.")
    run.hparams = _read_hparams(path / HPARAMS, run.notes)
    environment = _read_json(path / ENVIRONMENT, run.notes)
    environment.pop("version", None)
    run.started = _time(environment.pop("started", None))
    run.environment = {name: _text(value) for name, value in environment.items()}
    run.timeline = _read_timeline(path / TIMELINE, run.notes)
    run.checkpoints = find_checkpoints(path / "checkpoints")
    return run


def _read_hparams(path: Path, notes: list[str]) -> dict[str, str]:
    import yaml

    from fulmen.loggers.utilities import _flatten_dict

    class Loader(yaml.SafeLoader):
        """Reads objects of Python's as text: a report has no business in building them."""

    def as_text(loader: Any, suffix: str, node: Any) -> str:
        inner = node.value if isinstance(node, yaml.ScalarNode) else ""
        return inner or suffix.rpartition(":")[2] or suffix

    Loader.add_multi_constructor("", as_text)
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8", errors="replace"), Loader)
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        notes.append(f"{path.name} cannot be read: {str(error).splitlines()[0]}.")
        return {}
    if loaded is None or loaded == {}:
        return {}
    if not isinstance(loaded, dict):
        notes.append(f"{path.name} cannot be read: it holds no names and values.")
        return {}
    return {name: _text(value) for name, value in _flatten_dict(loaded).items()}


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        notes.append(f"{path.name} cannot be read: {error}.")
        return {}
    if not isinstance(loaded, dict):
        notes.append(f"{path.name} cannot be read: it holds no names and values.")
        return {}
    return loaded


def _read_timeline(path: Path, notes: list[str]) -> Timeline | None:
    loaded = _read_json(path, notes)
    if not loaded:
        return None
    try:
        parts = {str(name): float(seconds) for name, seconds in loaded["parts"].items()}
        timeline = Timeline(float(loaded["wall_seconds"]), int(loaded["steps"]), parts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        notes.append(f"{path.name} cannot be read: {type(error).__name__} {error}.")
        return None
    if not all(math.isfinite(v) and v >= 0 for v in (timeline.wall_seconds, *parts.values())):
        notes.append(f"{path.name} cannot be read: it holds times that are negative or not finite.")
        return None
    return timeline


def _time(text: Any) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.astimezone()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
