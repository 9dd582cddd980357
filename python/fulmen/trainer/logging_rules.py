"""Where `self.log` may be called, at which levels, and what it reduces by."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import torch

from fulmen import errors
from fulmen.trainer.logging_custom import check_custom

_TRAIN_STEP = (
    "training_step", "on_train_batch_start", "on_train_batch_end", "optimizer_step", "optimizer_zero_grad",
    "configure_gradient_clipping", "backward", "on_before_backward", "on_after_backward", "on_before_zero_grad",
    "on_before_optimizer_step",
)  # fmt: skip
_EVAL_STEP = tuple(
    name
    for stage in ("validation", "test")
    for name in (f"{stage}_step", f"on_{stage}_batch_start", f"on_{stage}_batch_end")
)
_EPOCH = tuple(
    f"on_{stage}_{moment}"
    for stage in ("train", "validation", "test")
    for moment in ("start", "epoch_start", "epoch_end")
)

#: hook -> (default on_step, default on_epoch, may on_step be asked for)
LEVELS: dict[str, tuple[bool, bool, bool]] = {
    **dict.fromkeys(_TRAIN_STEP, (True, False, True)),
    **dict.fromkeys(_EVAL_STEP, (False, True, True)),
    **dict.fromkeys(_EPOCH, (False, True, False)),
}

CUSTOM = "custom"
"""What `reduction` calls a function of the user's."""

_REDUCTIONS: dict[Any, str] = {
    "mean": "mean", "avg": "mean", "sum": "sum", "min": "min", "max": "max",
    torch.mean: "mean", torch.sum: "sum", torch.min: "min", torch.max: "max",
    builtins.sum: "sum", builtins.min: "min", builtins.max: "max",
}  # fmt: skip


def levels(hook: str | None, name: str, on_step: bool | None, on_epoch: bool | None) -> tuple[bool, bool]:
    """Whether a value counts by step and by epoch.

    Raises:
        MisconfigurationException: this hook cannot log, or not at this level, or no level is left.
    """
    if hook is None:
        raise errors.misconfiguration(
            f"self.log({name!r})",
            "a call from within a hook of a run",
            errors.Words("a call while no hook is running (You can't `self.log()` outside of a hook)"),
            "Log in `training_step`, `validation_step`, or one of the batch and epoch hooks",
        )
    known = LEVELS.get(hook)
    if known is None:
        raise errors.misconfiguration(
            f"self.log({name!r})",
            "a hook that belongs to batches or epochs",
            errors.Words(f"`{hook}`. You can't `self.log()` inside `{hook}`"),
            "Log in `training_step`, `validation_step`, or one of the batch and epoch hooks",
        )
    step = known[0] if on_step is None else on_step
    epoch = known[1] if on_epoch is None else on_epoch
    if step and not known[2]:
        raise errors.misconfiguration(
            f"self.log({name!r}, on_step)",
            f"False in `{hook}`, which runs once an epoch",
            True,
            f"You can't `self.log({name}, on_step=True)` inside `{hook}`: drop the argument",
        )
    if not step and not epoch:
        raise errors.misconfiguration(
            f"self.log({name!r})",
            "on_step, on_epoch, or both",
            errors.Words("neither: `self.log(on_step=False, on_epoch=False)` is not useful"),
            "Pass one of them as True",
        )
    return step, epoch


def reduction(name: str, reduce_fx: str | Callable[..., Any]) -> str:
    """The reduction's name: "mean", "sum", "min", "max", or `CUSTOM` for a function of the user's.

    Raises:
        MisconfigurationException: it is none of them.
    """
    key = reduce_fx.lower() if isinstance(reduce_fx, str) else reduce_fx
    try:
        found = _REDUCTIONS.get(key)
    except TypeError:  # a callable without a hash
        found = None
    if found is not None:
        return found
    if not callable(reduce_fx):
        raise errors.misconfiguration(
            f"self.log({name!r}, reduce_fx)",
            "'mean', 'sum', 'min', 'max', or a function that reduces a tensor of values. Only `self.log(..., "
            "reduce_fx={min,max,mean,sum})` are supported",
            reduce_fx,
            "Pass a function, such as `torch.median`, or log a `torchmetrics.Metric`",
        )
    check_custom(name, reduce_fx)
    return CUSTOM
