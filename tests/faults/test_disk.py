"""Disks that fill up, fail and forbid: the error names path and cause, and the older checkpoint stays whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fulmen.plugins.io.loading import load

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"
)

SAVE = """
import json, os, sys, torch
from fulmen.plugins.io import AsyncCheckpointIO, NativeCheckpointIO
state = {"state_dict": {"w": torch.full((2_000_000,), 2.0), "b": torch.full((3,), 2.0)}, "epoch": 2}
for path, kind, fault in json.loads(sys.argv[1]):
    io = AsyncCheckpointIO() if kind == "background" else NativeCheckpointIO()
    os.environ["FULMEN_FAULT"] = fault
    try:
        io.save_checkpoint(state, path)
        io.teardown()
    except OSError as error:
        print(json.dumps([type(error).__name__, error.errno, str(error)]))
    else:
        print(json.dumps(["no error", 0, ""]))
"""

LINK = """
import os, sys
from pathlib import Path
from fulmen.plugins.io.links import point
os.environ["FULMEN_FAULT"] = sys.argv[2]
folder = Path(sys.argv[1])
point(folder / "last.ckpt", folder / "new.ckpt")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("shim") / "disk.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", built, Path(__file__).with_name("disk.c"), "-ldl"],
        check=True,
        timeout=120,
    )
    return built


def child(code: str, *arguments: str | Path, shim: Path | None = None, **options: object) -> str:
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if shim is not None:
        environment["LD_PRELOAD"] = str(shim)
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def old(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "a.ckpt"
    torch.save({"state_dict": {"w": torch.ones(3)}, "epoch": 1}, path)
    return path


def is_old(path: Path) -> None:
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert load(path)["epoch"] == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


FAULTS = [
    (f"write:{errno.ENOSPC}", errno.ENOSPC),
    (f"write:{errno.ENOSPC}:5000000", errno.ENOSPC),
    (f"write:{errno.EIO}:7000000", errno.EIO),
    (f"write:{errno.EDQUOT}:1000", errno.EDQUOT),
    (f"fsync:{errno.EIO}", errno.EIO),
    (f"rename:{errno.EIO}", errno.EIO),
    (f"create:{errno.EROFS}", errno.EROFS),
    (f"create:{errno.EACCES}", errno.EACCES),
]


@pytest.mark.parametrize("kind", ["synchronous", "background"])
def test_failing_disk(tmp_path: Path, shim: Path, kind: str) -> None:
    paths = [old(tmp_path / f"{number}.fault") for number in range(len(FAULTS))]
    jobs = [(str(path), kind, fault) for path, (fault, _) in zip(paths, FAULTS, strict=True)]
    answers = child(SAVE, json.dumps(jobs), shim=shim).splitlines()
    for path, (fault, number), answer in zip(paths, FAULTS, answers, strict=True):
        name, code, message = json.loads(answer)
        assert code == number, (fault, answer)
        assert str(path) in message and os.strerror(number) in message
        assert name == {errno.EACCES: "PermissionError"}.get(number, "OSError")
        is_old(path)


def test_file_size_limit(tmp_path: Path) -> None:
    import resource

    path = old(tmp_path / "run")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # noqa: E731
    name, code, message = json.loads(child(SAVE, json.dumps([(str(path), "synchronous", "")]), preexec_fn=limit))
    assert code == errno.EFBIG and "a.ckpt" in message
    is_old(path)


def test_full_file_system(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True, timeout=30)
    if done.returncode != 0:
        pytest.skip("may not mount a file system here")
    try:
        path = old(mount / "run")
        _, code, message = json.loads(child(SAVE, json.dumps([(str(path), "synchronous", "")])))
        assert code == errno.ENOSPC and "a.ckpt" in message
        is_old(path)
    finally:
        subprocess.run(["umount", mount], check=True, timeout=30)


def test_names_where_there_are_no_links(tmp_path: Path, shim: Path) -> None:
    tmp_path = tmp_path / "x.fault"
    tmp_path.mkdir()
    for name, epoch in (("old.ckpt", 1), ("new.ckpt", 2)):
        torch.save({"epoch": epoch}, tmp_path / name)
    (tmp_path / "last.ckpt").symlink_to("old.ckpt")
    child(LINK, tmp_path, f"symlink:{errno.EPERM}", shim=shim)
    assert not (tmp_path / "last.ckpt").is_symlink()
    assert torch.load(tmp_path / "last.ckpt")["epoch"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "new.ckpt", "old.ckpt"]
    assert torch.load(tmp_path / "old.ckpt")["epoch"] == 1
