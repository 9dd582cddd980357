"""When learning-rate schedulers step. The schedule says whether; this file calls ``lr_scheduler_step``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import ReduceLROnPlateau

from fulmen import errors
from fulmen.trainer.hook_table import call_module
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from torch import Tensor

    from fulmen.trainer.trainer import Trainer
    from fulmen.utilities.types import LRSchedulerConfig


def has_scheduler(trainer: Trainer, interval: str, *, plateau: bool) -> bool:
    """Is there a scheduler of this interval and kind for the trainer to step?"""
    return trainer.lightning_module.automatic_optimization and any(
        c.interval == interval and c.reduce_on_plateau == plateau for c in trainer.lr_scheduler_configs
    )


def step_schedulers(trainer: Trainer, interval: str, *, plateau: bool, late: bool = False) -> None:
    """Steps the schedulers of one interval ("step" or "epoch") and kind that are due by their frequency.

    Args:
        trainer: whose schedulers.
        interval: which ones.
        plateau: which ones.
        late: the epoch that they belong to is over, and its hooks have been called in another run: torch's own plateau
            scheduler steps without ``lr_scheduler_step``.

    Raises:
        MisconfigurationException: a plateau scheduler's monitored value was not logged, and it is strict.
    """
    if not trainer.lightning_module.automatic_optimization:
        return
    schedule = trainer._schedule
    due = schedule.epoch_scheduler_due if interval == "epoch" else schedule.step_scheduler_due
    for config in trainer.lr_scheduler_configs:
        if config.interval != interval or config.reduce_on_plateau != plateau or not due(config.frequency):
            continue
        metric = None
        if plateau:
            metric = _monitored(trainer, config)
            if metric is None:
                continue
        if late and type(config.scheduler) is ReduceLROnPlateau:
            assert metric is not None
            config.scheduler.step(metric)
        else:
            call_module(trainer, "lr_scheduler_step", config.scheduler, metric)
        schedule.scheduler_stepped()


def _monitored(trainer: Trainer, config: LRSchedulerConfig) -> Tensor | None:
    name = str(config.monitor)
    metrics = trainer.callback_metrics
    if name in metrics:
        return metrics[name]
    if config.strict:
        raise errors.misconfiguration(
            "configure_optimizers: 'monitor'",
            "the name of a logged value",
            name,
            f"ReduceLROnPlateau conditioned on metric {name} which is not available. Available metrics are: "
            f"{sorted(metrics)}. Log it with `self.log({name!r}, ...)` before the scheduler steps, or set 'strict': False to skip the step.",
        )
    rank_zero_warn(
        f"ReduceLROnPlateau conditioned on metric {name} which is not available but strict is set to `False`. "
        "Skipping learning rate update.",
        category=RuntimeWarning,
    )
    return None
