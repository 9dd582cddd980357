"""Lightning's path for `fulmen.precision.deepspeed`."""

from fulmen.precision.deepspeed import DeepSpeedPrecision

__all__ = ["DeepSpeedPrecision"]
