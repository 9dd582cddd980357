"""Log to Comet."""

from __future__ import annotations

from typing import Any, Literal

from fulmen import errors
from fulmen.loggers.logger import Logger


class CometLogger(Logger):
    """Log to Comet; not available yet.

    Raises:
        NotYet: always.
    """

    def __init__(
        self,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        raise errors.NotYet("CometLogger", "Use CSVLogger or TensorBoardLogger, or subclass `fulmen.loggers.Logger`")

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
