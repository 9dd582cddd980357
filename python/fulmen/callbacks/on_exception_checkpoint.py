"""`OnExceptionCheckpoint`: one file on the way out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.checkpoint import Checkpoint

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["OnExceptionCheckpoint"]


class OnExceptionCheckpoint(Checkpoint):
    """Writes a checkpoint when a run ends by an exception; the next fit goes on from it, and removes it when it ends well.

    Args:
        dirpath: where to.
        filename: without its ending.

    Raises:
        ValueError: no name.
    """

    FILE_EXTENSION = ".ckpt"

    def __init__(self, dirpath: str | Path, filename: str = "on_exception") -> None:
        super().__init__()
        if not filename:
            raise ValueError(
                "OnExceptionCheckpoint(filename): The filename cannot be empty. Pass a name without ending."
            )
        self.dirpath = dirpath
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """The file's path."""
        return os.path.join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def on_exception(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Writes the file."""
        trainer.save_checkpoint(self.ckpt_path)

    def teardown(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Removes the file of a former run, now that this one ended well."""
        if not trainer.interrupted and os.path.exists(self.ckpt_path):
            trainer.strategy.remove_checkpoint(self.ckpt_path)
