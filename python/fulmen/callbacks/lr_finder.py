"""`LearningRateFinder`: a sweep over learning rates at the beginning of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.tuner.lr_curve import LRFinder

__all__ = ["LearningRateFinder"]


class LearningRateFinder(Callback):
    """Tries learning rates from small to large before training, and goes on with the one at which the loss falls fastest.

    The trial leaves nothing behind but the rate. Subclasses may call :meth:`lr_find` in ``on_train_epoch_start`` too.

    Args:
        min_lr: smallest rate.
        max_lr: largest rate.
        num_training_steps: how many to try.
        mode: "exponential" or "linear".
        early_stop_threshold: stop when the smoothed loss exceeds so many times the best one; None: never.
        update_attr: write the suggestion to the module and the optimizer.
        attr_name: to which attribute; "": ``lr`` or ``learning_rate``.

    Attributes:
        optimal_lr: what the last sweep has found, with ``results``, ``suggestion()`` and ``plot()``; None before.

    Raises:
        ValueError: a mode that there is not, no step, or rates that cannot grow by a factor.
    """

    SUPPORTED_MODES = ("linear", "exponential")

    def __init__(
        self, min_lr: float = 1e-08, max_lr: float = 1, num_training_steps: int = 100, mode: str = "exponential",
        early_stop_threshold: float | None = 4.0, update_attr: bool = True, attr_name: str = "",
    ) -> None:  # fmt: skip
        from fulmen.tuner.lr_finder import check_sweep

        check_sweep("LearningRateFinder", min_lr, max_lr, num_training_steps, mode)
        self._sweep: dict[str, Any] = {
            "min_lr": min_lr, "max_lr": max_lr, "num_training": num_training_steps, "mode": mode,
            "early_stop_threshold": early_stop_threshold, "update_attr": update_attr, "attr_name": attr_name,
        }  # fmt: skip
        self.optimal_lr: LRFinder | None = None

    def lr_find(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the sweep, here and now.

        Args:
            trainer: within a fit, before a batch.
            pl_module: its module.

        Raises:
            AttributeError, MisconfigurationException: as ``Tuner.lr_find``.
        """
        from fulmen.tuner.lr_finder import sweep

        self.optimal_lr = sweep(trainer, pl_module, **self._sweep)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before anything is trained."""
        self.lr_find(trainer, pl_module)
