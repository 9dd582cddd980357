"""`EarlyStopping`: ends a run when a value no longer improves."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.utilities.rank_zero import rank_prefixed_message, rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["EarlyStopping", "EarlyStoppingReason"]


class EarlyStoppingReason(Enum):
    """Why a run was stopped; its ``value`` is what checkpoints keep."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


#: what a checkpoint keeps besides the reason of a stop
_COUNTS = ("wait_count", "stopped_epoch", "best_score", "patience")


class EarlyStopping(Callback):
    """Watches a logged value, and asks the trainer to stop.

    Args:
        monitor: the value's name.
        min_delta: what counts as an improvement, strictly.
        patience: checks without improvement before the run stops.
        verbose: say so.
        mode: whether "min" or "max" is better.
        strict: a missing value is an error.
        check_finite: stop at NaN and infinity.
        stopping_threshold: stop as soon as the value is better than this.
        divergence_threshold: stop as soon as the value is worse than this.
        check_on_train_epoch_end: check after training epochs (True) or after validations (False); None: as fits.
        log_rank_zero_only: only rank 0 says so.

    Raises:
        MisconfigurationException: unknown mode.
    """

    mode_dict: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"min": torch.lt, "max": torch.gt}
    order_dict = {"min": "<", "max": ">"}

    def __init__(
        self, monitor: str, min_delta: float = 0.0, patience: int = 3, verbose: bool = False, mode: str = "min",
        strict: bool = True, check_finite: bool = True, stopping_threshold: float | None = None,
        divergence_threshold: float | None = None, check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if mode not in self.mode_dict:
            raise errors.misconfiguration(
                "EarlyStopping(mode)",
                "'max' or 'min'",
                mode,
                f"`mode` can be {' or '.join(self.mode_dict)}, got {mode}",
            )
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.verbose, self.strict, self.check_finite = verbose, strict, check_finite
        self.stopping_threshold, self.divergence_threshold = stopping_threshold, divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self._check_on_train_epoch_end = check_on_train_epoch_end
        self.min_delta = min_delta if mode == "max" else -min_delta
        self.wait_count = 0
        self.stopped_epoch = 0
        self.best_score = torch.tensor(torch.inf if mode == "min" else -torch.inf)
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None

    @property
    def state_key(self) -> str:
        """Differs by what is monitored, so that several can be used at once."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    @property
    def monitor_op(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Is the first value better than the second?"""
        return self.mode_dict[self.mode]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Decides when to check, if the user did not."""
        if self._check_on_train_epoch_end is None:
            by_epoch = getattr(trainer, "val_check_interval", None) == 1.0
            self._check_on_train_epoch_end = by_epoch and trainer.check_val_every_n_epoch == 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks, if that is the moment."""
        if self._check_on_train_epoch_end and not self._skips(trainer):
            self._check(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks, if that is the moment."""
        if not self._check_on_train_epoch_end and not self._skips(trainer):
            self._check(trainer)

    @staticmethod
    def _skips(trainer: L.Trainer) -> bool:
        return trainer.state.fn != "fit" or trainer.sanity_checking or bool(trainer.fast_dev_run)

    def _check(self, trainer: L.Trainer) -> None:
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            self._missing(metrics)
            return
        current = metrics[self.monitor].squeeze()
        stop, why = self._judge(current)
        stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        trainer.should_stop = trainer.should_stop or stop
        if stop:
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason_message = why
        if why and self.verbose:
            self._say(trainer, why)

    def _missing(self, metrics: dict[str, Any]) -> None:
        text = (
            f"Early stopping conditioned on metric `{self.monitor}` which is not available. Pass in or modify your "
            f"`EarlyStopping` callback to use any of the following: `{'`, `'.join(sorted(metrics))}`"
        )
        if self.strict:
            raise RuntimeError(text)
        if self.verbose:
            rank_zero_warn(text, category=RuntimeWarning)

    def _judge(self, current: Tensor) -> tuple[bool, str | None]:
        """Is it time to stop, and what is there to say?"""
        name, sign = self.monitor, self.order_dict[self.mode]
        if self.check_finite and not torch.isfinite(current):
            self.stopping_reason = EarlyStoppingReason.NON_FINITE_METRIC
            return (
                True,
                f"Monitored metric {name} = {current} is not finite. Previous best value was {self.best_score:.3f}.",
            )
        threshold = self.stopping_threshold
        if threshold is not None and self._better(current, threshold):
            self.stopping_reason = EarlyStoppingReason.STOPPING_THRESHOLD
            return True, f"Stopping threshold reached: {name} = {current} {sign} {threshold}."
        limit = self.divergence_threshold
        if limit is not None and self._better(-current, -limit):
            self.stopping_reason = EarlyStoppingReason.DIVERGENCE_THRESHOLD
            return True, f"Divergence threshold reached: {name} = {current} {sign} {limit}."
        best = self.best_score.to(current.device)
        if self.monitor_op(current - self.min_delta, best):
            text = f"Metric {name} improved. New best score: {current:.3f}"
            if torch.isfinite(best):
                text = f"Metric {name} improved by {abs(best - current):.3f} >= min_delta = {abs(self.min_delta)}. New best score: {current:.3f}"
            self.best_score = current
            self.wait_count = 0
            return False, text
        self.wait_count += 1
        if self.wait_count >= self.patience:
            self.stopping_reason = EarlyStoppingReason.PATIENCE_EXHAUSTED
            return (
                True,
                f"Monitored metric {name} did not improve in the last {self.wait_count} records. Best score: {self.best_score:.3f}.",
            )
        return False, None

    def _better(self, a: Tensor, b: float) -> bool:
        return bool(self.monitor_op(a, torch.tensor(b, device=a.device)))

    def _say(self, trainer: L.Trainer, text: str) -> None:
        import logging

        rank = trainer.global_rank if trainer.world_size > 1 else None
        if rank is None or rank == 0 or not self.log_rank_zero_only:
            logging.getLogger(__name__).info(rank_prefixed_message(text, rank))

    def state_dict(self) -> dict[str, Any]:
        """What was best, and how long ago."""
        reason = {
            "stopping_reason": self.stopping_reason.value,
            "stopping_reason_message": self.stopping_reason_message,
        }
        return {name: getattr(self, name) for name in _COUNTS} | reason

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        for name in _COUNTS:
            setattr(self, name, state_dict[name])
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self.stopping_reason_message = state_dict.get("stopping_reason_message")
