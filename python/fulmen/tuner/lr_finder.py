"""The sweep over learning rates: a trial in which the rate rises with every step.

The method is the range test of L. N. Smith, "Cyclical Learning Rates for Training Neural Networks" (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.tuner.attributes import find_attribute
from fulmen.tuner.lr_curve import LRFinder
from fulmen.tuner.trial import Trial
from fulmen.utilities.parsing import lightning_setattr
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

_LRFinder = LRFinder
"""The name under which code made for Lightning knows the class."""

MODES = ("linear", "exponential")
NAMES = ("lr", "learning_rate")
"""Attributes that are looked for where none is named."""

_SMOOTHING = 0.98


def check_sweep(owner: str, min_lr: float, max_lr: float, num_training: int, mode: str) -> None:
    """Refuses a sweep that cannot be.

    Args:
        owner: what takes the arguments, for the message.
    """
    if mode not in MODES:
        raise errors.value_error(
            f"{owner}(mode)", f"a known one: `mode` should be either of {MODES}", mode, "Pass one of these names"
        )
    if num_training < 1:
        raise errors.value_error(
            f"{owner}", "at least one learning rate to try", num_training, "Pass a positive number, such as 100"
        )
    if mode == "exponential" and not (min_lr > 0 and max_lr > 0):
        raise errors.value_error(
            f"{owner}(min_lr, max_lr)",
            "positive numbers, since the rate grows by a factor",
            (min_lr, max_lr),
            'Pass a small positive `min_lr`, or mode="linear"',
        )


def name_of_rate(module: LightningModule, name: str = "") -> str:
    """The attribute that holds the learning rate.

    Raises:
        AttributeError: there is none.
    """
    found = find_attribute(module, *((name,) if name else NAMES))
    if found is not None:
        return found
    if name:
        what = (
            f"lr_find(attr_name): expected an attribute of the module, the data module or their `hparams`, received {name!r}: "
            f"could not find this as a field in `model` or `model.hparams`"
        )
    else:
        what = (
            f"lr_find: expected a learning rate that can be set, received {type(module).__name__} without one: `model` or "
            f"`model.hparams` should have one of these fields: {NAMES}"
        )
    raise errors.attribute_error(
        what, "Define it and use it in `configure_optimizers`, name yours by `attr_name`, or pass `update_attr=False`"
    )


def sweep(
    trainer: Trainer,
    module: LightningModule,
    *,
    min_lr: float = 1e-8,
    max_lr: float = 1,
    num_training: int = 100,
    mode: str = "exponential",
    early_stop_threshold: float | None = 4.0,
    update_attr: bool = False,
    attr_name: str = "",
) -> LRFinder | None:
    """Trains a little with a rising learning rate, and puts everything back.

    Args:
        trainer: within a fit.
        module: its module.
        min_lr: the first rate.
        max_lr: the last one.
        num_training: how many optimizer steps to make; ``max_epochs`` bounds them too.
        mode: whether the rate grows by a factor ("exponential") or by an amount ("linear").
        early_stop_threshold: stop when the smoothed loss is so many times the best one; None: never.
        update_attr: set the module's attribute and the optimizer to the suggested rate.
        attr_name: that attribute; "": ``lr`` or ``learning_rate``.

    Returns:
        What was found; None with ``fast_dev_run``.

    Raises:
        AttributeError: there is no such attribute.
        MisconfigurationException: there is not exactly one optimizer.
        ValueError: an argument that no sweep can have.
    """
    if trainer.fast_dev_run:
        rank_zero_warn("Skipping learning rate finder since `fast_dev_run` is enabled.")
        return None
    check_sweep("lr_find", min_lr, max_lr, num_training, mode)
    name = name_of_rate(module, attr_name) if update_attr else ""
    if len(trainer.optimizers) != 1:
        raise errors.misconfiguration(
            "configure_optimizers",
            "one optimizer: the learning rate finder only works with single optimizer",
            errors.Words(f"{len(trainer.optimizers)} optimizers"),
            "Find the rate of each with a module that has only that one, or set it by hand",
        )
    curve = LRFinder(mode, min_lr, max_lr, num_training)
    rise = _Rise(curve, early_stop_threshold)
    limits = {"limit_val_batches": num_training} if trainer.limit_val_batches else {}
    with Trial(trainer, [rise], limits) as trial, rise.bar(trainer):
        trial.run(num_training)
        curve._total_batch_idx = trainer.fit_loop.total_batch_idx
    if trainer.fit_loop._loaders is None:
        trainer.fit_loop.setup_data()
    curve.results = trainer.strategy.broadcast(curve.results)
    if rise.stopped:
        rank_zero_info(f"LR finder stopped early after {rise.steps} steps due to diverging loss.")
    elif rise.steps < num_training:
        rank_zero_info(
            f"LR finder made {rise.steps} of {num_training} steps: `max_epochs={trainer.max_epochs}` ended it."
        )
    if update_attr:
        _apply(trainer, module, name, curve.suggestion())
    return curve


def _apply(trainer: Trainer, module: LightningModule, name: str, rate: float | None) -> None:
    if rate is None:
        return
    lightning_setattr(module, name, rate)
    for optimizer in trainer.optimizers:
        set_rate(optimizer, rate)
    rank_zero_info(f"Learning rate set to {rate}")


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameter groups; one that is kept in a tensor stays in it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class _Rise(Callback):
    """Sets the rate of every step, and writes down what loss it gave."""

    def __init__(self, curve: LRFinder, threshold: float | None) -> None:
        self.stopped = False
        self.steps = 0
        self._curve = curve
        self._threshold = threshold
        self._first: int | None = None
        self._mean = 0.0
        self._best = 0.0
        self._bar: Any = None

    def bar(self, trainer: Trainer) -> Any:
        """A progress bar as a context, drawn if the trainer has one that is."""
        from fulmen.callbacks.progress.tqdm_bar import Tqdm

        usual = trainer.progress_bar_callback
        drawn = usual is not None and getattr(usual, "is_enabled", True) and trainer.is_global_zero
        self._bar = Tqdm(desc="Finding best initial lr", total=self._curve.num_training, disable=not drawn)
        return self._bar

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The rate rises with the optimizer's steps."""
        if self._first is None:
            self._first = trainer.global_step
        rate = self._curve.rate(trainer.global_step - self._first)
        set_rate(trainer.optimizers[0], rate)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._curve.results["lr"].append(rate)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The loss is smoothed, and where it has gone through the roof the sweep ends."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        assert self._first is not None, "set when the batch began"
        step = trainer.global_step - self._first
        self.steps = step
        self._bar.update()
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            self._curve.results["loss"].append(float("nan"))
            return
        value = loss.item() if isinstance(loss, Tensor) else float(loss)
        self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * value
        smooth = self._mean / (1 - _SMOOTHING ** (step + 1))
        over = self._threshold is not None and step > 1 and smooth > self._threshold * self._best
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            self.stopped = trainer.should_stop = True
        if smooth < self._best or step == 1:
            self._best = smooth
        self._curve.results["loss"].append(smooth)
