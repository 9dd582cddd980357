"""Where a module or data module keeps what the tuner searches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fulmen.utilities.parsing import lightning_hasattr
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule


def find_attribute(module: LightningModule, *names: str) -> str | None:
    """The first of these names that module, data module or the hyperparameters of either have; None without any.

    One that the module has twice is set in both places, with a warning.
    """
    name = next((name for name in names if lightning_hasattr(module, name)), None)
    if name is not None and hasattr(module, name) and name in module.hparams:
        rank_zero_warn(
            f"Field `model.{name}` and `model.hparams.{name}` are mutually exclusive! Both are set to what is found; keep "
            "one of them."
        )
    return name
