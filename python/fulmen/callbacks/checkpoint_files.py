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
    _replaced: list[str]
    best_k_models: dict[str, Any]
    best_model_path: str
    last_model_path: str

    if TYPE_CHECKING:

        def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]: ...

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        with saving(trainer):
            trainer.save_checkpoint(filepath, self.save_weights_only)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero and trainer.loggers:
            afterwards(trainer, partial(self._tell_loggers, trainer))

    def _save_and_replace(self, trainer: L.Trainer, path: str, former: str | None) -> None:
        """Saves, and deletes another file when this one is on the disk."""
        goes = bool(former) and self._may_remove(trainer, str(former), path)
        if goes:
            self._replaced.append(str(former))
        self._save_checkpoint(trainer, path)
        if goes:
            self._remove_checkpoint(trainer, str(former))

    def _remove_leavings(self, trainer: L.Trainer) -> None:
        """Deletes what the file that this run resumes from had replaced when the former run ended."""
        replaced, self._replaced = self._replaced, []
        kept = {*self.best_k_models, self.best_model_path, self.last_model_path}
        for path in replaced:
            if (
                path not in kept
                and not is_remote(path)
                and self._may_remove(trainer, path, "")
                and os.path.exists(path)
            ):
                self._remove_checkpoint(trainer, path)

    def _tell_loggers(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers:
            logger.after_save_checkpoint(proxy(self))

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
        if resumed is not None and former_path == resumed and not trainer._checkpoints.found:
            return False  # the user named it
        assert self.dirpath is not None
        return Path(self.dirpath).absolute() in former_path.parents

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> Any:
        # what is on the disk when the action runs
        instead = self._last_checkpoint_saved or os.fspath(trainer.ckpt_path or "")
        afterwards(trainer, partial(self._removed, trainer, filepath, instead), removes=os.fspath(filepath))

    def _removed(self, trainer: L.Trainer, filepath: str, instead: str) -> None:
        self._turn_links(trainer, filepath, instead)
        trainer.strategy.remove_checkpoint(filepath)
        if filepath in self._replaced:
            self._replaced.remove(filepath)

    def _turn_links(self, trainer: L.Trainer, filepath: str, instead: str) -> None:
        """Names of the last file that stand for one to be deleted stand for another: they never lead nowhere."""
        if not trainer.is_global_zero or is_remote(filepath):
            return
        goes, stays = os.path.realpath(filepath), os.path.realpath(instead)
        if goes == stays or not os.path.isfile(stays):
            return
        for name in self._find_last_checkpoints(trainer):
            if os.path.islink(name) and os.path.realpath(name) == goes and os.path.abspath(name) != stays:
                point(Path(name), Path(stays))
