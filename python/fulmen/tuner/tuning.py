"""`Tuner`: finds a learning rate or a batch size before a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from fulmen import errors
from fulmen.callbacks import BatchSizeFinder, LearningRateFinder
from fulmen.trainer.states import TrainerFn
from fulmen.tuner.batch_size_scaling import Search, scale
from fulmen.tuner.lr_finder import check_sweep, sweep

if TYPE_CHECKING:
    from fulmen.core.datamodule import LightningDataModule
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer
    from fulmen.tuner.lr_curve import LRFinder
    from fulmen.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

    _TrainingData = TRAIN_DATALOADERS | LightningDataModule | None
    _EvaluationData = EVAL_DATALOADERS | None

__all__ = ["Tuner"]

_Method = Literal["fit", "validate", "test", "predict"]
_METHODS = tuple(fn.value for fn in TrainerFn)


class Tuner:
    """Tries settings on a trainer before the real run.

    A search sets up the run as the entry point does, makes its trials, and tears down. Weights, counters, callbacks, random
    generators and files are as before afterwards; loggers get nothing.

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
        """Looks for the largest batch size that fits into memory, and sets the attribute that holds it.

        Args:
            model: the module; it or the data module makes its loaders with the attribute.
            train_dataloaders: a data module; loaders have their size already.
            val_dataloaders: validation data.
            dataloaders: data of the other methods.
            datamodule: where the loaders come from.
            method: entry point to try.
            mode: "power" doubles the size, "binsearch" then halves the interval.
            steps_per_trial: steps to run with each size.
            init_val: first size.
            max_trials: sizes to try at most, while doubling.
            batch_arg_name: attribute of module, data module or their ``hparams`` that holds the size.
            margin: share of the size found by "binsearch" to leave unused.
            max_val: largest size to try.

        Returns:
            The size; None with ``fast_dev_run``.

        Raises:
            MisconfigurationException: there is no such attribute, or the size cannot change the loaders.
            ValueError: an argument that no search can have, or the trainer has a `BatchSizeFinder`.
            RuntimeError: a batch of one sample does not fit.
        """
        self._check(method, train_dataloaders, val_dataloaders, dataloaders, BatchSizeFinder)
        search = Search(mode, steps_per_trial, init_val, max_trials, margin, max_val)
        found: list[int | None] = []
        self._rehearse(
            lambda module: found.append(scale(self._trainer, module, search, batch_arg_name)),
            *(method, model, train_dataloaders, val_dataloaders, dataloaders, datamodule),
        )
        return found[0]

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
    ) -> LRFinder | None:
        """Runs a short training with a rising learning rate, and suggests the rate at which the loss falls fastest.

        Args:
            model: the module.
            train_dataloaders: training data, or a data module.
            val_dataloaders: validation data.
            dataloaders: to be left out.
            datamodule: where the loaders come from, instead.
            method: only "fit".
            min_lr: first rate.
            max_lr: last rate.
            num_training: rates to try, one for each optimizer step; the trainer's ``max_epochs`` bounds them too.
            mode: "exponential" or "linear" rise.
            early_stop_threshold: stop when the loss is this many times the best; None: never.
            update_attr: set the module's attribute to the rate found.
            attr_name: name of that attribute; "": ``lr`` or ``learning_rate``.

        Returns:
            Rates and losses (``results``), with ``suggestion()`` and ``plot()``; None with ``fast_dev_run``.

        Raises:
            AttributeError: the module has no such attribute.
            MisconfigurationException: another method, or not exactly one optimizer.
            ValueError: an argument that no sweep can have, or the trainer has a `LearningRateFinder`.
        """
        if method != "fit":
            raise errors.misconfiguration(
                "lr_find(method)",
                "\"fit\": method='fit' is the only valid configuration to run lr finder",
                method,
                "Leave it out",
            )
        self._check(method, train_dataloaders, val_dataloaders, dataloaders, LearningRateFinder)
        check_sweep("lr_find", min_lr, max_lr, num_training, mode)
        found: list[LRFinder | None] = []

        def work(module: LightningModule) -> None:
            found.append(
                sweep(
                    self._trainer,
                    module,
                    min_lr=min_lr,
                    max_lr=max_lr,
                    num_training=num_training,
                    mode=mode,
                    early_stop_threshold=early_stop_threshold,
                    update_attr=update_attr,
                    attr_name=attr_name,
                )
            )

        self._rehearse(work, method, model, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        return found[0]

    def _check(self, method: str, train: Any, val: Any, others: Any, callback: type) -> None:
        if method not in _METHODS:
            raise errors.value_error(
                f"method {method!r} is invalid. Tuner(method)", f"one of {_METHODS}", method, "Pass one of these names"
            )
        if method == "fit" and others is not None:
            raise errors.misconfiguration(
                "dataloaders",
                "None with method='fit': please consider setting `train_dataloaders` and `val_dataloaders` instead",
                others,
                "Leave it out",
            )
        if method != "fit" and (train is not None or val is not None):
            raise errors.misconfiguration(
                "train_dataloaders, val_dataloaders",
                f"None with method={method!r}: please consider setting `dataloaders` instead",
                train if train is not None else val,
                "Leave them out",
            )
        if any(isinstance(c, callback) for c in self._trainer.callbacks):
            raise errors.value_error(
                "Tuner(trainer)",
                "a trainer without the callback that does the same",
                errors.Words(f"one: Trainer is already configured with a `{callback.__name__}` callback"),
                "Take it out of `Trainer(callbacks=...)`, or call the entry point alone, which searches first",
            )

    def _rehearse(
        self,
        work: Callable[[LightningModule], None],
        method: str,
        model: LightningModule,
        train: Any,
        val: Any,
        others: Any,
        datamodule: Any,
    ) -> None:
        """Sets the entry point up and tears it down, with ``work`` in the place of the run."""
        trainer = self._trainer
        trainer._rehearsal = work
        try:
            if method == "fit":
                trainer.fit(model, train, val, datamodule)
            else:
                getattr(trainer, method)(model, others, datamodule=datamodule)
        finally:
            trainer._rehearsal = None
