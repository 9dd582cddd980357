"""Checkpoint IOs: how checkpoint files are written and read."""

from fulmen.plugins.io.async_io import AsyncCheckpointIO
from fulmen.plugins.io.checkpoint_io import CheckpointIO
from fulmen.plugins.io.native_io import NativeCheckpointIO
from fulmen.plugins.io.torch_io import TorchCheckpointIO

__all__ = ["AsyncCheckpointIO", "CheckpointIO", "NativeCheckpointIO", "TorchCheckpointIO"]
