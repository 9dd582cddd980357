"""The moments of a run that a strategy can react to. All of them do nothing unless overridden."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class StrategyHooks:
    """Methods that are called on the strategy after callbacks and module had their turn."""

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Called before the ``on_before_backward`` hooks."""

    def post_backward(self, closure_loss: Tensor) -> None:
        """Called after the ``on_after_backward`` hooks."""

    def post_training_step(self) -> None:
        """Called after ``training_step``, before backward."""

    def on_train_start(self) -> None:
        """Called when training starts."""

    def on_validation_start(self) -> None:
        """Called when a validation starts."""

    def on_test_start(self) -> None:
        """Called when the test starts."""

    def on_predict_start(self) -> None:
        """Called when prediction starts."""

    def on_train_end(self) -> None:
        """Called when training ends."""

    def on_validation_end(self) -> None:
        """Called when a validation ends."""

    def on_test_end(self) -> None:
        """Called when the test ends."""

    def on_predict_end(self) -> None:
        """Called when prediction ends."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Called before each training batch."""

    def on_exception(self, exception: BaseException) -> None:
        """Called when a run ends by an exception."""
