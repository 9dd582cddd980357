"""What can be read off a trainer: its state, limits, devices, data, metrics. Nothing here changes a run."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, cast

from fulmen import errors
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.early_stopping import EarlyStopping
from fulmen.callbacks.progress.progress_bar import ProgressBar
from fulmen.trainer.states import RunningStage, TrainerStatus

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer

    from fulmen._core import Schedule
    from fulmen.accelerators.accelerator import Accelerator
    from fulmen.callbacks.callback import Callback
    from fulmen.core.datamodule import LightningDataModule
    from fulmen.core.module import LightningModule
    from fulmen.loggers.logger import Logger
    from fulmen.precision.precision import Precision
    from fulmen.strategies.strategy import Strategy
    from fulmen.trainer.checkpoint import Checkpoints
    from fulmen.trainer.config import Config
    from fulmen.trainer.devices import Devices
    from fulmen.trainer.logging import Ledger
    from fulmen.trainer.loops import EvaluationLoop, FitLoop, PredictionLoop
    from fulmen.trainer.signals import Signals
    from fulmen.trainer.states import TrainerState
    from fulmen.trainer.trainer import Trainer
    from fulmen.utilities.types import LRSchedulerConfig


def batches(limit: int | None) -> int | float:
    """A number of batches as users see it: inf where there is no end."""
    return math.inf if limit is None else limit


class Parts:
    """What a trainer is made of: its constructor sets these, and the properties below read them."""

    state: TrainerState
    callbacks: list[Callback]
    datamodule: LightningDataModule | None
    fit_loop: FitLoop
    validate_loop: EvaluationLoop
    test_loop: EvaluationLoop
    predict_loop: PredictionLoop
    num_sanity_val_steps: int | float
    _checkpoints: Checkpoints
    _ckpt_path: Any
    _config: Config
    _devices: Devices
    _in_trial: bool
    _ledger: Ledger
    _loggers: list[Logger]
    _schedule: Schedule
    _signals: Signals
    _backwards: int
    _stepped: dict[int, tuple[int, int, int]]


class StateProperties(Parts):
    """Where the run stands."""

    @property
    def current_epoch(self) -> int:
        """Epochs done; within epoch ``n`` it is ``n``."""
        return self._schedule.current_epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far, over all epochs; every optimizer of manual optimization counts."""
        return self._schedule.global_step

    @property
    def is_last_batch(self) -> bool:
        """Is the training batch in hand the last of its epoch?"""
        return self.fit_loop.epoch_loop.batch_progress.is_last_batch

    @property
    def should_stop(self) -> bool:
        """Ask the run to end after this batch, as soon as ``min_epochs`` and ``min_steps`` are met."""
        return self._schedule.should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._schedule.should_stop = bool(value)

    @property
    def interrupted(self) -> bool:
        """Did the last run end by an exception?"""
        return self.state.status is TrainerStatus.INTERRUPTED

    @property
    def received_sigterm(self) -> bool:
        """Did a SIGTERM arrive during this run?"""
        return self._signals.received_sigterm

    def _is_stage(self, stage: RunningStage) -> bool:
        return self.state.stage is stage

    def _set_stage(self, stage: RunningStage, value: bool) -> None:
        if value:
            self.state.stage = stage
        elif self.state.stage is stage:
            self.state.stage = None

    training = property(
        lambda self: self._is_stage(RunningStage.TRAINING),
        lambda self, value: self._set_stage(RunningStage.TRAINING, value),
        doc="Are training batches running?",
    )
    validating = property(
        lambda self: self._is_stage(RunningStage.VALIDATING),
        lambda self, value: self._set_stage(RunningStage.VALIDATING, value),
        doc="Is a validation running (alone or within fit, but not the sanity check)?",
    )
    testing = property(
        lambda self: self._is_stage(RunningStage.TESTING),
        lambda self, value: self._set_stage(RunningStage.TESTING, value),
        doc="Is a test running?",
    )
    predicting = property(
        lambda self: self._is_stage(RunningStage.PREDICTING),
        lambda self, value: self._set_stage(RunningStage.PREDICTING, value),
        doc="Is a prediction running?",
    )
    sanity_checking = property(
        lambda self: self._is_stage(RunningStage.SANITY_CHECKING),
        lambda self, value: self._set_stage(RunningStage.SANITY_CHECKING, value),
        doc="Is the sanity check running?",
    )

    @property
    def evaluating(self) -> bool:
        """Is a validation, a test or the sanity check running?"""
        return self.state.stage is not None and self.state.stage.evaluating


