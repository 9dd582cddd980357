"""A run from end to end: set up, work, tear down, whatever happens in between.

::

    S.connect, configure_callbacks, S.setup_environment, prepare_data, setup, configure_model
    [load the checkpoint's model]   S.setup (device, optimizers)   on_fit_start   [load the checkpoint's training state]
    work
    S.teardown, on_fit_end, teardown, logger.finalize
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from fulmen.loggers.wandb import WandbLogger
from fulmen.trainer import callback_setup, fit, legacy, parting, predict, profiling
from fulmen.trainer.checks import check_run
from fulmen.trainer.evaluate import run_alone
from fulmen.trainer.hook_table import call_hooks, callback_calls, fire
from fulmen.trainer.logging_hparams import log_hyperparams
from fulmen.trainer.nan_policy import check_policy
from fulmen.trainer.stalls import StallWatch
from fulmen.trainer.states import RunningStage, TrainerFn, TrainerStatus
from fulmen.trainer.timeline import SETUP, TEARDOWN, TRAINER
from fulmen.trainer.timeline import VALIDATION as EVALUATION_PART
from fulmen.trainer.timeline_file import write_timeline
from fulmen.utilities.exceptions import SIGTERMException
from fulmen.utilities.model_helpers import is_overridden
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn
from fulmen.utilities.warnings import PossibleUserWarning

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

STAGE = {
    TrainerFn.FITTING: RunningStage.TRAINING,
    TrainerFn.VALIDATING: RunningStage.VALIDATING,
    TrainerFn.TESTING: RunningStage.TESTING,
    TrainerFn.PREDICTING: RunningStage.PREDICTING,
}


def execute(
    trainer: Trainer,
    fn: TrainerFn,
    module: LightningModule,
    ckpt_path: Callable[[], str | Path | None],
    weights_only: bool | None,
    verbose: bool = True,
) -> Any:
    """Runs one entry point.

    Args:
        fn: the entry point.
        module: the user's module, not compiled.
        ckpt_path: finds the checkpoint to start from; called when callbacks know their folders.
        weights_only: passed to the checkpoint's loading.
        verbose: print the values of a validation or test.

    Returns:
        What the entry point returns.
    """
    trainer.state.status = TrainerStatus.RUNNING
    trainer._torn_down = True
    timeline = trainer.timeline
    timeline.here = SETUP
    watch = StallWatch(trainer).start() if fn is TrainerFn.FITTING and not trainer.barebones else None
    try:
        prepare(trainer, module, ckpt_path, weights_only)
        timeline.mark(SETUP)
        timeline.here = TRAINER if fn is TrainerFn.FITTING else EVALUATION_PART
        if trainer._rehearsal is not None:
            trainer._rehearsal(module)
            results: Any = None
        elif fn is TrainerFn.FITTING:
            check_policy(trainer)
            fit.sanity_check(trainer)
            with torch.autograd.detect_anomaly() if trainer._config.detect_anomaly else nullcontext():
                fit.train(trainer)
            results = None
            timeline.here = TEARDOWN
        elif fn is TrainerFn.PREDICTING:
            results = predict.run_predict(trainer)
        else:
            results = run_alone(trainer, STAGE[fn], verbose)
        finish(trainer)
        timeline.core.pause(timeline.here)
        if fn is TrainerFn.FITTING and trainer._rehearsal is None:
            say_where_the_time_went(trainer)
    except BaseException as exception:
        if not parting.died_by_signal(trainer, exception):
            abandon(trainer, exception)
            raise
        end_by_signal(trainer, exception)
    finally:
        if watch is not None:
            watch.stop()
    if trainer._signals.ends_by is not None:
        # it came when there was nothing left to interrupt
        raise SIGTERMException(128 + trainer._signals.ends_by)
    return results


def end_by_signal(trainer: Trainer, exception: BaseException) -> NoReturn:
    """A run that fails because its workers were ended by the signal that is to end it."""
    try:
        number = trainer._signals.ends_by
        assert number is not None
        parting.leave(trainer, number)
    except BaseException as end:
        abandon(trainer, end)
        raise end from exception


def say_where_the_time_went(trainer: Trainer) -> None:
    """One line at the end of a fit, a file beside its metrics, and a warning where it waited for its data."""
    timeline = trainer.timeline
    if not timeline.detailed or not timeline.steps or trainer.barebones:
        return
    rank_zero_info(f"Time: {timeline.summary()}")
    write_timeline(trainer)
    advice = timeline.advice()
    if advice is not None:
        rank_zero_warn(advice, category=PossibleUserWarning)


def prepare(
    trainer: Trainer,
    module: LightningModule,
    ckpt_path: Callable[[], str | Path | None],
    weights_only: bool | None,
) -> None:
    """Everything before the first batch."""
    strategy, fn = trainer.strategy, trainer.state.fn
    assert fn is not None
    strategy.connect(module)
    callback_setup.attach_module_callbacks(trainer)
    legacy.adapt(trainer, module)
    trainer._ledger.begin_run()
    check_run(trainer)
    strategy.setup_environment()
    trainer._signals.install()
    profiling.begin(trainer)
    prepare_data(trainer)
    trainer._torn_down = False
    _share_trainer(trainer)
    call_setup(trainer)
    call_configure_model(trainer)
    path = ckpt_path()
    trainer._ckpt_path = path
    checkpoints = trainer._checkpoints
    if not strategy.restore_checkpoint_after_setup:
        checkpoints.load(path, weights_only)
    trainer._schedule.automatic = module.automatic_optimization
    strategy.setup(trainer)
    if trainer._rehearsal is not None:
        checkpoints.finish_restore()
        return
    if fn is TrainerFn.FITTING:
        call_hooks(trainer, "on_fit_start")
    log_hyperparams(trainer)
    if strategy.restore_checkpoint_after_setup:
        checkpoints.load(path, weights_only)
    checkpoints.restore_training()
    checkpoints.finish_restore()
    if path:
        rank_zero_info(f"{'Restored all states' if fn is TrainerFn.FITTING else 'Loaded model weights'} from {path}")
    module.zero_grad()


def prepare_data(trainer: Trainer) -> None:
    """``prepare_data`` of data module and module, on the one process of a node that should."""
    datamodule, module = trainer.datamodule, trainer.lightning_module
    owner = datamodule if datamodule is not None else module
    if trainer.local_rank != 0 and getattr(owner, "prepare_data_per_node", True):
        return
    if datamodule is not None and is_overridden("prepare_data", datamodule):
        _within(trainer, "prepare_data", datamodule.prepare_data)
    if is_overridden("prepare_data", module):
        _within(trainer, "prepare_data", module.prepare_data)


def _within(trainer: Trainer, name: str, call: Callable[..., Any], **kwargs: Any) -> None:
    before = trainer._hook
    trainer._hook = name
    owner = getattr(call, "__self__", None)
    if owner is not None:
        kind = "LightningDataModule" if owner is trainer.datamodule else "LightningModule"
        call = profiling.profiled(trainer, f"[{kind}]{type(owner).__name__}", name, call)
    call(**kwargs)
    trainer._hook = before


def call_setup(trainer: Trainer) -> None:
    """``setup(stage)``: data module, callbacks, module."""
    assert trainer.state.fn is not None
    stage = trainer.state.fn.value
    # wandb can follow only those writers of TensorBoard that are made after its run
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, WandbLogger)):
        if hasattr(logger, "experiment"):
            _ = logger.experiment
    trainer.strategy.barrier("pre_setup")
    if trainer.datamodule is not None:
        _within(trainer, "setup", trainer.datamodule.setup, stage=stage)
    fire(trainer, "setup", callback_calls(trainer, "setup"), stage=stage)
    _within(trainer, "setup", trainer.lightning_module.setup, stage=stage)
    trainer.strategy.barrier("post_setup")


def call_configure_model(trainer: Trainer) -> None:
    """``configure_model`` where the module has one, with tensors made where the strategy wants them."""
    module = trainer.lightning_module
    for name in ("configure_sharded_model", "configure_model"):
        if is_overridden(name, module):
            with trainer.strategy.tensor_init_context(), trainer.strategy.model_sharded_context():
                _within(trainer, name, getattr(module, name))


def _share_trainer(trainer: Trainer) -> None:
    """Modules and callbacks log through the trainer that runs them."""
    for callback in trainer.callbacks:
        callback_setup.attach_log(trainer, callback)


def finish(trainer: Trainer) -> None:
    """Everything after the last batch of a run that went well. Loggers hear nothing of a rehearsal."""
    teardown_strategy(trainer)
    rehearsed = trainer._rehearsal is not None
    if trainer.state.fn is TrainerFn.FITTING and not rehearsed:
        call_hooks(trainer, "on_fit_end")
    call_teardown(trainer)
    trainer._ledger.rows.close()
    for logger in () if rehearsed else trainer.loggers:
        logger.finalize("success")
    profiling.end(trainer, report=True)
    trainer.state.status = TrainerStatus.FINISHED
    trainer.state.stage = None


def teardown_strategy(trainer: Trainer) -> None:
    """Lets go of devices, loaders' workers and signal handlers."""
    trainer.strategy.teardown()
    fit_loop = trainer.fit_loop
    for loop in (
        fit_loop,
        fit_loop.epoch_loop.val_loop,
        trainer.validate_loop,
        trainer.test_loop,
        trainer.predict_loop,
    ):
        if loop._loaders is not None:
            loop._loaders.close()
    trainer._signals.restore()


