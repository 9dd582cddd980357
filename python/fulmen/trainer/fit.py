"""The training loop.

::

    set up, sanity check
    for every epoch:
        on_train_epoch_start
        for batch in feed:
            on_train_batch_start
            step(batch)                 forward, backward, clip, optimizer
            on_train_batch_end
            if schedule.tick():         rare: something is due
                log row, validation, plateau schedulers
        on_train_epoch_end
    on_train_end
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from fulmen.prefetch.state import global_generators, set_global_generators
from fulmen.trainer import batch_start, evaluate, midway, parting
from fulmen.trainer.alarms import Alarms
from fulmen.trainer.hook_table import (
    call_hooks,
    call_module,
    call_train_epoch_end,
    callback_calls,
    calls,
    fire,
    module_call,
    module_overrides,
    strategy_call,
)
from fulmen.trainer.profiling import MeasuredFeed, profiles, timed
from fulmen.trainer.schedulers import has_scheduler, step_schedulers
from fulmen.trainer.states import RunningStage
from fulmen.trainer.step import CLOSES, make_step, takes_iterator
from fulmen.trainer.timeline import COPY, LOGGING, TRAINER, VALIDATION
from fulmen.trainer.transfer import make_transfer
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn
from fulmen.utilities.seed import isolate_rng
from fulmen.utilities.warnings import PossibleUserWarning

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

LOG, VALIDATE, PLATEAU, EPOCH_END, INTERRUPT, ALARM = 1, 2, 4, 8, 16, 32
"""Bits of the schedule's answer to ``due()``."""


def sanity_check(trainer: Trainer) -> None:
    """A few validation batches before any training, so that a broken validation shows at once.

    The random generators are as before afterwards, so that a training does not depend on whether it ran.
    """
    with isolate_rng():
        _sanity_check(trainer)
    torch.set_grad_enabled(True)
    trainer.state.stage = RunningStage.TRAINING


def _sanity_check(trainer: Trainer) -> None:
    schedule = trainer._schedule
    if not trainer.enable_validation or trainer.num_sanity_val_steps == 0 or schedule.resumes_within_epoch():
        return
    stage = trainer.state.stage
    trainer.state.stage = RunningStage.SANITY_CHECKING
    trainer._ledger.reset_metrics()
    fire(trainer, "on_sanity_check_start", callback_calls(trainer, "on_sanity_check_start"))
    with trainer.timeline.within(VALIDATION):
        evaluate.run_evaluation(trainer, RunningStage.SANITY_CHECKING)
    fire(trainer, "on_sanity_check_end", callback_calls(trainer, "on_sanity_check_end"))
    trainer._ledger.reset_metrics()
    for name in ("total", "current"):
        schedule.set_progress("fit_val", {name: dict.fromkeys(("ready", "started", "processed", "completed"), 0)})
    trainer.state.stage = stage


def train(trainer: Trainer) -> None:
    """All epochs, from wherever the schedule stands."""
    schedule, ledger = trainer._schedule, trainer._ledger
    loop = trainer.fit_loop
    loop.setup_data()
    half_done = loop.midway
    plateau_owed = midway.catch_up(trainer, half_done)
    if schedule.finished():
        loop._leave_place()
        return
    owed = schedule.validation_owed()
    closed = schedule.closed_windows
    place = schedule.resume()
    generators = loop._go_to_place(place)
    trainer._axis.begin(place)
    feed = loop._feed = loop._loaders.feed()
    schedule.start_clock(time.monotonic())
    ledger.start(RunningStage.TRAINING)
    ledger.on_epoch_start()
    midway.restore(trainer, half_done, within_epoch=place != "fresh")
    loop.midway = {}
    _warn_eval_mode(trainer)
    call_hooks(trainer, "on_train_start", strategy=True)
    if place == "mid_epoch":
        feed.skip(schedule.progress("batch")["current"]["completed"])
    if generators is not None:
        # now: hooks may have drawn, and the interrupted run had called them before
        set_global_generators(generators)
    first = True
    while not schedule.finished():
        if not first:
            loop.setup_data()
        loop._loaders.set_epoch(trainer.current_epoch)
        if place == "fresh":
            schedule.begin_epoch()
            call_hooks(trainer, "on_train_epoch_start")
            schedule.epoch_started()
        if not first or loop._feed is not feed:
            # the hooks before the first epoch may have exchanged the loaders
            feed = loop._feed = loop._loaders.feed()
        if owed:
            # its rows stand at the step that was not counted when it began
            windows, schedule.closed_windows = schedule.closed_windows, min(closed, schedule.closed_windows)
            validate(trainer)
            schedule.closed_windows = windows
            owed = False
        if plateau_owed:
            step_schedulers(trainer, "step", plateau=True)
            plateau_owed = False
        if place != "epoch_end" and not (schedule.should_stop and schedule.epoch_done()):
            timed(trainer, "run_training_epoch", train_epoch)(trainer, feed)
        end_epoch(trainer)
        place, first = "fresh", False
    _say_why(trainer)
    ledger.rows.drain()
    call_hooks(trainer, "on_train_end", strategy=True)
    trainer._checkpoints.drain()