class LimitProperties(Parts):
    """How far the run goes, and how many batches there are."""

    @property
    def max_epochs(self) -> int | None:
        """The limit on epochs, -1 for none."""
        limit = self.fit_loop.max_epochs
        # not given: decided when a training begins, unless somebody sets it before
        return None if self._config.max_epochs_open and limit == self._config.max_epochs else limit

    @property
    def min_epochs(self) -> int | None:
        """A stop flag counts only after so many epochs."""
        return self._schedule.min_epochs

    @property
    def max_steps(self) -> int:
        """The limit on optimizer steps, -1 for none."""
        return self.fit_loop.max_steps

    @property
    def min_steps(self) -> int | None:
        """A stop flag counts only after so many optimizer steps."""
        return self._schedule.min_steps

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches in an accumulation window."""
        return self._schedule.accumulate

    @accumulate_grad_batches.setter
    def accumulate_grad_batches(self, value: int) -> None:
        self._schedule.accumulate = value

    @property
    def log_every_n_steps(self) -> int:
        """Optimizer steps between two rows of step values; 0: none."""
        return self._schedule.log_every_n_steps

    @log_every_n_steps.setter
    def log_every_n_steps(self, value: int) -> None:
        self._schedule.log_every_n_steps = value

    @property
    def check_val_every_n_epoch(self) -> int | None:
        """Validation runs in every n-th epoch; None: batches are counted across epochs."""
        return self._schedule.check_val_every_n_epoch

    @check_val_every_n_epoch.setter
    def check_val_every_n_epoch(self, value: int | None) -> None:
        self._schedule.check_val_every_n_epoch = value

    @property
    def val_check_batch(self) -> int | float | None:
        """Training batches between two validations; None before the data is known, and with an interval of time."""
        if self._schedule.needs_time or self.fit_loop._loaders is None:
            return None
        return batches(self._schedule.val_check_batch)

    @val_check_batch.setter
    def val_check_batch(self, value: int) -> None:
        self._schedule.set_val_check_interval(value)
        self._schedule.set_data(self._schedule.train_batches, self.enable_validation)

    @property
    def enable_validation(self) -> bool:
        """Does fit validate?"""
        from fulmen.trainer.fit import uses_validation

        return uses_validation(cast("Trainer", self))

    @property
    def num_training_batches(self) -> int | float:
        """Training batches in an epoch, after limits; inf without length."""
        return self.fit_loop.max_batches

    @property
    def num_val_batches(self) -> list[int | float]:
        """Validation batches per loader, after limits."""
        from fulmen.trainer.states import TrainerFn

        alone = self.state.fn is TrainerFn.VALIDATING
        return self.validate_loop.max_batches if alone else self.fit_loop.epoch_loop.val_loop.max_batches

    @property
    def num_sanity_val_batches(self) -> list[int | float]:
        """Batches of the sanity check per loader."""
        limits = self.fit_loop.epoch_loop.val_loop.max_batches
        return [min(self.num_sanity_val_steps, n) for n in limits]

    @property
    def num_test_batches(self) -> list[int | float]:
        """Test batches per loader, after limits."""
        return self.test_loop.max_batches

    @property
    def num_predict_batches(self) -> list[int | float]:
        """Prediction batches per loader, after limits."""
        return self.predict_loop.max_batches

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps that the whole run will make; inf without end. For schedulers that span the run.

        Raises:
            MisconfigurationException: the accumulation changes over epochs, so that nobody can tell.
        """
        from fulmen.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler

        for callback in self.callbacks:
            if isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches():
                raise errors.misconfiguration(
                    "trainer.estimated_stepping_batches",
                    "one accumulation factor for the whole run: it cannot be computed with different "
                    "`accumulate_grad_batches` at different epochs",
                    callback.scheduling,
                    "Compute the number of steps yourself, or use `Trainer(accumulate_grad_batches=...)`",
                )
        if self.max_steps == -1 and self.max_epochs in (-1, None):
            return math.inf
        self.fit_loop.setup_data()
        return batches(self._schedule.estimated_steps(self.fit_loop._loaders.num_batches))


