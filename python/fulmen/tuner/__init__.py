"""Finding a learning rate or a batch size: a trial that leaves nothing behind, and two searches on top of it."""

from fulmen.tuner.tuning import Tuner

__all__ = ["Tuner"]
