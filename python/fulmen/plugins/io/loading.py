"""Reading checkpoints with suspicion: every check before the first tensor is made, and no code from the file.

The core opens the archive and checks directory, headers and sums. Tensors are views of a private map of the file, or memory of
their own. What else the pickle names has to be in the table of what `torch.load(weights_only=True)` knows.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from fulmen._core import CheckpointFile
from fulmen.plugins.io.plain import safe_globals
from fulmen.utilities.exceptions import DamagedCheckpoint
from fulmen.utilities.older_names import stand_in
from fulmen.utilities.rank_zero import rank_zero_info

#: how files of torch before 1.6 begin: a pickled magic number
_LEGACY: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_ZIP: Final = b"PK\x03\x04"

#: what the elements of a storage are, by the name of its type; all others go by bytes
_DTYPES: Final = {
    "UntypedStorage": torch.uint8,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
}


def load(
    path: str | Path,
    map_location: Any = None,
    weights_only: bool | None = None,
    *,
    verify: bool = True,
    map_file: bool = True,
    called: str | None = None,
) -> Any:
    """Reads a local checkpoint.

    Args:
        path: the file.
        map_location: where tensors go, as for `torch.load`.
        weights_only: False: any pickled object; True and None: tensors and plain data only.
        verify: compare all checksums first; without it only those of the structure.
        map_file: tensors look at a private map of the file instead of memory of their own: what is never touched is never
            read, what is changed is copied. The file may be replaced meanwhile, but not truncated in place.
        called: what messages call the file, if it is the local copy of another one.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpoint: truncated, altered, or no checkpoint.
        pickle.UnpicklingError: the file names classes that `weights_only` forbids; nothing was called.
    """
    name = os.fspath(path)
    with open(name, "rb") as head:
        begins = head.read(len(_LEGACY))
    try:
        if not begins.startswith(_ZIP) and (begins == _LEGACY or _is_tar(name)):
            return _load_by_torch(name, map_location, weights_only, map_file=False)
        file = CheckpointFile(name)
        if verify:
            file.verify()
        names = [f"{module}.{attribute}" for module, attribute in file.globals()]
        if weights_only is False and not all(stand_in(full) for full in names if full not in safe_globals()):
            _say_classes(called or name, names)
            return _load_by_torch(name, map_location, False, map_file)
        if _needs_torch(file, map_location):
            return _load_by_torch(name, map_location, True, map_file)
        return Loader(file, called or name, map_file).load()
    except DamagedCheckpoint as error:
        raise damage_report(called or name, str(error), beside=called is None) from error


def _is_tar(name: str) -> bool:
    with open(name, "rb") as file:
        return file.read(262)[257:] == b"ustar"


def _load_by_torch(name: str, map_location: Any, weights_only: bool | None, map_file: bool) -> Any:
    """Files and places that the fast way does not know."""
    try:
        return torch.load(name, map_location=map_location, weights_only=weights_only, mmap=map_file or None)
    except pickle.UnpicklingError:
        raise
    except (EOFError, RuntimeError, ValueError) as error:
        if weights_only is False and not isinstance(error, EOFError):
            raise  # it may come from an object's own code
        raise DamagedCheckpoint(f"torch cannot read it ({error})") from error


def _needs_torch(file: CheckpointFile, map_location: Any) -> bool:
    if map_location is not None and not _means_cpu(map_location):
        return True
    if map_location is None and _has_device_tensors(file):
        return True
    order = file.contents("byteorder") if any(entry[0] == "byteorder" for entry in file.entries()) else b"little"
    return order.decode() != sys.byteorder


def _has_device_tensors(file: CheckpointFile) -> bool:
    content = file.contents("data.pkl")
    return any(word in content for word in (b"cuda", b"mps", b"xpu", b"hpu", b"xla", b"npu", b"privateuse"))


def _means_cpu(map_location: Any) -> bool:
    if isinstance(map_location, (str, torch.device)):
        return torch.device(map_location).type == "cpu"
    return map_location is keep_on_cpu


def keep_on_cpu(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
    """A ``map_location``: every tensor stays in main memory, where it was read to."""
    return storage


def _say_classes(name: str, names: list[str]) -> None:
    foreign = [full for full in names if full not in safe_globals()]
    if foreign:
        rank_zero_info(f"Loading {name} with weights_only=False: it builds {', '.join(foreign)}.")


class Loader:
    """Makes what a checked file describes; the core calls `find`, `storage` and `typed`."""

    def __init__(self, file: CheckpointFile, name: str, map_file: bool) -> None:
        self.file = file
        self.name = name
        self.safe = safe_globals()
        self.map_file = map_file
        self.whole: torch.UntypedStorage | None = None
        self.storages: dict[str, torch.UntypedStorage] = {}

    def load(self) -> Any:
        """Makes everything.

        Raises:
            pickle.UnpicklingError: the file names what is not allowed.
            DamagedCheckpoint: what it describes cannot be made.
        """
        refused = [self.full_name(m, n) for m, n in self.file.globals() if not self.allowed(m, n)]
        if refused:
            raise refusal(self.name, refused)
        try:
            return self.file.load(self)
        except (DamagedCheckpoint, pickle.UnpicklingError, MemoryError):
            raise
        except Exception as error:
            raise DamagedCheckpoint(f"its pickle describes what cannot be made ({error})") from error

    @staticmethod
    def full_name(module: str, name: str) -> str:
        """A name as the table of allowed ones spells it."""
        return f"{'builtins' if module == '__builtin__' else module}.{name}"

    def allowed(self, module: str, name: str) -> bool:
        """May a file name this?"""
        full = self.full_name(module, name)
        return full in self.safe or stand_in(full) is not None

    def find(self, module: str, name: str) -> Any:
        """The object of an allowed name."""
        full = self.full_name(module, name)
        return self.safe[full] if full in self.safe else stand_in(full)

    def new(self, cls: Any, *arguments: Any) -> Any:
        """An object of a class, without its constructor."""
        return cls.__new__(cls, *arguments)

    def storage(self, kind: str, key: str, location: str, numel: int) -> torch.UntypedStorage:
        """The bytes of an entry, as a view of the map or in memory of their own."""
        known = self.storages.get(key)
        if known is None:
            known = self.storages[key] = self._make(f"data/{key}", numel * _dtype(kind).itemsize)
        return known

    def typed(self, kind: str, key: str, location: str, numel: int) -> torch.storage.TypedStorage:
        """A storage as the argument of torch's own functions."""
        dtype = _dtype(kind)
        storage = self.storage(kind, key, location, numel)
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)

    def _make(self, entry: str, size: int) -> torch.UntypedStorage:
        start, there = self.file.entry(entry)
        if there < size:
            raise DamagedCheckpoint(f"{entry} has {there} bytes, and {size} are wanted")
        if size == 0:
            return torch.UntypedStorage(0)
        if self.map_file:
            if self.whole is None:
                self.whole = _map(self.file)
            view: torch.UntypedStorage = self.whole[start : start + size]
            return view
        storage: torch.UntypedStorage = torch.UntypedStorage(size)
        self.file.read_into(entry, storage.data_ptr(), size)
        return storage


