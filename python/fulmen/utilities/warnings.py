"""Warnings that may be false alarms, and how to switch them off."""

from __future__ import annotations

import re
import warnings

from fulmen.utilities import rank_zero

__all__ = ["PossibleUserWarning", "disable_possible_user_warnings"]


class PossibleUserWarning(UserWarning):
    """A hint that fits most users who see it, but not all."""


def disable_possible_user_warnings(module: str = "") -> None:
    """Switch off all warnings of category `PossibleUserWarning`.

    Args:
        module: regular expression for the beginning of the module of fulmen that gives them
            (``"fulmen.strategies"``; ``"lightning.pytorch.strategies"`` means the same), or of the module whose line
            they are attributed to. Empty: all of them.
    """
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)
    if module:
        pattern = re.sub(r"^(lightning\\?\.pytorch|pytorch_lightning|lightning)\b", "fulmen", module)
        rank_zero._muted.append((PossibleUserWarning, re.compile(pattern)))