def train_epoch(trainer: Trainer, feed: Any) -> None:
    """One epoch's batches. This is the hot loop: whatever nobody asked for is found out before it, not in it."""
    schedule, ledger = trainer._schedule, trainer._ledger
    step, counted = make_step(trainer)
    step = timed(trainer, "run_training_batch", step)
    transfer = make_transfer(trainer, "training_step")
    callback_start = callback_calls(trainer, "on_train_batch_start")
    module_start = module_call(trainer, "on_train_batch_start")
    strategy_start = strategy_call(trainer, "on_train_batch_start")
    starts = bool(callback_start or module_start or strategy_start)
    ends = calls(trainer, "on_train_batch_end")
    step_schedulers_present = has_scheduler(trainer, "step", plateau=False)
    epoch_schedulers_present = has_scheduler(trainer, "epoch", plateau=False)
    schedule.step_plateau = has_scheduler(trainer, "step", plateau=True)
    needs_time = schedule.epoch_needs_time
    between = bool(ends) or step_schedulers_present or epoch_schedulers_present
    begin, processed, tick, finish = schedule.begin_batch, schedule.processed, schedule.tick, schedule.finish
    schedule.count(counted)
    finishes = not (between or needs_time)
    set_batch, count = ledger.set_training_batch, trainer._axis.counter()
    mark = trainer.timeline.mark
    alarms = Alarms(trainer)
    if profiles(trainer):
        feed = MeasuredFeed(trainer, feed, "[_TrainingEpochLoop].train_dataloader_next")
    if takes_iterator(trainer.lightning_module):
        feed = feed.as_iterator_argument()

    batches = feed.batches()
    trainer.fit_loop.starts = None
    if batch_start.wanted(trainer):
        trainer.fit_loop.starts = batch_start.BatchStarts(trainer)
        batches = trainer.fit_loop.starts.around(batches)

    outputs: Any = None
    for batch in batches:
        code = begin(feed.last, batch)
        batch_idx, flags = code >> 3, code & 7
        if batch is None:
            rank_zero_warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
            outputs = None
            flags = 0
        else:
            if transfer is not None:
                mark(TRAINER)
                batch = transfer(batch, 0)
                set_batch(batch)
                mark(COPY)
            if count is not None:
                count(batch)
            if starts and _start_batch(trainer, callback_start, module_start, strategy_start, batch, batch_idx):
                schedule.skip_epoch()
                if epoch_schedulers_present:
                    step_schedulers(trainer, "epoch", plateau=False)
                break
            outputs = step(batch, batch_idx, flags)
        if finishes and batch is not None:
            due = finish()
        else:
            processed(flags & counted)
            if step_schedulers_present and code & CLOSES:
                step_schedulers(trainer, "step", plateau=False)
            if epoch_schedulers_present and schedule.batches_exhausted():
                step_schedulers(trainer, "epoch", plateau=False)
            if ends:
                fire(trainer, "on_train_batch_end", ends, outputs, batch, batch_idx)
            due = tick(time.monotonic() if needs_time else None)
        if due and serve(trainer, alarms):
            break
    trainer.fit_loop.starts = None
    ledger.clear_batch()


