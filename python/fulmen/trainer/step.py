"""One training step, in the forms that it has.

*Direct*: forward, backward, clip and step are called one after the other. That is what a hand-written loop does, and what
runs unless somebody overrides a piece of it.
*Closure*: forward and backward are packed into a function that the optimizer calls, since an optimizer (LBFGS), an
overridden ``optimizer_step``, a gradient scaler or a strategy of the user's wants it so.
*Forward only*: an epoch for which a callback asked that the batches go through the module and no weight changes.

The first two call the same hooks in the same order. :func:`make_step` decides once an epoch, and gives back
``step(batch, batch_idx, flags) -> outputs``, and which of the flags the loop has to count for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fulmen.core.module import LightningModule
from fulmen.precision.double import DoublePrecision
from fulmen.precision.half import HalfPrecision
from fulmen.precision.mixed import MixedPrecision
from fulmen.precision.precision import Precision
from fulmen.strategies.single_device import SingleDeviceStrategy
from fulmen.trainer.checks import closure_error, several_optimizers_error, step_output_error, warn_none_output
from fulmen.trainer.hook_table import call_module, calls, fire, module_overrides, overrides
from fulmen.trainer.nan_policy import watched_optimizer, watched_step, watched_window
from fulmen.trainer.profiling import module_owner, profiled

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

Step = Callable[[Any, int, int], Any]

OPENS, CLOSES, WINDOWS = 1, 2, 4
"""Bits of the schedule's answer to ``begin_batch``: the batch's roles in its accumulation window, and whether there are
windows of several batches."""

_STRATEGY_PIECES = (
    "training_step", "post_training_step", "backward", "pre_backward", "post_backward", "optimizer_step",
)  # fmt: skip
_MODULE_PIECES = ("backward", "optimizer_step", "optimizer_zero_grad")
_PLAIN_PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)


def make_step(trainer: Trainer) -> tuple[Step, int]:
    """The step for this epoch: manual, direct or by closure."""
    module = trainer.lightning_module
    if not module.automatic_optimization:
        return _manual(trainer), 0
    from fulmen.trainer import legacy_step

    if legacy_step.takes_optimizer_idx(module):
        return legacy_step.make_step(trainer), 0
    if len(trainer.optimizers) > 1:
        raise several_optimizers_error(len(trainer.optimizers))
    if trainer.fit_loop.forward_only:
        return _forward_only(trainer), 0
    if direct_form_possible(trainer):
        return watched_window(trainer, _direct(trainer), OPENS), OPENS | CLOSES
    return watched_window(trainer, _closure(trainer), OPENS), 0


def direct_form_possible(trainer: Trainer) -> bool:
    """Has nobody a say in how forward, backward and step are put together?"""
    return reason_for_closure(trainer) is None


def reason_for_closure(trainer: Trainer) -> str | None:
    """Who has a say in how forward, backward and step are put together, so that it takes a closure; None: nobody."""
    module, strategy = trainer.lightning_module, trainer.strategy
    precision = strategy.precision_plugin
    if not isinstance(strategy, SingleDeviceStrategy):
        return f"the strategy is {type(strategy).__name__}"
    if type(precision) not in _PLAIN_PRECISIONS:
        return f"the precision is {type(precision).__name__}"
    if getattr(precision, "scaler", None) is not None:
        return "the precision scales gradients"
    for owner, found in (
        (strategy, [name for name in _STRATEGY_PIECES if overrides(strategy, name, SingleDeviceStrategy)]),
        (module, [name for name in _MODULE_PIECES if module_overrides(module, name)]),
    ):
        if found:
            return f"{type(owner).__name__} has its own {found[0]}"
    own = [optimizer for optimizer in trainer.optimizers if not _steps_without_closure(optimizer)]
    return f"the optimizer {type(own[0]).__name__} may call it several times, or not" if own else None


def _steps_without_closure(optimizer: Optimizer) -> bool:
    """Is this one of torch's own optimizers that update from the gradients as they are?"""
    step = type(optimizer).step
    owner = getattr(step, "__module__", "") or ""
    return owner.startswith("torch.optim.") and not isinstance(optimizer, torch.optim.LBFGS)


