"""`GradientAccumulationScheduler`: another accumulation factor from certain epochs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["GradientAccumulationScheduler"]


class GradientAccumulationScheduler(Callback):
    """Changes ``accumulate_grad_batches`` with the epochs.

    Args:
        scheduling: epoch (from 0) to factor, such as ``{0: 8, 4: 4, 8: 1}``; 1 before the first.

    Raises:
        TypeError: nothing, or something that is no dict of whole numbers.
        MisconfigurationException: an epoch below 0 or a factor below 1.
    """

    def __init__(self, scheduling: dict[int, int]) -> None:
        super().__init__()
        where = "GradientAccumulationScheduler(scheduling)"
        if not scheduling:
            raise errors.type_error(where, "a dict that is not empty", scheduling, "Pass epoch to factor: {0: 4}")
        if any(not isinstance(key, int) or key < 0 for key in scheduling):
            raise errors.misconfiguration(
                where, "epochs, ints of at least 0, as keys: Epoch should be an int greater than or equal to 0",
                list(scheduling), "Count epochs from 0",
            )  # fmt: skip
        if any(not isinstance(value, int) or value < 1 for value in scheduling.values()):
            raise errors.misconfiguration(
                where, "factors, ints of at least 1: Accumulation factor should be an int greater than 0",
                list(scheduling.values()), "Use 1 for no accumulation",
            )  # fmt: skip
        if 0 not in scheduling:
            scheduling = {**scheduling, 0: 1}
        self.scheduling = scheduling
        self.epochs = sorted(scheduling)

    def going_to_accumulate_grad_batches(self) -> bool:
        """Is there any factor above 1?"""
        return any(factor > 1 for factor in self.scheduling.values())

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """The factor in an epoch."""
        return next((self.scheduling[e] for e in reversed(self.epochs) if epoch >= e), 1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuses what it cannot work with."""
        if not pl_module.automatic_optimization:
            raise RuntimeError(
                "Automatic gradient accumulation and the `GradientAccumulationScheduler` is not supported for manual "
                "optimization. Please remove the callback or switch to automatic optimization."
            )
        # not the number in force, which a run that goes on within an epoch has from the one before
        if trainer._config.accumulate_grad_batches != 1:
            raise ValueError(
                "You have set `accumulate_grad_batches` and are using the `GradientAccumulationScheduler` callback. Either "
                "remove `accumulate_grad_batches` from the Trainer or remove the callback."
            )

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Sets the epoch's factor."""
        trainer.accumulate_grad_batches = self.get_accumulate_grad_batches(trainer.current_epoch)
