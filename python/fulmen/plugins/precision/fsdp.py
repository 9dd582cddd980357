"""Lightning's path for `fulmen.precision.fsdp`."""

from fulmen.precision.fsdp import FSDPPrecision

__all__ = ["FSDPPrecision"]
