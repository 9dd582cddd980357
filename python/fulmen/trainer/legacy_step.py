"""Several optimizers in automatic optimization, as in 1.x: ``training_step(batch, batch_idx, optimizer_idx)``.

::

    for every optimizer:
        toggle it               only its parameters need gradients
        closure                 training_step(batch, batch_idx, optimizer_idx), zero_grad, backward
        optimizer_step
        untoggle it
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.trainer.hook_table import call_module, calls, fire
from fulmen.trainer.nan_policy import watched_step
from fulmen.trainer.step import CLOSES, OPENS, Step, split_output
from fulmen.utilities.rank_zero import rank_zero_deprecation

if TYPE_CHECKING:
    from torch import Tensor

    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

_ARGUMENT = "optimizer_idx"


def takes_optimizer_idx(module: LightningModule) -> bool:
    """Whether ``training_step`` asks which optimizer it is called for."""
    return _ARGUMENT in inspect.signature(module.training_step).parameters


def make_step(trainer: Trainer) -> Step:
    """The step for an epoch: every batch once for each optimizer.

    Raises:
        RuntimeError: there is only one optimizer, so that nothing is to be told apart.
    """
    if len(trainer.optimizers) < 2:
        raise errors.runtime_error(
            f"`{type(trainer.lightning_module).__name__}.training_step` has an argument `{_ARGUMENT}`, but "
            f"`configure_optimizers` returned {len(trainer.optimizers)} optimizer",
            f"Remove the `{_ARGUMENT}` argument from `training_step`",
        )
    module, schedule, strategy = trainer.lightning_module, trainer._schedule, trainer.strategy
    training_step = watched_step(trainer, strategy.training_step)
    before_zero_grad = calls(trainer, "on_before_zero_grad")
    names = inspect.signature(module.training_step).parameters
    pass_index = "batch_idx" in names or len(names) > 2
    _warn(type(module).__name__)

    def run_one(index: int, batch: Any, batch_idx: int, flags: int) -> dict[str, Any]:
        optimizer = trainer.optimizers[index]
        result: dict[str, Any] = {}

        def closure() -> Tensor | None:
            trainer._hook = "training_step"
            args = (batch, batch_idx) if pass_index else (batch,)
            output = training_step(*args, **{_ARGUMENT: index})
            trainer._hook = None
            strategy.post_training_step()
            loss, extra = split_output(output)
            if loss is not None and schedule.accumulate != 1:
                loss = loss / schedule.accumulate
            result.clear()
            if loss is not None:
                result.update(loss=loss.detach(), **extra)
            if flags & OPENS:
                fire(trainer, "on_before_zero_grad", before_zero_grad, optimizer)
                call_module(trainer, "optimizer_zero_grad", trainer.current_epoch, batch_idx, optimizer)
                schedule.zeroed()
            if loss is not None:
                strategy.backward(loss, optimizer)
            return loss

        module.toggle_optimizer(optimizer)
        try:
            if flags & CLOSES:
                wrapped = strategy._lightning_optimizers[index]
                call_module(trainer, "optimizer_step", trainer.current_epoch, batch_idx, wrapped, closure)
                schedule.stepped()
            else:
                closure()
        finally:
            module.untoggle_optimizer(optimizer)
        return result

    def step(batch: Any, batch_idx: int, flags: int) -> Any:
        outputs = [run_one(index, batch, batch_idx, flags) for index in range(len(trainer.optimizers))]
        return [output for output in outputs if output]

    return step


def _warn(name: str) -> None:
    rank_zero_deprecation(
        f"`{name}.training_step(..., optimizer_idx)` is deprecated, since Lightning 2.0 removed several optimizers "
        "from automatic optimization. Use `self.automatic_optimization = False`, and in `training_step` take the "
        "optimizers from `self.optimizers()` and call `toggle_optimizer`, `zero_grad`, `manual_backward`, `step`, "
        "`untoggle_optimizer` for each."
    )
