"""The version of Lightning whose API fulmen offers."""

from typing import Final

LIGHTNING_VERSION: Final = "2.6.6"
"""Given as ``__version__`` by ``lightning``, ``lightning.pytorch`` and ``pytorch_lightning`` while the alias is active,
and written into checkpoints: packages compare it with Lightning's numbers. ``fulmen.__version__`` is fulmen's own."""
