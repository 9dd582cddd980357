"""`DeviceStatsMonitor`: what the device reports about itself, beside the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["DeviceStatsMonitor"]


class DeviceStatsMonitor(Callback):
    """Logs the accelerator's statistics at the start and the end of batches, when a row is due.

    Args:
        cpu_stats: log the CPU's too (True), not (False), or only if the run is on it (None).

    Raises:
        ModuleNotFoundError: psutil is missing, which reads the CPU's.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        self._cpu_stats = cpu_stats

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuses to run without a logger."""
        if stage != "fit":
            return
        if not trainer.loggers:
            raise errors.misconfiguration(
                "Trainer(logger)",
                "a logger: Cannot use `DeviceStatsMonitor` callback with `Trainer(logger=False)`",
                False,
                "Pass `Trainer(logger=...)`",
            )
        on_cpu = trainer.strategy.root_device.type == "cpu"
        if self._cpu_stats is False and on_cpu:
            rank_zero_warn("The run is on the CPU and `cpu_stats=False`: `DeviceStatsMonitor` has nothing to log.")
        if (self._cpu_stats or (self._cpu_stats is None and on_cpu)) and not _has_psutil():
            raise errors.missing_package("psutil", "DeviceStatsMonitor's CPU statistics")

    def _log(self, trainer: L.Trainer, key: str) -> None:
        if not trainer._logger_connector.should_update_logs:
            return
        device = trainer.strategy.root_device
        on_cpu = device.type == "cpu"
        if on_cpu and self._cpu_stats is False:
            return
        stats: dict[str, Any] = dict(trainer._devices.accelerator.get_device_stats(device))
        if self._cpu_stats and not on_cpu:
            from fulmen.accelerators.cpu import get_cpu_stats

            stats.update(get_cpu_stats())
        prefixed = _prefix_metric_keys(stats, f"{type(self).__qualname__}.{key}", "/")
        step = trainer._axis.position
        for logger in trainer._ledger.rows.send(trainer.loggers, prefixed, step):
            logger.log_metrics(prefixed, step=step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Logs before a batch."""
        self._log(trainer, "on_train_batch_start")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs after a batch."""
        self._log(trainer, "on_train_batch_end")

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Logs before a batch."""
        self._log(trainer, "on_validation_batch_start")

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Logs after a batch."""
        self._log(trainer, "on_validation_batch_end")

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Logs before a batch."""
        self._log(trainer, "on_test_batch_start")

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Logs after a batch."""
        self._log(trainer, "on_test_batch_end")


def _prefix_metric_keys(metrics: dict[str, float], prefix: str, separator: str) -> dict[str, float]:
    """Puts ``prefix`` before every name."""
    return {f"{prefix}{separator}{name}": value for name, value in metrics.items()}


def _has_psutil() -> bool:
    from importlib.util import find_spec

    return find_spec("psutil") is not None
