"""Base of everything that reads and writes checkpoint files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any


class CheckpointIO(ABC):
    """How a checkpoint's dictionary becomes a file, and the file a dictionary again.

    Pass an own one as ``Trainer(plugins=[MyCheckpointIO()])``, or to a strategy.
    """

    @abstractmethod
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: the dictionary.
            path: final name of the file, or a URL.
            storage_options: what ``Trainer.save_checkpoint(storage_options=...)`` got.
        """

    @abstractmethod
    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint.

        Args:
            path: file or URL.
            map_location: where tensors go, as for `torch.load`.
            weights_only: True: tensors and plain data only; False: any pickled object; None: torch's default.
        """

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint, a file or a directory."""

    def teardown(self) -> None:
        """Called at the end of a run: finish what is still under way."""