class DeviceProperties(Parts):
    """On what the run goes."""

    @property
    def strategy(self) -> Strategy:
        """How the run is spread over devices."""
        return self._devices.strategy

    @property
    def accelerator(self) -> Accelerator:
        """The kind of device."""
        accelerator = self.strategy.accelerator
        assert accelerator is not None, "a trainer's strategy has one"
        return accelerator

    @property
    def precision_plugin(self) -> Precision:
        """The numeric precision's implementation."""
        return self.strategy.precision_plugin

    @property
    def precision(self) -> str:
        """The numeric precision, such as "32-true" or "bf16-mixed"."""
        return self.precision_plugin.precision

    @property
    def scaler(self) -> Any | None:
        """The gradient scaler of "16-mixed", if there is one."""
        return getattr(self.precision_plugin, "scaler", None)

    @property
    def global_rank(self) -> int:
        """Index of this process among all."""
        return getattr(self.strategy, "global_rank", 0)

    @property
    def local_rank(self) -> int:
        """Index of this process on its node."""
        return getattr(self.strategy, "local_rank", 0)

    @property
    def node_rank(self) -> int:
        """Index of this node."""
        return getattr(self.strategy, "node_rank", 0)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return getattr(self.strategy, "world_size", 1)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return getattr(self.strategy, "num_nodes", 1)

    @property
    def is_global_zero(self) -> bool:
        """Is this the first process of all?"""
        return self.strategy.is_global_zero

    @property
    def device_ids(self) -> list[int]:
        """Indices of the devices of this node."""
        return list(self._devices.device_ids)

    @property
    def num_devices(self) -> int:
        """Number of devices of this node."""
        return len(self.device_ids)

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any] | None:
        """Arguments for a sampler that splits the data among the processes; None on one."""
        return getattr(self.strategy, "distributed_sampler_kwargs", None)

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        return self.strategy.root_device


class PartProperties(DeviceProperties):
    """Module, optimizers, callbacks, loggers, loaders, metrics."""

    @property
    def model(self) -> Any:
        """The module as the strategy runs it."""
        return self.strategy.model

    @property
    def lightning_module(self) -> LightningModule:
        """The user's module; None before a run."""
        return self.strategy.lightning_module  # type: ignore[return-value]  # None before a run, as in Lightning

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers of ``configure_optimizers``."""
        return self.strategy.optimizers

    @optimizers.setter
    def optimizers(self, value: list[Optimizer]) -> None:
        self.strategy.optimizers = value

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The learning-rate schedulers with their intervals."""
        return self.strategy.lr_scheduler_configs

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """All callbacks that write checkpoints."""
        return [c for c in self.callbacks if isinstance(c, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first callback that writes checkpoints."""
        found = self.checkpoint_callbacks
        return found[0] if found else None

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """All callbacks that stop early."""
        return [c for c in self.callbacks if isinstance(c, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first callback that stops early."""
        found = self.early_stopping_callbacks
        return found[0] if found else None

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar, if there is one."""
        return next((c for c in self.callbacks if isinstance(c, ProgressBar)), None)

    @property
    def loggers(self) -> list[Logger]:
        """The loggers."""
        return self._loggers

    @loggers.setter
    def loggers(self, value: list[Logger] | None) -> None:
        self._loggers = list(value) if value else []

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self._loggers[0] if self._loggers else None

    @logger.setter
    def logger(self, value: Logger | None) -> None:
        self._loggers = [] if not value else [value]

    @property
    def log_dir(self) -> str | None:
        """The folder of this run: the first logger's, or ``default_root_dir`` without loggers. The same on all ranks."""
        if self.loggers:
            from fulmen.loggers.csv_logs import CSVLogger
            from fulmen.loggers.tensorboard import TensorBoardLogger

            first = self.loggers[0]
            folder = first.log_dir if isinstance(first, (CSVLogger, TensorBoardLogger)) else first.save_dir
        else:
            folder = self.default_root_dir
        return self.strategy.broadcast(folder)

    @property
    def default_root_dir(self) -> str:
        """Where files go that nobody gave a place."""
        from fulmen.utilities.files import is_remote

        root = self._config.default_root_dir
        root = os.getcwd() if root is None else os.fspath(root)
        return root if is_remote(root) else os.path.normpath(os.path.expanduser(root))

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """What callbacks may look at: name to 0-dim tensor."""
        return self._ledger.callback_metrics

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What loggers got or get: name to 0-dim tensor."""
        return self._ledger.logged_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What the bar shows: name to number."""
        return self._ledger.progress_bar_metrics

    @property
    def train_dataloader(self) -> Any:
        """The training loader or collection of loaders, once loaded."""
        return _iterables(self.fit_loop)

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders, once loaded."""
        return _iterables(self.fit_loop.epoch_loop.val_loop) or _iterables(self.validate_loop)

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders, once loaded."""
        return _iterables(self.test_loop)

    @property
    def predict_dataloaders(self) -> Any:
        """The prediction loaders, once loaded."""
        return _iterables(self.predict_loop)

    @property
    def ckpt_path(self) -> Any:
        """The checkpoint that the last entry point started from; setting it counts until ``ckpt_path=`` is passed."""
        return self._ckpt_path

    @ckpt_path.setter
    def ckpt_path(self, value: Any) -> None:
        self._ckpt_path = value
        self._checkpoints.user_managed = bool(value)


def _iterables(loop: Any) -> Any:
    combined = loop._combined_loader
    return None if combined is None else combined.iterables
