"""From what ``configure_optimizers`` returned to a list of optimizers and a list of scheduler configurations."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from fulmen import errors
from fulmen.core.optimizer import NoOptimizer
from fulmen.utilities.model_helpers import is_overridden
from fulmen.utilities.rank_zero import rank_zero_warn
from fulmen.utilities.types import LRSchedulerConfig

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule

_KEYS = {f.name for f in fields(LRSchedulerConfig)}
_MANUAL_IGNORES = ("monitor", "strict", "reduce_on_plateau")


def configure(module: LightningModule) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Calls the user's ``configure_optimizers``.

    Returns:
        The optimizers in order, and one configuration per scheduler.

    Raises:
        MisconfigurationException: the return value is none of the known forms, or a scheduler is incomplete.
    """
    trainer = module.trainer
    before, trainer._hook = trainer._hook, "configure_optimizers"
    with trainer.profiler.profile(f"[LightningModule]{type(module).__name__}.configure_optimizers"):
        returned = module.configure_optimizers()
    trainer._hook = before
    if returned is None:
        rank_zero_warn(
            "`LightningModule.configure_optimizers` returned `None`, this fit will run with no optimizer",
        )
        returned = NoOptimizer()
    optimizers, schedulers, monitor = _split(returned)
    make = _automatic if module.automatic_optimization else _manual
    configs = [make(s, monitor) for s in schedulers]
    _check(configs, optimizers, module)
    return optimizers, configs


def _split(returned: Any) -> tuple[list[Optimizer], list[Any], str | None]:
    if isinstance(returned, Optimizer):
        return [returned], [], None
    if isinstance(returned, dict):
        return _from_dicts([returned])
    if isinstance(returned, (list, tuple)):
        items = list(returned)
        if len(items) == 2 and isinstance(items[0], (list, tuple)) and all(isinstance(o, Optimizer) for o in items[0]):
            schedulers = list(items[1]) if isinstance(items[1], (list, tuple)) else [items[1]]
            return list(items[0]), schedulers, None
        if items and all(isinstance(d, dict) for d in items):
            return _from_dicts(items)
        if items and all(isinstance(o, Optimizer) for o in items):
            return items, [], None
    raise errors.misconfiguration(
        "configure_optimizers",
        "an optimizer, a list of optimizers, a dict with the key 'optimizer', a pair of lists, or None",
        returned,
        "Unknown configuration for model optimizers: return one of these forms",
    )


def _from_dicts(dicts: list[dict[str, Any]]) -> tuple[list[Optimizer], list[Any], str | None]:
    optimizers, schedulers = [], []
    monitor = None
    for entry in dicts:
        extra = set(entry) - {"optimizer", "lr_scheduler", "monitor", "frequency"}
        if extra:
            rank_zero_warn(f"Found unsupported keys in the optimizer configuration: {extra}", category=RuntimeWarning)
        if not isinstance(entry.get("optimizer"), Optimizer):
            _split(None if "optimizer" in entry else object())
        optimizers.append(entry["optimizer"])
        if len(dicts) == 1:
            monitor = entry.get("monitor")
        if "lr_scheduler" in entry and entry["lr_scheduler"] is not None:
            scheduler = entry["lr_scheduler"]
            schedulers.append(dict(scheduler) if isinstance(scheduler, dict) else scheduler)
    return optimizers, schedulers, monitor


def _automatic(scheduler: Any, monitor: str | None) -> LRSchedulerConfig:
    if isinstance(scheduler, LRSchedulerConfig):
        return scheduler
    if isinstance(scheduler, dict):
        return _automatic_dict(scheduler, monitor)
    if isinstance(scheduler, ReduceLROnPlateau):
        if monitor is None:
            raise errors.misconfiguration(
                "configure_optimizers",
                "a 'monitor': `configure_optimizers` must include a monitor when a `ReduceLROnPlateau` scheduler is used",
                errors.Words("none"),
                'For example: {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_loss"}',
            )
        return LRSchedulerConfig(scheduler, reduce_on_plateau=True, monitor=monitor)
    return LRSchedulerConfig(scheduler)


