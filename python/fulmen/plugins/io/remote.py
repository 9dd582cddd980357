"""Checkpoints behind URLs: brought to a temporary local file, which is then checked and read like any other.

The download's checksums are compared, so that a transfer that broke off is noticed. The temporary file is as large as the
checkpoint, and gone when this module's functions return: tensors keep looking at it through their map.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fulmen import errors
from fulmen.plugins.io import loading
from fulmen.utilities.exceptions import DamagedCheckpoint
from fulmen.utilities.files import get_filesystem


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A local copy of a file, for as long as the block lasts.

    Args:
        url: what fsspec understands: ``https://…``, ``s3://…``, ``memory://…``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    filesystem = get_filesystem(url)
    with tempfile.TemporaryDirectory(prefix="fulmen-") as folder:
        local = Path(folder, url.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "checkpoint")
        try:
            filesystem.get_file(url, os.fspath(local))
        except FileNotFoundError as error:
            raise errors.file_not_found(
                "ckpt_path", url, "Checkpoint file not found: look for the right name"
            ) from error
        yield local


def load(url: str, map_location: Any = None, weights_only: bool | None = None, verify: bool = True) -> Any:
    """Reads a checkpoint behind a URL.

    Args:
        url: where it is.
        map_location: where tensors go, as for `torch.load`.
        weights_only: False: any pickled object; True and None: tensors and plain data only.
        verify: compare all checksums first.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpoint: truncated, altered, or no checkpoint.
        pickle.UnpicklingError: it names classes that `weights_only` forbids; nothing was called.
    """
    with fetched(url) as local:
        # a file that is mapped cannot be deleted on Windows
        mapped = os.name != "nt"
        return loading.load(local, map_location, weights_only, verify=verify, map_file=mapped, called=url)


def newest_that_loads(folder: str) -> str | None:
    """The newest checkpoint below a URL whose checksums are right.

    Args:
        folder: where to look, not below.
    """
    filesystem = get_filesystem(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(folder):
        return None
    protocol = folder.split("://", 1)[0]
    found = [
        f"{protocol}://{filesystem._strip_protocol(path).lstrip('/')}"
        for path in filesystem.ls(folder, detail=False)
        if str(path).endswith(".ckpt")
    ]
    for url in sorted(found, key=filesystem.modified, reverse=True):
        try:
            with fetched(url) as local:
                loading.check(local)
        except (DamagedCheckpoint, OSError):
            continue
        return url
    return None
