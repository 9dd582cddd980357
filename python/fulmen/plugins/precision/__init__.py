"""Lightning's path for `fulmen.precision`."""

from fulmen.precision import (
    BitsandbytesPrecision, DeepSpeedPrecision, DoublePrecision, FSDPPrecision, HalfPrecision, MixedPrecision, Precision,
    TransformerEnginePrecision,
)  # fmt: skip
from fulmen.precision import __all__ as __all__
