"""How long a fit will still take, all epochs and their validations together."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


class FitEta:
    """Time left, by the wall clock: what the fit took so far, times what is left of it.

    Validations, checkpoints and everything else between the batches count, as soon as they happened once. A fit that was
    resumed counts from where it went on. Early stopping cannot be foreseen.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._done_before = 0.0

    def start(self, trainer: Trainer) -> None:
        """The training begins, or goes on after a checkpoint."""
        self._began = perf_counter()
        self._done_before = _share_done(trainer, 0) or 0.0

    def left(self, trainer: Trainer, batches: int) -> float | None:
        """Seconds until the end.

        Args:
            trainer: the trainer.
            batches: batches done in this epoch.

        Returns:
            The seconds; None if nobody knows: nothing is done yet, or neither ``max_epochs`` nor ``max_steps`` ends the
            fit; None too where the epoch's own time says it all, since the fit has no other.
        """
        if self._began is None or trainer.max_epochs == 1:
            return None
        done = _share_done(trainer, batches)
        if done is None or done >= 1 or done <= self._done_before:
            return None
        return (perf_counter() - self._began) * (1 - done) / (done - self._done_before)


def _share_done(trainer: Trainer, batches: int) -> float | None:
    """Share of the fit that is done, by the limit that will be reached first."""
    shares = []
    epochs, size, steps = trainer.max_epochs, trainer.num_training_batches, trainer.max_steps
    if epochs is not None and epochs > 0 and 0 < size < math.inf:
        shares.append((trainer.current_epoch * size + batches) / (epochs * size))
    if steps is not None and steps > 0:
        shares.append(trainer.global_step / steps)
    return max(shares, default=None)
