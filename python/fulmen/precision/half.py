"""16 bit floating point numbers throughout, weights included."""

from __future__ import annotations

from typing import Literal

import torch

from fulmen.precision.true_precision import TruePrecision


class HalfPrecision(TruePrecision):
    """Weights, inputs and computation in 16 bit: half the memory, no loss scaling.

    Args:
        precision: ``"16-true"`` (float16) or ``"bf16-true"`` (bfloat16).
    """

    precision: str = "16-true"

    def __init__(self, precision: Literal["bf16-true", "16-true"] = "16-true") -> None:
        self.precision = precision
        self._desired_input_dtype = torch.bfloat16 if precision == "bf16-true" else torch.float16
