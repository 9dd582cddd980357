"""Base of checkpoint IOs that add something to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulmen.plugins.io.checkpoint_io import CheckpointIO
from fulmen.plugins.io.native_io import NativeCheckpointIO


class _WrappingCheckpointIO(CheckpointIO):
    """Passes everything on to another checkpoint IO.

    Args:
        checkpoint_io: the other one. None: the trainer sets it, in the end a `NativeCheckpointIO`.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        self._checkpoint_io = checkpoint_io

    @property
    def checkpoint_io(self) -> CheckpointIO:
        """The checkpoint IO that does the work."""
        if self._checkpoint_io is None:
            self._checkpoint_io = NativeCheckpointIO()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, checkpoint_io: CheckpointIO) -> None:
        self._checkpoint_io = checkpoint_io

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Writes a checkpoint, with the arguments of the wrapped one."""
        self.checkpoint_io.save_checkpoint(*args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint, with the arguments of the wrapped one."""
        return self.checkpoint_io.load_checkpoint(*args, **kwargs)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint."""
        self.checkpoint_io.remove_checkpoint(path)

    def teardown(self) -> None:
        """Ends the wrapped one."""
        self.checkpoint_io.teardown()
