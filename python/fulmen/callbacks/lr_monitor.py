"""`LearningRateMonitor`: logs the rate that the next batch will use."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.optim import Optimizer

from fulmen.callbacks.callback import Callback
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["LearningRateMonitor"]


class LearningRateMonitor(Callback):
    """Logs learning rates, and momentum and weight decay if asked.

    Args:
        logging_interval: "step", "epoch", or None for each scheduler's own interval.
        log_momentum: log it too (Adam: the first beta).
        log_weight_decay: log it too.

    Attributes:
        lrs: all rates logged so far, by name.
    """

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise MisconfigurationException(
                f"logging_interval should be `step` or `epoch` or `None`, got {logging_interval!r}."
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self.last_momentum_values: dict[str, Any] = {}
        self.last_weight_decay_values: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Gives every rate its name."""
        if not trainer.loggers:
            raise MisconfigurationException(
                "Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger. Pass `Trainer(logger=...)`."
            )
        named = self._sources(trainer)
        if not named and not trainer.optimizers:
            rank_zero_warn(
                "You are using `LearningRateMonitor` callback with models that have no learning rate schedulers."
            )
        self.lrs = {name: [] for _, groups in named for name, _, _ in groups}
        self.last_momentum_values = {f"{name}-momentum": None for name in self.lrs}
        self.last_weight_decay_values = {f"{name}-weight_decay": None for name in self.lrs}

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Logs by step."""
        if trainer._logger_connector.should_update_logs and self.logging_interval != "epoch":
            self._send(trainer, "step" if self.logging_interval is None else "any")

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Logs by epoch."""
        if self.logging_interval != "step":
            self._send(trainer, "epoch" if self.logging_interval is None else "any")

    def _send(self, trainer: L.Trainer, interval: str) -> None:
        stats: dict[str, float] = {}
        for own, groups in self._sources(trainer):
            if own not in (interval, "any") and interval != "any":
                continue
            for name, group, momentum_key in groups:
                stats[name] = _number(group["lr"])
                self.lrs.setdefault(name, []).append(stats[name])
                if self.log_momentum and momentum_key:
                    value = group["betas"][0] if momentum_key == "betas" else group.get(momentum_key, 0)
                    stats[f"{name}-momentum"] = self.last_momentum_values[f"{name}-momentum"] = value
                if self.log_weight_decay:
                    value = group.get("weight_decay", 0)
                    stats[f"{name}-weight_decay"] = self.last_weight_decay_values[f"{name}-weight_decay"] = value
        if not stats:
            return
        step = trainer._axis.position
        for logger in trainer._ledger.rows.send(trainer.loggers, stats, step):
            logger.log_metrics(stats, step=step)
        device = trainer.strategy.root_device
        trainer.callback_metrics.update({k: torch.tensor(v, device=device) for k, v in stats.items()})

    def _sources(self, trainer: L.Trainer) -> list[tuple[str, list[tuple[str, dict[str, Any], str]]]]:
        """For each scheduler, and each optimizer without one: its interval, and (name, group, momentum key) per group."""
        out = []
        seen: Counter[type] = Counter()
        used: list[Optimizer] = []
        taken: set[str] = set()
        for config in trainer.lr_scheduler_configs:
            optimizer = config.scheduler.optimizer
            prefix = config.name
            if prefix is None:
                prefix = self._count(f"lr-{type(optimizer).__name__}", type(optimizer), seen)
            out.append((config.interval, self._groups(optimizer, prefix, taken)))
            used.append(optimizer)
        for optimizer in trainer.optimizers:
            if not any(optimizer is o for o in used):
                prefix = self._count(f"lr-{type(optimizer).__name__}", type(optimizer), seen)
                out.append(("any", self._groups(optimizer, prefix, taken)))
        return out

    @staticmethod
    def _count(name: str, kind: type, seen: Counter[type]) -> str:
        number = seen[kind]
        seen[kind] += 1
        return name if number == 0 else f"{name}-{number}"

    @staticmethod
    def _groups(optimizer: Optimizer, prefix: str, taken: set[str]) -> list[tuple[str, dict[str, Any], str]]:
        groups = optimizer.param_groups
        names = [g.get("name") for g in groups]
        given = [n for n in names if n is not None]
        if len(set(given)) != len(given):
            raise MisconfigurationException(
                f"A single `Optimizer` cannot have multiple parameter groups with identical names: {given}."
            )
        momentum = "momentum" if "momentum" in optimizer.defaults else "betas" if "betas" in optimizer.defaults else ""
        out = []
        for i, group in enumerate(groups):
            name = prefix
            if len(groups) > 1 or group.get("name") is not None:
                name = f"{prefix}/{group['name'] if group.get('name') is not None else f'pg{i + 1}'}"
            out.append((name, group, momentum))
        return out


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value
