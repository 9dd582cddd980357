"""What a checkpoint holds, in Lightning's key layout, and how a run takes it up again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen._core import CheckpointFile
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.on_exception_checkpoint import OnExceptionCheckpoint
from fulmen.compat.version import LIGHTNING_VERSION
from fulmen.core.migration import VERSION_KEY, in_todays_form
from fulmen.plugins.io import remote
from fulmen.plugins.io.async_io import AsyncCheckpointIO
from fulmen.plugins.io.loading import newest_that_loads
from fulmen.plugins.io.moments import background
from fulmen.plugins.io.native_io import NativeCheckpointIO
from fulmen.precision.double import DoublePrecision
from fulmen.trainer import midway
from fulmen.trainer.hook_table import call_module, callback_calls, fire, module_call
from fulmen.trainer.profiling import profiled
from fulmen.trainer.states import TrainerFn
from fulmen.utilities.files import is_remote
from fulmen.utilities.older_names import class_key
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

PLACE_KEY = "fulmen_place"
"""Where a file holds the places in the training loaders; Lightning ignores it."""


class Checkpoints:
    """Writes and restores a trainer's checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._loaded: dict[str, Any] = {}
        self._place: dict[str, Any] = {}
        self._half_done: dict[str, Any] = {}
        self._weights_only: bool | None = None
        self.user_managed = False
        self.found = False
        """Was the file of this run found by itself (``ckpt_path="auto"``), and not named by the user?"""

    # ---- saving ------------------------------------------------------------------------------------------------------

    def dump(self, weights_only: bool = False) -> dict[str, Any]:
        """Everything that a resume needs, or only what a later evaluation needs.

        Returns:
            A dict of tensors and plain data under the keys that Lightning's files have.
        """
        trainer = self.trainer
        # a logger's file is not behind a checkpoint; what went wrong with it is no reason not to save
        trainer._ledger.rows.settle()
        module, datamodule = trainer.lightning_module, trainer.datamodule
        checkpoint: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            VERSION_KEY: LIGHTNING_VERSION,
            "state_dict": trainer.strategy.lightning_module_state_dict(),
            "loops": {
                "fit_loop": trainer.fit_loop.state_dict(),
                "validate_loop": trainer.validate_loop.state_dict(),
                "test_loop": trainer.test_loop.state_dict(),
                "predict_loop": trainer.predict_loop.state_dict(),
            },
        }
        if not weights_only:
            checkpoint["callbacks"] = callback_states(trainer)
            checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(o) for o in trainer.optimizers]
            checkpoint["lr_schedulers"] = [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]
            precision = trainer.precision_plugin.state_dict()
            if precision:
                checkpoint[type(trainer.precision_plugin).__qualname__] = precision
        for owner, prefix in ((module, ""), (datamodule, "datamodule_")):
            if owner is not None and owner.hparams:
                checkpoint.update(_hparams_entries(owner, prefix))
        if datamodule is not None:
            part = f"[LightningDataModule]{type(datamodule).__name__}"
            state = profiled(trainer, part, "state_dict", datamodule.state_dict)()
            if state:
                checkpoint[type(datamodule).__qualname__] = state
        if not weights_only:
            fire(trainer, "on_save_checkpoint", callback_calls(trainer, "on_save_checkpoint"), checkpoint)
        fire(trainer, "on_save_checkpoint", module_call(trainer, "on_save_checkpoint"), checkpoint)
        return checkpoint

    @contextmanager
    def with_place(self, checkpoint: dict[str, Any], path: str | Path, weights_only: bool) -> Iterator[dict[str, Any]]:
        """The checkpoint as it is to be saved: with the place in the data, the random generators' states and what is half done.

        They are kept beside the dictionary where the checkpoint IO can do that, so that hooks, tools and Lightning find in it
        what they know; else under a key of our own.
        """
        loop = self.trainer.fit_loop
        place = loop.place
        half_done = {} if weights_only else midway.state(self.trainer, loop.kept_start)
        io = self.trainer.strategy.checkpoint_io
        if isinstance(io, AsyncCheckpointIO):
            # it encodes before it returns
            io = io.checkpoint_io
        if weights_only or not (place or half_done):
            yield checkpoint
        elif isinstance(io, NativeCheckpointIO) and io.keeps_beside(path):
            records = {PLACE_KEY: json.dumps(place).encode()} if place else {}
            if half_done:
                records[midway.KEY] = midway.encode(half_done)
            with io.beside(records):
                yield checkpoint
        else:
            parts = {PLACE_KEY: place, midway.KEY: half_done}
            yield {**checkpoint, **{key: part for key, part in parts.items() if part}}

    def poll(self) -> None:
        """Looks after files that were written beside the training; never waits.

        Raises:
            Exception: what went wrong with one of them.
        """
        files = background(self.trainer)
        if files is not None:
            files.poll()

    def drain(self) -> None:
        """Waits until every file that was saved is on the disk.

        Raises:
            Exception: what went wrong with one of them.
        """
        files = background(self.trainer)
        if files is not None:
            files.drain()

    # ---- finding -----------------------------------------------------------------------------------------------------

    def choose(self, fn: TrainerFn, ckpt_path: str | Path | None, model_given: bool) -> str | Path | None:
        """The file that ``ckpt_path`` of an entry point stands for, None for none.

        Args:
            fn: the entry point.
            ckpt_path: a path, "best", "last", "hpc", "auto" (the newest that loads, if there is one), or None.
            model_given: whether the user passed a module, whose weights then count.

        Raises:
            ValueError: "best" without a best file, "hpc" without a file.
        """
        if ckpt_path is None and self.user_managed and self.trainer.ckpt_path:
            rank_zero_warn(
                f"`trainer.ckpt_path = {self.trainer.ckpt_path!r}` was set but you did not pass `ckpt_path`: it is used. "
                "Set it to None to start without."
            )
            chosen: str | Path = self.trainer.ckpt_path
            return chosen
        self.user_managed = False
        if ckpt_path is None and hpc_checkpoint(self.trainer.default_root_dir) and _in_slurm(self.trainer):
            return hpc_checkpoint(self.trainer.default_root_dir)
        if ckpt_path is None and fn is not TrainerFn.FITTING and not model_given:
            rank_zero_warn(
                f"`.{fn.value}(ckpt_path=None)` was called without a model. The best model of the previous `fit` call "
                "will be used. Pass ckpt_path='best' to say so and avoid this warning, or a path, or the model itself to "
                "evaluate its current weights."
            )
            ckpt_path = "best"
        if ckpt_path is None and fn is TrainerFn.FITTING and self._exception_callbacks():
            ckpt_path = "last"
        if ckpt_path == "best":
            return self._best(fn)
        if ckpt_path == "last":
            return self._last()
        self.found = ckpt_path == "auto"
        if self.found:
            return self._auto()
        if ckpt_path == "hpc":
            found = hpc_checkpoint(self.trainer.default_root_dir)
            if found is None:
                raise errors.value_error(
                    f"trainer.{fn.value}(ckpt_path)",
                    f"a file hpc_ckpt_N.ckpt in {self.trainer.default_root_dir}",
                    "hpc",
                    "No HPC checkpoint was found: pass a path, 'last' or 'best'",
                )
            return found
        return ckpt_path

    def _exception_callbacks(self) -> list[OnExceptionCheckpoint]:
        return [c for c in self.trainer.callbacks if isinstance(c, OnExceptionCheckpoint)]

    def _best(self, fn: TrainerFn) -> str:
        callbacks = self.trainer.checkpoint_callbacks
        if len(callbacks) > 1:
            rank_zero_warn(
                f'`.{fn.value}(ckpt_path="best")` found Trainer with multiple `ModelCheckpoint` callbacks. '
                "The best checkpoint path from first checkpoint callback will be used."
            )
        if not callbacks:
            raise errors.value_error(
                f"trainer.{fn.value}(ckpt_path)",
                "a path: there is no ModelCheckpoint callback that knows a best one",
                "best",
                "Pass a path, or give the Trainer a ModelCheckpoint",
            )
        best = getattr(callbacks[0], "best_model_path", "")
        if not best:
            dev = " (fast_dev_run saves none)" if self.trainer.fast_dev_run else ""
            raise errors.value_error(
                f"trainer.{fn.value}(ckpt_path)",
                f"a path: ModelCheckpoint is not configured to save the best model, or has saved none yet{dev}",
                "best",
                "Fit first, with a ModelCheckpoint that saves, or pass a path",
            )
        return str(best)

    def _auto(self) -> str | None:
        """The newest file in the callbacks' folders whose checksums are right."""
        folders = {
            str(c._resolve_folder(self.trainer))
            for c in self.trainer.checkpoint_callbacks
            if hasattr(c, "_resolve_folder")
        }
        found = [
            str(path)
            for folder in folders
            if (path := remote.newest_that_loads(folder) if is_remote(folder) else newest_that_loads(Path(folder)))
        ]
        if not found:
            rank_zero_info(f'`ckpt_path="auto"`: no checkpoint in {sorted(folders)}, a fresh start.')
            return None
        return max(found, key=_modified)

    def _last(self) -> str | None:
        found: set[str] = set()
        for callback in self.trainer.checkpoint_callbacks:
            candidates = getattr(callback, "_find_last_checkpoints", None)
            if candidates is not None:
                found |= {str(p) for p in candidates(self.trainer)}
        for on_exception in self._exception_callbacks():
            if Path(on_exception.ckpt_path).exists():
                found.add(str(on_exception.ckpt_path))
        if not found:
            rank_zero_warn(
                '`ckpt_path="last"` is set, but there is no last checkpoint available. No checkpoint will be loaded.'
            )
            return None
        return max(found, key=_modified)

    # ---- loading -----------------------------------------------------------------------------------------------------

    def load(self, path: str | Path | None, weights_only: bool | None) -> None:
        """Reads the file, and restores module, data module and callbacks from it."""
        self._loaded = {}
        if not path:
            return
        trainer = self.trainer
        rank_zero_info(f"Restoring states from the checkpoint path at {path}")
        self._loaded = in_todays_form(trainer.strategy.load_checkpoint(path, weights_only=weights_only), path)
        self._place = self._loaded.pop(PLACE_KEY, None) or read_place(path)
        self._half_done = self._loaded.pop(midway.KEY, None) or read_half_done(path)
        self._restore_module()
        self._restore_datamodule()
        self._restore_callbacks()

    def _restore_module(self) -> None:
        trainer = self.trainer
        call_module(trainer, "on_load_checkpoint", self._loaded)
        if isinstance(trainer.precision_plugin, DoublePrecision):
            # before the weights come, which would be rounded otherwise
            trainer.precision_plugin.convert_module(trainer.lightning_module)
        trainer.strategy.load_model_state_dict(self._loaded, strict=trainer.lightning_module.strict_loading)

    def _restore_datamodule(self) -> None:
        datamodule = self.trainer.datamodule
        if datamodule is not None and type(datamodule).__qualname__ in self._loaded:
            owner = f"[LightningDataModule]{type(datamodule).__name__}"
            load = profiled(self.trainer, owner, "load_state_dict", datamodule.load_state_dict)
            load(self._loaded[type(datamodule).__qualname__])

    def _restore_callbacks(self) -> None:
        trainer = self.trainer
        fire(trainer, "on_load_checkpoint", callback_calls(trainer, "on_load_checkpoint"), self._loaded)
        states = self._loaded.get("callbacks")
        if states is None:
            return
        keys = {callback: _keys(callback) for callback in trainer.callbacks}
        unknown = {str(key) for key in states if not any(key in own for own in keys.values())}
        if unknown:
            rank_zero_warn(
                f"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided during "
                f"`Trainer` instantiation. Please add the following callbacks: {sorted(unknown)}."
            )
        for callback in trainer.callbacks:
            state = next((states[key] for key in keys[callback] if key in states), None)
            if state:
                callback.load_state_dict(deepcopy(state))

    def restore_training(self) -> None:
        """Restores counters, and in a fit the precision's state, optimizers and schedulers, from the file last read.

        Raises:
            KeyError: the file was saved with weights only.
            MisconfigurationException: the file is further than ``max_epochs``.
        """
        loaded, trainer = self._loaded, self.trainer
        if not loaded:
            return
        fn = trainer.state.fn
        if fn is TrainerFn.FITTING:
            state = loaded.get(type(trainer.precision_plugin).__qualname__, loaded.get("native_amp_scaling_state"))
            if state is not None:
                trainer.precision_plugin.load_state_dict(state)
        self._restore_loops(fn)
        if fn is TrainerFn.FITTING:
            for key in ("optimizer_states", "lr_schedulers"):
                if key not in loaded:
                    raise errors.key_error(
                        f"Trying to restore the training state, but the checkpoint contains only the model: `{key}` is "
                        "missing. This is probably due to `ModelCheckpoint.save_weights_only` being set to `True`",
                        "Load the weights with `load_from_checkpoint` and fit without `ckpt_path`",
                    )
            if not trainer.strategy.lightning_restore_optimizer:
                return
            trainer.strategy.load_optimizer_state_dict(loaded)
            for config, state in zip(trainer.lr_scheduler_configs, loaded["lr_schedulers"], strict=False):
                config.scheduler.load_state_dict(state)

    def _restore_loops(self, fn: TrainerFn | None) -> None:
        trainer, loops = self.trainer, self._loaded.get("loops")
        if loops is not None:
            if fn is TrainerFn.FITTING:
                trainer.fit_loop.load_state_dict(loops["fit_loop"])
                trainer.fit_loop.take_up(self._place, self._half_done)
            elif fn is not None:
                getattr(trainer, f"{fn.value}_loop").load_state_dict(loops.get(f"{fn.value}_loop", {}))
        limit = trainer.max_epochs
        if fn is TrainerFn.FITTING and limit not in (-1, None) and trainer.current_epoch > limit:
            raise errors.misconfiguration(
                "Trainer(max_epochs)",
                f"at least {trainer.current_epoch}: that is the epoch of the checkpoint you restored",
                limit,
                f"You restored a checkpoint with current_epoch={trainer.current_epoch}, but you have set "
                f"Trainer(max_epochs={limit}): raise it, or start without `ckpt_path`",
            )

    def finish_restore(self) -> None:
        """Lets go of the file's contents."""
        self._loaded = {}


