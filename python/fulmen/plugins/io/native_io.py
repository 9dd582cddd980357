"""The default checkpoint IO: torch's files, written and read by the core."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from fulmen import errors
from fulmen._core import CheckpointArchive, clean_checkpoint_folder, encode_checkpoint
from fulmen.plugins.io import loading, remote
from fulmen.plugins.io.background import Background, Moment
from fulmen.plugins.io.device import fetcher
from fulmen.plugins.io.plain import Judge, Objects, check_objects
from fulmen.plugins.io.torch_io import TorchCheckpointIO
from fulmen.utilities.files import get_filesystem, is_remote

#: ending of the file that holds a checkpoint's SHA-256, in the form that `sha256sum --check` reads
DIGEST_SUFFIX: Final = ".sha256"

#: a tool that replaces `torch.save`, to watch or to redirect it, is meant to see checkpoints too
_TORCH_SAVE: Final = torch.save

#: from this size of a state on a save of `ModelCheckpoint` goes on in the background; see docs/decisions/0008
BACKGROUND_FROM: Final = 32 << 20


class NativeCheckpointIO(TorchCheckpointIO):
    """Files that `torch.load` and Lightning read, complete and on the disk when their name appears.

    Args:
        objects: where a checkpoint may hold objects other than tensors and plain data: "hyperparameters" (with a warning),
            "never", "always". Elsewhere they are refused when saving, by name and type.
        verify: compare all checksums when loading (about 0.2 s per GB).
        mmap: load tensors as views of a private map of the file; False: read them into memory.
        digest: write ``NAME.ckpt.sha256`` beside every file.
        background_from: bytes of a state from which on `ModelCheckpoint`'s saves are written while training goes on; None:
            never. A save that somebody else asks for is always complete when the call returns.

    Raises:
        ValueError: an unknown value of `objects`.
    """

    def __init__(
        self,
        objects: Objects = "hyperparameters",
        verify: bool = True,
        mmap: bool = True,
        digest: bool = False,
        background_from: int | None = BACKGROUND_FROM,
    ) -> None:
        self.objects = check_objects(objects)
        self.verify = verify
        self.mmap = mmap
        self.digest = digest
        self.background_from = background_from
        self.background = Background()
        self._moment: Moment | None = None
        self._beside: dict[str, bytes] = {}
        self._cleaned: set[str] = set()

    # ---- writing -----------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint; missing folders are created.

        Locally the file appears under its name once its content is on the disk, in one step that also replaces an older
        file. A remote file becomes visible when fsspec has all of it. Within `during` the call may return before.

        Args:
            checkpoint: the dictionary.
            path: final name of the file, or a URL.
            storage_options: for a URL, options of its file system, such as credentials; else None.

        Raises:
            TypeError: an object that must not be saved, with its place and type; storage options for a local file.
            OSError: the disk refused: the path and the reason. An older file under the name is untouched.
        """
        if torch.save is not _TORCH_SAVE:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        archive = self._encode(checkpoint, path, storage_options)
        moment, limit = self._moment, self.background_from
        if moment is not None and (moment.always or (limit is not None and archive.nbytes >= limit)):
            self.background.save(archive, str(path), moment, lambda: self._write(archive, path, storage_options))
            return
        self.background.drain()
        self._write(archive, path, storage_options)

    @property
    def moment(self) -> Moment | None:
        """The moment within whose block this is, if it is within one."""
        return self._moment

    @contextmanager
    def during(self, moment: Moment) -> Iterator[None]:
        """Saves within this block may go on in the background.

        Args:
            moment: what may be copied later, and whom to tell.
        """
        before, self._moment = self._moment, moment
        try:
            yield
        finally:
            self._moment = before

    @contextmanager
    def beside(self, records: dict[str, bytes]) -> Iterator[None]:
        """Files saved within this block keep more than the checkpoint: entries of the archive that `torch.load` overlooks.

        Args:
            records: content by name.
        """
        before, self._beside = self._beside, records
        try:
            yield
        finally:
            self._beside = before

    def keeps_beside(self, path: str | Path) -> bool:
        """Can a file of this name keep something `beside` the checkpoint?"""
        return torch.save is _TORCH_SAVE and not is_remote(path)

    def _encode(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any) -> CheckpointArchive:
        if storage_options is not None and not is_remote(path):
            raise errors.type_error(
                "Trainer.save_checkpoint(..., storage_options=...)",
                "None for a local file: storage options are not supported there by `NativeCheckpointIO`",
                storage_options,
                "Pass a URL, or write a `CheckpointIO` of your own that uses them (Trainer(plugins=[...]))",
            )
        judge = Judge(self.objects)
        archive = encode_checkpoint(checkpoint, judge)
        judge.warn()
        for name, content in self._beside.items():
            archive.keep_beside(name, content)
        return archive

    def _write(self, archive: CheckpointArchive, path: str | Path, storage_options: Any) -> None:
        fetch = fetcher(archive)
        if is_remote(path):
            _upload(archive, str(path), fetch, storage_options or {})
            return
        target = str(path).removeprefix("file://")
        folder = os.path.dirname(os.path.abspath(target))
        if folder not in self._cleaned:
            self._cleaned.add(folder)
            clean_checkpoint_folder(folder)
        archive.write(target, fetch)
        if self.digest:
            write_digest(target)

    # ---- reading and deleting ----------------------------------------------------------------------------------------

    def load_checkpoint(
        self, path: str | Path, map_location: Any = loading.keep_on_cpu, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint; one that is still being written is waited for.

        Args:
            path: file or URL.
            map_location: where tensors go, as for `torch.load`; by default to the CPU.
            weights_only: False: any pickled object; True and None: tensors and plain data only.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedCheckpoint: truncated, altered or foreign; says what is wrong, and which file beside it loads.
            pickle.UnpicklingError: the file holds objects that `weights_only` forbids; names them.
        """
        self.background.drain()
        if is_remote(path):
            distant: dict[str, Any] = remote.load(str(path), map_location, weights_only, self.verify)
            return distant
        name = str(path).removeprefix("file://")
        if not os.path.exists(name):
            raise errors.file_not_found("ckpt_path", path, "Checkpoint file not found: look for the right name")
        loaded = loading.load(name, map_location, weights_only, verify=self.verify, map_file=self.mmap)
        return loaded if isinstance(loaded, dict) else {"state_dict": loaded}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a file or a directory, and its digest; a name that is not there is left alone."""
        super().remove_checkpoint(path)
        if not is_remote(path):
            Path(f"{str(path).removeprefix('file://')}{DIGEST_SUFFIX}").unlink(missing_ok=True)

    def teardown(self) -> None:
        """Waits for the file that is being written.

        Raises:
            Exception: what went wrong with it.
        """
        self.background.close()

    def __getstate__(self) -> dict[str, Any]:
        # threads and buffers do not travel; what is being written is finished first
        self.background.drain()
        return {**vars(self), "background": None, "_moment": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.background = Background()


def _upload(archive: CheckpointArchive, url: str, fetch: Any, options: dict[str, Any]) -> None:
    """Streams to fsspec: in bounded memory, and visible when complete."""
    filesystem = get_filesystem(url, **options)
    filesystem.makedirs(os.path.dirname(url), exist_ok=True)
    with filesystem.transaction, filesystem.open(url, "wb") as file:
        archive.write_to(file.write, fetch)


def write_digest(path: str) -> None:
    """Writes the SHA-256 of a file beside it."""
    from fulmen.plugins.io.atomic import replace_file

    line = f"{file_digest(path)}  {os.path.basename(path)}\n"
    replace_file(Path(f"{path}{DIGEST_SUFFIX}"), lambda file: file.write(line.encode()))


def file_digest(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(8 << 20):
            digest.update(piece)
    return digest.hexdigest()
