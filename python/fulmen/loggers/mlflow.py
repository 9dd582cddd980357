"""Log to an MLflow tracking server."""

from __future__ import annotations

from typing import Any, Literal

from fulmen import errors
from fulmen.loggers.logger import Logger


class MLFlowLogger(Logger):
    """Log to an MLflow tracking server; not available yet.

    Raises:
        NotYet: always.
    """

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        raise errors.NotYet("MLFlowLogger", "Use CSVLogger or TensorBoardLogger, or subclass `fulmen.loggers.Logger`")

    @property
    def name(self) -> str | None:
        """Name of the experiment."""
        raise NotImplementedError

    @property
    def version(self) -> int | str | None:
        """Identity of the run."""
        raise NotImplementedError

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Record one row."""
        raise NotImplementedError

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Record hyperparameters."""
        raise NotImplementedError
