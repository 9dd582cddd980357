"""Module hooks that Lightning 2.0 removed: they run, with one deprecation warning that gives the new form.

``training_epoch_end(outputs)``, ``validation_epoch_end(outputs)`` and ``test_epoch_end(outputs)`` are served by a
callback of the trainer's own, which gathers the steps' outputs and calls them just before ``on_*_epoch_end``. Training
steps with an ``optimizer_idx`` are in `fulmen.trainer.legacy_step`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.utilities.memory import recursive_detach
from fulmen.utilities.rank_zero import rank_zero_deprecation

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

EPOCH_END: Final = {
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "on_validation_epoch_end",
    "test_epoch_end": "on_test_epoch_end",
}
"""Removed hook → the hook to use instead."""


def adapt(trainer: Trainer, module: LightningModule) -> None:
    """Prepares a run for what the module still has of Lightning 1.x. Called when its callbacks are known.

    Args:
        trainer: whose list of callbacks may get one more, in front.
        module: the user's module.
    """
    if any(isinstance(callback, EpochEndHooks) for callback in trainer.callbacks):
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, EpochEndHooks)]
    present = [name for name in EPOCH_END if callable(getattr(module, name, None))]
    if not present:
        return
    for name in present:
        rank_zero_deprecation(
            f"`{type(module).__name__}.{name}(outputs)` is deprecated, since Lightning 2.0 removed it: every output of "
            f"the epoch is kept for it. Use `{EPOCH_END[name]}(self)`, and keep what it needs in an attribute."
        )
    trainer.callbacks = [EpochEndHooks(frozenset(present)), *trainer.callbacks]


class EpochEndHooks(Callback):
    """Gathers the outputs of an epoch's steps and hands them to the removed epoch-end hooks.

    Args:
        present: which of these hooks the module has.
    """

    def __init__(self, present: frozenset[str]) -> None:
        self.present = present
        self._train: list[Any] = []
        self._evaluation: dict[int, list[Any]] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new epoch, no outputs."""
        self._train = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the step's outputs, if it had any."""
        if outputs and "training_epoch_end" in self.present:
            self._train.append(recursive_detach(outputs))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calls ``training_epoch_end`` with one entry per batch."""
        outputs, self._train = self._train, []
        self._call("training_epoch_end", pl_module, outputs)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new validation, no outputs."""
        self._evaluation = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the step's output."""
        self._keep("validation_epoch_end", outputs, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calls ``validation_epoch_end``."""
        self._call("validation_epoch_end", pl_module, self._gathered())

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new test, no outputs."""
        self._evaluation = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the step's output."""
        self._keep("test_epoch_end", outputs, dataloader_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calls ``test_epoch_end``."""
        self._call("test_epoch_end", pl_module, self._gathered())

    def _keep(self, hook: str, output: Any, dataloader_idx: int) -> None:
        if hook in self.present:
            kept = self._evaluation.setdefault(dataloader_idx, [])
            if output is not None:
                kept.append(output)

    def _gathered(self) -> list[Any]:
        """One entry per batch; with several loaders a list of such lists."""
        by_loader, self._evaluation = self._evaluation, {}
        lists = [by_loader[index] for index in sorted(by_loader)]
        return lists[0] if len(lists) == 1 else lists

    def _call(self, hook: str, module: LightningModule, outputs: list[Any]) -> None:
        if hook not in self.present:
            return
        result = getattr(module, hook)(outputs)
        if result is not None:
            raise errors.misconfiguration(
                f"{type(module).__name__}.{hook}",
                "no return value",
                result,
                "Log the values with `self.log` instead of returning them",
            )