def wants_batch_idx(method: Callable[..., Any]) -> bool:
    """Does a step method take the batch's index besides the batch?"""
    parameters = list(inspect.signature(method).parameters.values())
    return len(parameters) != 1 or parameters[0].kind is inspect.Parameter.VAR_POSITIONAL


def takes_iterator(module: LightningModule, name: str = "training_step") -> bool:
    """Does the step ask for the iterator over the data instead of a batch?"""
    return "dataloader_iter" in inspect.signature(getattr(module, name)).parameters


def split_output(output: Any) -> tuple[Tensor | None, dict[str, Any]]:
    """The loss and the other entries of what ``training_step`` returned (automatic optimization)."""
    if isinstance(output, Tensor):
        return output, {}
    if output is None:
        warn_none_output()
        return None, {}
    if isinstance(output, dict) and "loss" in output:
        loss = output["loss"]
        if loss is not None and not isinstance(loss, Tensor):
            raise step_output_error(output)
        return loss, {key: value for key, value in output.items() if key != "loss"}
    if isinstance(output, Mapping) and "loss" in output:
        return split_output(dict(output))
    raise step_output_error(output)


def _outputs(loss: Tensor | None, extra: dict[str, Any]) -> dict[str, Any]:
    """What ``on_train_batch_end`` gets."""
    return {} if loss is None else {"loss": loss.detach(), **extra}


def _direct(trainer: Trainer) -> Step:
    module, schedule = trainer.lightning_module, trainer._schedule
    optimizer = trainer.optimizers[0]
    pass_index = wants_batch_idx(module.training_step)
    training_step = profiled(trainer, module_owner(module), "training_step", module.training_step)
    training_step = watched_step(trainer, training_step)
    stepping = watched_optimizer(trainer, optimizer)
    precision = trainer.strategy.precision_plugin
    context = precision.train_step_context if type(precision) is not Precision else None
    before_zero_grad = calls(trainer, "on_before_zero_grad")
    before_backward = calls(trainer, "on_before_backward")
    after_backward = calls(trainer, "on_after_backward")
    before_step = calls(trainer, "on_before_optimizer_step")
    clips = bool(trainer.gradient_clip_val) or module_overrides(module, "configure_gradient_clipping")
    zero_grad = optimizer.zero_grad
    wants_outputs = any(needs_outputs(call) for call in calls(trainer, "on_train_batch_end"))
    # the parts of the step on the timeline; without them all of it is the trainer's
    trainers, forward, backward, optimizers = step_marks(trainer)

    def step(batch: Any, batch_idx: int, flags: int) -> Any:
        trainer._hook = "training_step"
        trainers()
        if context is None:
            output = training_step(batch, batch_idx) if pass_index else training_step(batch)
        else:
            with context():
                output = training_step(batch, batch_idx) if pass_index else training_step(batch)
        forward()
        trainer._hook = None
        if output.__class__ is Tensor:
            loss: Tensor | None = output
            extra: dict[str, Any] | None = None
        else:
            loss, extra = split_output(output)
        if flags & WINDOWS and loss is not None:
            loss = loss / schedule.accumulate
        if flags & OPENS:
            if before_zero_grad:
                fire(trainer, "on_before_zero_grad", before_zero_grad, optimizer)
            # a mark of its own would cost more than what it measures: it counts as backward
            zero_grad()
        if loss is not None:
            if before_backward:
                fire(trainer, "on_before_backward", before_backward, loss)
            loss.backward()
            backward()
            if after_backward:
                fire(trainer, "on_after_backward", after_backward)
        if flags & CLOSES:
            if before_step:
                fire(trainer, "on_before_optimizer_step", before_step, optimizer)
            if clips:
                clip_gradients(trainer, optimizer)
            stepping.step()
            optimizers()
        # whoever holds the loss until the next one is there, as a hand-written loop does, saves two microseconds
        return _outputs(loss, extra or {}) if wants_outputs else loss

    return step


def step_marks(trainer: Trainer) -> tuple[Callable[[], None], ...]:
    """What marks the ends of stretches in a step: of the trainer's own, of forward, of backward, of the optimizer's."""
    core = trainer.timeline.core
    if not trainer.timeline.detailed:
        return (_no_mark,) * 4
    marks = core.mark_trainer, core.mark_forward, core.mark_backward, core.mark_optimizer
    if trainer.strategy.root_device.type != "cuda":
        return marks
    return trainer.timeline.device_clock(trainer._schedule.log_every_n_steps).follow(marks)


