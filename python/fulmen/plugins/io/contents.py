"""A checkpoint's contents as something to look at: objects of unknown classes are described, never made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fulmen._core import CheckpointFile
from fulmen.plugins.io.loading import Loader, damage_report
from fulmen.utilities.exceptions import DamagedCheckpoint


class Opaque:
    """Stands for a class or function that is not plain data, and for what a file makes with it."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.appended: list[Any] = []

    def __call__(self, *arguments: Any) -> Opaque:
        """What a call would have made."""
        return Opaque(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """As a list would."""
        self.appended.append(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def parts(self) -> dict[str, Any]:
        """What it was made from."""
        found: dict[str, Any] = {}
        if self.arguments:
            found["arguments"] = self.arguments
        if self.state is not None:
            found["state"] = self.state
        return found | self.items | dict(enumerate(self.appended))


class _Viewer(Loader):
    def allowed(self, module: str, name: str) -> bool:
        return True

    def find(self, module: str, name: str) -> Any:
        full = self.full_name(module, name)
        return self.safe.get(full) or Opaque(full)

    def new(self, cls: Any, *arguments: Any) -> Any:
        return cls(*arguments) if isinstance(cls, Opaque) else cls.__new__(cls, *arguments)


def read(path: str | Path) -> Any:
    """A file's contents, with `Opaque` for objects; checksums compared first.

    Raises:
        DamagedCheckpoint: what is wrong.
    """
    name = os.fspath(path)
    try:
        file = CheckpointFile(name)
        file.verify()
        return _Viewer(file, name, map_file=True).load()
    except DamagedCheckpoint as error:
        raise damage_report(name, str(error)) from error


def storage_bytes(content: Any) -> int:
    """Bytes of all storages, each counted once."""
    sizes: dict[int, int] = {}
    for _, value in flatten(content):
        if isinstance(value, Tensor) and not value.is_sparse and not value.is_meta:
            storage = value.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _children(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return dict(enumerate(value))
    return value.parts() if isinstance(value, Opaque) else None


def _is_short(value: Any) -> bool:
    """Is it a container that is read best on one line?"""
    children = _children(value)
    return (
        not isinstance(value, (dict, Opaque))
        and children is not None
        and len(children) <= 8
        and all(isinstance(v, (int, float, str, bool, type(None))) for v in children.values())
    )


def describe(value: Any, depth: int, key: Any = "checkpoint", level: int = 0) -> Iterator[tuple[int, Any, str]]:
    """Lines of a key tree: level, key, and what is there.

    Args:
        value: the contents.
        depth: levels to go down.
        key: the outermost key.
        level: the outermost level.
    """
    yield level, key, show(value)
    children = _children(value)
    if children and level < depth and not _is_short(value) and level < 60:
        for name, child in children.items():
            yield from describe(child, depth, name, level + 1)


def show(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Tensor):
        text = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        if not value.is_sparse and not value.is_meta and not value.is_contiguous():
            text += f" stride {list(value.stride())}"
        if value.numel() == 1 and not value.is_meta:
            text += f" = {value.item()}"
        return text
    if isinstance(value, Opaque):
        return f"object of {value.name}"
    children = _children(value)
    if children is None or _is_short(value):
        text = repr(value)
        return text if len(text) <= 100 else f"{text[:99]}…"
    return f"{type(value).__name__} of {len(children)}"


def flatten(value: Any, path: str = "", seen: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Paths (``optimizer_states.0.state.1.exp_avg``) and what lies at their ends."""
    children = _children(value)
    if not children or id(value) in seen or len(seen) > 100:
        yield path, value
        return
    for key, child in children.items():
        yield from flatten(child, f"{path}.{key}" if path else str(key), (*seen, id(value)))


def difference(left: Any, right: Any) -> str | None:
    """How two values differ, in words; None if they do not."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return f"{show(left)} → {show(right)}"
        if left.is_meta or _same_bits(left, right):
            return None
        if left.is_complex() or left.dtype.is_floating_point or left.dtype in (torch.int64, torch.int32, torch.int16):
            distance = (left.to(torch.complex128) - right.to(torch.complex128)).abs().nan_to_num(float("inf"))
            return f"{show(left)}: {int((left != right).sum())} values differ, by {distance.max().item():.6g} at most"
        return f"{show(left)}: values differ"
    if type(left) is not type(right) or left != right:
        return f"{show(left)} → {show(right)}"
    return None


def _same_bits(left: Tensor, right: Tensor) -> bool:
    if left.is_sparse or right.is_sparse or left.is_quantized:
        return torch.equal(left, right)
    left, right = (t.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8) for t in (left, right))
    return torch.equal(left, right)
