"""Checkpoints as torch's own files, complete under their final name or not there at all."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from fulmen import errors
from fulmen.plugins.io.atomic import replace_file
from fulmen.plugins.io.checkpoint_io import CheckpointIO
from fulmen.utilities.files import get_filesystem, is_remote, load_file

_BLOCKED = re.compile(r"GLOBAL ([\w.]+)")


def _keep_on_cpu(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
    return storage


class TorchCheckpointIO(CheckpointIO):
    """`torch.save` and `torch.load`, on local paths and on URLs that fsspec understands."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint; missing folders are created.

        Locally the file appears under its name once its content is on the disk, in one step that also replaces an
        older file. A remote file is handed to fsspec in one piece.

        Args:
            checkpoint: the dictionary.
            path: final name of the file, or a URL.
            storage_options: must be None.

        Raises:
            TypeError: storage options were given.
        """
        if storage_options is not None:
            raise errors.type_error(
                "Trainer.save_checkpoint(..., storage_options=...)",
                "None: storage options are not supported for `TorchCheckpointIO`",
                storage_options,
                "Write a `CheckpointIO` of your own that uses them, and pass it in Trainer(plugins=[...])",
            )
        if is_remote(path):
            _save_remote(checkpoint, str(path))
            return
        target = Path(str(path).removeprefix("file://"))
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, lambda file: _save_into(file, checkpoint))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[[torch.UntypedStorage, str], torch.UntypedStorage | None] | None = _keep_on_cpu,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint.

        Args:
            path: file or URL.
            map_location: where tensors go, as for `torch.load`; by default to the CPU.
            weights_only: True: tensors and plain data only; False: any pickled object; None: torch's default.

        Raises:
            FileNotFoundError: there is no such file.
            pickle.UnpicklingError: the file holds objects that `weights_only` forbids.
        """
        if is_remote(path):
            there = str(path).startswith("http") or get_filesystem(path).exists(str(path))
        else:
            there = os.path.exists(str(path).removeprefix("file://"))
        if not there:
            raise errors.file_not_found("ckpt_path", path, "Checkpoint file not found: look for the right name")
        try:
            content: dict[str, Any] = load_file(path, map_location=map_location, weights_only=weights_only)
        except pickle.UnpicklingError as error:
            raise _explained(error, path) from error
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a file or a directory; a name that is not there is left alone."""
        if is_remote(path):
            filesystem = get_filesystem(path)
            if filesystem.exists(str(path)):
                filesystem.rm(str(path), recursive=True)
            return
        target = Path(str(path).removeprefix("file://"))
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


class _Remembering:
    """A file that keeps the error of a write: torch's writer goes on, and fails later with one that says nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save_into(file: IO[bytes], checkpoint: dict[str, Any]) -> None:
    remembering = _Remembering(file)
    try:
        torch.save(checkpoint, remembering)  # type: ignore[arg-type]  # a file as far as torch asks
    except RuntimeError as error:
        if remembering.error is not None:
            raise remembering.error from error
        raise


def _save_remote(checkpoint: dict[str, Any], url: str) -> None:
    import io

    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    filesystem = get_filesystem(url)
    filesystem.makedirs(os.path.dirname(url), exist_ok=True)
    # within a transaction the file becomes visible when it is complete
    with filesystem.transaction, filesystem.open(url, "wb") as file:
        file.write(buffer.getbuffer())


def _explained(error: pickle.UnpicklingError, path: str | Path) -> pickle.UnpicklingError:
    """torch's message, with what to do about it in our own arguments first."""
    found = _BLOCKED.search(str(error))
    name = found.group(1) if found else "an object"
    return pickle.UnpicklingError(
        f"{path} holds {name}, and loading with weights_only=True allows tensors and plain data only."
        " If you trust the file, pass weights_only=False (to fit, validate, test, predict or load_from_checkpoint), or"
        f" allow the class by torch.serialization.add_safe_globals([...]). torch's message: {error}"
    )
