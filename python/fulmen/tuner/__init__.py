"""Finding a learning rate or a batch size."""

from fulmen.tuner.tuning import Tuner

__all__ = ["Tuner"]
