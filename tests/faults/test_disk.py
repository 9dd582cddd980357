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
from fulmen.plugins.io import AsyncCheckpointIO, NativeCheckpointIO, TorchCheckpointIO
makers = {
    "background": AsyncCheckpointIO, "synchronous": NativeCheckpointIO, "torch": TorchCheckpointIO,
    "torch in the background": lambda: AsyncCheckpointIO(TorchCheckpointIO()),
}
state = {"state_dict": {"w": torch.full((2_000_000,), 2.0), "b": torch.full((3,), 2.0)}, "epoch": 2}
for path, kind, fault in json.loads(sys.argv[1]):
    io = makers[kind]()
    os.environ["FULMEN_FAULT"] = fault
    try:
        io.save_checkpoint(state, path)
        io.teardown()
    except OSError as error:
        print(json.dumps([type(error).__name__, error.errno, str(error)]))
    else:
        print(json.dumps(["no error", 0, ""]))
"""

RUN = """
import json, os, sys, torch, warnings
warnings.simplefilter("ignore")
import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.plugins.io import NativeCheckpointIO

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(40, 64), batch_size=4)
    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 5:
            os.environ["FULMEN_FAULT"] = sys.argv[2]
    def teardown(self, stage):
        print("teardown")

background_from = 0 if sys.argv[3] == "background" else None
trainer = L.Trainer(
    max_epochs=1, logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
    plugins=[NativeCheckpointIO(background_from=background_from)],
    callbacks=[ModelCheckpoint(sys.argv[1], every_n_train_steps=2, save_last=True)],
)
try:
    trainer.fit(Model())
except OSError as error:
    print(json.dumps([error.errno, str(error), trainer.global_step]))
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)
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


@pytest.mark.parametrize("kind", ["synchronous", "background", "torch", "torch in the background"])
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


@pytest.mark.parametrize("kind", ["synchronous", "background"])
@pytest.mark.parametrize(
    "fault", [("write", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EIO), ("create", errno.EROFS)]
)
def test_a_run_on_a_failing_disk_ends_with_its_older_files(
    tmp_path: Path, shim: Path, kind: str, fault: tuple[str, int]
) -> None:
    """The disk fails from the sixth batch on: the save after it ends the run, in order."""
    folder = tmp_path / "run.fault"
    lines = child(RUN, folder, f"{fault[0]}:{fault[1]}", kind, shim=shim).splitlines()
    code, message, step = json.loads(lines[-1])
    assert code == fault[1] and os.strerror(fault[1]) in message and str(folder) in message
    assert step in ((6,) if kind == "synchronous" else (5, 6, 7, 8)) and "teardown" in lines
    left = {path.name: load(path)["global_step"] for path in folder.iterdir()}
    if kind == "synchronous":
        assert left == {"epoch=0-step=4.ckpt": 4, "last.ckpt": 4}
    else:
        # the save after the fourth batch may have been under way when the disk failed
        assert (
            left["last.ckpt"] in (2, 4) and {"epoch=0-step=2.ckpt": 2, "epoch=0-step=4.ckpt": 4}.items() & left.items()
        )
        assert all(name == "last.ckpt" or f"step={step}." in name for name, step in left.items())


def test_file_size_limit(tmp_path: Path) -> None:
    import resource

    path = old(tmp_path / "run")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # noqa: E731 (one of several functions of this name)
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
