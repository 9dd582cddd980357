"""Lightning's path for `fulmen.precision.mixed`."""

from fulmen.precision.mixed import MixedPrecision

__all__ = ["MixedPrecision"]
