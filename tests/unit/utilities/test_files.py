"""Paths, file systems, and whether all ranks share one."""

from __future__ import annotations

import subprocess
import sys

import fsspec
import pytest
import torch

from fulmen.utilities import files


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("a/b", False),
        ("/a", False),
        ("file:///a", False),
        ("local://a", False),
        ("C:\\a", False),
        ("s3://b/k", True),
        ("memory://x", True),
        ("simplecache::s3://b", True),
        ("http://x", True),
    ],
)
def test_is_remote(path, remote):
    assert files.is_remote(path) is remote


def test_fsspec_is_not_imported_for_nothing():
    code = "import sys, fulmen.utilities.files as f; f.is_remote('s3://x'); sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_get_filesystem(tmp_path):
    assert files.is_local_filesystem(files.get_filesystem(tmp_path))
    memory = files.get_filesystem("memory://a")
    assert isinstance(memory, fsspec.get_filesystem_class("memory"))
    assert not files.is_local_filesystem(memory)
    assert files.is_dir(files.get_filesystem(tmp_path), tmp_path)
    assert not files.is_dir(files.get_filesystem(tmp_path), tmp_path / "no")


def test_object_storage_has_directories_everywhere(monkeypatch):
    import types

    class S3FileSystem:
        def isfile(self, path):
            return path == "file"

        def isdir(self, path):
            return path == "folder"

    monkeypatch.setitem(sys.modules, "s3fs", types.SimpleNamespace(S3FileSystem=S3FileSystem))
    fs = S3FileSystem()
    assert files.is_object_storage(fs)
    assert [files.is_dir(fs, p) for p in ("file", "folder", "nothing")] == [False, True, True]
    assert not files.is_dir(fs, "nothing", strict=True)


def test_load_file(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "f")
    with fsspec.open("memory://f", "wb") as remote:
        remote.write((tmp_path / "f").read_bytes())
    for path in (tmp_path / "f", str(tmp_path / "f"), f"file://{tmp_path}/f", "memory://f"):
        assert torch.equal(files.load_file(path)["a"], torch.ones(2))
    with open(tmp_path / "f", "rb") as file:
        assert files.load_file(file, map_location="meta")["a"].device.type == "meta"


class Ranks:
    """A strategy with two ranks; what the other one says is decided here."""

    world_size = 2
    is_global_zero = True

    def __init__(self, same_path=True, sees=True):
        self.same_path, self.sees, self.asked = same_path, sees, 0

    def broadcast(self, value):
        return value if self.same_path or isinstance(value, str) else "/elsewhere"

    def barrier(self):
        pass

    def reduce_boolean_decision(self, decision, all):
        self.asked += 1
        return decision and (self.sees or self.asked < 3)


def test_is_shared_filesystem(tmp_path):
    assert files.is_shared_filesystem(Ranks(), "s3://x")
    assert files.is_shared_filesystem(object(), tmp_path / "missing")
    assert files.is_shared_filesystem(Ranks(), tmp_path)
    assert not files.is_shared_filesystem(Ranks(same_path=False), tmp_path)
    assert not files.is_shared_filesystem(Ranks(sees=False), tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        files.is_shared_filesystem(Ranks(), tmp_path / "missing")
    assert not list(tmp_path.iterdir())
