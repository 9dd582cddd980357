"""Prediction: the step's results of every batch, kept or handed to prediction writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fulmen.trainer import evaluate, parting
from fulmen.trainer.hook_table import call_hooks, call_module, calls, fire
from fulmen.trainer.iterator_steps import run_steps
from fulmen.trainer.states import RunningStage
from fulmen.trainer.step import takes_iterator
from fulmen.trainer.transfer import make_transfer
from fulmen.utilities.combined_loader import Item
from fulmen.utilities.move_data import move_data_to_device
from fulmen.utilities.rank_zero import WarningCache

if TYPE_CHECKING:
    from fulmen.trainer.data import Feed
    from fulmen.trainer.trainer import Trainer

_warned = WarningCache()


def run_predict(trainer: Trainer) -> list[Any] | list[list[Any]] | None:
    """One pass over the prediction loaders.

    Returns:
        A list of the step's results, a list of such lists if there are several loaders, None if they are not kept.
    """
    with evaluate.grad_mode(trainer):
        return _predict(trainer)


def _predict(trainer: Trainer) -> list[Any] | list[list[Any]] | None:
    loop = trainer.predict_loop
    loop.setup_data()
    if not sum(loop.max_batches):
        return None
    loop._start()
    loaders = loop._loaders
    feed = loaders.feed(limits=loop.max_batches)
    trainer._schedule.new_round(loop._counter)
    modes = evaluate.remember_modes(trainer.lightning_module)
    call_module(trainer, "on_predict_model_eval")
    trainer._ledger.start(RunningStage.PREDICTING)
    call_hooks(trainer, "on_predict_start", strategy=True)
    if loop._loaders is not loaders:
        # the hook has exchanged them
        loop._start()
        feed = loop._loaders.feed(limits=loop.max_batches)
    call_hooks(trainer, "on_predict_epoch_start")
    _batches(trainer, loop, feed)
    call_hooks(trainer, "on_predict_epoch_end")
    call_hooks(trainer, "on_predict_end", strategy=True)
    evaluate.restore_modes(modes)
    return loop._results_to_return()


def _batches(trainer: Trainer, loop: Any, feed: Feed) -> None:
    schedule, counter = trainer._schedule, loop._counter
    several = loop.num_dataloaders > 1
    step, takes = evaluate.make_eval_step(trainer, "predict")
    evaluate.check_dataloader_idx(trainer, "predict", several)
    if takes_iterator(trainer.lightning_module, "predict_step"):

        def keep(output: Any, item: Item) -> None:
            loop._note_indices(item[1], item[2])
            _keep(loop, output, item[2])

        run_steps(trainer, "predict", counter, feed, step, loop.num_dataloaders if several else 1, keep)
        return
    transfer = make_transfer(trainer, "predict_step")
    starts = calls(trainer, "on_predict_batch_start")
    ends = calls(trainer, "on_predict_batch_end")
    for batch, batch_idx, dataloader_idx in feed:
        schedule.begin_eval_batch(counter, feed.last)
        loop._note_indices(batch_idx, dataloader_idx)
        if transfer is not None:
            batch = transfer(batch, dataloader_idx)
        args = (batch, batch_idx, dataloader_idx) if several else (batch, batch_idx)
        if starts:
            fire(trainer, "on_predict_batch_start", starts, *args)
        trainer._hook = "predict_step"
        output = step(*args[:takes])
        trainer._hook = None
        schedule.eval_processed(counter)
        if ends:
            fire(trainer, "on_predict_batch_end", ends, output, *args)
        schedule.end_eval_batch(counter)
        _keep(loop, output, dataloader_idx)
        if trainer._signals.ends_by is not None:
            parting.leave(trainer, trainer._signals.ends_by)


def _keep(loop: Any, output: Any, dataloader_idx: int) -> None:
    """Keeps a step's result on the CPU, if anybody will ask for it."""
    if output is None:
        _warned.warn("predict returned None if it was on purpose, ignore this warning...")
    if loop.return_predictions or loop._epoch_end_writer:
        loop._keep(move_data_to_device(output, torch.device("cpu")), dataloader_idx)
