"""How things stand before each batch, for runs whose callbacks write a checkpoint on exceptions.

A batch that fails is trained again by the run that goes on from such a file. By then it may have drawn random numbers, moved
the statistics of batch norms, logged values and added to the gradients of an open accumulation window: the file has to hold
what was before. So all of that is noted before each batch is fetched, in runs with such a callback, and in no others.

What a batch did to weights, optimizers and to the states of callbacks cannot be taken back: that matters where it fails
after an optimizer of manual optimization has stepped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen.callbacks.callback import Callback
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.model_checkpoint import ModelCheckpoint
from fulmen.prefetch.state import own_generators, plain_globals, plain_states, raw_global_generators, raw_states
from fulmen.trainer import logging_state, metric_state, midway

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


def wanted(trainer: Trainer) -> bool:
    """Does a callback write a checkpoint on exceptions?"""
    return any(_saves(callback) for callback in trainer.callbacks)


def _saves(callback: Callback) -> bool:
    if not isinstance(callback, Checkpoint) or type(callback).on_exception is Callback.on_exception:
        return False
    if isinstance(callback, ModelCheckpoint) and type(callback).on_exception is ModelCheckpoint.on_exception:
        return callback.save_on_exception
    return True


class Kept:
    """What was noted before a batch.

    Args:
        trainer: between two batches.
        generators: the random generators that loaders hold, for each loader.
        gradients: what the ones before were copied into, to be used again.

    Attributes:
        processed: how many batches had been trained by then.
        metrics: what was logged.
        metric_objects: the states of torchmetrics objects.
    """

    def __init__(self, trainer: Trainer, generators: list[list[Any]], gradients: dict[str, Tensor]) -> None:
        module, loaders = trainer.lightning_module, trainer.fit_loop._loaders
        batch = trainer._schedule.progress("batch")
        self.processed: int = batch["total"]["processed"]
        self._ready: int = batch["total"]["ready"]
        self._shared = raw_global_generators()
        self._own = [raw_states(own) for own in generators]
        self._ahead = loaders.ahead
        self._taken = [(source.place.start, source.place.taken) for source in loaders.sources]
        self.metrics = logging_state.hold(trainer._ledger)
        self.metric_objects = metric_state.states(module, copy=True)
        self._buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        open_now = midway.open_gradients(trainer)
        self._gradients = {name: _copy_to_host(value, gradients.get(name)) for name, value in open_now.items()}

    def gradients(self) -> dict[str, Tensor]:
        """The gradients that waited for an optimizer, on the CPU."""
        cuda: Any = torch.cuda
        if cuda.is_available() and cuda.is_initialized():
            # copies into pinned memory are under way
            cuda.synchronize()
        return self._gradients

    def buffers_changed(self, module: torch.nn.Module) -> dict[str, Tensor]:
        """The module's buffers as they were, as far as they are others now."""
        now = dict(module.named_buffers())
        return {name: old for name, old in self._buffers.items() if name in now and not _equal(old, now[name])}

    def correct(self, place: dict[str, Any], trainer: Trainer) -> None:
        """Makes a place in the data, and of the generators, the one from then."""
        loaders = trainer.fit_loop._loaders
        begun = trainer._schedule.progress("batch")["total"]["ready"] - self._ready
        shared = place["global"] = plain_globals(self._shared)
        place["ahead"] = self._ahead
        pairs = zip(loaders.sources, place["sources"], self._own, self._taken, strict=True)
        for source, state, own, (mark, taken) in pairs:
            state["now"] = {"global": shared, "own": plain_states(own)}
            if source.place.start is mark and state["taken"] is not None:
                # whoever goes there takes the batches that have begun and are not done off it again
                state["taken"] = taken + begun


class BatchStarts:
    """Notes how things stand before each batch of an epoch.

    Args:
        trainer: about to train an epoch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._generators = [own_generators(source.loader) for source in trainer.fit_loop._loaders.sources]
        self._kept: Kept | None = None

    def around(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches, with a note before each of them is fetched."""
        while True:
            before = {} if self._kept is None else self._kept._gradients
            self._kept = Kept(self._trainer, self._generators, before)
            try:
                batch = next(batches)
            except StopIteration:
                self._kept = None
                return
            yield batch

    def kept(self) -> Kept | None:
        """What was noted last, if that batch is not trained yet."""
        kept = self._kept
        if kept is None or self._trainer._schedule.progress("batch")["total"]["processed"] != kept.processed:
            return None
        return kept


def _copy_to_host(value: Tensor, old: Tensor | None) -> Tensor:
    """A copy in main memory; from a device it is under way when this returns, and takes none of the device's memory."""
    if value.device.type != "cuda" or value.layout is not torch.strided:
        return value.to("cpu", copy=True)
    fits = old is not None and old.shape == value.shape and old.dtype == value.dtype
    target = old if fits else torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    assert target is not None
    return target.copy_(value, non_blocking=True)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
