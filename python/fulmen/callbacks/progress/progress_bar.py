"""What every progress bar has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from fulmen.callbacks.callback import Callback
from fulmen.callbacks.progress.fit_eta import FitEta
from fulmen.callbacks.progress.pace import LinePace
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer


class ProgressBar(Callback):
    """Base class of progress bars.

    A subclass defines `enable`, `disable` and the hooks that it wants to show, with the help of the totals,
    descriptions and metrics below. The trainer switches the bars of all ranks but 0 off.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._lines = LinePace()
        self._fit_eta = FitEta()
        self._current_eval_dataloader_idx: int | None = None

    @property
    def trainer(self) -> Trainer:
        """The trainer.

        Raises:
            TypeError: before `setup`.
        """
        if self._trainer is None:
            raise TypeError(
                f"The `{type(self).__name__}._trainer` reference has not been set yet: it is set when a run starts."
            )
        return self._trainer

    # ---- descriptions ------------------------------------------------------------------------------------------------

    @property
    def sanity_check_description(self) -> str:
        """Name of the sanity check's bar."""
        return "Sanity Checking"

    @property
    def train_description(self) -> str:
        """Name of the training's bar, before its first epoch."""
        return "Training"

    @property
    def validation_description(self) -> str:
        """Name of a validation's bar."""
        return "Validation"

    @property
    def test_description(self) -> str:
        """Name of a test's bar."""
        return "Testing"

    @property
    def predict_description(self) -> str:
        """Name of a prediction's bar."""
        return "Predicting"

    # ---- totals ------------------------------------------------------------------------------------------------------

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the epoch, or up to ``max_steps`` in a run without ``max_epochs``; ``inf`` if not known."""
        trainer = self.trainer
        batches = trainer.num_training_batches
        if trainer.max_epochs == -1 and trainer.max_steps is not None and trainer.max_steps > 0:
            return min(batches, trainer.max_steps - trainer.global_step)
        return batches

    @property
    def total_val_batches(self) -> int | float:
        """Batches of one validation, all loaders together; 0 in an epoch without validation."""
        trainer = self.trainer
        every = trainer.check_val_every_n_epoch
        if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
            return 0
        batches: Any = trainer.num_val_batches
        return sum(batches) if isinstance(batches, list) else batches

    @property
    def total_val_batches_current_dataloader(self) -> int | float:
        """Batches of the validation loader (or its part in the sanity check) at hand; ``inf`` if not known."""
        trainer = self.trainer
        return self._of_current_loader(
            trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        )

    @property
    def total_test_batches_current_dataloader(self) -> int | float:
        """Batches of the test loader at hand; ``inf`` if not known."""
        return self._of_current_loader(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> int | float:
        """Batches of the prediction loader at hand; ``inf`` if not known."""
        return self._of_current_loader(self.trainer.num_predict_batches)

    def _of_current_loader(self, batches: Any) -> int | float:
        if isinstance(batches, list):
            assert self._current_eval_dataloader_idx is not None
            batches = batches[self._current_eval_dataloader_idx]
        total: int | float = batches
        return total

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Note which evaluation loader is at hand; True if it is another one than at the last call."""
        previous, self._current_eval_dataloader_idx = self._current_eval_dataloader_idx, dataloader_idx
        return previous != dataloader_idx

    def reset_dataloader_idx_tracker(self) -> None:
        """Forget the loader at hand: the evaluation is over."""
        self._current_eval_dataloader_idx = None

    # ---- what a subclass defines -------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Show the bar. The tuner calls it after `disable`."""
        raise NotImplementedError

    def disable(self) -> None:
        """Hide the bar."""
        raise NotImplementedError

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without breaking the bar. Arguments as for Python's ``print``."""
        print(*args, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the trainer; hide the bar on all ranks but 0."""
        self._trainer = trainer
        self._lines = LinePace()
        self._fit_eta = FitEta()
        if not trainer.is_global_zero:
            self.disable()

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What the bar shows: `v_num`, the version of the run, and all values logged with ``prog_bar=True``.

        Override it to show more, or ``pop("v_num", None)`` from its result to show less.
        """
        standard = get_standard_metrics(trainer)
        logged = trainer.progress_bar_metrics
        for name in standard.keys() & logged.keys():
            rank_zero_warn(
                f"The progress bar already tracks a metric with the name(s) '{name}' and "
                f"`self.log('{name}', ..., prog_bar=True)` will overwrite this value. "
                "Log under another name, or override `get_metrics()` of the progress bar, to see both."
            )
        return {
            **standard,
            **{name: value.item() if isinstance(value, Tensor) else value for name, value in logged.items()},
        }


def get_standard_metrics(trainer: Trainer) -> dict[str, int | str | float | dict[str, float]]:
    """`v_num`: the version of the first logger, or of all, cut to its last 4 characters if it is text."""
    if not trainer.loggers:
        return {}
    from fulmen.loggers.utilities import _version

    version = _version(trainer.loggers)
    if version is None or version == "":
        return {}
    return {"v_num": version[-4:] if isinstance(version, str) else version}
