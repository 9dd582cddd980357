"""`ModelSummary`: a table of the module when training starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.callback import Callback

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer
    from fulmen.utilities.model_summary import ModelSummary as Summary
    from fulmen.utilities.model_summary.table import Columns

log = logging.getLogger(__name__)


class ModelSummary(Callback):
    """Log a table of the module's layers when training starts, on rank 0.

    Args:
        max_depth: levels of nesting to show; -1: all; 0: no table.
        summarize_kwargs: passed to `summarize`, for subclasses that take some.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        self._max_depth = max_depth
        self._summarize_kwargs = summarize_kwargs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the table (on every rank, as the example's forward pass may need them all) and show it."""
        if not self._max_depth:
            return
        summary = self._summary(trainer, pl_module)
        data = summary._get_summary_data()
        if trainer.is_global_zero:
            self.summarize(
                data,
                summary.total_parameters,
                summary.trainable_parameters,
                summary.model_size,
                summary.total_training_modes,
                total_flops=summary.total_flops,
                **self._summarize_kwargs,
            )

    def _summary(self, trainer: Trainer, pl_module: LightningModule) -> Summary:
        from fulmen.utilities.model_summary import DeepSpeedSummary, summarize

        if getattr(trainer.strategy, "zero_stage_3", False):
            return DeepSpeedSummary(pl_module, max_depth=self._max_depth)
        return summarize(pl_module, max_depth=self._max_depth)

    @staticmethod
    def summarize(
        summary_data: Columns,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: Mapping[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Show the table: here as a log record. Override it to show it elsewhere.

        Args:
            summary_data: header and cells of each column.
            total_parameters: number of parameters.
            trainable_parameters: number of those with a gradient.
            model_size: size of all parameters in megabytes.
            total_training_modes: number of modules in mode ``"train"`` and ``"eval"``.
            total_flops: floating point operations of one forward pass; 0 without an example.
            summarize_kwargs: what the constructor was given.
        """
        from fulmen.utilities.model_summary.table import _format_summary_table

        table = _format_summary_table(
            total_parameters, trainable_parameters, model_size, total_training_modes, total_flops, *summary_data
        )
        log.info(f"\n{table}")
