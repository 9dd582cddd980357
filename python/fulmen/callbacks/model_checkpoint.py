"""`ModelCheckpoint`: writes checkpoints when something is due, and keeps the best of them."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from fulmen.callbacks.callback import ignores_outputs
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.checkpoint_files import CheckpointFiles
from fulmen.callbacks.checkpoint_names import CheckpointNames
from fulmen.callbacks.checkpoint_own_value import OwnValue
from fulmen.callbacks.checkpoint_topk import TopK
from fulmen.plugins.io.moments import saving
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.files import get_filesystem, is_remote
from fulmen.utilities.rank_zero import WarningCache, rank_zero_info, rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["ModelCheckpoint"]

_warned = WarningCache()


#: what is known of the files in the folder, and means nothing in another one
_OF_FOLDER = ("best_model_score", "best_k_models", "kth_best_model_path", "kth_value", "last_model_path")


class ModelCheckpoint(OwnValue, TopK, CheckpointFiles, CheckpointNames, Checkpoint):
    """Saves the module periodically, by a monitored value or not.

    Args:
        dirpath: where to; None: below the first logger's folder, or ``default_root_dir/checkpoints``.
        filename: name with fields such as ``"{epoch}-{val_loss:.2f}"``; None: ``{epoch}-{step}``.
        monitor: name of the logged value that says which files are best; None: the newest is kept.
        verbose: say so when a file is written.
        save_last: True: ``last.ckpt`` is a copy of the newest file; "link": a symbolic link to it, or a
            copy where the file system knows no links.
        save_top_k: how many to keep; -1: all; 0: none.
        save_on_exception: write one more file when the run ends by an exception.
        save_weights_only: leave out what only a resume needs.
        mode: whether "min" or "max" of the monitored value is best.
        auto_insert_metric_name: write ``name=value`` instead of ``value`` for each field.
        every_n_train_steps: save after so many optimizer steps.
        train_time_interval: save after so much time.
        every_n_epochs: save after so many epochs.
        save_on_train_epoch_end: save after training epochs (True) or after validations (False); None: as fits.
        enable_version_counter: append ``-v1`` … instead of overwriting.

    Raises:
        MisconfigurationException: options that contradict each other.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, monitor: str | None = None,
        verbose: bool = False, save_last: bool | Literal["link"] | None = None, save_top_k: int = 1,
        save_on_exception: bool = False, save_weights_only: bool = False, mode: str = "min",
        auto_insert_metric_name: bool = True, every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None, every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None, enable_version_counter: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.monitor, self.verbose = monitor, verbose
        self.save_top_k, self.save_last = save_top_k, save_last
        self.save_weights_only, self.save_on_exception = save_weights_only, save_on_exception
        self.auto_insert_metric_name, self._enable_version_counter = auto_insert_metric_name, enable_version_counter
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._last_global_step_saved = 0
        self._last_time_checked: float | None = None
        self._last_checkpoint_saved = ""
        self._defer_until_validation = False
        self.last_model_path = ""
        self._replaced: list[str] = []
        self._init_mode(mode)
        self._init_dir(dirpath, filename)
        self._init_triggers(every_n_train_steps, every_n_epochs, train_time_interval)
        self._check_options()

    # ---- options -----------------------------------------------------------------------------------------------------

    def _init_dir(self, dirpath: Any, filename: str | None) -> None:
        if dirpath and not is_remote(os.fspath(dirpath)):
            dirpath = os.path.realpath(os.path.expanduser(dirpath))
        self.dirpath: str | None = os.fspath(dirpath) if dirpath else None
        self.filename = filename

    def _init_triggers(self, steps: int | None, epochs: int | None, interval: timedelta | None) -> None:
        if steps is None and epochs is None and interval is None:
            epochs = 1
        self._every_n_epochs = epochs or 0
        self._every_n_train_steps = steps or 0
        self._train_time_interval = interval

    def _check_options(self) -> None:
        name = type(self).__name__
        if self.save_top_k < -1:
            raise MisconfigurationException(
                f"Invalid value for save_top_k={self.save_top_k}. Must be >= -1: -1 keeps all, 0 none, k the best k."
            )
        triggers = {
            "every_n_train_steps": self._every_n_train_steps,
            "every_n_epochs": self._every_n_epochs,
        }
        for trigger, value in triggers.items():
            if value < 0:
                raise MisconfigurationException(f"Invalid value for {trigger}={value}. Must be >= 0.")
        given = [self._every_n_train_steps >= 1, self._every_n_epochs >= 1, self._train_time_interval is not None]
        if sum(given) > 1:
            raise MisconfigurationException(
                f"{name}: `every_n_train_steps`, `every_n_epochs` and `train_time_interval` should be mutually exclusive. "
                "Use several callbacks."
            )
        if self.monitor is None and self.save_top_k not in (-1, 0, 1):
            raise MisconfigurationException(
                f"ModelCheckpoint(save_top_k={self.save_top_k}, monitor=None) is not a valid configuration. No quantity "
                "for top_k to track: pass `monitor`."
            )

    @property
    def every_n_epochs(self) -> int | None:
        """Epochs between two saves."""
        return self._every_n_epochs

    @property
    def state_key(self) -> str:
        """Differs by what is monitored and when: several such callbacks keep their states apart."""
        # in this order: the key is a text, and files have it
        when = ("every_n_train_steps", "every_n_epochs", "train_time_interval")
        return self._generate_state_key(
            monitor=self.monitor, mode=self.mode, **{name: getattr(self, f"_{name}") for name in when}
        )

    # ---- moments -----------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Decides where files go; the same on all ranks."""
        folder = trainer.strategy.broadcast(self._resolve_folder(trainer))
        self.dirpath = folder
        if trainer.is_global_zero and stage == "fit":
            self._warn_not_empty()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._last_time_checked = time.monotonic()
        self._remove_leavings(trainer)
        if self._every_n_train_steps and not pl_module.automatic_optimization:
            rank_zero_warn(
                "ModelCheckpoint(every_n_train_steps=...) with manual optimization saves after the batch: the file holds "
                "the state after the optimizer's step."
            )

    def _idle(self, hook: str, trainer: L.Trainer) -> bool:
        # a subclass with a hook of its own calls this one itself
        own = type(self).on_train_batch_end is not ModelCheckpoint.on_train_batch_end
        by_batch = own or bool(self._every_n_train_steps) or self._train_time_interval is not None
        return hook == "on_train_batch_end" and not by_batch

    @ignores_outputs
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if a step or time trigger is due."""
        if not self._every_n_train_steps and self._train_time_interval is None:
            return
        if self._should_skip(trainer):
            return
        by_step = self._every_n_train_steps >= 1 and trainer.global_step % self._every_n_train_steps == 0
        by_time = False
        if self._train_time_interval is not None:
            now = time.monotonic()
            before = self._last_time_checked
            by_time = before is None or now - before >= self._train_time_interval.total_seconds()
            by_time = trainer.strategy.broadcast(by_time)
            if by_time:
                self._last_time_checked = now
        if not by_step and not by_time:
            return
        stale = self._is_stale(trainer)
        if stale and trainer._schedule.validation_follows(time.monotonic()):
            self._defer_until_validation = True
            return
        self._save_all(trainer, stale)

    def _save_all(self, trainer: L.Trainer, stale: bool = False) -> None:
        candidates = self._monitor_candidates(trainer)
        if stale:
            self._without_value(candidates)
        with saving(trainer):
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves if that is this callback's moment."""
        if not self._should_skip(trainer) and self._should_save_on_train_epoch_end(trainer):
            self._save_epoch(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves if that is this callback's moment, or was, and only the value was missing."""
        self._note_validation(trainer)
        if self._should_skip(trainer):
            return
        if self._defer_until_validation:
            self._defer_until_validation = False
            self._save_all(trainer, self._is_stale(trainer))
        elif not self._should_save_on_train_epoch_end(trainer):
            self._save_epoch(trainer)

    def _save_epoch(self, trainer: L.Trainer) -> None:
        candidates = self._monitor_candidates(trainer)
        with saving(trainer):
            if self._every_n_epochs >= 1 and (trainer.current_epoch + 1) % self._every_n_epochs == 0:
                self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """With ``save_top_k=0`` the last file is written here, once."""
        never_saved = not self._last_checkpoint_saved and not self.last_model_path
        if self.save_last and never_saved and not trainer.fast_dev_run:
            self._last_global_step_saved = trainer.global_step
            self._write_last(trainer, self._monitor_candidates(trainer))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """One more file on the way out, if asked for."""
        if self.save_on_exception and not self._should_skip(trainer):
            self._save_all(trainer, self._is_stale(trainer))

    def _should_skip(self, trainer: L.Trainer) -> bool:
        return (
            bool(trainer.fast_dev_run)
            or trainer.state.fn != "fit"
            or trainer.sanity_checking
            or self._last_global_step_saved == trainer.global_step
        )

    def _should_save_on_train_epoch_end(self, trainer: L.Trainer) -> bool:
        if self._save_on_train_epoch_end is not None:
            return self._save_on_train_epoch_end
        if trainer.check_val_every_n_epoch != 1:
            return False
        if not sum(n for n in trainer.num_val_batches):
            return True
        return getattr(trainer, "val_check_interval", None) == 1.0

    # ---- saving ------------------------------------------------------------------------------------------------------

    def _monitor_candidates(self, trainer: L.Trainer) -> dict[str, Tensor]:
        candidates = {k: v.clone() if isinstance(v, Tensor) else v for k, v in trainer.callback_metrics.items()}
        for name, value in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
            own = candidates.get(name)
            candidates[name] = own.int() if isinstance(own, Tensor) else torch.tensor(value)
        return candidates

    def _save_topk_checkpoint(self, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        if self.save_top_k == 0:
            return
        if self.monitor is None:
            self._save_newest(trainer, candidates)
            return
        if self.monitor not in candidates:
            text = (
                f"`ModelCheckpoint(monitor={self.monitor!r})` could not find the monitored key in the returned metrics: "
                f"{sorted(candidates)}. HINT: Did you call `log({self.monitor!r}, value)` in the `LightningModule`?"
            )
            if trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.completed:
                raise MisconfigurationException(text)
            _warned.warn(text)
        self._save_monitored(trainer, candidates)

    def _save_newest(self, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        path = self._path_for(candidates, trainer, self.best_model_path)
        former, self.best_model_path = self.best_model_path, path
        self._save_and_replace(trainer, path, former if self.save_top_k == 1 else None)

    def _save_last_checkpoint(self, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        if not self.save_last:
            return
        by_epoch = not self._every_n_train_steps and self._train_time_interval is None
        if by_epoch and self._last_global_step_saved != trainer.global_step:
            return
        self._write_last(trainer, candidates)

    def _write_last(self, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        path = self._last_path(candidates, trainer)
        former, self.last_model_path = self.last_model_path, path
        if self.save_last == "link" and self._last_checkpoint_saved and self.save_top_k != 0:
            self._link_checkpoint(trainer, self._last_checkpoint_saved, path)
        else:
            self._save_checkpoint(trainer, path)
        if former and self._may_remove(trainer, former, path):
            self._remove_checkpoint(trainer, former)

    def _save_state(self, trainer: L.Trainer, counts: bool) -> str:
        """Writes the whole state under the name of the last file, whatever the options say, and returns when it is there.

        Args:
            trainer: between two batches.
            counts: whether this step's state needs no other file.
        """
        path = self._last_path(self._monitor_candidates(trainer), trainer)
        former, self.last_model_path = self.last_model_path, path
        trainer.save_checkpoint(path, weights_only=False)
        if counts:
            self._last_global_step_saved = trainer.global_step
        if former and self._may_remove(trainer, former, path):
            self._remove_checkpoint(trainer, former)
        return path

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Which files there are, and which is best."""
        state = {
            name: getattr(self, name)
            for name in ("monitor", "current_score", "dirpath", "best_model_path", *_OF_FOLDER)
        }
        # files that this one replaces: whoever resumes from it deletes them if the run ended before it could
        return state | ({"replaced": list(self._replaced)} if self._replaced else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that back; with another ``dirpath`` only the best path, since the other files are not ours."""
        if state_dict.get("dirpath", self.dirpath) == self.dirpath:
            # older files lack some
            for name in _OF_FOLDER:
                setattr(self, name, state_dict.get(name, getattr(self, name)))
            self._replaced = list(state_dict.get("replaced", ()))
        else:
            rank_zero_warn(
                f"The dirpath has changed from {state_dict['dirpath']!r} to {self.dirpath!r}, therefore only "
                "`best_model_path` is restored."
            )
        self.best_model_path = state_dict["best_model_path"]

    def to_yaml(self, filepath: str | Path | None = None) -> None:
        """Writes the kept files with their scores.

        Args:
            filepath: default ``dirpath/best_k_models.yaml``.
        """
        import yaml

        assert self.dirpath is not None
        target = os.path.join(self.dirpath, "best_k_models.yaml") if filepath is None else os.fspath(filepath)
        with get_filesystem(target).open(target, "w") as file:
            yaml.dump({path: score.item() for path, score in self.best_k_models.items()}, file)

    @rank_zero_only
    def _warn_not_empty(self) -> None:
        folder = self.dirpath
        if self.save_top_k != 0 and folder and not is_remote(folder) and os.path.isdir(folder) and os.listdir(folder):
            rank_zero_warn(f"Checkpoint directory {folder} exists and is not empty.")

    def _say(self, text: str) -> None:
        if self.verbose:
            rank_zero_info(text)
