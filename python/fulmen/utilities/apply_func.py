"""Lightning's name for the walk through collections and the move to a device."""

from __future__ import annotations

from fulmen.utilities.move_data import move_data_to_device
from fulmen.utilities.nested import apply_to_collection

__all__ = ["apply_to_collection", "move_data_to_device"]
