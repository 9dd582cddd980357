"""What is wrong with a module, its loaders or the settings, found before a run starts or at the line that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.trainer.hook_table import module_overrides
from fulmen.trainer.states import TrainerFn
from fulmen.utilities.rank_zero import WarningCache, rank_zero_warn
from fulmen.utilities.warnings import PossibleUserWarning

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

_warned = WarningCache()
_STEP = {TrainerFn.VALIDATING: "validation_step", TrainerFn.TESTING: "test_step"}


def check_run(trainer: Trainer) -> None:
    """Does the module have what this entry point needs?

    Raises:
        MisconfigurationException: a step, ``configure_optimizers`` or a loader is missing, or settings contradict the
            kind of optimization.
    """
    module, fn = trainer.lightning_module, trainer.state.fn
    assert fn is not None
    if fn is TrainerFn.FITTING:
        _check_fit(trainer, module)
    elif fn in _STEP:
        name = _STEP[fn]
        if not module_overrides(module, name):
            raise errors.misconfiguration(
                f"trainer.{fn.value}()",
                f"a module with a `{name}()` method",
                errors.Words(f"{type(module).__name__} without one"),
                f"Define `{name}(self, batch, batch_idx)`. No `{name}()` method defined to run `Trainer.{fn.value}`.",
            )
    elif fn is TrainerFn.PREDICTING and not module_overrides(module, "predict_step"):
        import torch

        if type(module).forward is torch.nn.Module.forward or not module_overrides(module, "forward"):
            raise errors.misconfiguration(
                "trainer.predict()",
                "a module with `forward` or `predict_step`",
                errors.Words(f"{type(module).__name__} with neither"),
                "`Trainer.predict` requires `forward` method to run, or define `predict_step(self, batch, batch_idx)`.",
            )


def _check_fit(trainer: Trainer, module: LightningModule) -> None:
    name = type(module).__name__
    for method, text in (
        ("training_step", "No `training_step()` method defined: define `training_step(self, batch, batch_idx)`."),
        (
            "configure_optimizers",
            "No `configure_optimizers()` method defined: define it to return an optimizer or None.",
        ),
    ):
        if not module_overrides(module, method):
            raise errors.misconfiguration(
                "trainer.fit()", f"a module with a `{method}()` method", errors.Words(f"{name} without one"), text
            )
    has_loader = trainer._sources.has("val")
    has_step = module_overrides(module, "validation_step")
    if has_loader and not has_step:
        rank_zero_warn("You passed in a `val_dataloader` but have no `validation_step`. Skipping the validation loop.")
    if has_step and not has_loader:
        rank_zero_warn(
            "You defined a `validation_step` but have no `val_dataloader`. Skipping the validation loop.",
            category=PossibleUserWarning,
        )
    if not module.automatic_optimization:
        _check_manual(trainer, name)


def _check_manual(trainer: Trainer, name: str) -> None:
    for argument, value, off in (
        ("gradient_clip_val", trainer.gradient_clip_val, (None, 0)),
        ("accumulate_grad_batches", trainer.accumulate_grad_batches, (1,)),
    ):
        if value is not None and value not in off:
            what = "gradient clipping" if argument == "gradient_clip_val" else "gradient accumulation"
            raise errors.misconfiguration(
                f"Trainer({argument})",
                f"nothing: Automatic {what} is not supported for manual optimization",
                value,
                f"Remove `Trainer({argument}={value})`, or switch {name} to automatic optimization.",
            )


def step_output_error(received: Any) -> Exception:
    """``training_step`` returned something that holds no loss."""
    what = (
        errors.Words(f"a dict with the keys {sorted(map(str, received))}") if isinstance(received, dict) else received
    )
    return errors.misconfiguration(
        "training_step",
        "a tensor, a dict with the key 'loss', or None (in automatic optimization, `training_step` must return one; in "
        "manual optimization, it must either return a Tensor or have no return)",
        what,
        "Return the loss itself, or {'loss': loss, ...}.",
    )


def several_optimizers_error(count: int) -> RuntimeError:
    """Automatic optimization knows one optimizer."""
    return errors.runtime_error(
        f"Training with multiple optimizers is only supported with manual optimization: there are {count}",
        "Remove the `optimizer_idx` argument from `training_step`, set `self.automatic_optimization = False`, and step "
        "the optimizers that `self.optimizers()` gives in `training_step`",
    )


def closure_error(module: str) -> Exception:
    """An overridden ``optimizer_step`` swallowed the closure."""
    return errors.misconfiguration(
        f"{module}.optimizer_step",
        "the `optimizer_closure` to be run once (it holds forward and backward)",
        errors.Words("no call. The closure hasn't been executed"),
        "Pass it on: `optimizer.step(closure=optimizer_closure)`, or call `optimizer_closure()` yourself.",
    )


def warn_none_output() -> None:
    """Once per process: a step without a loss."""
    _warned.warn(
        "`training_step` returned `None`. If this was on purpose, ignore this warning; otherwise return the loss: "
        "no backward pass runs for such a batch."
    )