def call_teardown(trainer: Trainer) -> None:
    """``teardown(stage)``: data module, callbacks, module."""
    if trainer._torn_down:
        return
    trainer._torn_down = True
    assert trainer.state.fn is not None
    stage = trainer.state.fn.value
    if trainer.datamodule is not None:
        _within(trainer, "teardown", trainer.datamodule.teardown, stage=stage)
    fire(trainer, "teardown", callback_calls(trainer, "teardown"), stage=stage)
    _within(trainer, "teardown", trainer.lightning_module.teardown, stage=stage)
    trainer.lightning_module._metric_attributes = None


def abandon(trainer: Trainer, exception: BaseException) -> None:
    """A run that ends by an exception: everybody hears of it, and teardown runs all the same."""
    trainer.state.status = TrainerStatus.INTERRUPTED
    trainer._hook = None
    quiet = _ignore_interrupts(exception)
    try:
        trainer._ledger.leave()
        if trainer.strategy.lightning_module is not None:
            trainer._hook = "on_exception"
            for call in callback_calls(trainer, "on_exception"):
                call(exception)
            if trainer.datamodule is not None:
                trainer.datamodule.on_exception(exception)
            trainer.strategy.on_exception(exception)
            trainer._hook = None
            _drain(trainer, exception)
        _close_rows(trainer, exception)
        for logger in trainer.loggers:
            logger.finalize("failed")
        trainer.profiler.describe()
        teardown_strategy(trainer)
        try:
            call_teardown(trainer)
        except Exception as late:
            rank_zero_warn(f"A teardown hook failed after {type(exception).__name__}: {late!r}")
    finally:
        profiling.end(trainer, report=False)
        trainer._torn_down = True
        trainer._hook = None
        trainer._ledger.clear_batch()
        # a Ctrl-C leaves the stage as it was, so that one can see what was interrupted
        if not isinstance(exception, KeyboardInterrupt):
            trainer.state.stage = None
        if quiet is not None:
            signal.signal(signal.SIGINT, quiet)


def _drain(trainer: Trainer, exception: BaseException) -> None:
    """Files under way are finished; what goes wrong with them must not hide why the run ends."""
    try:
        trainer._checkpoints.drain()
    except Exception as late:
        if late is not exception:
            rank_zero_warn(f"A checkpoint could not be written after {type(exception).__name__}: {late!r}")


def _close_rows(trainer: Trainer, exception: BaseException) -> None:
    """Loggers get the rows that wait; as for files under way."""
    try:
        trainer._ledger.rows.close()
    except Exception as late:
        rank_zero_warn(f"A logger failed after {type(exception).__name__}: {late!r}")


def _ignore_interrupts(exception: BaseException) -> Any:
    """A second Ctrl-C must not cut the saving short."""
    if not isinstance(exception, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, signal.SIG_IGN)
