"""Base of checkpoint callbacks."""

from fulmen.callbacks.callback import Callback


class Checkpoint(Callback):
    """Base of the callbacks that write checkpoints: they run last."""
