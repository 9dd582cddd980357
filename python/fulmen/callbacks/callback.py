"""`Callback`: something that takes part in a run without being the module."""

from __future__ import annotations

from typing import Any


class Callback:
    """Base of all callbacks: override the hooks you need."""

    @property
    def state_key(self) -> str:
        """Under which key checkpoints keep this callback's state."""
        return type(self).__qualname__

    @property
    def _legacy_state_key(self) -> type:
        return type(self)

    def _generate_state_key(self, **kwargs: Any) -> str:
        return f"{type(self).__qualname__}{kwargs!r}"

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""

    def setup(self, trainer, pl_module, stage) -> None:
        """Hook."""

    def teardown(self, trainer, pl_module, stage) -> None:
        """Hook."""

    def on_fit_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_fit_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_sanity_check_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_sanity_check_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_train_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_train_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Hook."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Hook."""

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        """Hook."""

    def on_after_backward(self, trainer, pl_module) -> None:
        """Hook."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        """Hook."""

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        """Hook."""

    def on_validation_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_validation_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_validation_epoch_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_test_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_test_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_test_epoch_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_test_epoch_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_predict_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_predict_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_predict_epoch_start(self, trainer, pl_module) -> None:
        """Hook."""

    def on_predict_epoch_end(self, trainer, pl_module) -> None:
        """Hook."""

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx: int = 0) -> None:
        """Hook."""

    def on_exception(self, trainer, pl_module, exception) -> None:
        """Hook."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        """Hook."""

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        """Hook."""