def _no_mark() -> None:
    """Nobody wants to know."""


def needs_outputs(call: Callable[..., Any]) -> bool:
    """Does a hook ``on_train_batch_end`` look at the step's outputs?"""
    return not getattr(getattr(call, "func", call), "ignores_outputs", False)


def clip_gradients(trainer: Trainer, optimizer: Optimizer) -> None:
    """The module's ``configure_gradient_clipping`` with the trainer's settings."""
    call_module(
        trainer,
        "configure_gradient_clipping",
        optimizer,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm,
    )


def _closure(trainer: Trainer) -> Step:
    module, schedule, strategy = trainer.lightning_module, trainer._schedule, trainer.strategy
    optimizer = trainer.optimizers[0]
    pass_index = wants_batch_idx(module.training_step)
    strategy_step = watched_step(trainer, strategy.training_step)
    before_zero_grad = calls(trainer, "on_before_zero_grad")

    def step(batch: Any, batch_idx: int, flags: int) -> Any:
        result: list[Any] = []

        def closure() -> Tensor | None:
            before, trainer._hook = trainer._hook, "training_step"
            args = (batch, batch_idx) if pass_index else (batch,)
            output = strategy_step(*args)
            trainer._hook = before
            strategy.post_training_step()
            loss, extra = split_output(output)
            if loss is not None and schedule.accumulate != 1:
                loss = loss / schedule.accumulate
            result[:] = (_outputs(loss, extra),)
            if flags & OPENS:
                fire(trainer, "on_before_zero_grad", before_zero_grad, optimizer)
                call_module(trainer, "optimizer_zero_grad", trainer.current_epoch, batch_idx, optimizer)
                schedule.zeroed()
            if loss is not None:
                trainer._hook = "backward"
                strategy.backward(loss, optimizer)
                trainer._hook = before
            return loss

        if not flags & CLOSES:
            closure()
            return result[0]
        wrapped = strategy._lightning_optimizers[0]
        call_module(trainer, "optimizer_step", trainer.current_epoch, batch_idx, wrapped, closure)
        schedule.stepped()
        if not result:
            raise closure_error(type(module).__name__)
        return result[0]

    return step


def _forward_only(trainer: Trainer) -> Step:
    strategy, schedule = trainer.strategy, trainer._schedule
    pass_index = wants_batch_idx(trainer.lightning_module.training_step)
    training_step = watched_step(trainer, strategy.training_step)

    def step(batch: Any, batch_idx: int, flags: int) -> Any:
        trainer._hook = "training_step"
        output = training_step(batch, batch_idx) if pass_index else training_step(batch)
        trainer._hook = None
        strategy.post_training_step()
        if flags & CLOSES:
            # it counts as a step, so that rows and checkpoints of this epoch have a place of their own
            schedule.stepped()
        return _outputs(*split_output(output))

    return step


def _manual(trainer: Trainer) -> Step:
    module, strategy = trainer.lightning_module, trainer.strategy
    pass_index = wants_batch_idx(module.training_step)
    plain = isinstance(strategy, SingleDeviceStrategy) and type(strategy.precision_plugin) is Precision
    if plain and not any(overrides(strategy, n, SingleDeviceStrategy) for n in ("training_step", "post_training_step")):
        training_step: Callable[..., Any] = module.training_step
    else:
        training_step = strategy.training_step
    measured = watched_step(trainer, profiled(trainer, module_owner(module), "training_step", training_step))

    def step(batch: Any, batch_idx: int, flags: int) -> Any:
        trainer._hook = "training_step"
        output = measured(batch, batch_idx) if pass_index else measured(batch)
        trainer._hook = None
        if training_step is not module.training_step:
            strategy.post_training_step()
        return manual_outputs(output)

    return step


def manual_outputs(output: Any) -> dict[str, Any]:
    """What ``on_train_batch_end`` gets in manual optimization."""
    if output is None:
        return {}
    if isinstance(output, Tensor):
        return {"loss": output.detach()}
    if isinstance(output, dict):
        if isinstance(output.get("loss"), Tensor):
            return {**output, "loss": output["loss"].detach()}
        return dict(output)
    raise step_output_error(output)