def read_place(path: str | Path) -> dict[str, Any]:
    """The place that a file keeps beside its dictionary; empty if it keeps none, or is no local file of torch's format."""
    return _read_beside(path, PLACE_KEY, json.loads)


def read_half_done(path: str | Path) -> dict[str, Any]:
    """What a file keeps of things half done; likewise."""
    return _read_beside(path, midway.KEY, midway.decode)


def _read_beside(path: str | Path, name: str, decode: Callable[[bytes], Any]) -> dict[str, Any]:
    if is_remote(path) or not Path(path).is_file():
        return {}
    try:
        found = decode(CheckpointFile(path).contents(name))
    except (KeyError, ValueError, RuntimeError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _keys(callback: Any) -> tuple[Any, ...]:
    """The keys under which files of this and of former versions keep a callback's state."""
    return callback.state_key, getattr(callback, "_legacy_state_key", None), class_key(type(callback).__qualname__)


def callback_states(trainer: Trainer) -> dict[str, Any]:
    """The non-empty states of the callbacks, by their keys."""
    states = {}
    for callback in trainer.callbacks:
        state = callback.state_dict()
        if state:
            states[callback.state_key] = state
    return states


def _hparams_entries(owner: Any, prefix: str) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    if getattr(owner, "_hparams_name", None):
        entries[f"{prefix}hparams_name"] = owner._hparams_name
    hparams = owner.hparams
    if "omegaconf" in type(hparams).__module__:
        entries[f"{prefix}hyper_parameters"] = hparams
        entries[f"{prefix}hparams_type"] = type(hparams)
    else:
        entries[f"{prefix}hyper_parameters"] = dict(hparams)
    return entries


def _modified(path: str | Path) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        from fulmen.utilities.files import get_filesystem

        return float(get_filesystem(path).modified(path).timestamp())


def hpc_checkpoint(folder: str | Path) -> str | None:
    """The ``hpc_ckpt_N.ckpt`` with the highest N in a folder."""
    root = Path(folder)
    if not root.is_dir():
        return None
    numbers = [int(m[1]) for p in root.iterdir() if (m := re.fullmatch(r"hpc_ckpt_(\d+)\.ckpt", p.name))]
    return str(root / f"hpc_ckpt_{max(numbers)}.ckpt") if numbers else None


def next_hpc_path(folder: str | Path) -> str:
    """The file after the one that `hpc_checkpoint` finds."""
    newest = hpc_checkpoint(folder)
    number = int(re.findall(r"\d+", Path(newest).name)[-1]) + 1 if newest else 1
    return str(Path(folder) / f"hpc_ckpt_{number}.ckpt")


def _in_slurm(trainer: Trainer) -> bool:
    from fulmen.plugins.environments import SLURMEnvironment

    return isinstance(trainer._devices.cluster_environment, SLURMEnvironment)


def checkpoint_callbacks(trainer: Trainer) -> list[Checkpoint]:
    """The trainer's callbacks that write checkpoints."""
    return [c for c in trainer.callbacks if isinstance(c, Checkpoint)]
