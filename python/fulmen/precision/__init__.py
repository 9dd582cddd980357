"""Precisions: in which floating point types weights live, forward runs and gradients are taken."""

from fulmen.precision.bitsandbytes import BitsandbytesPrecision
from fulmen.precision.deepspeed import DeepSpeedPrecision
from fulmen.precision.double import DoublePrecision
from fulmen.precision.fsdp import FSDPPrecision
from fulmen.precision.half import HalfPrecision
from fulmen.precision.mixed import MixedPrecision
from fulmen.precision.precision import Precision
from fulmen.precision.transformer_engine import TransformerEnginePrecision

__all__ = [
    "BitsandbytesPrecision", "DeepSpeedPrecision", "DoublePrecision", "FSDPPrecision", "HalfPrecision",
    "MixedPrecision", "Precision", "TransformerEnginePrecision",
]  # fmt: skip
