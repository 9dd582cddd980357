"""Lightning's path for `fulmen.precision.half`."""

from fulmen.precision.half import HalfPrecision

__all__ = ["HalfPrecision"]
