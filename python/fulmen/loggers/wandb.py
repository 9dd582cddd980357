"""Log to Weights & Biases."""

from __future__ import annotations

from typing import Any, Literal

from fulmen import errors
from fulmen.loggers.logger import Logger
from fulmen.utilities.types import _PATH


class WandbLogger(Logger):
    """Log to Weights & Biases; not available yet.

    Raises:
        NotYet: always.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: _PATH = ".",
        version: str | None = None,
        offline: bool = False,
        dir: _PATH | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        **kwargs: Any,
    ) -> None:
        raise errors.NotYet("WandbLogger", "Use CSVLogger or TensorBoardLogger, or subclass `fulmen.loggers.Logger`")

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
