"""A name that stands for the newest file: a symbolic link, or a copy where there are none."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from uuid import uuid4

from fulmen.plugins.io.atomic import TEMPORARY_SUFFIX, replace_file, sync_folder


def point(link: Path, target: Path) -> None:
    """Makes a name stand for a file, in one step: whenever the machine stops, the name stands for the old one or for this.

    Args:
        link: the name; a link, file or folder of this name is replaced.
        target: an existing file or folder. The link is relative, so that the folder may be moved.

    Raises:
        OSError: the folder cannot be written to.
    """
    temporary = link.with_name(f".{link.name}.{uuid4().hex[:12]}{TEMPORARY_SUFFIX}")
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    try:
        temporary.symlink_to(os.path.relpath(target, link.parent))
    except (OSError, NotImplementedError):
        # FAT, some network file systems, Windows without the privilege
        _copy(link, target)
        return
    try:
        os.replace(temporary, link)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(link.parent)


def _copy(link: Path, target: Path) -> None:
    if target.is_dir():
        shutil.copytree(target, link)
        return
    with open(target, "rb") as source:
        replace_file(link, lambda file: shutil.copyfileobj(source, file, 8 << 20))
