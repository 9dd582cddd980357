"""Lightning's logger names for fulmen's loggers.

``logging.getLogger("lightning.pytorch").setLevel(...)`` is how scripts and packages make Lightning quiet. While the
alias is active, these names give fulmen's own logger objects, so that levels, handlers and filters take effect.
"""

from __future__ import annotations

import logging
from typing import Final

_SPEAKERS: Final = ("", ".utilities.rank_zero", ".callbacks.model_summary", ".trainer.trainer", ".utilities.seed")
NAMES: Final = {
    f"{root}{part}": f"fulmen{part}"
    for root in ("lightning", "lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric")
    for part in _SPEAKERS
}

_before: dict[str, object] = {}


def install() -> None:
    """Enters fulmen's loggers under Lightning's names too."""
    registry = logging.Logger.manager.loggerDict
    for alias, name in NAMES.items():
        logger = logging.getLogger(name)
        present = registry.get(alias)
        if isinstance(present, logging.Logger) and present is not logger:
            _take_over(present, logger)
        _before[alias] = present
        registry[alias] = logger


def uninstall() -> None:
    """Takes the names away again."""
    registry = logging.Logger.manager.loggerDict
    for alias, present in _before.items():
        registry.pop(alias, None)
        if present is not None:
            registry[alias] = present  # type: ignore[assignment]  # placeholders are entries too
    _before.clear()


def _take_over(present: logging.Logger, logger: logging.Logger) -> None:
    """Keeps what was set under a Lightning name before the alias came."""
    if present.level != logging.NOTSET:
        logger.setLevel(present.level)
    for filter_ in present.filters:
        logger.addFilter(filter_)
    for handler in present.handlers:
        logger.addHandler(handler)
