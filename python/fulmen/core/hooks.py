"""The hooks of modules and data modules: what each is called for, and what it does unless overridden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fulmen.utilities.move_data import move_data_to_device

if TYPE_CHECKING:
    from fulmen.utilities.types import EVAL_DATALOADERS, STEP_OUTPUT, TRAIN_DATALOADERS

__all__ = ["CheckpointHooks", "DataHooks", "ModelHooks"]


class ModelHooks:
    """Moments of a run."""

    def on_fit_start(self) -> None:
        """Fit begins: the module is on its device, optimizers exist."""

    def on_fit_end(self) -> None:
        """Fit ends, after everything else of it."""

    def on_train_start(self) -> None:
        """Training begins, after the sanity check."""

    def on_train_end(self) -> None:
        """Training ends; ``trainer.current_epoch`` is the number of epochs done."""

    def on_validation_start(self) -> None:
        """A validation begins."""

    def on_validation_end(self) -> None:
        """A validation ends; its values are in ``trainer.callback_metrics``."""

    def on_test_start(self) -> None:
        """A test begins."""

    def on_test_end(self) -> None:
        """A test ends."""

    def on_predict_start(self) -> None:
        """A prediction begins."""

    def on_predict_end(self) -> None:
        """A prediction ends."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """A training batch is about to be used.

        Args:
            batch: the batch, on its device.
            batch_idx: its index within the epoch.

        Returns:
            -1 to drop this batch and the rest of the epoch.
        """
        return None

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Any, batch_idx: int) -> None:
        """A training batch was used.

        Args:
            outputs: what ``training_step`` returned, with the loss detached and divided by the accumulation factor.
            batch: the batch.
            batch_idx: its index within the epoch.
        """

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A validation batch is about to be used."""

    def on_validation_batch_end(
        self, outputs: STEP_OUTPUT, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A validation batch was used; ``outputs`` is what the step returned."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A test batch is about to be used."""

    def on_test_batch_end(self, outputs: STEP_OUTPUT, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A test batch was used; ``outputs`` is what the step returned."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A prediction batch is about to be used."""

    def on_predict_batch_end(self, outputs: Any | None, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A prediction batch was used; ``outputs`` is what the step returned."""

    def on_validation_model_zero_grad(self) -> None:
        """Before a validation within fit: frees the gradients, for memory's sake."""
        self.zero_grad()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_validation_model_eval(self) -> None:
        """Before a validation: puts the module in eval mode."""
        self.eval()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_validation_model_train(self) -> None:
        """After a validation, if overridden; otherwise every submodule gets back the mode it had."""
        self.train()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_test_model_eval(self) -> None:
        """Before a test: puts the module in eval mode."""
        self.eval()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_test_model_train(self) -> None:
        """After a test, if overridden; otherwise every submodule gets back the mode it had."""
        self.train()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_predict_model_eval(self) -> None:
        """Before a prediction: puts the module in eval mode."""
        self.eval()  # type: ignore[attr-defined]  # of the module that this is a part of

    def on_train_epoch_start(self) -> None:
        """A training epoch begins."""

    def on_train_epoch_end(self) -> None:
        """A training epoch ends; what is logged here counts for early stopping and checkpoints."""

    def on_validation_epoch_start(self) -> None:
        """A validation's pass over the data begins."""

    def on_validation_epoch_end(self) -> None:
        """A validation's pass over the data ends."""

    def on_test_epoch_start(self) -> None:
        """A test's pass over the data begins."""

    def on_test_epoch_end(self) -> None:
        """A test's pass over the data ends."""

    def on_predict_epoch_start(self) -> None:
        """A prediction's pass over the data begins."""

    def on_predict_epoch_end(self) -> None:
        """A prediction's pass over the data ends."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """The gradients of the last window are about to be zeroed."""

    def on_before_backward(self, loss: Tensor) -> None:
        """``loss`` (divided by the accumulation factor) is about to be differentiated."""

    def on_after_backward(self) -> None:
        """The gradients of this batch were added."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """The window's gradients are complete, unscaled and not clipped."""

    def configure_sharded_model(self) -> None:
        """Old name of :meth:`configure_model`."""

    def configure_model(self) -> None:
        """Build large layers here, to have them made where the strategy wants them. May be called more than once."""


class DataHooks:
    """Where data comes from, and how it gets to the device."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: call ``prepare_data`` once on every node, or once at all
        self.prepare_data_per_node: bool = True
        self.allow_zero_length_dataloader_with_multiple_devices: bool = False

    def prepare_data(self) -> None:
        """Download, tokenise: runs in one process, so set no state here."""

    def setup(self, stage: str) -> None:
        """Runs in every process before an entry point's loaders are asked for.

        Args:
            stage: "fit", "validate", "test" or "predict".
        """

    def teardown(self, stage: str) -> None:
        """The counterpart of :meth:`setup`."""

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        """Anything iterable, or a list or dict of such."""
        raise _no_loader("train_dataloader")

    def val_dataloader(self) -> EVAL_DATALOADERS:
        """A loader or several for validation."""
        raise _no_loader("val_dataloader")

    def test_dataloader(self) -> EVAL_DATALOADERS:
        """A loader or several for the test."""
        raise _no_loader("test_dataloader")

    def predict_dataloader(self) -> EVAL_DATALOADERS:
        """A loader or several for prediction."""
        raise _no_loader("predict_dataloader")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch: tensors in lists, tuples, dicts and objects with ``to`` are found.

        Args:
            batch: the batch.
            device: where to.
            dataloader_idx: which of several loaders it comes from.
        """
        return move_data_to_device(batch, device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch before it is moved."""
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch after it was moved."""
        return batch


def _no_loader(name: str) -> Exception:
    from fulmen.utilities.exceptions import MisconfigurationException

    return MisconfigurationException(
        f"`{name}` must be implemented to be used with the Trainer: return a loader from it."
    )


class CheckpointHooks:
    """What a module adds to checkpoints."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Looks at a checkpoint that is being restored."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds to a checkpoint that is about to be written."""
