"""The precision of the DeepSpeed engine: the name and its arguments, not yet the thing."""

from __future__ import annotations

from typing import Literal

from fulmen.errors import NotYet
from fulmen.precision.precision import Precision


class DeepSpeedPrecision(Precision):
    """Precision that a DeepSpeed engine takes care of.

    Args:
        precision: name of the precision.

    Raises:
        NotYet: always.
    """

    def __init__(self, precision: Literal["32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]) -> None:
        raise NotYet("DeepSpeedPrecision", "Use the same precision with one device: Trainer(precision=...)")
