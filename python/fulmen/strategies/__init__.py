"""Strategies: where the module runs."""

from fulmen.strategies.single_device import SingleDeviceStrategy
from fulmen.strategies.strategy import Strategy

__all__ = ["SingleDeviceStrategy", "Strategy"]
