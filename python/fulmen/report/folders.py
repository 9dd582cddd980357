"""From what was typed to folders of runs: a run itself, or a folder that holds some."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fulmen import errors
from fulmen.report.run_folder import METRICS, Run, read_run


def find_runs(given: Iterable[str | Path]) -> list[Run]:
    """Read the runs that folders stand for.

    Args:
        given: folders with a ``metrics.csv``, such files themselves, or folders above some, which stand for all of them.

    Raises:
        FileNotFoundError: a folder is missing, or holds no run.
        ValueError: none is given, or the only run of a folder cannot be read.
    """
    paths: list[Path] = []
    for one in given:
        paths += [path for path in _runs_of(Path(one)) if path not in paths]
    if not paths:
        raise errors.value_error("RUN_DIR", "at least one folder of a run", errors.Words("none"), "Name one")
    labels = _labels(paths)
    return [read_run(path, label) for path, label in zip(paths, labels, strict=True)]


def _runs_of(given: Path) -> list[Path]:
    if given.name == METRICS and given.is_file():
        return [given.parent]
    if not given.exists():
        raise errors.file_not_found("RUN_DIR", given, "Name the folder that a CSVLogger wrote, `logger.log_dir`")
    if (given / METRICS).is_file():
        return [given]
    below = sorted({path.parent for path in given.rglob(METRICS)}, key=lambda path: _natural(str(path)))
    if below:
        return below
    received = errors.Words(f"{given}, which holds none" if given.is_dir() else f"the file {given}")
    if given.is_dir() and any(given.rglob("events.out.tfevents.*")):
        cure = (
            "It holds TensorBoard's event files: add a CSVLogger to the run, `Trainer(logger=[TensorBoardLogger(folder), "
            "CSVLogger(folder)])`"
        )
    else:
        cure = "A CSVLogger writes it with the first row: `Trainer(logger=CSVLogger(folder))`; has the run logged anything?"
    raise FileNotFoundError(errors.describe("RUN_DIR", f"a folder with a {METRICS}", received, cure))


def _labels(paths: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart; two parts at least, where there are two."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            break
    if len(paths) == 1 and len(parts[0]) > 2:
        ends = ["/".join(parts[0][-2:])]
    return ends


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts version_10 behind version_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
