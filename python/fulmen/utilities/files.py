"""File systems: the local one with nothing but the standard library, all others through fsspec."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fulmen.utilities.types import _MAP_LOCATION_TYPE, _PATH

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)

# class and the package that brings it, for file systems without real directories
_OBJECT_STORAGE = (("adlfs", "AzureBlobFileSystem"), ("gcsfs", "GCSFileSystem"), ("s3fs", "S3FileSystem"))


def is_remote(path: _PATH) -> bool:
    """Whether a path has a protocol other than that of local files (``"s3://bucket/key"``)."""
    protocol, separator, _ = str(path).partition("://")
    if not separator:
        protocol, separator, _ = str(path).partition("::")  # fsspec's chained file systems
    return bool(separator) and protocol not in ("file", "local")


def get_filesystem(path: _PATH, **kwargs: Any) -> AbstractFileSystem:
    """The fsspec file system of a path.

    Args:
        path: local path or URL.
        kwargs: options of the file system, e.g. credentials.
    """
    from fsspec.core import url_to_fs

    filesystem: AbstractFileSystem = url_to_fs(str(path), **kwargs)[0]
    return filesystem


def is_local_filesystem(filesystem: object) -> bool:
    """Whether a file system is fsspec's local one."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def is_object_storage(filesystem: object) -> bool:
    """Whether a file system has no real directories (S3, GCS, Azure)."""
    # a file system object of a package exists only if the package has been imported
    classes = (getattr(sys.modules.get(package), name, None) for package, name in _OBJECT_STORAGE)
    return isinstance(filesystem, tuple(cls for cls in classes if isinstance(cls, type)))


def is_dir(filesystem: AbstractFileSystem, path: _PATH, strict: bool = False) -> bool:
    """Whether a path is a directory.

    Args:
        filesystem: where.
        path: the path.
        strict: False: on object storage every path that is no file counts, as directories appear there by themselves.
    """
    if is_object_storage(filesystem) and not strict:
        return not filesystem.isfile(str(path))
    return bool(filesystem.isdir(str(path)))


def load_file(path_or_url: Any, map_location: _MAP_LOCATION_TYPE = None, weights_only: bool | None = None) -> Any:
    """``torch.load`` from a local path, a URL or an open file.

    Args:
        path_or_url: path, URL or binary file object. ``http`` URLs are downloaded into torch's hub cache.
        map_location: as for ``torch.load``.
        weights_only: as for ``torch.load``; None is torch's default, but False for ``http``.
    """
    import torch

    location: Any = map_location
    if isinstance(path_or_url, str | Path):
        if str(path_or_url).startswith("http"):
            return torch.hub.load_state_dict_from_url(
                str(path_or_url), map_location=location, weights_only=bool(weights_only)
            )
        opened = get_filesystem(path_or_url).open(str(path_or_url)) if is_remote(path_or_url) else None
        with opened or open(str(path_or_url).removeprefix("file://"), "rb") as file:
            return torch.load(file, map_location=location, weights_only=weights_only)
    return torch.load(path_or_url, map_location=location, weights_only=weights_only)


def is_shared_filesystem(strategy: Any, path: _PATH | None = None, timeout: int = 3) -> bool:
    """Whether all processes see the same files under a path. Every rank has to call it.

    Args:
        strategy: the running strategy.
        path: existing path with write permission; None: the working directory.
        timeout: seconds to wait for a file written by rank 0 to appear on the other ranks.

    Returns:
        True on remote file systems, and with a single process.

    Raises:
        FileNotFoundError: the path does not exist on some rank.
    """
    if path is not None and is_remote(path):
        return True
    if getattr(strategy, "world_size", 1) == 1:
        return True
    folder = Path.cwd() if path is None else Path(str(path).removeprefix("file://")).resolve()
    if not strategy.reduce_boolean_decision(strategy.broadcast(folder) == folder, all=True):
        return False
    if not strategy.reduce_boolean_decision(folder.exists(), all=True):
        raise FileNotFoundError(
            f"path: expected a path that exists on every rank, to see whether its file system is shared, got {folder}."
        )
    folder = folder.parent if folder.is_file() else folder
    probe = folder / strategy.broadcast(f".fulmen-shared-{uuid4().hex}")
    if strategy.is_global_zero:
        probe.touch()
    strategy.barrier()
    deadline = time.monotonic() + timeout
    found = probe.exists()
    while not found and time.monotonic() < deadline:
        time.sleep(0.02)
        found = probe.exists()
    everywhere = bool(strategy.reduce_boolean_decision(found, all=True))
    if strategy.is_global_zero:
        with contextlib.suppress(OSError):
            probe.unlink()
    return everywhere
