"""PyTorch Lightning's API over a Rust core: ``import fulmen as L``.

Names are loaded when they are first used, so that importing the package costs next to nothing over importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fulmen._core import __version__

if TYPE_CHECKING:
    from fulmen.callbacks.callback import Callback
    from fulmen.core.datamodule import LightningDataModule
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer
    from fulmen.utilities.seed import seed_everything

__all__ = ["Callback", "LightningDataModule", "LightningModule", "Trainer", "__version__", "seed_everything"]

_HOME = {
    "Callback": "fulmen.callbacks.callback",
    "LightningDataModule": "fulmen.core.datamodule",
    "LightningModule": "fulmen.core.module",
    "Trainer": "fulmen.trainer.trainer",
    "seed_everything": "fulmen.utilities.seed",
}
_PACKAGES = frozenset(
    [
        *("accelerators", "callbacks", "cli", "compat", "core", "demos", "errors", "loggers", "plugins", "precision"),
        *("profilers", "strategies", "trainer", "tuner", "utilities"),
    ]
)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    if name in _PACKAGES:
        return import_module(f"fulmen.{name}")
    raise AttributeError(f"module 'fulmen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES})
