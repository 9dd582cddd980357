"""`BatchSizeFinder`: a search for the largest batch size at the beginning of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.tuner.batch_size_scaling import Search

__all__ = ["BatchSizeFinder"]


class BatchSizeFinder(Callback):
    """Tries larger and larger batches before a run until the memory runs out, and goes on with the largest that fits.

    The module or data module holds the size in an attribute, and makes its loaders with it. The trials leave nothing behind
    but the size. Subclasses may call :meth:`scale_batch_size` in ``on_train_epoch_start`` and the ``on_..._start`` hooks of
    evaluations.

    Args:
        mode: "power" doubles the size; "binsearch" then halves the interval between what fits and what does not.
        steps_per_trial: steps with each size.
        init_val: first batch size.
        max_trials: most tries while doubling.
        batch_arg_name: name of the attribute that holds the batch size.
        margin: share to take off what "binsearch" finds.
        max_val: largest batch size to try.

    Attributes:
        optimal_batch_size: what the last search has found.

    Raises:
        ValueError: a value that no search can have.
    """

    SUPPORTED_MODES = ("power", "binsearch")

    def __init__(
        self, mode: str = "power", steps_per_trial: int = 3, init_val: int = 2, max_trials: int = 25,
        batch_arg_name: str = "batch_size", margin: float = 0.05, max_val: int = 8192,
    ) -> None:  # fmt: skip
        from fulmen.tuner.batch_size_scaling import Search

        self._search: Search = Search(mode, steps_per_trial, init_val, max_trials, margin, max_val)
        self._batch_arg_name = batch_arg_name
        self.optimal_batch_size: int | None = init_val

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str | None = None) -> None:
        """Refuses runs of several processes.

        Raises:
            MisconfigurationException: this is one.
        """
        from fulmen.tuner.batch_size_scaling import refuse_processes

        refuse_processes(trainer)

    def scale_batch_size(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the search, here and now.

        Args:
            trainer: within an entry point, before a batch.
            pl_module: its module.

        Raises:
            MisconfigurationException, RuntimeError: as ``Tuner.scale_batch_size``.
        """
        from fulmen.tuner.batch_size_scaling import scale

        self.optimal_batch_size = scale(trainer, pl_module, self._search, self._batch_arg_name)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before anything is trained."""
        self.scale_batch_size(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before a validation that stands alone."""
        if trainer.state.fn is not None and trainer.state.fn.value == "validate":
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before a test."""
        self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before a prediction."""
        self.scale_batch_size(trainer, pl_module)
