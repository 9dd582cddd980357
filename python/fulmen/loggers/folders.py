"""The few file operations that loggers need: with the standard library on local folders, elsewhere through fsspec."""

from __future__ import annotations

import os
from typing import IO

from fulmen.utilities.files import get_filesystem, is_dir, is_remote


def next_version(folder: str) -> int:
    """One more than the highest N among the folders ``version_N`` in ``folder``; 0 without any."""
    taken = [-1]
    for name in _subfolders(folder):
        prefix, _, number = name.partition("_")
        # `version_3_old` counts as 3
        number = number.partition("_")[0]
        if prefix == "version" and number.isdigit():
            taken.append(int(number))
    return max(taken) + 1


def make_folder(folder: str) -> None:
    """Make a folder and its parents where missing."""
    if is_remote(folder):
        get_filesystem(folder).makedirs(folder, exist_ok=True)
    elif folder:
        os.makedirs(_local(folder), exist_ok=True)


def is_folder(folder: str) -> bool:
    """Whether a folder exists; folders of object stores always do."""
    return is_dir(get_filesystem(folder), folder) if is_remote(folder) else os.path.isdir(_local(folder))


def is_file(path: str) -> bool:
    """Whether a file exists."""
    return bool(get_filesystem(path).isfile(path)) if is_remote(path) else os.path.isfile(_local(path))


def is_empty(folder: str) -> bool:
    """Whether a folder is missing or has nothing in it."""
    if is_remote(folder):
        filesystem = get_filesystem(folder)
        return not (filesystem.exists(folder) and filesystem.listdir(folder))
    folder = _local(folder)
    return not (os.path.exists(folder) and os.listdir(folder))


def remove_file(path: str) -> None:
    """Remove a file."""
    if is_remote(path):
        get_filesystem(path).rm_file(path)
    else:
        os.remove(_local(path))


def open_text(path: str, mode: str) -> IO[str]:
    """Open a text file without translation of line ends.

    Args:
        path: where.
        mode: ``"r"``, ``"w"`` or ``"a"``.
    """
    if is_remote(path):
        opened: IO[str] = get_filesystem(path).open(path, mode, newline="")
        return opened
    return open(_local(path), mode, newline="", encoding="utf-8")


def replace_file(temporary: str, path: str) -> None:
    """Give a finished local file its final name, in one step."""
    os.replace(_local(temporary), _local(path))


def _local(path: str) -> str:
    return path.removeprefix("file://").removeprefix("local://")


def _subfolders(folder: str) -> list[str]:
    if is_remote(folder):
        filesystem = get_filesystem(folder)
        if not is_dir(filesystem, folder, strict=True):
            return []
        names = [entry["name"].rstrip("/") for entry in filesystem.listdir(folder)]
        return [os.path.basename(name) for name in names if is_dir(filesystem, name)]
    try:
        with os.scandir(_local(folder)) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
