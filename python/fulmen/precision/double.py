"""64 bit floating point numbers throughout."""

from __future__ import annotations

import torch

from fulmen.precision.true_precision import TruePrecision


class DoublePrecision(TruePrecision):
    """Weights, inputs and computation in float64, complex numbers in complex128."""

    precision: str = "64-true"
    _desired_input_dtype = torch.float64
