"""The checkpoint files of a run: what their names say, and what the newest ones say about the best."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_VALUE = re.compile(r"(?:^|[-/])([^=/]+?)=(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf|-inf)(?=-|$|\.)", re.IGNORECASE)
_STORED = "ModelCheckpoint"


@dataclass
class CheckpointFile:
    """A checkpoint.

    Attributes:
        name: its path below the folder of checkpoints.
        size: bytes; of all files in it where it is a folder.
        written: when.
        values: what its name says: ``{"epoch": "3", "val_loss": "0.123"}``.
        best: it has the best score so far, after the word of a checkpoint callback.
        score: that score with its name, ``"val_loss = 0.1234"``; empty for others.
    """

    name: str
    size: int
    written: datetime
    values: dict[str, str] = field(default_factory=dict)
    best: bool = False
    score: str = ""


def find_checkpoints(folder: Path) -> list[CheckpointFile]:
    """The checkpoints in a folder and below it, oldest first; none where there is no folder.

    Args:
        folder: the folder.
    """
    found: list[tuple[Path, CheckpointFile]] = []
    for path in sorted(folder.rglob("*.ckpt")):
        if any(parent.suffix == ".ckpt" for parent in path.relative_to(folder).parents):
            # a part of a checkpoint that is a folder
            continue
        try:
            file = _describe(path, folder)
        except OSError:
            # a run that goes on replaces its files
            continue
        found.append((path, file))
    found.sort(key=lambda item: item[1].written)
    if found:
        _mark_best(found)
    return [file for _, file in found]


def _describe(path: Path, folder: Path) -> CheckpointFile:
    parts = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    name = path.relative_to(folder).as_posix()
    return CheckpointFile(
        name=name,
        size=sum(part.stat().st_size for part in parts),
        written=datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).astimezone(),
        values={key.strip("_"): value for key, value in _VALUE.findall(name.removesuffix(".ckpt"))},
    )


def _mark_best(found: list[tuple[Path, CheckpointFile]]) -> None:
    """Asks the newest checkpoint that can be read for its callback's opinion."""
    for path, _ in reversed(found[-3:]):
        states = [] if path.is_dir() else _callback_states(path)
        for state in states:
            best, score = state.get("best_model_path"), state.get("best_model_score")
            for other, file in found:
                if best and score is not None and Path(str(best)).name == other.name:
                    file.best = True
                    file.score = f"{state.get('monitor')} = {float(score):.6g}"
        if states:
            return


def _callback_states(path: Path) -> list[dict[str, Any]]:
    """What checkpoint callbacks stored in a file; the tensors stay on the disk."""
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        callbacks = loaded.get("callbacks") or {}
        return [state for name, state in callbacks.items() if _STORED in str(name) and isinstance(state, dict)]
    except Exception:
        # any file may lie here: half written, of another program, with objects of the user's; it is listed all the same
        return []
