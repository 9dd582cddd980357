"""Lightning's path for `fulmen.precision.bitsandbytes`."""

from fulmen.precision.bitsandbytes import BitsandbytesPrecision

__all__ = ["BitsandbytesPrecision"]
