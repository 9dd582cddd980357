"""`LearningRateFinder`: a place for the learning rate range test, which a later version brings."""

from __future__ import annotations

from fulmen.callbacks.callback import Callback
from fulmen.errors import NotYet

__all__ = ["LearningRateFinder"]


class LearningRateFinder(Callback):
    """Tries learning rates from small to large before training.

    Args:
        min_lr: smallest rate.
        max_lr: largest rate.
        num_training_steps: how many to try.
        mode: "exponential" or "linear".
        early_stop_threshold: stop when the loss exceeds so many times the best one; None: never.
        update_attr: write the suggestion to the module.
        attr_name: to which attribute.

    Raises:
        NotYet: always, at present.
    """

    SUPPORTED_MODES = ("linear", "exponential")

    def __init__(
        self,
        min_lr: float = 1e-08,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        raise NotYet("LearningRateFinder", "Set the learning rate by hand.")
