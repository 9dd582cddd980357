"""Lightning's path for `fulmen.precision.precision`."""

from fulmen.precision.precision import Precision

__all__ = ["Precision"]
