"""`Tuner`: finds a learning rate or a batch size before a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fulmen import errors

if TYPE_CHECKING:
    from fulmen.core.datamodule import LightningDataModule
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer
    from fulmen.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

    _TrainingData = TRAIN_DATALOADERS | LightningDataModule | None
    _EvaluationData = EVAL_DATALOADERS | None

__all__ = ["Tuner"]

_Method = Literal["fit", "validate", "test", "predict"]


class Tuner:
    """Tries settings on a trainer before the real run. Both searches raise `fulmen.errors.NotYet` for now.

    Args:
        trainer: the trainer to try them on.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def scale_batch_size(
        self,
        model: LightningModule,
        train_dataloaders: _TrainingData = None,
        val_dataloaders: _EvaluationData = None,
        dataloaders: _EvaluationData = None,
        datamodule: LightningDataModule | None = None,
        method: _Method = "fit",
        mode: Literal["power", "binsearch"] = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int | None:
        """Looks for the largest batch size that fits into memory.

        Args:
            model: the module.
            train_dataloaders: training data, or a data module.
            val_dataloaders: validation data.
            dataloaders: data of the other methods.
            datamodule: where the loaders come from, instead.
            method: entry point to try.
            mode: "power" doubles the size, "binsearch" then halves the interval.
            steps_per_trial: steps to run with each size.
            init_val: first size.
            max_trials: sizes to try at most.
            batch_arg_name: attribute that holds the size.
            margin: share of the size found by "binsearch" to leave unused.
            max_val: largest size to try.
        """
        raise errors.NotYet("Tuner.scale_batch_size", "Set the batch size by hand")

    def lr_find(
        self,
        model: LightningModule,
        train_dataloaders: _TrainingData = None,
        val_dataloaders: _EvaluationData = None,
        dataloaders: _EvaluationData = None,
        datamodule: LightningDataModule | None = None,
        method: _Method = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: Literal["exponential", "linear"] = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> Any:
        """Runs a short training with a rising learning rate.

        Args:
            model: the module.
            train_dataloaders: training data, or a data module.
            val_dataloaders: validation data.
            dataloaders: data of the other methods.
            datamodule: where the loaders come from, instead.
            method: only "fit".
            min_lr: first rate.
            max_lr: last rate.
            num_training: rates to try.
            mode: "exponential" or "linear" rise.
            early_stop_threshold: stop when the loss is this many times the best; None: never.
            update_attr: set the module's attribute to the rate found.
            attr_name: name of that attribute; "": ``lr`` or ``learning_rate``.
        """
        raise errors.NotYet("Tuner.lr_find", "Set the learning rate by hand")
