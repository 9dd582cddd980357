"""`Trainer`: arguments in, runs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen._core import Schedule
from fulmen.core.compiled import unwrap
from fulmen.core.datamodule import LightningDataModule
from fulmen.core.module import LightningModule
from fulmen.profilers.base import PassThroughProfiler
from fulmen.trainer import run
from fulmen.trainer.callback_setup import build_callbacks
from fulmen.trainer.checkpoint import Checkpoints
from fulmen.trainer.config import Config
from fulmen.trainer.config_arguments import trainer_arguments
from fulmen.trainer.data import Sources
from fulmen.trainer.devices import Devices
from fulmen.trainer.hook_table import call_hooks
from fulmen.trainer.log_axis import make_axis
from fulmen.trainer.logger_setup import build_loggers
from fulmen.trainer.logging import Ledger
from fulmen.trainer.loops import EvaluationLoop, FitLoop, PredictionLoop
from fulmen.trainer.nan_policy import make_ledger, watcher
from fulmen.trainer.properties import LimitProperties, PartProperties, StateProperties
from fulmen.trainer.signals import Signals
from fulmen.trainer.states import RunningStage, TrainerFn, TrainerState, TrainerStatus
from fulmen.trainer.timeline import CHECKPOINT, LOGGING, TRAINER, WAIT, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fulmen.accelerators import Accelerator
    from fulmen.callbacks import Callback
    from fulmen.loggers import Logger
    from fulmen.profilers import Profiler
    from fulmen.strategies import Strategy
    from fulmen.trainer.explain import Explanation
    from fulmen.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

__all__ = ["Trainer"]


class Trainer(StateProperties, LimitProperties, PartProperties):
    """Trains, validates, tests and predicts with a :class:`~fulmen.LightningModule`.

    All arguments but the last five are Lightning's, with its defaults; each may also come from the environment (``PL_TRAINER_MAX_EPOCHS=7``),
    where an argument given in code wins.

    Args:
        accelerator: "cpu", "cuda" (or "gpu"), "mps", "auto", or an Accelerator.
        strategy: how the run is spread over devices: "auto", a name, or a Strategy.
        devices: a number of devices, a list of their indices, text of either, -1 for all, or "auto".
        num_nodes: number of machines.
        precision: "32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed" or their short forms.
        logger: a logger, several, True for the default one, False for none.
        callbacks: a callback or several.
        fast_dev_run: run this many batches of everything (True: one) and leave no files.
        max_epochs: end after so many epochs; -1: never; None: 1000 unless ``max_steps`` or ``max_time`` is given.
        min_epochs: do not stop early before so many epochs.
        max_steps: end after so many optimizer steps; -1: never.
        min_steps: do not stop early before so many optimizer steps.
        max_time: end after this time: text "DD:HH:MM:SS", a timedelta, or a dict of its arguments.
        limit_train_batches: use at most so many training batches an epoch (int), or this share of them (float).
        limit_val_batches: the same for each validation loader.
        limit_test_batches: the same for each test loader.
        limit_predict_batches: the same for each prediction loader.
        overfit_batches: train and validate on so few batches (int) or this share (float), without shuffling.
        val_check_interval: validate after so many training batches (int), this share of an epoch (float), or this much
            time (text "DD:HH:MM:SS", timedelta, dict).
        check_val_every_n_epoch: validate only in every n-th epoch; None: count batches across epochs.
        num_sanity_val_steps: validation batches to run before training; -1: all.
        log_every_n_steps: optimizer steps between two rows of step values.
        enable_checkpointing: whether there is a default ModelCheckpoint.
        enable_progress_bar: whether there is a bar.
        enable_model_summary: whether a table of the module is printed.
        accumulate_grad_batches: batches whose gradients make one optimizer step.
        gradient_clip_val: limit on the gradients.
        gradient_clip_algorithm: "norm" (default) or "value".
        deterministic: use deterministic algorithms (True), or warn where there is none ("warn").
        benchmark: let cuDNN search for its fastest algorithms.
        inference_mode: run stand-alone evaluations under ``torch.inference_mode`` instead of ``no_grad``.
        use_distributed_sampler: split the data among processes.
        profiler: None or a profiler.
        detect_anomaly: find the forward operation that made a backward fail.
        barebones: no logging, checkpoints, bar, summary, sanity check.
        plugins: precision, checkpoint I/O, cluster environment or layer sync objects.
        sync_batchnorm: synchronise batch norm among processes.
        reload_dataloaders_every_n_epochs: ask for loaders anew every n epochs; 0: never.
        default_root_dir: where files go that nobody gave a place; default the working directory.
        enable_autolog_hparams: whether hyperparameters go to the loggers.
        model_registry: name in a hosted registry: not available.
        timeline: tell the parts of a training step apart in :attr:`timeline`, and say at the end of a fit where its time
            went.
        prefetch: how batches are got ready: "auto" finds the fastest way that gives exactly the loaders' batches, "off"
            uses the loaders as they are, a number is the most batches to make ahead.
        worker_seeding: how worker processes of loaders seed their random generators: "batch" seeds them anew for every batch,
            from run, epoch and batch, so that a resumed run sees the same augmentation whatever the number of workers;
            "stock" seeds each worker once, as the stock loader does.
        nan_policy: what to do where a NaN or an infinity is logged: "ignore", "warn" (once for each name), "raise", or
            "skip_step" (on the CPU: the optimizer leaves that step out).
        log_axis: what rows of metrics are counted by: "global_step", as Lightning does; "samples", training samples so
            far; "epoch", thousandths of an epoch, the column ``epoch`` then has its fraction.

    Raises:
        MisconfigurationException, ValueError, TypeError: an argument is wrong; the text says which, and the cure.
    """

    state: TrainerState

    @trainer_arguments
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: Any = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: list[Callback] | Callback | None = None,
        fast_dev_run: int | bool = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: str | timedelta | dict[str, int] | None = None,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | str | timedelta | dict[str, int] | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: Profiler | str | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: str | Path | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
        timeline: bool = True,
        prefetch: int | str = "auto",
        worker_seeding: str = "batch",
        nan_policy: str = "ignore",
        log_axis: str = "global_step",
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        config = self._config = Config.from_arguments(**given)
        self.state = TrainerState()
        self.barebones = config.barebones
        self.fast_dev_run = config.fast_dev_run
        self.overfit_batches = config.overfit_batches
        self.limit_train_batches = config.limit_train_batches
        self.limit_val_batches = config.limit_val_batches
        self.limit_test_batches = config.limit_test_batches
        self.limit_predict_batches = config.limit_predict_batches
        self.num_sanity_val_steps = math.inf if config.num_sanity_val_steps == -1 else config.num_sanity_val_steps
        if config.val_check_seconds is None:
            self.val_check_interval = config.val_check_interval
        self.gradient_clip_val = config.gradient_clip_val
        self.gradient_clip_algorithm = config.gradient_clip_algorithm
        self.reload_dataloaders_every_n_epochs = config.reload_dataloaders_every_n_epochs
        self.enable_autolog_hparams = config.enable_autolog_hparams
        self.profiler = config.profiler or PassThroughProfiler()

        self._hook: str | None = None
        self._torn_down = True
        # what the tuner does in the place of a run, and whether steps are being taken that count for nothing
        self._rehearsal: Callable[[LightningModule], None] | None = None
        self._in_trial = False
        self._ckpt_path: Any = None
        self.datamodule: LightningDataModule | None = None
        self._schedule = Schedule(
            max_epochs=config.max_epochs,
            min_epochs=config.min_epochs,
            max_steps=config.max_steps,
            min_steps=config.min_steps,
            accumulate=config.accumulate_grad_batches,
            log_every_n_steps=config.log_every_n_steps,
            log_always=bool(config.fast_dev_run),
            check_val_every_n_epoch=config.check_val_every_n_epoch,
            val_check_interval=config.val_check_interval,
            val_check_seconds=config.val_check_seconds,
        )
        self.timeline = Timeline(detailed=config.timeline)
        self._signals = Signals(self)
        self._axis = make_axis(self, config.log_axis)
        # manual optimization: backward passes so far, and when each optimizer has stepped last
        self._backwards = 0
        self._stepped: dict[int, tuple[int, int, int]] = {}
        self._ledger = make_ledger(self, config.nan_policy)
        self._sources = Sources(self)
        self._checkpoints = Checkpoints(self)
        self.fit_loop = FitLoop(self)
        self.validate_loop = EvaluationLoop(self, RunningStage.VALIDATING, "validate")
        self.test_loop = EvaluationLoop(self, RunningStage.TESTING, "test")
        self.predict_loop = PredictionLoop(self)
        self._devices = Devices.resolve(
            accelerator=config.accelerator,
            strategy=config.strategy,
            devices=config.devices,
            num_nodes=config.num_nodes,
            precision=config.precision,
            plugins=config.plugins,
            sync_batchnorm=config.sync_batchnorm,
            benchmark=config.benchmark,
            deterministic=config.deterministic,
            use_distributed_sampler=config.use_distributed_sampler,
        )
        self._loggers = build_loggers(self, config)
        self.callbacks = build_callbacks(self, config, config.callbacks)

    # ---- entry points ------------------------------------------------------------------------------------------------

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: TRAIN_DATALOADERS | LightningDataModule | None = None,
        val_dataloaders: EVAL_DATALOADERS | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Trains, and validates along the way.

        Args:
            model: the module.
            train_dataloaders: anything that can be iterated over, or a list or dict of such; or a data module.
            val_dataloaders: the same for validation.
            datamodule: where the loaders come from, instead of the two arguments above.
            ckpt_path: go on from this file; "last", "best" and "hpc" find it.
            weights_only: whether the file may hold nothing but tensors and plain data; None: torch's default.

        Raises:
            MisconfigurationException: the module lacks a step, an optimizer or a loader.
            TypeError: ``model`` is not a module.
        """
        module = self._take_module(model)
        self._enter(TrainerFn.FITTING, RunningStage.TRAINING)
        if isinstance(train_dataloaders, LightningDataModule):
            datamodule, train_dataloaders = train_dataloaders, None
        self.should_stop = False
        if ckpt_path is None:
            ckpt_path = self._config.resume_from_checkpoint
        self._config.warn_at_fit()
        self._guard_sources(module, datamodule, train=train_dataloaders, val=val_dataloaders)
        return run.execute(  # type: ignore[no-any-return]  # what `choose` gives
            self,
            TrainerFn.FITTING,
            module,
            partial(self._checkpoints.choose, TrainerFn.FITTING, ckpt_path, model_given=True),
            weights_only,
        )

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: EVAL_DATALOADERS | LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Runs one validation.

        Args:
            model: the module; None: that of the last ``fit``, with its best weights.
            dataloaders: a loader or a collection of them; or a data module.
            ckpt_path: take the weights from this file; "best", "last", "hpc" find it.
            verbose: print the values.
            datamodule: where the loaders come from, instead of ``dataloaders``.
            weights_only: whether the file may hold nothing but tensors and plain data; None: torch's default.

        Returns:
            One dict of the logged values per loader.
        """
        return self._evaluate(TrainerFn.VALIDATING, model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: EVAL_DATALOADERS | LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Runs one test: as :meth:`validate`, with ``test_step`` and the test loaders."""
        return self._evaluate(TrainerFn.TESTING, model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: EVAL_DATALOADERS | LightningDataModule | None = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> list[Any] | list[list[Any]] | None:
        """Runs ``predict_step`` on every batch.

        Args:
            model: the module; None: that of the last ``fit``, with its best weights.
            dataloaders: a loader or a collection of them; or a data module.
            datamodule: where the loaders come from, instead of ``dataloaders``.
            return_predictions: keep the results (the default); False: leave them to a prediction writer.
            ckpt_path: take the weights from this file; "best", "last", "hpc" find it.
            weights_only: whether the file may hold nothing but tensors and plain data; None: torch's default.

        Returns:
            A list of the results per batch, on the CPU; a list of lists for several loaders; None if not kept.
        """
        module, given = self._module_or_last(model, "predict")
        self._enter(TrainerFn.PREDICTING, RunningStage.PREDICTING)
        if isinstance(dataloaders, LightningDataModule):
            datamodule, dataloaders = dataloaders, None
        self.predict_loop.return_predictions = True if return_predictions is None else return_predictions
        self._guard_sources(module, datamodule, predict=dataloaders)
        return run.execute(  # type: ignore[no-any-return]  # what `choose` gives
            self,
            TrainerFn.PREDICTING,
            module,
            partial(self._checkpoints.choose, TrainerFn.PREDICTING, ckpt_path, model_given=given),
            weights_only,
        )

    def _evaluate(
        self,
        fn: TrainerFn,
        model: LightningModule | None,
        dataloaders: Any,
        ckpt_path: str | Path | None,
        verbose: bool,
        datamodule: LightningDataModule | None,
        weights_only: bool | None,
    ) -> list[dict[str, float]]:
        module, given = self._module_or_last(model, fn.value)
        self._enter(fn, run.STAGE[fn])
        if isinstance(dataloaders, LightningDataModule):
            datamodule, dataloaders = dataloaders, None
        self._guard_sources(module, datamodule, **{"val" if fn is TrainerFn.VALIDATING else "test": dataloaders})
        choose = partial(self._checkpoints.choose, fn, ckpt_path, model_given=given)
        return run.execute(self, fn, module, choose, weights_only, verbose)  # type: ignore[no-any-return]  # what `choose` gives

    def _enter(self, fn: TrainerFn, stage: RunningStage) -> None:
        self.state.fn, self.state.status, self.state.stage = fn, TrainerStatus.RUNNING, stage
        self._start_clock()
        for loop in (self.fit_loop, self.validate_loop, self.test_loop, self.predict_loop):
            loop._forget()

    def _start_clock(self) -> None:
        self.timeline.reset()
        self._schedule.attach(self.timeline.core, WAIT, TRAINER)
        self._schedule.attach_store(self._ledger.store)
        self._ledger.attach(self.timeline.core, LOGGING)

    def _take_module(self, model: Any) -> LightningModule:
        module = unwrap(model)
        if not isinstance(module, LightningModule):
            raise errors.type_error(
                "model",
                "a `LightningModule` (or one compiled by torch.compile)",
                model,
                "Subclass `fulmen.LightningModule`",
            )
        self.strategy._lightning_module = module
        module.trainer = self
        return module

    def _module_or_last(self, model: Any, entry: str) -> tuple[LightningModule, bool]:
        if model is not None:
            return self._take_module(model), True
        if self.lightning_module is None:
            raise errors.type_error(
                f"trainer.{entry}(model)",
                "a `LightningModule`: none was provided, and no former run has left one",
                None,
                f"Pass one: `trainer.{entry}(model)` (`Trainer.{entry}()` requires a `LightningModule` when it hasn't "
                "been passed in a previous run)",
            )
        return self.lightning_module, False

    def _guard_sources(self, module: LightningModule, datamodule: LightningDataModule | None, **loaders: Any) -> None:
        """Attaches the data; a mistake here counts as an interrupted run."""
        try:
            if datamodule is not None and any(value is not None for value in loaders.values()):
                raise errors.misconfiguration(
                    f"trainer.{self.state.fn.value if self.state.fn else 'fit'}()",
                    "either loaders or a datamodule: you cannot pass both",
                    errors.Words("both"),
                    "Drop one of them",
                )
            self._sources.attach(module, datamodule, **loaders)
        except BaseException as exception:
            run.abandon(self, exception)
            raise

    def explain(
        self,
        model: LightningModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        show: bool = True,
    ) -> Explanation:
        """Says, before or after a fit, what it does: hooks in their order and who implements them, the form of a step, what is
        due when, what ends it, and where batches come from and why so. Nothing is run.

        Args:
            model: the module; None: that of the last run.
            train_dataloaders: what will be passed to fit; None: the loaders of the last fit.
            val_dataloaders: the same for validation.
            show: print it, on one process only.

        Returns:
            The sections, by title; ``str()`` of it is the text.
        """
        from fulmen.trainer.explain import explain

        explanation = explain(
            self, None if model is None else unwrap(model), {"train": train_dataloaders, "val": val_dataloaders}
        )
        if show and self.is_global_zero:
            explanation.show()
        return explanation

    # ---- while running -----------------------------------------------------------------------------------------------

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint.

        Args:
            filepath: where to.
            weights_only: leave out what only a resume needs.
            storage_options: passed to the checkpoint I/O plugin.

        Raises:
            AttributeError: no module was attached yet.
        """
        if self.lightning_module is None:
            raise errors.attribute_error(
                "Saving a checkpoint is only possible if a model is attached to the Trainer",
                "Did you call `Trainer.save_checkpoint()` before calling `Trainer.{fit,validate,test,predict}`?",
            )
        with self.timeline.within(CHECKPOINT):
            checkpoint = self._checkpoints.dump(bool(weights_only))
            with self._checkpoints.with_place(checkpoint, filepath, bool(weights_only)) as complete:
                self.strategy.save_checkpoint(complete, filepath, storage_options=storage_options)
            self.strategy.barrier("Trainer.save_checkpoint")

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on one process only, above the progress bar if there is one."""
        if self.local_rank != 0:
            return
        bar = self.progress_bar_callback
        if bar is not None and getattr(bar, "is_enabled", False):
            bar.print(*args, **kwargs)
        else:
            print(*args, **kwargs)

    @contextmanager
    def init_module(self, empty_init: bool | None = None) -> Iterator[None]:
        """Makes tensors of modules built inside it on the right device and in the right precision at once.

        Args:
            empty_init: leave weights uninitialised, for a checkpoint to fill.
        """
        if self.strategy.root_device.type != "cpu" and self.strategy.root_device.index is not None:
            self._devices.accelerator.setup_device(self.strategy.root_device)
        with self.strategy.tensor_init_context(empty_init=empty_init):
            yield

    # ---- what other parts of the package call ------------------------------------------------------------------------

    def _call_hooks(self, name: str, *args: Any) -> None:
        """Callbacks, then the module."""
        call_hooks(self, name, *args)
        if name == "on_before_optimizer_step" and (ledger := watcher(self)) is not None:
            ledger.before_optimizer()

    def _manual_step_begin(self) -> None:
        """An optimizer of manual optimization is about to step."""
        if not self._automatic:
            self._schedule.manual_step_begin()

    def _manual_step_end(self) -> None:
        """It has stepped."""
        if not self._automatic:
            self._schedule.manual_step_end()

    def _step_mark(self) -> tuple[int, int, int]:
        """A moment between two backward passes of manual optimization."""
        return self._backwards, self._schedule.current_epoch, self._schedule.batch_idx

    @property
    def _automatic(self) -> bool:
        return self.lightning_module.automatic_optimization

    @property
    def _logger_connector(self) -> Ledger:
        return self._ledger

    @property
    def _results(self) -> Ledger:
        return self._ledger

    @property
    def _checkpoint_connector(self) -> Checkpoints:
        return self._checkpoints