def _start_batch(
    trainer: Trainer,
    callbacks: tuple[Any, ...],
    module: tuple[Any, ...],
    strategy: tuple[Any, ...],
    batch: Any,
    batch_idx: int,
) -> bool:
    """The batch's start hooks; True if the module asks to drop the rest of the epoch."""
    fire(trainer, "on_train_batch_start", callbacks, batch, batch_idx)
    if module:
        trainer._hook = "on_train_batch_start"
        answer = module[0](batch, batch_idx)
        trainer._hook = None
        if answer == -1:
            return True
    fire(trainer, "on_train_batch_start", strategy, batch, batch_idx)
    return False


def serve(trainer: Trainer, alarms: Alarms) -> bool:
    """Does what is due after a batch. Is the epoch over?"""
    schedule, ledger, timeline = trainer._schedule, trainer._ledger, trainer.timeline
    due = schedule.due()
    timeline.mark(TRAINER)
    if due & LOG:
        ledger.send_step_rows()
        timeline.mark(LOGGING)
    if due & (ALARM | EPOCH_END):
        alarms.ring()
    if due & VALIDATE:
        validate(trainer)
    if due & PLATEAU:
        step_schedulers(trainer, "step", plateau=True)
    over = schedule.settle()
    if due & INTERRUPT:
        schedule.interrupt = False
        trainer._checkpoints.poll()
        parting.attend(trainer)
    return over


def validate(trainer: Trainer) -> None:
    """Validation within fit."""
    trainer.state.stage = RunningStage.VALIDATING
    if not trainer._schedule.accumulating:
        call_module(trainer, "on_validation_model_zero_grad")
    # a file that is written within it has them: whoever goes on from there begins with the whole validation
    trainer.fit_loop._generators_before = global_generators()
    with trainer.timeline.within(VALIDATION):
        evaluate.run_evaluation(trainer, RunningStage.VALIDATING)
    trainer.fit_loop._generators_before = None
    trainer._schedule.validated(time.monotonic() if trainer._schedule.needs_time else None)
    trainer.state.stage = RunningStage.TRAINING
    trainer._ledger.start(RunningStage.TRAINING)


def end_epoch(trainer: Trainer) -> None:
    """Everything between an epoch's last batch and the next epoch."""
    schedule, ledger = trainer._schedule, trainer._ledger
    schedule.epoch_processed()
    ledger.end_training_epoch()
    call_train_epoch_end(trainer)
    ledger.end_training_epoch()
    if schedule.batches_exhausted():
        step_schedulers(trainer, "epoch", plateau=True)
    # an epoch's row stands at its last step, which the counter has already passed
    windows = schedule.closed_windows
    schedule.closed_windows = max(0, windows - 1)
    ledger.send_epoch_rows()
    schedule.closed_windows = windows
    schedule.epoch_completed()
    parting.attend(trainer)


def _warn_eval_mode(trainer: Trainer) -> None:
    in_eval = sum(not m.training for m in trainer.lightning_module.modules())
    if in_eval:
        rank_zero_warn(
            f"Found {in_eval} module(s) in eval mode at the start of training. This may lead to unexpected behavior "
            "during training. If this is intentional, you can ignore this warning.",
            category=PossibleUserWarning,
        )


def _say_why(trainer: Trainer) -> None:
    """One line in the log about what ended the run."""
    schedule = trainer._schedule
    if schedule.max_steps is not None and schedule.global_step >= schedule.max_steps:
        rank_zero_info(f"`Trainer.fit` stopped: `max_steps={schedule.max_steps!r}` reached.")
    elif schedule.max_epochs is not None and schedule.current_epoch >= schedule.max_epochs:
        rank_zero_info(f"`Trainer.fit` stopped: `max_epochs={schedule.max_epochs!r}` reached.")
    elif schedule.should_stop:
        rank_zero_info("`Trainer.fit` stopped: `trainer.should_stop` was set.")


def uses_validation(trainer: Trainer) -> bool:
    """Will fit validate at all?"""
    return (
        trainer._sources.has("val")
        and module_overrides(trainer.lightning_module, "validation_step")
        and trainer.limit_val_batches > 0
    )
