"""Writing a file so that its final name never stands for half of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

#: how the temporary files end; whatever bears it after a crash may be deleted
TEMPORARY_SUFFIX: Final = ".fulmen-part"


def replace_file(target: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under a temporary name beside its final one, and renames it when it is on the disk.

    Whenever the machine stops, ``target`` is the complete old file, the complete new one, or (if there was none) absent.

    Args:
        target: the final name, in an existing folder. An existing file, or link, of this name is replaced.
        write: gets the open temporary file.

    Raises:
        OSError: the disk is full, the folder cannot be written to, … The old file is then untouched.
    """
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:12]}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, os.fspath(temporary)):
            # a write's error names no file, the others the temporary one
            raise OSError(error.errno, error.strerror, os.fspath(target)) from error
        raise
    sync_folder(target.parent)


def write_text(target: Path, text: str) -> None:
    """Writes a text file, as `replace_file` does, into a folder that is made if it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, lambda file: file.write(text.encode()))


def sync_folder(folder: Path) -> None:
    """Makes a rename durable; on Windows, and on file systems that know no such thing, there is nothing to do."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
