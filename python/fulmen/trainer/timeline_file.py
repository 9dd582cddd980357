"""``timeline.json``: where a fit's time went, beside its metrics, for ``fulmen report``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from fulmen.loggers import folders
from fulmen.loggers.csv_logs import CSVLogger
from fulmen.utilities.files import is_remote
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

FILE_NAME = "timeline.json"


def write_timeline(trainer: Trainer) -> None:
    """Write the trainer's timeline into the folder of each ``CSVLogger(notes=True)``, complete under its name at any time.

    The content is ``{"version": 1, "wall_seconds": …, "steps": …, "parts": {name: seconds}}``.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger) or not logger.notes or not folders.is_folder(logger.log_dir):
            continue
        try:
            _write(os.path.join(logger.log_dir, FILE_NAME), json.dumps(trainer.timeline.as_dict(), indent=1))
        except OSError as error:
            # the run itself went well
            rank_zero_warn(f"{FILE_NAME} could not be written: {error}")


def _write(path: str, text: str) -> None:
    target = path if is_remote(path) else f"{path}.tmp"
    with folders.open_text(target, "w") as file:
        file.write(f"{text}\n")
    if target != path:
        folders.replace_file(target, path)