def _automatic_dict(entry: dict[str, Any], monitor: str | None) -> LRSchedulerConfig:
    extra = set(entry) - _KEYS
    if extra:
        rank_zero_warn(f"Found unsupported keys in the lr scheduler dict: {extra}", category=RuntimeWarning)
    if "scheduler" not in entry:
        raise errors.misconfiguration(
            "configure_optimizers: 'lr_scheduler'",
            'a dict with the key "scheduler": its value is the scheduler',
            sorted(map(str, entry)),
            'The lr scheduler dict must have the key "scheduler" with its item being an lr scheduler',
        )
    if entry.get("interval", "epoch") not in ("step", "epoch"):
        raise errors.misconfiguration(
            "configure_optimizers: 'interval'",
            'The "interval" key in lr scheduler dict must be "step" or "epoch"',
            entry["interval"],
            'Use "step" to step after every optimizer step, "epoch" at the end of epochs',
        )
    scheduler = entry["scheduler"]
    entry = {k: v for k, v in entry.items() if k in _KEYS}
    entry.setdefault("reduce_on_plateau", isinstance(scheduler, ReduceLROnPlateau))
    if entry["reduce_on_plateau"] and entry.get("monitor") is None:
        entry["monitor"] = monitor
        if monitor is None:
            raise errors.misconfiguration(
                "configure_optimizers: 'monitor'",
                'the name of a logged value: ReduceLROnPlateau needs the key "monitor"',
                errors.Words("none"),
                "The lr scheduler dict must include a monitor when a `ReduceLROnPlateau` scheduler is used. For example: "
                '{"scheduler": scheduler, "monitor": "val_loss"}',
            )
    if isinstance(scheduler, OneCycleLR) and entry.get("interval", "epoch") == "epoch":
        rank_zero_warn(
            "A `OneCycleLR` scheduler is using 'interval': 'epoch'. Are you sure you didn't mean 'interval': 'step'?",
            category=RuntimeWarning,
        )
    return LRSchedulerConfig(**entry)


def _manual(scheduler: Any, monitor: str | None) -> LRSchedulerConfig:
    if not isinstance(scheduler, dict):
        return LRSchedulerConfig(scheduler)
    ignored = [k for k in _MANUAL_IGNORES if k in scheduler]
    if ignored:
        rank_zero_warn(
            f"The lr scheduler dict contains the key(s) {ignored}, but the keys will be ignored. You need to call "
            "`lr_scheduler.step()` manually in manual optimization.",
            category=RuntimeWarning,
        )
    return LRSchedulerConfig(**{k: v for k, v in scheduler.items() if k in _KEYS and k not in _MANUAL_IGNORES})


def _check(configs: list[LRSchedulerConfig], optimizers: list[Optimizer], module: LightningModule) -> None:
    for config in configs:
        scheduler = config.scheduler
        if not (hasattr(scheduler, "state_dict") and hasattr(scheduler, "load_state_dict")):
            raise errors.type_error(
                "configure_optimizers",
                "a scheduler with `state_dict` and `load_state_dict`, so that checkpoints can hold it",
                scheduler,
                f"The provided lr scheduler `{type(scheduler).__name__}` is invalid: add the two methods",
            )
        known = isinstance(scheduler, (LRScheduler, ReduceLROnPlateau))
        if module.automatic_optimization and not known and not is_overridden("lr_scheduler_step", module):
            raise errors.misconfiguration(
                "configure_optimizers",
                "one of torch's schedulers",
                scheduler,
                f"The provided lr scheduler `{type(scheduler).__name__}` doesn't follow PyTorch's LRScheduler API. "
                "Override `LightningModule.lr_scheduler_step` to step it",
            )
        own = getattr(scheduler, "optimizer", None)
        if own is not None and own not in optimizers:
            raise errors.misconfiguration(
                "configure_optimizers",
                "schedulers of returned optimizers: some schedulers are attached with an optimizer that wasn't returned",
                own,
                "Return that optimizer too",
            )
