"""Callbacks that want to be called by the clock rather than for every batch, such as progress bars."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


class Alarms:
    """Wakes callbacks when their time has come: a clock in the core rings at the end of a batch, which costs a comparison.

    Args:
        trainer: in the epoch whose batches are about to begin.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._sleepers = [
            c
            for c in trainer.callbacks
            if isinstance(c, Callback) and getattr(type(c), "_wake", Callback._wake) is not Callback._wake
        ]
        self._set(0.0 if self._sleepers else None)

    def ring(self) -> None:
        """Wake them all; each sees for itself whether its time has come."""
        if not self._sleepers:
            return
        trainer, timeline = self._trainer, self._trainer.timeline
        times = []
        trainer._ledger.hurried = True
        try:
            for callback in self._sleepers:
                times.append(callback._wake(trainer, trainer.lightning_module))
                timeline.mark(timeline.part_of(callback))
        finally:
            trainer._ledger.hurried = False
        known = [at for at in times if at is not None]
        self._set(max(0.0, min(known) - perf_counter()) if known else None)

    def _set(self, seconds: float | None) -> None:
        self._trainer.timeline.core.set_alarm(seconds)
