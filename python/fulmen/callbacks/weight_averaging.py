"""`WeightAveraging` and `EMAWeightAveraging`: validate with averaged weights, and end with them."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from fulmen.callbacks.callback import Callback
from fulmen.utilities.model_helpers import is_overridden
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["EMAWeightAveraging", "WeightAveraging"]

_PREFIX = "module."


class WeightAveraging(Callback):
    """Keeps an average of the weights beside those that train.

    Validation uses the average, and the module has it when the training ends. Checkpoints hold the average as
    ``state_dict``, and the weights as trained as ``current_model_state``, from which a resumed run goes on.

    Args:
        device: where the average lies; None: with the module.
        use_buffers: average buffers (such as batch norm's statistics) too, else copy them.
        kwargs: further arguments of `torch.optim.swa_utils.AveragedModel`: ``avg_fn``, ``multi_avg_fn``. By default all
            updates weigh the same.
    """

    def __init__(self, device: torch.device | str | int | None = None, use_buffers: bool = True, **kwargs: Any) -> None:
        self._device = device
        self._use_buffers = use_buffers
        self._kwargs = kwargs
        self._average_model: AveragedModel | None = None
        self._swapped = False
        # a batch inside an accumulation window, or an epoch end that a resumed run repeats, must not count twice
        self._latest_update_step = 0
        self._latest_update_epoch = -1

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Is this a moment to update the average? Override it to choose others than every optimizer step.

        Args:
            step_idx: number of the last optimizer step, from 0; None at an epoch's end.
            epoch_idx: number of the epoch that ends, from 0; None after a step.
        """
        return step_idx is not None

    # ---- training ----------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the average, a copy of the module as it is."""
        if stage != "fit":
            return
        if is_overridden("configure_model", pl_module):
            rank_zero_warn(
                "You're using the WeightAveraging callback with a model that overrides `configure_model`. The average is "
                "made before any strategy shards the layers, so every process holds it whole."
            )
            pl_module.configure_model()
        self._swapped = False
        self._average_model = AveragedModel(
            pl_module,
            device=self._device if self._device is not None else pl_module.device,  # type: ignore[arg-type]  # torch takes text as well
            use_buffers=self._use_buffers,
            **self._kwargs,
        )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates after an optimizer step."""
        steps = trainer.global_step
        if steps > self._latest_update_step and self.should_update(step_idx=steps - 1):
            self._average().update_parameters(pl_module)
            self._latest_update_step = steps

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Updates at an epoch's end."""
        epoch = trainer.current_epoch
        if epoch > self._latest_update_epoch and self.should_update(epoch_idx=epoch):
            self._average().update_parameters(pl_module)
            self._latest_update_epoch = epoch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The module keeps the average."""
        self._copy_average_to_current(pl_module)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation within a fit sees the average."""
        if self._average_model is not None:
            self._swap_models(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The weights as trained come back."""
        if self._average_model is not None:
            self._swap_models(pl_module)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The step of the last update."""
        return {"latest_update_step": self._latest_update_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._latest_update_step = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the average in the place of the weights, and these beside it."""
        if self._average_model is None:
            rank_zero_info("WeightAveraging: this checkpoint is saved outside a fit, it holds the weights as they are.")
            return
        everything = self._average_model.state_dict()
        current = checkpoint["state_dict"]
        average = {k.removeprefix(_PREFIX): v for k, v in everything.items() if k.startswith(_PREFIX)}
        if self._swapped:
            # saved in the middle of a validation, as when one fails
            current, average = average, current
        checkpoint["current_model_state"] = current
        checkpoint["state_dict"] = average
        checkpoint["averaging_state"] = {k: v for k, v in everything.items() if not k.startswith(_PREFIX)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes the average and the weights as trained back."""
        if self._average_model is None:
            rank_zero_info("WeightAveraging: outside a fit the checkpoint's averaged weights are used as they are.")
        elif "current_model_state" in checkpoint:
            average = {_PREFIX + name: value for name, value in checkpoint["state_dict"].items()}
            self._average_model.load_state_dict({**average, **checkpoint["averaging_state"]})
            # the trainer has put the average into the module, which is to go on from the weights as trained
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)
        else:
            rank_zero_warn(
                "WeightAveraging: the checkpoint was saved without this callback. The average starts from its weights."
            )
            self._average_model.module.load_state_dict(deepcopy(checkpoint["state_dict"]), strict=False)

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _average(self) -> AveragedModel:
        assert self._average_model is not None
        return self._average_model

    def _pairs(self, pl_module: L.LightningModule) -> zip[tuple[Tensor, Tensor]]:
        """(average, current) of every parameter and buffer."""
        average = self._average().module
        return zip(
            chain(average.parameters(), average.buffers()),
            chain(pl_module.parameters(), pl_module.buffers()),
            strict=True,
        )

    @torch.no_grad()
    def _swap_models(self, pl_module: L.LightningModule) -> None:
        for average, current in self._pairs(pl_module):
            held = average.data.clone()
            average.data.copy_(current.data)
            current.data.copy_(held)
        self._swapped = not self._swapped

    @torch.no_grad()
    def _copy_average_to_current(self, pl_module: L.LightningModule) -> None:
        for average, current in self._pairs(pl_module):
            current.data.copy_(average.data)


class EMAWeightAveraging(WeightAveraging):
    """An exponential moving average: ``decay · average + (1 - decay) · weights`` at every update.

    Args:
        device: where the average lies; None: with the module.
        use_buffers: average buffers too, else copy them.
        decay: the share of the old average.
        update_every_n_steps: update when the step's number (from 0) divides by it.
        update_starting_at_step: no update after earlier steps.
        update_starting_at_epoch: update at the end of every epoch from this one on; None: at no epoch's end.
        kwargs: further arguments of `torch.optim.swa_utils.AveragedModel`.
    """

    def __init__(
        self, device: torch.device | str | int | None = None, use_buffers: bool = True, decay: float = 0.999,
        update_every_n_steps: int = 1, update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(device, use_buffers, avg_fn=get_ema_avg_fn(decay), **kwargs)
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Is this step or epoch one of those that the arguments name?"""
        if step_idx is not None:
            begun = self.update_starting_at_step is None or step_idx >= self.update_starting_at_step
            every = self.update_every_n_steps
            if begun and every > 0 and step_idx % every == 0:
                return True
        first = self.update_starting_at_epoch
        return epoch_idx is not None and first is not None and epoch_idx >= first