def _dtype(kind: str) -> torch.dtype:
    found = _DTYPES.get(kind)
    if found is None:
        raise DamagedCheckpoint(f"it has a storage of an unknown type, {kind}")
    return found


def _map(file: CheckpointFile) -> torch.UntypedStorage:
    # copy-on-write: a tensor may be changed, the file never is
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage()


def refusal(name: str, classes: list[str]) -> pickle.UnpicklingError:
    """The error for a file that names what plain data does not need."""
    listed = ", ".join(sorted(set(classes)))
    return pickle.UnpicklingError(
        f"Weights only load failed: {name} holds {listed}, and loading with weights_only=True allows tensors and plain data "
        "only. Nothing of it was run. If you trust the file, pass weights_only=False (to fit, validate, test, predict or "
        f"load_from_checkpoint), or allow the classes by torch.serialization.add_safe_globals([{listed}])."
    )


def damage_report(name: str, why: str, beside: bool = True) -> DamagedCheckpoint:
    """The error for a file that cannot be loaded: what is wrong, and which one beside it can.

    Args:
        name: the file.
        why: what is wrong.
        beside: look for another one.
    """
    if not beside:
        return DamagedCheckpoint(f"{name} cannot be loaded: {why}. Load another checkpoint, or copy it once more.")
    found = newest_that_loads(Path(name).parent, Path(name))
    instead = (
        f"The newest checkpoint in its folder that loads is {found}."
        if found is not None
        else "No other checkpoint in its folder loads."
    )
    return DamagedCheckpoint(f"{name} cannot be loaded: {why}. {instead}")


def newest_that_loads(
    folder: Path, other_than: Path | None = None, try_file: Callable[[Path], None] | None = None
) -> Path | None:
    """The newest checkpoint of a folder whose checksums are right.

    Args:
        folder: where to look, not below.
        other_than: a file that is left out.
        try_file: raises for a file that does not load; default: `check`.
    """
    try_file = try_file or check
    try:
        files = [path for path in folder.iterdir() if path.suffix == ".ckpt" and path != other_than and path.is_file()]
    except OSError:
        return None
    for path in sorted(files, key=_modified, reverse=True):
        try:
            try_file(path)
        except (DamagedCheckpoint, OSError):
            continue
        return path
    return None


def check(path: Path) -> None:
    """Directory and all checksums of a file.

    Raises:
        DamagedCheckpoint: what is wrong.
    """
    CheckpointFile(os.fspath(path)).verify()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
