"""What a checkpoint holds of things half done, so that the run that goes on from it misses nothing.

=============  ======================================================================================================
gradients      of an accumulation window that is open, or in manual optimization those that no optimizer has used yet
metrics        the epoch's sums so far, the states of torchmetrics objects, what callbacks and loggers see
rows           how many rows every logger had got, so that one that goes on in the same folder drops later ones
window         how many batches the accumulation windows of this epoch have
=============  ======================================================================================================

It is kept beside the checkpoint's dictionary, as the places in the loaders are. A file is written by hooks too, after which
the former run would have sent a row or stepped a plateau scheduler: `catch_up` does that.

With several processes there is one file, which speaks for the first of them: sums and gradients of the others are not in
it, so that a resumed run begins without.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen.loggers.logger import Logger
from fulmen.trainer import logging_state, metric_state
from fulmen.trainer.schedulers import has_scheduler, step_schedulers
from fulmen.trainer.states import RunningStage, TrainerFn

if TYPE_CHECKING:
    from fulmen.trainer.batch_start import Kept
    from fulmen.trainer.trainer import Trainer

KEY = "fulmen_midway"
"""What it is called in a file."""


def state(trainer: Trainer, kept: Kept | None = None) -> dict[str, Any]:
    """The state, as tensors and plain data; empty outside a fit.

    Args:
        trainer: at any moment.
        kept: how things stood when the batch in hand began, if that is what the file is to hold.
    """
    loop = trainer.fit_loop
    if loop.midway:
        # it was loaded, and is not taken up yet
        return loop.midway
    if trainer.state.fn is not TrainerFn.FITTING or loop._loaders is None:
        return {}
    trainer._ledger.rows.settle()
    # a position looks beyond what a logger holds back, so it comes first
    rows = [_position(logger) for logger in trainer.loggers]
    parts: dict[str, Any] = {
        "rows": rows,
        "window": [trainer._config.accumulate_grad_batches, trainer._schedule.accumulate],
    }
    if kept is not None:
        parts["buffers"] = kept.buffers_changed(trainer.lightning_module)
    alone = trainer.world_size < 2
    held = logging_state.hold(trainer._ledger) if kept is None else kept.metrics
    parts["metrics"] = logging_state.plain(trainer._ledger, held if alone else held.without_sums())
    if alone:
        parts["gradients"] = open_gradients(trainer) if kept is None else kept.gradients()
        parts["metric_objects"] = metric_state.states(trainer.lightning_module) if kept is None else kept.metric_objects
    return parts


def encode(parts: dict[str, Any]) -> bytes:
    """Such a state as torch's bytes."""
    buffer = io.BytesIO()
    torch.save(parts, buffer)
    return buffer.getvalue()


def decode(content: bytes) -> dict[str, Any]:
    """It again, with tensors on the CPU. Nothing but tensors and plain data is read."""
    parts: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return parts


def restore(trainer: Trainer, saved: dict[str, Any], within_epoch: bool) -> None:
    """Takes it up, when the run is about to go on.

    Args:
        trainer: in a fit whose weights are loaded, and whose gradients are zero.
        saved: what `state` gave.
        within_epoch: whether the epoch goes on, so that its sums count.
    """
    if not saved:
        return
    module = trainer.lightning_module
    logging_state.restore(trainer._ledger, saved["metrics"], module, within_epoch)
    if within_epoch or not module.automatic_optimization:
        _restore_tensors(dict(module.named_parameters()), saved.get("gradients", {}), as_gradient=True)
    if within_epoch:
        metric_state.restore(module, saved.get("metric_objects", {}))
    _restore_tensors(dict(module.named_buffers()), saved.get("buffers", {}), as_gradient=False)


def catch_up(trainer: Trainer, saved: dict[str, Any]) -> bool:
    """What the former run did after the hook that wrote the file, and before its next batch. Call it before `resume`.

    Returns:
        Whether plateau schedulers that count steps are due after that batch, and after its validation.
    """
    schedule, ledger = trainer._schedule, trainer._ledger
    if not saved or not schedule.restarting:
        return False
    # a sanity check may have come before
    ledger.start(RunningStage.TRAINING)
    rewound = _rewind_loggers(trainer, saved)
    configured, window = saved["window"]
    if schedule.resumption() != "fresh" and configured == trainer._config.accumulate_grad_batches:
        schedule.accumulate = window
    batch, epoch = schedule.progress("batch"), schedule.progress("epoch")["current"]
    current = batch["current"]
    if schedule.resumption() != "fresh" and current["processed"] == current["ready"]:
        closes = current["ready"] % schedule.accumulate == 0 or batch["is_last_batch"]
        by_hook = current["ready"] > current["completed"]
        if by_hook and closes and schedule.log_due:
            restore(trainer, saved, within_epoch=True)
            with ledger.sending_to(rewound):
                ledger.log_metrics(ledger._row(by_step=True))
        # windows are counted when everything that is due after a batch is done
        served = schedule.closed_windows == schedule.progress("optimizer_step")["total"]["completed"]
        return bool(closes and (by_hook or not served) and has_scheduler(trainer, "step", plateau=True))
    if epoch["processed"] > epoch["completed"] and schedule.resumption() == "fresh":
        restore(trainer, saved, within_epoch=True)
        ledger.end_training_epoch()
        if schedule.batches_exhausted():
            step_schedulers(trainer, "epoch", plateau=True, late=True)
        windows = schedule.closed_windows
        schedule.closed_windows = max(0, windows - 1)
        with ledger.sending_to(rewound):
            ledger.send_epoch_rows()
        schedule.closed_windows = windows
    return False


def _position(logger: Any) -> list[int] | None:
    """Where a logger's rows stand; None: it does not say."""
    position = logger._position() if isinstance(logger, Logger) else None
    return position if isinstance(position, list) else None


def _rewind_loggers(trainer: Trainer, saved: dict[str, Any]) -> list[Any]:
    """Drops the rows that were sent after the file was written; gives the loggers that go on with the former run's rows."""
    rewound = []
    for logger, position in zip(trainer.loggers, saved["rows"], strict=False):
        if position is not None and isinstance(logger, Logger) and logger._rewind(position):
            rewound.append(logger)
    return rewound


# ---- gradients -------------------------------------------------------------------------------------------------------


def window_is_open(trainer: Trainer) -> bool:
    """Do gradients of batches that are done wait for others, in automatic optimization?"""
    batch = trainer._schedule.progress("batch")
    done = batch["current"]["processed"]
    ended = batch["is_last_batch"] and done == batch["current"]["ready"]
    return not ended and done % trainer._schedule.accumulate != 0


def open_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """The gradients that an optimizer is still to use, by the names of their parameters."""
    module = trainer.lightning_module
    used: set[int] = set()
    if module.automatic_optimization:
        if not window_is_open(trainer):
            return {}
    else:
        now = trainer._step_mark()
        used = {
            id(p)
            for o in trainer.optimizers
            if trainer._stepped.get(id(getattr(o, "_optimizer", o))) == now
            for group in o.param_groups
            for p in group["params"]
        }
    return {name: p.grad.detach() for name, p in module.named_parameters() if p.grad is not None and id(p) not in used}


def _restore_tensors(own: dict[str, Tensor], saved: dict[str, Tensor], as_gradient: bool) -> None:
    for name, value in saved.items():
        if name not in own:
            continue
        if as_gradient:
            own[name].grad = value.to(own[name].device, copy=True)
        else:
            with torch.no_grad():
                own[name].copy_(value)
