"""Lightning's path for `fulmen.precision.double`."""

from fulmen.precision.double import DoublePrecision

__all__ = ["DoublePrecision"]
