"""`SpikeDetection`: ends a training whose loss jumps, and notes which batches to leave out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from fulmen import errors
from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["SpikeDetection", "TrainingSpikeException"]


class TrainingSpikeException(RuntimeError):
    """The loss jumped.

    Args:
        batch_idx: in which batch of the epoch.
    """

    def __init__(self, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(f"Training spike detected in batch {batch_idx}", *args, **kwargs)
        self.batch_idx = batch_idx


#: what a checkpoint keeps besides the mean: attributes by the names that Lightning's files have
_STATE = {name: name for name in ("last_val", "mode", "warmup", "atol", "rtol", "bad_batches")} | {
    "bad_batches_path": "exclude_batches_path"
}


class SpikeDetection(Callback):
    """Compares every loss with the mean of the last ones, and raises `TrainingSpikeException` when it jumps.

    The numbers of that batch and of the one before it, whose step may be the cause, go to a JSON file, a list of
    integers, which also has those of earlier spikes of a resumed run.

    Args:
        mode: "min": a loss that falls is never a spike; "max": one that rises.
        window: over how many losses the mean goes.
        warmup: how many batches of an epoch are let pass.
        atol: a spike differs from the mean by at least this; None: any.
        rtol: a spike differs from the mean by at least this share of it; None: any.
        exclude_batches_path: the file, or the folder for a file ``skip_batches.json``; None: the current folder.
        finite_only: True: a loss that is not finite is a spike. False: it is let pass, and does not enter the mean.
    """

    def __init__(
        self,
        mode: Literal["min", "max"] = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float | None = None,
        rtol: float | None = 2.0,
        exclude_batches_path: str | Path | None = None,
        finite_only: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise errors.value_error("SpikeDetection(mode)", '"min" or "max"', mode, 'Write "min" for a loss')
        from torchmetrics.aggregation import MeanMetric
        from torchmetrics.wrappers import Running

        self.mode, self.finite_only = mode, finite_only
        self.atol, self.rtol = atol, rtol
        self.warmup = warmup
        self.exclude_batches_path = exclude_batches_path
        self.bad_batches: list[int] = []
        self.last_val: float | Tensor = 0.0
        self.running_mean = Running(MeanMetric(dist_sync_on_step=False, sync_on_compute=True), window=window)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Tensor],
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Judges the batch's loss.

        Raises:
            TrainingSpikeException: it is a spike, on this process or on another.
        """
        loss = outputs.detach() if isinstance(outputs, Tensor) else outputs["loss"].detach()
        if batch_idx == 0:
            self.running_mean.to(trainer.strategy.root_device)
            self._file()
        spike = batch_idx >= self.warmup and self._is_spike(loss)
        if trainer.strategy.reduce_boolean_decision(spike, all=False):
            self._handle_spike(trainer, batch_idx)
        if self.finite_only or trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(loss).all()), all=True):
            self._update_stats(loss)

    def _is_spike(self, loss: Tensor) -> bool:
        if self.finite_only and not torch.isfinite(loss).all():
            return True
        if self._is_better(loss - self.last_val):
            return False
        with warnings.catch_warnings():
            # the mean may be asked for before the first loss is in it
            warnings.simplefilter("ignore")
            mean = self.running_mean.compute()
        return self._check_atol(loss, mean) and self._check_rtol(loss, mean)

    def _check_atol(self, val_a: Tensor, val_b: Tensor) -> bool:
        return self.atol is None or bool(abs(val_a - val_b) >= abs(self.atol))

    def _check_rtol(self, val_a: Tensor, val_b: Tensor) -> bool:
        return self.rtol is None or bool(abs(val_a - val_b) >= abs(self.rtol * val_b))

    def _is_better(self, diff_val: Tensor) -> bool:
        return bool((diff_val <= 0.0 if self.mode == "min" else diff_val >= 0.0).all())

    def _update_stats(self, val: Tensor) -> None:
        self.running_mean.update(val)
        self.last_val = val

    def _handle_spike(self, trainer: L.Trainer, batch_idx: int) -> None:
        self.bad_batches += [batch_idx - 1, batch_idx]
        if trainer.is_global_zero:
            path = self._file()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.bad_batches, indent=4))
        raise TrainingSpikeException(batch_idx=batch_idx)

    def _file(self) -> Path:
        path = Path(self.exclude_batches_path if self.exclude_batches_path is not None else os.getcwd())
        if path.suffix != ".json":
            path /= "skip_batches.json"
        self.exclude_batches_path = str(path)
        return path

    def state_dict(self) -> dict[str, Any]:
        """The last loss, the settings, and the batches to leave out."""
        state = {key: getattr(self, attribute) for key, attribute in _STATE.items()}
        if isinstance(self.last_val, Tensor):
            state["last_val"] = self.last_val.item()
        mean = self.running_mean
        return state | {"running": mean.state_dict(), "mean": mean.base_metric.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back; the mean starts anew."""
        for key, attribute in _STATE.items():
            setattr(self, attribute, state_dict[key])
        self.running_mean.load_state_dict(state_dict["running"])
        self.running_mean.base_metric.load_state_dict(state_dict["mean"])
