"""What `ModelCheckpoint` does to files: write, link, delete, each when the one before is on the disk."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import proxy

from fulmen.plugins.io.links import point
from fulmen.plugins.io.moments import afterwards, saving
from fulmen.utilities.files import is_remote

if TYPE_CHECKING:
    import fulmen as L


class CheckpointFiles:
    """Part of `ModelCheckpoint`."""

    dirpath: str | None
    save_weights_only: bool
    _last_global_step_saved: int
    _last_checkpoint_saved: str

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        with saving(trainer):
            trainer.save_checkpoint(filepath, self.save_weights_only)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero and trainer.loggers:
            afterwards(trainer, partial(self._tell_loggers, trainer))

    def _tell_loggers(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers:
            logger.after_save_checkpoint(proxy(self))  # type: ignore[arg-type]

    def _link_checkpoint(self, trainer: L.Trainer, filepath: str, linkpath: str) -> None:
        if is_remote(linkpath):
            raise ValueError(f"save_last='link' is only supported for local paths, got {linkpath}. Use save_last=True.")
        if trainer.is_global_zero:
            afterwards(trainer, partial(point, Path(linkpath), Path(filepath)))
        trainer.strategy.barrier()

    def _may_remove(self, trainer: L.Trainer, former: str, current: str) -> bool:
        """Is the former file ours to delete?"""
        if former == current:
            return False
        if is_remote(former):
            return True
        former_path = Path(former).absolute()
        resumed = Path(trainer.ckpt_path).absolute() if trainer.ckpt_path is not None else None
        if resumed is not None and former_path == resumed:
            return False
        assert self.dirpath is not None
        return Path(self.dirpath).absolute() in former_path.parents

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> Any:
        afterwards(trainer, partial(trainer.strategy.remove_checkpoint, filepath), removes=os.fspath(filepath))
