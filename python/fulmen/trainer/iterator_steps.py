"""Evaluation and prediction by steps that take ``dataloader_iter`` and fetch their batches by themselves.

::

    until the data ends:
        on_{stage}_batch_start      the batch fetched last: None before the first
        {stage}_step(iterator)      fetches one batch, or several
        on_{stage}_batch_end        the batch fetched now

What the step fetches is not moved to the device: the step does that where it wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fulmen.trainer import parting
from fulmen.trainer.hook_table import calls, fire
from fulmen.utilities.combined_loader import Item

if TYPE_CHECKING:
    from fulmen.trainer.data import Feed
    from fulmen.trainer.trainer import Trainer


def run_steps(
    trainer: Trainer,
    kind: str,
    counter: Any,
    feed: Feed,
    step: Callable[..., Any],
    loaders: int,
    served: Callable[[Any, Item], None],
) -> None:
    """All steps over one feed.

    Args:
        trainer: whose run.
        kind: "validation", "test" or "predict".
        counter: the schedule's name for the stage's batches.
        feed: the data.
        step: the user's step, which gets the iterator.
        loaders: number of loaders that come one after the other, 1 if they come together.
        served: called after each step's end hooks with its result, and with batch, index and loader's index.
    """
    schedule, ledger = trainer._schedule, trainer._ledger
    starts = calls(trainer, f"on_{kind}_batch_start")
    ends = calls(trainer, f"on_{kind}_batch_end")
    several = loaders > 1
    turns = feed.as_iterator_argument(lambda item: ledger.set_batch(item[0], item[1], item[2], loaders))
    for iterator, *_ in turns:
        schedule.begin_eval_batch(counter, turns.last)
        item = iterator.item
        ledger.set_batch(item[0], item[1], item[2], loaders)
        fire(trainer, f"on_{kind}_batch_start", starts, *(item if several else item[:2]))
        trainer._hook = f"{kind}_step"
        try:
            output = step(iterator)
        except StopIteration:
            # nobody knew that there was no further batch
            break
        finally:
            trainer._hook = None
        schedule.eval_processed(counter)
        item = iterator.item
        fire(trainer, f"on_{kind}_batch_end", ends, output, *(item if several else item[:2]))
        schedule.end_eval_batch(counter)
        served(output, item)
        if trainer._signals.ends_by is not None:
            parting.leave(trainer, trainer._signals.ends_by)
    ledger.clear_batch()
