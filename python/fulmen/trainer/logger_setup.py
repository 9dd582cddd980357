"""Which loggers a trainer has."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fulmen import errors
from fulmen.loggers.csv_logs import CSVLogger
from fulmen.loggers.logger import DummyLogger, Logger
from fulmen.loggers.tensorboard import TensorBoardLogger

if TYPE_CHECKING:
    from fulmen.trainer.config import Config
    from fulmen.trainer.trainer import Trainer


def build_loggers(trainer: Trainer, config: Config) -> list[Logger]:
    """The loggers that ``Trainer(logger=...)`` stands for; a dry run gets one that forgets everything."""
    given = config.logger
    if config.barebones or given is False:
        return []
    if given is None or given is True:
        if config.fast_dev_run:
            return [DummyLogger()]
        if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
            return [TensorBoardLogger(save_dir=trainer.default_root_dir)]
        return [CSVLogger(save_dir=trainer.default_root_dir)]
    loggers = list(given) if isinstance(given, Iterable) and not isinstance(given, Logger) else [given]
    for logger in loggers:
        if not hasattr(logger, "log_metrics"):
            raise errors.type_error("Trainer(logger)", "a Logger, several, True or False", logger, "Subclass `Logger`")
    return [DummyLogger()] if loggers and config.fast_dev_run else loggers
